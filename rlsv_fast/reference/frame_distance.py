"""Pairwise distance of the frames of a representation in plain PyTorch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def frame_distance(
    representation: Tensor,
    *,
    p: int = 1,
    normalize: Literal["features", "time"] | None = "features",
    reduce: Literal["none", "mean"] = "none",
) -> Tensor:
    """See :func:`rlsv_fast.ops.frame_distance`; memory grows with T x C x T of one item."""
    channels = max(representation.shape[1], 1)
    if normalize == "features":
        scaled = representation / (representation + 1 / channels).sum(1, keepdim=True)
    elif normalize == "time":
        raised = representation + 1 / channels
        scaled = raised / raised.sum(2, keepdim=True)
    else:
        scaled = representation
    if len(scaled) == 0:
        distance = scaled.new_zeros((0, scaled.shape[2], scaled.shape[2])) + scaled.sum()
    else:
        distance = torch.stack([_pairwise(item, p) for item in scaled])
    return distance.mean(0) if reduce == "mean" else distance


def _pairwise(item: Tensor, p: int) -> Tensor:
    difference = item[:, :, None] - item[:, None, :]
    if p == 1:
        return difference.abs().sum(0)
    squared = (difference**2).sum(0)
    apart = squared != 0  # the square root has no gradient at 0: coincident frames get zero
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)
