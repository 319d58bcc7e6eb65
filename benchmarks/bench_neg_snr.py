"""neg_snr against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from shapes import P2

from rlsv_fast import ops, reference


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("reduce", ["item", "batch"])
@pytest.mark.parametrize("module", [ops, reference], ids=["fused", "eager"])
@pytest.mark.benchmark(group="neg_snr")
def bench_neg_snr(measure: Callable[..., None], module: Any, reduce: str, backward: bool) -> None:
    target = torch.randn(P2["B"], P2["N"])
    estimate = target + 0.1 * torch.randn_like(target)

    def call(leaf: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return module.neg_snr(leaf, target, reduce=reduce)

    measure(call, estimate, target, backward=backward, shape=str(tuple(target.shape)))
