"""Short convolutions over frames in plain PyTorch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from rlsv_fast.reference.overlap_add import window


def frame_convolution(
    frames: Tensor, weight: Tensor, *, count: int, dilation: int = 1, offset: int = 0
) -> Tensor:
    """See :func:`rlsv_fast.ops.frame_convolution`."""
    reach = abs(dilation) * (weight.shape[1] - 1)
    if dilation < 0:
        weight, offset = weight.flip(1), offset + reach
    signal = window(frames.transpose(1, 2), -offset, count + reach - offset)
    kernels = weight.permute(0, 2, 1)
    if 0 in (count, frames.shape[2], len(weight)):  # convolutions do not take these
        return (signal.sum() + kernels.sum()).expand(len(frames), count, len(weight)) * 0
    return functional.conv1d(signal, kernels, dilation=abs(dilation)).transpose(1, 2).contiguous()
