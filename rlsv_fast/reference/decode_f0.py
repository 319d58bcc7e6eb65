"""One f0 for each voice and frame of saliences, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_REACH = 4
_STEEPNESS = 1000.0


class _StraightThrough(torch.autograd.Function):
    """A given f0; the gradient goes to all bins of a frame, with one weight."""

    @staticmethod
    def forward(ctx: Any, salience: Tensor, f0: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape = salience.shape
        return f0.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return (gradient * weight)[:, :, None].expand(ctx.shape), None, None


class _Gate(torch.autograd.Function):
    """1 above the limit, else 0; passes gradients on, up to 1000."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, limit: Tensor) -> Tensor:
        return (value > limit).to(value.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.clamp(-1000, 1000), None


def _shared_hertz(grid: Tensor) -> Tensor:
    """For each bin the sum of all frequencies of the grid with the same whole Hertz."""
    whole = grid.floor()
    return (whole[:, None] == whole).to(grid.dtype) @ grid


def _local_average(salience: Tensor, bins: Tensor, lowest: float, bins_per_octave: int) -> Tensor:
    """Frequency of the mean bin near the peak, weighted with the salience."""
    count = salience.shape[2]
    offsets = torch.arange(-_REACH, _REACH + 1, device=salience.device)[:, None]
    places = bins[:, :, None] + offsets
    inside = (places >= 0) & (places < count)
    weights = salience.gather(2, places.clamp(0, count - 1)).where(inside, 0)
    total = weights.sum(2)
    # an unvoiced frame may have no salience at all; its value is not used
    moved = (weights * offsets).sum(2) / torch.where(total > 0, total, torch.ones_like(total))
    return lowest * 2 ** ((bins + moved) / bins_per_octave)


def decode_f0(
    salience: Tensor,
    thresholds: Sequence[float],
    *,
    lowest: float,
    bins_per_octave: int,
    method: str = "reconstruction",
    convention: str = "paper",
) -> Tensor:
    """See :func:`rlsv_fast.ops.decode_f0`."""
    steps = torch.arange(salience.shape[2], dtype=torch.float64, device=salience.device)
    exact = lowest * 2 ** (steps / bins_per_octave)
    grid = exact.to(salience.dtype)
    largest, bins = salience.max(2)
    limit = torch.tensor(list(thresholds), dtype=salience.dtype, device=salience.device)[:, None]
    voiced = (largest >= limit) & (bins != 0)
    zero = torch.zeros((), dtype=salience.dtype, device=salience.device)
    undefined = torch.where(largest.detach().isnan(), torch.nan, zero)
    hard = torch.where(voiced, grid[bins], undefined)
    if method == "reconstruction":
        weight = voiced + undefined
        if convention == "code":
            hard = torch.where(voiced, _shared_hertz(exact).to(grid.dtype)[bins], undefined)
            weight = 1 + undefined
        through: Tensor = _StraightThrough.apply(salience, hard, weight)  # type: ignore[no-untyped-call]
        return through
    if method == "soft":
        near = _local_average(salience, bins, lowest, bins_per_octave)
        return torch.where(voiced, near, undefined)
    if method == "ste":
        gate: Tensor = _Gate.apply(largest, limit)  # type: ignore[no-untyped-call]
        return gate * hard
    if method == "sigmoid":
        return torch.sigmoid(_STEEPNESS * (largest - limit)) * hard
    if method == "threshold":
        return largest * hard
    return hard
