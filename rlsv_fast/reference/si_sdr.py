"""Scale-invariant signal-to-distortion ratio in plain PyTorch."""

from __future__ import annotations

import math

from torch import Tensor

from rlsv_fast.reference.neg_snr import decibels


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """See :func:`rlsv_fast.ops.si_sdr`."""
    energy = target.square().sum(1)
    silent = energy == 0
    scale = (estimate * target).sum(1) / energy.masked_fill(silent, 1)
    projection = scale[:, None] * target
    ratio = decibels(projection.square().sum(1), (projection - estimate).square().sum(1))
    return ratio.masked_fill(silent, math.nan)
