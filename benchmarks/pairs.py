"""What is measured of the operators that compare an estimate with its target: the same for all."""

from __future__ import annotations

from typing import Any

import torch
from catalogue import Benchmark, Kernel, Sizes
from shapes import LARGE_BATCH, P2
from torch import Tensor

from rlsv_fast import ops, reference

_SIZES = {
    name: {axis: sizes[axis] for axis in "BN"}
    for name, sizes in {"P2": P2, "8 x P2": LARGE_BATCH}.items()
}


def _pair(sizes: Sizes, device: str) -> tuple[Tensor, Tensor]:
    target = torch.randn(sizes["B"], sizes["N"], device=device)
    return target + 0.1 * torch.randn_like(target), target


def _leaves(device: str) -> tuple[Tensor, ...]:
    estimate, target = _pair(P2, device)
    return estimate.requires_grad_(), target


def benchmark(op: str) -> Benchmark:
    """The operator of this name against plain PyTorch."""
    fused, plain = getattr(ops, op), getattr(reference, op)
    return Benchmark(op, "P2", _leaves, {"fused": fused, "reference": plain}, plain=plain)


def kernels(op: str, *options: Any, forward: int, backward: int) -> list[Kernel]:
    """Its raw operators, called with `options`; instructions per sample of either direction."""

    def arguments(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        estimate, target = _pair(sizes, device)
        return estimate.to(dtype), target.to(dtype), *options

    def of_gradient(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        estimate, target, *_ = arguments(sizes, device, dtype)
        value, sums = getattr(torch.ops.rlsv_fast, f"_{op}_forward")(estimate, target, *options)
        return torch.randn_like(value), estimate, target, sums, *options, False

    return [
        Kernel(
            f"{op}_forward",
            _SIZES,
            arguments,
            numbers=lambda n: n["B"] * (2 * n["N"] + 1),
            operations=lambda n: forward * n["B"] * n["N"],
            note="read both signals once; sums keep their rounding errors",
        ),
        Kernel(
            f"{op}_backward",
            _SIZES,
            of_gradient,
            numbers=lambda n: n["B"] * (3 * n["N"] + 1),
            operations=lambda n: backward * n["B"] * n["N"],
            note="read both signals, write the estimate's gradient",
        ),
    ]
