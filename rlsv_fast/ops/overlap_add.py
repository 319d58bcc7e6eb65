"""Frames of a signal and their overlap-add: adjoint to each other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check


@fake("_frames")
def _(signal: Tensor, kernel_size: int, hop: int, count: int, offset: int) -> Tensor:
    return signal.new_empty((signal.shape[0], count, kernel_size))


@fake("_overlap_add")
def _(frames: Tensor, hop: int, length: int, offset: int) -> Tensor:
    return frames.new_empty((frames.shape[0], length))


def _frames_backward(
    saved: tuple[Tensor, ...], constants: tuple[int, ...], needs: tuple[bool, ...], grad: Tensor
) -> tuple[Any, ...]:
    hop, length, offset = constants
    return raw._overlap_add(grad.contiguous(), hop, length, offset), None, None, None, None


def _overlap_add_backward(
    saved: tuple[Tensor, ...], constants: tuple[int, ...], needs: tuple[bool, ...], grad: Tensor
) -> tuple[Any, ...]:
    kernel_size, hop, count, offset = constants
    return raw._frames(grad.contiguous(), kernel_size, hop, count, offset), None, None, None


_frames = differentiable(
    "Frames",
    lambda *inputs: raw._frames(*inputs),
    save=lambda inputs, output: (),
    constants=lambda inputs: (inputs[2], inputs[0].shape[1], inputs[4]),
    backward=_frames_backward,
)

_overlap_add = differentiable(
    "OverlapAdd",
    lambda *inputs: raw._overlap_add(*inputs),
    save=lambda inputs, output: (),
    constants=lambda inputs: (inputs[0].shape[2], inputs[1], inputs[0].shape[1], inputs[3]),
    backward=_overlap_add_backward,
)


def frames(signal: Tensor, hop: int, *, kernel_size: int, count: int, offset: int = 0) -> Tensor:
    r"""Overlapping frames of a signal: what a strided convolution multiplies its kernels with.

    .. math:: F_{b,t,l} = x_{b,\, tS + l - o}, \quad 0 \text{ outside the signal}

    With ``offset`` equal to the padding on the left this is an encoder's front end, without a
    padded copy of the signal. :func:`overlap_add` with the same numbers is its adjoint and its
    backward pass.

    Args:
        signal: shape (B, N).
        hop: S, samples from one frame to the next; may exceed ``kernel_size``.
        kernel_size: L, samples per frame.
        count: T, number of frames.
        offset: o, zeros before the first sample; negative skips samples. Frames that lie outside
            the signal altogether are zero.

    Returns:
        Shape (B, T, L), contiguous.

    Raises:
        TypeError: ``signal`` is not a floating tensor, or a number is not an int.
        ValueError: the shape does not fit, ``kernel_size`` or ``hop`` is below 1, or ``count`` is
            negative.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, eq. 1.
    """
    op = "frames"
    signal = _check.floating(op, "signal", signal)
    _check.shape(op, "signal", signal, "(B, N)", None, None)
    _check.integer(op, "kernel_size", kernel_size, 1)
    _check.integer(op, "hop", hop, 1)
    _check.integer(op, "count", count, 0)
    _check.integer(op, "offset", offset)
    result: Tensor = _frames(signal.contiguous(), kernel_size, hop, count, offset)
    return result


def overlap_add(frames: Tensor, hop: int, *, length: int, offset: int = 0) -> Tensor:
    r"""Add frames into a signal at multiples of the hop: what ends a transposed convolution.

    .. math:: y_{b,n} = \sum_{t,l \,:\, tS + l - o = n} F_{b,t,l}, \quad 0 \le n < N

    Every output sample is written once, its frames added in ascending order and in double
    precision, so results do not depend on the number of threads. :func:`frames` with the same
    numbers is its adjoint and its backward pass.

    Args:
        frames: shape (B, T, L).
        hop: S, samples from one frame to the next; may exceed L.
        length: N, samples of the result.
        offset: o, samples cropped at the start (a decoder's left crop); negative puts zeros first.

    Returns:
        Shape (B, N); zero where no frame reaches.

    Raises:
        TypeError: ``frames`` is not a floating tensor, or a number is not an int.
        ValueError: the shape does not fit, ``hop`` is below 1, or ``length`` is negative.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, eq. 9 (as ordinary overlap-add).
    """
    op = "overlap_add"
    frames = _check.floating(op, "frames", frames)
    _check.shape(op, "frames", frames, "(B, T, L)", None, None, None)
    _check.integer(op, "hop", hop, 1)
    _check.integer(op, "length", length, 0)
    _check.integer(op, "offset", offset)
    result: Tensor = _overlap_add(frames.contiguous(), hop, length, offset)
    return result
