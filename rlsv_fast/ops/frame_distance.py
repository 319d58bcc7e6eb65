"""Pairwise distance of the frames of a representation: the cost matrix of the Sinkhorn loss."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "frame_distance"
NORMALIZE = {None: 0, "features": 1, "time": 2}


@fake("_frame_distance_forward")
def _(representation: Tensor, p: int, normalize: int) -> Tensor:
    batch, _, frames = representation.shape
    return representation.new_empty((batch, frames, frames))


@fake("_frame_distance_backward")
def _(grad: Tensor, representation: Tensor, distance: Tensor, p: int, normalize: int) -> Tensor:
    return torch.empty_like(representation)


def _backward(
    saved: tuple[Tensor, ...], constants: tuple[int, int], needs: tuple[bool, ...], grad: Tensor
) -> tuple[Any, ...]:
    return (raw._frame_distance_backward(grad.contiguous(), *saved, *constants), None, None)


_distance = differentiable(
    "FrameDistance",
    lambda *inputs: raw._frame_distance_forward(*inputs),
    save=lambda inputs, output: (inputs[0], output),
    constants=lambda inputs: inputs[1:],
    backward=_backward,
)


def frame_distance(
    representation: Tensor,
    *,
    p: int = 1,
    normalize: Literal["features", "time"] | None = "features",
    reduce: Literal["none", "mean"] = "none",
) -> Tensor:
    r"""Distance between every two frames of a normalised representation.

    .. math:: M_{t,t'} = \Big( \sum_c |\bar A_{c,t} - \bar A_{c,t'}|^p \Big)^{1/p}

    Exactly symmetric, with a diagonal of exact zeros and subgradient zero there and at coincident
    frames. No tensor of size T x C x T is formed.

    Args:
        representation: shape (B, C, T), non-negative where it is normalised.
        p: exponent, 1 or 2.
        normalize: ``"features"``, ``A / sum_c (A + 1/C)`` per frame (paper); ``"time"``,
            ``(A + 1/C) / sum_t (A + 1/C)`` per channel (published code); ``None``, as given.
        reduce: ``"none"`` or ``"mean"``, the mean over the batch.

    Returns:
        Shape (B, T, T), or (T, T) for ``reduce="mean"``.

    Raises:
        TypeError: ``representation`` is not a floating tensor.
        ValueError: a wrong shape or option, or the mean of an empty batch.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, section 2 and supplement.
    """
    representation = _check.floating(_OP, "representation", representation)
    _check.shape(_OP, "representation", representation, "(B, C, T)", None, None, None)
    _check.choice(_OP, "p", p, (1, 2))
    _check.choice(_OP, "normalize", normalize, tuple(NORMALIZE))
    _check.choice(_OP, "reduce", reduce, ("none", "mean"))
    if reduce == "mean" and representation.shape[0] == 0:
        raise ValueError(f"{_OP}: reduce='mean' needs a batch of at least 1, got 0")
    distance: Tensor = _distance(representation.contiguous(), p, NORMALIZE[normalize])
    return distance.mean(0) if reduce == "mean" else distance
