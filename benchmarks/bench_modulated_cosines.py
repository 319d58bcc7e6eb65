"""Sorted modulated cosines: fused against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from catalogue import DIRECTIONS, Benchmark, Kernel, Row, Sizes, Target
from shapes import SHAPES
from torch import Tensor

from rlsv_fast import ops, reference


def _leaves(sizes: Sizes, device: str) -> tuple[Tensor, ...]:
    components, taps = sizes["C"], sizes["L"]
    leaves = (
        torch.rand(components, device=device),
        torch.randn(components, device=device),
        torch.rand(components, taps, device=device),
    )
    return tuple(leaf.requires_grad_() for leaf in leaves)


def _fused(*inputs: Tensor) -> Tensor:
    return ops.modulated_cosines(*inputs)[0]


def _reference(*inputs: Tensor) -> Tensor:
    return reference.modulated_cosines(*inputs)[0]


BENCHMARKS = [
    Benchmark(
        "modulated_cosines",
        shape,
        lambda device, sizes=sizes: _leaves(sizes, device),
        {"fused": _fused, "reference": _reference},
        plain=_reference,
        targets=[Target(direction, than="reference", times=5) for direction in DIRECTIONS]
        if shape == "P2"
        else [],
    )
    for shape, sizes in SHAPES.items()
]


def _arguments(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    tensors = (leaf.detach().to(dtype) for leaf in _leaves(sizes, device))
    return (*tensors, torch.randperm(sizes["C"], device=device), 2)


def _backward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    arguments = _arguments(sizes, device, dtype)
    return (torch.randn_like(arguments[2]), *arguments)


_SIZES = {
    "P2": {"C": 800, "L": 2048},
    "1600 x 4096": {"C": 1600, "L": 4096},
    "12800 x 4096": {"C": 12800, "L": 4096},
}


def _elements(times: float, per_row: float = 0) -> Callable[[Sizes], float]:
    return lambda n: times * n["C"] * n["L"] + per_row * n["C"]


KERNELS = [
    Kernel(
        "modulated_cosines_forward",
        _SIZES,
        _arguments,
        numbers=_elements(2, 4),
        operations=_elements(22),
        target=0.8,
        target_at=["12800 x 4096"],
        note="read b, write W; 22 instructions per number, as compiled for sm_90",
    ),
    Kernel(
        "modulated_cosines_backward",
        _SIZES,
        _backward,
        numbers=_elements(3, 6),
        operations=_elements(47),
        target=0.8,
        target_at=["12800 x 4096"],
        note="read G and b, write db; sine and cosine of one phase: 47 instructions",
    ),
]


def test_modulated_cosines(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
