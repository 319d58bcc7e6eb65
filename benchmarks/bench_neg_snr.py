"""neg_snr: fused against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from shapes import LARGE_BATCH, P2
from torch import Tensor

from rlsv_fast import ops, reference


def _pair(sizes: Sizes, device: str) -> tuple[Tensor, Tensor]:
    target = torch.randn(sizes["B"], sizes["N"], device=device)
    return target + 0.1 * torch.randn_like(target), target


def _leaves(device: str) -> tuple[Tensor, ...]:
    estimate, target = _pair(P2, device)
    return estimate.requires_grad_(), target


BENCHMARKS = [
    Benchmark(
        "neg_snr",
        "P2",
        _leaves,
        {"fused": ops.neg_snr, "reference": reference.neg_snr},
        plain=reference.neg_snr,
    )
]


def _arguments(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    estimate, target = _pair(sizes, device)
    return estimate.to(dtype), target.to(dtype), False


def _backward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    arguments = _arguments(sizes, device, dtype)
    value, sums = torch.ops.rlsv_fast._neg_snr_forward(*arguments)
    return (torch.randn_like(value), *arguments[:2], sums, *arguments[2:], False)


_SIZES = {
    name: {axis: sizes[axis] for axis in "BN"}
    for name, sizes in {"P2": P2, "8 x P2": LARGE_BATCH}.items()
}

KERNELS = [
    Kernel(
        "neg_snr_forward",
        _SIZES,
        _arguments,
        numbers=lambda n: n["B"] * (2 * n["N"] + 1),
        operations=lambda n: 22 * n["B"] * n["N"],
        note="read both signals once; sums keep their rounding errors",
    ),
    Kernel(
        "neg_snr_backward",
        _SIZES,
        _backward,
        numbers=lambda n: n["B"] * (3 * n["N"] + 1),
        operations=lambda n: 4 * n["B"] * n["N"],
        note="read both signals, write the estimate's gradient",
    ),
]


def test_neg_snr(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
