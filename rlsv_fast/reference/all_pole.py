"""Time-varying all-pole filter, frame by frame from rest, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsv_fast.reference.overlap_add import frames, overlap_add


def fading(count: int, frame: int, like: Tensor) -> Tensor:
    """Periodic Hann windows, shape (count, frame), whose first does not fade in."""
    sample = torch.arange(frame, dtype=torch.float64, device=like.device)
    window = torch.sin(torch.pi * sample / frame).square().repeat(count, 1)
    window[:1, : frame // 2] = 1
    return window.to(like.dtype)


def all_pole(signal: Tensor, coefficients: Tensor, *, frame: int, hop: int) -> Tensor:
    """See :func:`rlsv_fast.ops.all_pole`."""
    count, order = coefficients.shape[1:]
    cut = frames(signal, hop, kernel_size=frame, count=count)
    past = torch.zeros_like(coefficients)  # the last outputs, newest first
    filtered = []
    for sample in cut.unbind(-1):
        output = sample - (coefficients * past).sum(-1)
        past = torch.cat([output[..., None], past], -1)[..., :order]
        filtered.append(output)
    faded = torch.stack(filtered, -1) * fading(count, frame, signal)
    return overlap_add(faded, hop, length=count * hop)
