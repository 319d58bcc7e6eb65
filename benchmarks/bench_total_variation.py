"""total_variation against eager PyTorch, which writes two difference tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from shapes import P2

from rlsv_fast import ops, reference


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("norm", [1, 2], ids=["norm1", "norm2"])
@pytest.mark.parametrize("module", [ops, reference], ids=["fused", "eager"])
@pytest.mark.benchmark(group="total_variation")
def bench_total_variation(
    measure: Callable[..., None], module: Any, norm: int, backward: bool
) -> None:
    representation = torch.rand(P2["B"], P2["C"], P2["T"])

    def call(leaf: torch.Tensor) -> torch.Tensor:
        return module.total_variation(leaf, norm=norm)

    measure(call, representation, backward=backward, shape=str(tuple(representation.shape)))
