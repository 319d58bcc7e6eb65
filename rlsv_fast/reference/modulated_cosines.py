"""Sorted, amplitude-modulated cosines in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def modulated_cosines(
    frequency: Tensor, phase: Tensor, modulator: Tensor, *, power: int = 2, sort: bool = True
) -> tuple[Tensor, Tensor]:
    """See :func:`rlsv_fast.ops.modulated_cosines`."""
    carrier = frequency**power
    if sort:
        carrier, order = torch.sort(carrier, stable=True)
    else:
        order = torch.arange(len(frequency), device=frequency.device)
    taps = torch.arange(modulator.shape[1], dtype=frequency.dtype, device=frequency.device)
    angle = 2 * math.pi * carrier[:, None] * taps + phase[order, None]
    envelope = modulator if modulator.shape[0] == 1 else modulator[order]
    return torch.cos(angle) * envelope, order
