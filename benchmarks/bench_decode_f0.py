"""decode_f0: fused against plain PyTorch, with the straight-through gradient and with its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from torch import Tensor

from rlsv_fast import ops, reference

MIXTURE = {"B": 4, "V": 4, "F": 360, "T": 344}
"""Four excerpts of 4 seconds, four voices each: assigned saliences of VoasCNN."""
BATCH = {**MIXTURE, "B": 15}
"""The original's training batch."""

_SOFT = 2  # F0Method


def _salience(sizes: Sizes, device: str) -> Tensor:
    return torch.rand(sizes["B"], sizes["V"], sizes["F"], sizes["T"], device=device)


def _call(module: Any, method: str, voices: int) -> Callable[[Tensor], Tensor]:
    return lambda salience: module.decode_f0(
        salience, (0.995,) * voices, lowest=32.7, bins_per_octave=60, method=method
    )


BENCHMARKS = [
    Benchmark(
        f"decode_f0, {method}",
        shape,
        lambda device, sizes=sizes: (_salience(sizes, device).requires_grad_(),),  # type: ignore[misc]
        {
            "fused": _call(ops, method, sizes["V"]),
            "reference": _call(reference, method, sizes["V"]),
        },
        plain=_call(reference, method, sizes["V"]),
    )
    for method in ("reconstruction", "soft")
    for shape, sizes in {"4 mixtures": MIXTURE, "15 mixtures": BATCH}.items()
]

_SIZES = {"15 mixtures": BATCH, "4 mixtures": MIXTURE}


def _forward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    salience = _salience(sizes, device).to(dtype)
    return salience, [0.995] * sizes["V"], _SOFT, 32.7, 60


def _backward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    inputs = _forward(sizes, device, dtype)
    f0, *saved = torch.ops.rlsv_fast._decode_f0_forward(*inputs)
    return torch.randn_like(f0), *saved, sizes["F"], _SOFT


def _tracks(sizes: Sizes) -> int:
    return sizes["B"] * sizes["V"] * sizes["T"]


KERNELS = [
    Kernel(
        "decode_f0_forward",
        _SIZES,
        _forward,
        numbers=lambda n: _tracks(n) * (n["F"] + 4),
        operations=lambda n: 6 * _tracks(n) * n["F"],
        note="read the salience, write f0 and three numbers for the gradient",
    ),
    Kernel(
        "decode_f0_backward",
        _SIZES,
        _backward,
        numbers=lambda n: _tracks(n) * (n["F"] + 4),
        operations=lambda n: 8 * _tracks(n) * n["F"],
        note="read four numbers per frame, write the gradient of every bin",
    ),
]


def test_decode_f0(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
