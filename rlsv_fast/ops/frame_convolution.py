"""Short convolutions over frames with fewer multiplications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "frame_convolution"

_Layout: TypeAlias = Literal["ojc", "ocj", "cjo"]
"""Axes of the stored weight, outer to inner: outputs, taps, channels."""

# A product with a transformed weight costs as much as this many rows more: to write and read it.
_ROWS_OF_A_WEIGHT = 100
_LONGEST = 64  # points of a circle: its transform is a plain matrix, and grows with the square
# Transformed weights exist a part at a time, small enough for the allocator to keep the memory
# (what is larger than 32 MB glibc maps and clears each time), unless there are then so many parts
# that reading the weight again for each costs more.
_PART_BYTES, _PART_ROWS = 24 << 20, 12


# Sides of the algorithm, as in csrc/frame_convolution_rules.h.
_WEIGHTS, _REVERSED_WEIGHTS, _FRAMES, _OUTPUTS = range(4)


class _Plan(NamedTuple):
    """How a problem is cut into windows.

    ``advance`` outputs of a window are a circular correlation of ``points`` frames; there are
    ``tiles`` windows per item and phase of the dilation. With no points, taps are multiplied one by
    one.
    """

    taps: int
    points: int
    tiles: int
    advance: int
    dilation: int
    offset: int
    weights: int

    @property
    def window(self) -> int:
        """Frames that a window sees."""
        return self.points or self.taps

    @property
    def products(self) -> int:
        """Matrix products, each of one row per window."""
        return _products(self.points) if self.points else self.taps


class _Geometry(NamedTuple):
    """What backward needs to know of a call."""

    plan: _Plan
    layout: _Layout
    frames: int
    outputs: int


@fake("_frame_convolution_analysis")
def _(
    signal: Tensor,
    side: int,
    points: int,
    terms: int,
    first: int,
    rows: int,
    dilation: int,
    tiles: int,
    advance: int,
    offset: int,
) -> Tensor:
    return signal.new_empty((rows, signal.shape[0] * tiles * dilation, signal.shape[2]))


@fake("_frame_convolution_synthesis")
def _(
    spectrum: Tensor,
    addend: Tensor,
    side: int,
    points: int,
    terms: int,
    first: int,
    batch: int,
    frames: int,
    dilation: int,
    tiles: int,
    advance: int,
    offset: int,
) -> Tensor:
    return spectrum.new_empty((batch, frames, spectrum.shape[2]))


def _products(points: int) -> int:
    """Real products of a circular correlation: 1 for a real bin, 3 for a complex one."""
    return points + (points - 1) // 2


def _make_plan(batch: int, frames: int, taps: int, count: int, dilation: int, offset: int) -> _Plan:
    """The cheapest way for these sizes, counted in rows of matrix products."""
    weights = _WEIGHTS
    if dilation < 0:
        weights, dilation = _REVERSED_WEIGHTS, -dilation
        offset += dilation * (taps - 1)
    outputs = -(-count // dilation)
    # Frames of zeros at both ends of every window if one covers all: there the circle may overlap.
    before = max(-(-(offset - dilation + 1) // dilation), 0)
    after = max(outputs + taps - 2 - (frames - 1 + offset) // dilation, 0)
    best = _Plan(taps, 0, outputs, 1, dilation, offset, weights)
    least = taps * (batch * outputs * dilation + _ROWS_OF_A_WEIGHT)
    for advance in range(1, min(outputs, _LONGEST) + 1):
        tiles = -(-outputs // advance)
        shared = min(before, after, taps - 1) if tiles == 1 else 0
        points = max(advance + taps - 1 - shared, 1)
        if points > _LONGEST:
            continue
        cost = _products(points) * (batch * tiles * dilation + _ROWS_OF_A_WEIGHT)
        if cost < least:
            least = cost
            best = _Plan(taps, points, tiles, advance, dilation, offset, weights)
    return best


def _parts(plan: _Plan, weight: Tensor) -> Iterator[slice]:
    """The products in parts, by what their transformed weights take."""
    size = weight.numel() // plan.taps * weight.element_size()
    step = max(_PART_BYTES // max(size, 1), _PART_ROWS)
    firsts = range(0, plan.products, step)
    return (slice(first, min(first + step, plan.products)) for first in firsts)


def _as_taps(weight: Tensor, layout: _Layout) -> Tensor:
    """The stored weight with its taps in the middle."""
    return weight.reshape(-1, weight.shape[2], 1) if layout == "ocj" else weight


def _transformed(weight: Tensor, plan: _Plan, layout: _Layout, part: slice) -> Tensor:
    """Rows of the transformed weight, (R, O, C)."""
    rows: Tensor = raw._frame_convolution_analysis(
        *(_as_taps(weight, layout), plan.weights, plan.points, plan.taps),
        *(part.start, part.stop - part.start, 1, 1, 0, 0),
    )
    if layout == "ocj":
        rows = rows.view(-1, weight.shape[0], weight.shape[1])
    return rows.transpose(1, 2) if layout == "cjo" else rows


def _multiply(first: Tensor, second: Tensor, out: Tensor) -> None:
    # with out=, autocast leaves the precision alone
    torch.bmm(first, second, out=out)


def _forward(signal: Tensor, weight: Tensor, count: int, geometry: _Geometry) -> Any:
    plan, layout, _, outputs = geometry
    windows = (plan.dilation, plan.tiles, plan.advance)
    spectrum = raw._frame_convolution_analysis(
        *(signal, _FRAMES, plan.points, plan.window, 0, plan.products, *windows, plan.offset)
    )
    result = spectrum.new_empty((*spectrum.shape[:2], outputs))
    for part in _parts(plan, weight):
        kernels = _transformed(weight, plan, layout, part)
        _multiply(spectrum[part], kernels.transpose(1, 2), result[part])
    none = signal.new_empty((0, 0, 0))
    value = raw._frame_convolution_synthesis(
        *(result, none, _OUTPUTS, plan.points, plan.advance, 0),
        *(signal.shape[0], count, *windows, 0),
    )
    return value, spectrum


def _backward(
    saved: tuple[Tensor, ...],
    geometry: _Geometry,
    needs: tuple[bool, ...],
    grad: Tensor,
    unused: None,
) -> tuple[Any, ...]:
    spectrum, weight = saved
    plan, layout, frames, _ = geometry
    windows = (plan.dilation, plan.tiles, plan.advance)
    grads = raw._frame_convolution_analysis(
        *(grad.contiguous(), _OUTPUTS, plan.points, plan.advance, 0, plan.products, *windows, 0)
    )
    none = grad.new_empty((0, 0, 0))
    for_spectrum = torch.empty_like(spectrum) if needs[0] else None
    for_weight = none
    taps = _as_taps(weight, layout)
    for part in _parts(plan, weight):
        if for_spectrum is not None:
            kernels = _transformed(weight, plan, layout, part)
            _multiply(grads[part], kernels, for_spectrum[part])
        if needs[1]:
            pair = (spectrum, grads) if layout == "cjo" else (grads, spectrum)
            first, second = (rows[part] for rows in pair)
            product = grad.new_empty((len(first), first.shape[2], second.shape[2]))
            _multiply(first.transpose(1, 2), second, product)
            for_weight = raw._frame_convolution_synthesis(
                product.view(len(first), taps.shape[0], taps.shape[2]),
                *(for_weight, plan.weights, plan.points, plan.taps, part.start),
                *(taps.shape[0], taps.shape[1], 1, 1, 0, 0),
            )
    for_signal = None
    if for_spectrum is not None:
        for_signal = raw._frame_convolution_synthesis(
            *(for_spectrum, none, _FRAMES, plan.points, plan.window, 0),
            *(grad.shape[0], frames, *windows, plan.offset),
        )
    return for_signal, for_weight.view(weight.shape) if needs[1] else None, None, None


_convolution = differentiable(
    "FrameConvolution",
    _forward,
    save=lambda inputs, outputs: (outputs[1], inputs[1]),
    constants=lambda inputs: inputs[3],
    backward=_backward,
    non_differentiable=(1,),
)


def frame_convolution(
    frames: Tensor, weight: Tensor, *, count: int, dilation: int = 1, offset: int = 0
) -> Tensor:
    r"""Convolve sequences of frames with a short kernel of matrices.

    .. math:: y_{b,t,o} = \sum_{j,c} w_{o,j,c} \, x_{b,\, t + dj - s,\, c},
        \quad x = 0 \text{ outside its frames}

    for t below ``count``, d the dilation and s the offset. It is what a one-dimensional convolution
    computes, channels last. The dilated ones split into d sequences; each is cut into windows, and
    a window's convolution with J taps is a pointwise product in the domain of a discrete Fourier
    transform over *frames*, where each point is one matrix product: 1.6 per frame instead of 5 for
    five taps on eighteen frames, and about 2.5 instead of 8 for eight. The transforms are fused
    kernels; the products are PyTorch's, and so is their dependence on the number of threads. Where
    a transform does not pay, as with one tap, taps are multiplied one by one. Rounding errors are
    about those of the plain sum.

    Strided convolutions of waveforms are short convolutions, too: with frames of S samples,
    K taps become K / S taps of S channels (``RepresentationModel`` does that on a CPU).

    Args:
        frames: shape (B, T, C).
        weight: shape (O, J, C), of O outputs and J taps. Also taken without a copy: weights
            stored as (O, C, J), as those of ``torch.nn.Conv1d``, permuted; and as (C, J, O).
        count: number of output frames.
        dilation: d, frames between taps; negative turns the correlation into a convolution, with
            taps that reach back.
        offset: s, frames that the first tap lies before the output.

    Returns:
        Shape (B, count, O), contiguous.

    Raises:
        TypeError: an argument is not a floating tensor, dtypes differ, or a number is not an int.
        ValueError: shapes or devices do not fit, there are no taps, ``count`` is negative, or
            ``dilation`` is 0.

    Reference:
        Winograd, "Arithmetic Complexity of Computations", 1980; three products for a complex one
        after Gauss. The convolution: Mimilakis, Drossos, Schuller, "Revisiting Representation
        Learning for Singing Voice Separation with Sinkhorn Distances", 2020, eq. 1, 2 and 9.
    """
    frames = _check.floating(_OP, "frames", frames)
    weight = _check.floating(_OP, "weight", weight)
    _check.shape(_OP, "frames", frames, "(B, T, C)", None, None, None)
    channels = frames.shape[2]
    _check.shape(_OP, "weight", weight, "(O, J, C) with C as in frames", None, None, channels)
    _check.same_kind(_OP, "frames", frames, "weight", weight)
    _check.integer(_OP, "count", count, 0)
    _check.integer(_OP, "dilation", dilation)
    _check.integer(_OP, "offset", offset)
    outputs, taps = weight.shape[:2]
    if taps == 0:
        raise ValueError(f"{_OP}: weight must have at least one tap, got shape {(*weight.shape,)}")
    if dilation == 0:
        raise ValueError(f"{_OP}: dilation must not be 0")
    plan = _make_plan(frames.shape[0], frames.shape[1], taps, count, dilation, offset)
    stored, layout = _stored(weight)
    geometry = _Geometry(plan, layout, frames.shape[1], outputs)
    result: Tensor = _convolution(frames.contiguous(), stored, count, geometry)[0]
    return result


def _stored(weight: Tensor) -> tuple[Tensor, _Layout]:
    """The weight as it lies in memory, copied only if it lies in no useful order."""
    if not weight.is_contiguous():
        if weight.permute(0, 2, 1).is_contiguous():
            return weight.permute(0, 2, 1), "ocj"
        if weight.permute(2, 1, 0).is_contiguous():
            return weight.permute(2, 1, 0), "cjo"
    return weight.contiguous(), "ojc"
