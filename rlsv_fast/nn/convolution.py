"""The model's three convolutions, each in the way that is fastest where it runs.

Frames come before channels here, (B, T, C): rows of matrix products.

- float32 and float64 on a CPU: :func:`rlsv_fast.ops.frame_convolution`, a third of the products.
- under autocast, and on other devices: whole matrix products, one a layer and direction. On an H100
  cuDNN's own convolution over frames reaches half of their rate and wants other layouts.

``benchmarks/bench_step.py`` times both ways on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlsv_fast import ops
from rlsv_fast._library import differentiable

# Kernels of more hops are as good as unrelated to their frames: a transform saves little.
_MOST_TAPS = 16


def analyse(signal: Tensor, kernels: Tensor, hop: int, *, left: int, count: int) -> Tensor:
    """Strided convolution of a waveform.

    Args:
        signal: shape (B, N).
        kernels: shape (C, L).
        hop: S.
        left: zeros before the first sample.
        count: T, number of frames.

    Returns:
        Shape (B, T, C).
    """
    length = kernels.shape[1]
    if _half(signal):
        right = (count - 1) * hop + length - left - signal.shape[1]
        # cast before the frames are copied out: half the memory
        padded = functional.pad(signal.to(_autocast_type(signal)), (left, right))
        return padded.unfold(1, length, hop) @ kernels.t()
    taps = -(-length // hop)
    if not _transforms(signal, taps):
        frames = ops.frames(signal, hop, kernel_size=length, count=count, offset=left)
        return frames @ kernels.t()
    blocks = ops.frames(signal, hop, kernel_size=hop, count=count + taps - 1, offset=left)
    return ops.frame_convolution(blocks, _in_hops(kernels, hop), count=count)


def mix_context(hidden: Tensor, context: Tensor, dilation: int) -> Tensor:
    """Dilated convolution over frames, centred, as many as there were.

    Args:
        hidden: shape (B, T, C).
        context: shape (C', C, K), K odd.
        dilation: frames between its taps.

    Returns:
        Shape (B, T, C').
    """
    taps, count = context.shape[2], hidden.shape[1]
    reach = dilation * (taps - 1) // 2
    if _half(hidden):
        # cast before what is copied: half the memory
        hidden, context = (tensor.to(_autocast_type(tensor)) for tensor in (hidden, context))
    elif _transforms(hidden, taps):
        return ops.frame_convolution(
            hidden, context.transpose(1, 2), count=count, dilation=dilation, offset=reach
        )
    mixed: Tensor = _mix(hidden, context, dilation)[0]
    return mixed


def synthesise(frames: Tensor, kernels: Tensor, hop: int, *, left: int, length: int) -> Tensor:
    """Transposed strided convolution to a waveform.

    Args:
        frames: shape (B, T, C).
        kernels: shape (C, L).
        hop: S.
        left: samples cropped at the start.
        length: N, samples of the result.

    Returns:
        Shape (B, N), float32 or float64.
    """
    taps = -(-kernels.shape[1] // hop)
    if _half(frames) or not _transforms(frames, taps):
        # one product and an overlap-add: conv_transpose1d takes a third longer on a CPU
        return ops.overlap_add(frames @ kernels, hop, length=length, offset=left)
    weight = _in_hops(kernels, hop).permute(2, 1, 0)
    count = frames.shape[1] + taps - 1
    blocks = ops.frame_convolution(frames, weight, count=count, dilation=-1)
    return ops.overlap_add(blocks, hop, length=length, offset=left)


def _neighbours(frames: Tensor, taps: int, dilation: int) -> Tensor:
    """Each frame's neighbours side by side, zeros beyond the ends: (B, T, C) to (B T, K C)."""
    batch, count, channels = frames.shape
    reach = dilation * (taps - 1) // 2
    padded = functional.pad(frames, (0, 0, reach, reach))
    views = [padded[:, dilation * tap : dilation * tap + count] for tap in range(taps)]
    return torch.cat(views, -1).view(batch * count, taps * channels)


def _mix_forward(hidden: Tensor, context: Tensor, dilation: int) -> tuple[Tensor, Tensor]:
    """The mixed frames, and the neighbours that they are products of."""
    columns = _neighbours(hidden, context.shape[2], dilation)
    mixed = columns @ context.transpose(1, 2).flatten(1).t()
    return mixed.view(*hidden.shape[:2], -1), columns


def _mix_backward(
    saved: tuple[Tensor, ...], dilation: int, needs: tuple[bool, ...], *grads: Tensor
) -> tuple[Tensor | None, ...]:
    """One product each: autograd would add up the taps of every frame one after the other."""
    (columns, context), grad = saved, grads[0]
    outputs, channels, taps = context.shape
    of_hidden = of_context = None
    if needs[0]:
        mirrored = torch.stack(context.unbind(2)[::-1]).flatten(0, 1)
        of_hidden = (_neighbours(grad, taps, dilation) @ mirrored).view(*grad.shape[:2], channels)
    if needs[1]:
        products = grad.flatten(0, 1).t() @ columns
        of_context = products.view(outputs, taps, channels).transpose(1, 2)
    return of_hidden, of_context, None


_mix = differentiable(
    "MixContext",
    _mix_forward,
    save=lambda inputs, outputs: (outputs[1], inputs[1]),
    backward=_mix_backward,
    constants=lambda inputs: inputs[2],
    non_differentiable=(1,),
)


def _in_hops(kernels: Tensor, hop: int) -> Tensor:
    """Kernels (C, L) as taps of one hop each, (C, ceil(L / S), S)."""
    missing = -kernels.shape[1] % hop
    if missing:
        kernels = functional.pad(kernels, (0, missing))
    return kernels.reshape(kernels.shape[0], -1, hop)


def _half(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)


def _autocast_type(tensor: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype(tensor.device.type)


def _transforms(tensor: Tensor, taps: int) -> bool:
    return tensor.device.type == "cpu" and taps <= _MOST_TAPS
