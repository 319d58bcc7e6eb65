"""Negative signal-to-noise ratio in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-24


def decibels(signal: Tensor, error: Tensor) -> Tensor:
    """Level of a signal's energy over an error's, finite for any energies.

    The scalars are in double precision: a squared floor does not exist in float32. A silent signal
    passes no gradient on, where the chain rule would meet infinity times zero.
    """
    audible = torch.where(signal > 0, signal, signal.detach())
    ratio = audible.double() / (error.double() + FLOOR) + FLOOR
    return (10 * torch.log10(ratio)).to(signal.dtype)


def neg_snr(estimate: Tensor, target: Tensor, *, reduce: str = "item") -> Tensor:
    """See :func:`rlsv_fast.ops.neg_snr`."""
    axes = (0, 1) if reduce == "batch" else (1,)
    return -decibels(target.square().sum(axes), (target - estimate).square().sum(axes))
