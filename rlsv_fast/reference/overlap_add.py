"""Frames of a signal and their overlap-add, adjoint to each other, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def window(signal: Tensor, start: int, stop: int) -> Tensor:
    """Samples ``start`` .. ``stop - 1`` of the last axis, zero outside the signal."""
    first, last = (min(max(edge, 0), signal.shape[-1]) for edge in (start, stop))
    left = min(max(-start, 0), stop - start)
    right = stop - start - left - (last - first)
    return functional.pad(signal[..., first:last], (left, right))


def frames(signal: Tensor, hop: int, *, kernel_size: int, count: int, offset: int = 0) -> Tensor:
    """See :func:`rlsv_fast.ops.frames`."""
    support = window(signal, -offset, count * hop + kernel_size - offset)
    return support.unfold(-1, kernel_size, hop)[:, :count].contiguous()


def overlap_add(frames: Tensor, hop: int, *, length: int, offset: int = 0) -> Tensor:
    """See :func:`rlsv_fast.ops.overlap_add`."""
    batch, count, kernel_size = frames.shape
    starts = hop * torch.arange(count, device=frames.device)
    sample = starts[:, None] + torch.arange(kernel_size, device=frames.device)
    support = frames.new_zeros(batch, count * hop + kernel_size)
    support = support.index_add(1, sample.flatten(), frames.flatten(1))
    return window(support, offset, offset + length)
