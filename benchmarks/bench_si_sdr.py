"""si_sdr against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from shapes import P2

from rlsv_fast import ops, reference


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("module", [ops, reference], ids=["fused", "eager"])
@pytest.mark.benchmark(group="si_sdr")
def bench_si_sdr(measure: Callable[..., None], module: Any, backward: bool) -> None:
    target = torch.randn(P2["B"], P2["N"])
    estimate = target + 0.1 * torch.randn_like(target)
    call: Callable[..., torch.Tensor] = module.si_sdr
    measure(call, estimate, target, backward=backward, shape=str(tuple(target.shape)))
