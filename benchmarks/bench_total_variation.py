"""Total variation: fused against plain PyTorch, which writes two difference tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from shapes import LARGE_BATCH, P2
from torch import Tensor

from rlsv_fast import ops, reference


def _by(module: Any, norm: int) -> Callable[[Tensor], Tensor]:
    return lambda representation: module.total_variation(representation, norm=norm)


def _representation(sizes: Sizes, device: str) -> Tensor:
    return torch.rand(sizes["B"], sizes["C"], sizes["T"], device=device)


BENCHMARKS = [
    Benchmark(
        f"total_variation norm={norm}",
        "P2",
        lambda device: (_representation(P2, device).requires_grad_(),),
        {"fused": _by(ops, norm), "reference": _by(reference, norm)},
        plain=_by(reference, norm),
    )
    for norm in (1, 2)
]


def _arguments(norm: int) -> Callable[..., tuple[Any, ...]]:
    def make(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        return _representation(sizes, device).to(dtype), norm

    return make


def _backward(norm: int) -> Callable[..., tuple[Any, ...]]:
    def make(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        representation = _representation(sizes, device).to(dtype)
        value, norms = torch.ops.rlsv_fast._total_variation_forward(representation, norm)
        return torch.randn_like(value), representation, norms, norm

    return make


_SIZES = {
    name: {axis: sizes[axis] for axis in "BCT"}
    for name, sizes in {"P2": P2, "8 x P2": LARGE_BATCH}.items()
}


def _elements(times: int) -> Callable[[Sizes], float]:
    return lambda n: times * n["B"] * n["C"] * n["T"]


KERNELS = [
    kernel
    for norm in (1, 2)
    for kernel in (
        Kernel(
            "total_variation_forward",
            {f"{name}, norm={norm}": sizes for name, sizes in _SIZES.items()},
            _arguments(norm),
            numbers=_elements(1),
            operations=_elements(8),
            note="read A once",
        ),
        Kernel(
            "total_variation_backward",
            {f"{name}, norm={norm}": sizes for name, sizes in _SIZES.items()},
            _backward(norm),
            numbers=_elements(2),
            operations=_elements(12),
            note="read A, write dA",
        ),
    )
]


def test_total_variation(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
