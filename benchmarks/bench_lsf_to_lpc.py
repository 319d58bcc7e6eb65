"""lsf_to_lpc: fused against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from shapes import UMSS, UMSS_BATCH
from torch import Tensor

from rlsv_fast import ops, reference


def _frequencies(sizes: Sizes, device: str) -> Tensor:
    """Ascending within (0, pi), as the network's head makes them."""
    steps = 0.05 + torch.rand(sizes["B"] * sizes["T"], sizes["P"] + 1, device=device)
    return torch.pi * (steps / steps.sum(-1, keepdim=True)).cumsum(-1)[..., :-1]


BENCHMARKS = [
    Benchmark(
        "lsf_to_lpc",
        "UMSS",
        lambda device: (_frequencies(UMSS, device).requires_grad_(),),
        {"fused": ops.lsf_to_lpc, "reference": reference.lsf_to_lpc},
        plain=reference.lsf_to_lpc,
    )
]

_SIZES = {
    name: {axis: sizes[axis] for axis in "BTP"}
    for name, sizes in {"UMSS": UMSS, "UMSS, 15 mixtures": UMSS_BATCH}.items()
}


def _forward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    return (_frequencies(sizes, device).to(dtype),)


def _backward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    lsf = _frequencies(sizes, device).to(dtype)
    return torch.randn_like(lsf), lsf


def _rows(sizes: Sizes) -> int:
    return sizes["B"] * sizes["T"]


KERNELS = [
    Kernel(
        "lsf_to_lpc_forward",
        _SIZES,
        _forward,
        numbers=lambda n: 2 * _rows(n) * n["P"],
        operations=lambda n: 2 * _rows(n) * n["P"] * (n["P"] / 4 + 30),
        note="products of half of the coefficients, and a cosine per frequency, in double",
    ),
    Kernel(
        "lsf_to_lpc_backward",
        _SIZES,
        _backward,
        numbers=lambda n: 3 * _rows(n) * n["P"],
        operations=lambda n: 2 * _rows(n) * n["P"] * (n["P"] / 4 + 3 * n["P"] / 2 + 90),
        note="the products again, and the quotient of every frequency, in double",
    ),
]


def test_lsf_to_lpc(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
