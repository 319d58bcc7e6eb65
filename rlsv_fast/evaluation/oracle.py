"""Oracle separation and reconstruction of recordings of any length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.evaluation.masks import binary_mask
from rlsv_fast.nn import Convention, RepresentationModel

FloatArray: TypeAlias = npt.NDArray[np.float32]


def separate_oracle(
    model: RepresentationModel,
    mixture: npt.ArrayLike,
    voice: npt.ArrayLike,
    accompaniment: npt.ArrayLike,
    *,
    segment_length: int,
    convention: Convention = "paper",
    batch_size: int = 4,
) -> tuple[FloatArray, FloatArray]:
    r"""Separate a mixture with the binary mask that its true sources give.

    .. math:: \hat{x}_v = D(A_m \circ G), \quad \hat{x}_{ac} = D(A_m \circ (1 - G))

    This tells how well the *representation* keeps the sources apart; it is no separator, as the
    mask needs the sources. The accompaniment has the complementary mask rather than
    :math:`x_m - \hat{x}_v`, in which the model's reconstruction error would sound as well.

    Segments of N samples overlap by half and are cross-faded with :math:`\sin^2` weights, so the
    ends of a segment, which fewer frames cover, hardly count. Memory for the representation is
    bounded by ``batch_size``, whatever the length of the recording.

    Args:
        model: trained representation.
        mixture: shape (n,), any length from 1; an array, a memory map or a CPU tensor.
        voice: shape (n,), the true voice.
        accompaniment: shape (n,), the true accompaniment.
        segment_length: N in samples, best that of the training.
        convention: of the mask, see :func:`rlsv_fast.evaluation.binary_mask`.
        batch_size: segments processed at a time.

    Returns:
        Voice and accompaniment, each (n,) float32.

    Raises:
        InputError: no samples, or the lengths differ.
    """

    def masked(segments: Tensor, basis: Tensor) -> Tensor:
        sources, batch, length = segments.shape
        coefficients = model.encode(segments.reshape(sources * batch, length))
        in_mixture, in_voice, in_accompaniment = coefficients.chunk(3)
        mask = binary_mask(in_voice, in_accompaniment, convention=convention)
        both = torch.cat([in_mixture * mask, in_mixture * (1 - mask)])
        return model.decode(both, length=length, basis=basis).view(2, batch, length)

    signals = (mixture, voice, accompaniment)
    estimates = _by_segments(model, signals, masked, 2, segment_length, batch_size)
    return estimates[0], estimates[1]


def reconstruct(
    model: RepresentationModel,
    signal: npt.ArrayLike,
    *,
    segment_length: int,
    batch_size: int = 8,
) -> FloatArray:
    """Encode and decode a recording of any length, in cross-faded segments as above.

    Args:
        model: trained representation.
        signal: shape (n,), any length from 1; an array, a memory map or a CPU tensor.
        segment_length: N in samples.
        batch_size: segments processed at a time.

    Returns:
        Shape (n,), float32.

    Raises:
        InputError: no samples.
    """

    def coded(segments: Tensor, basis: Tensor) -> Tensor:
        length = segments.shape[-1]
        return model.decode(model.encode(segments[0]), length=length, basis=basis)[None]

    estimates = _by_segments(model, (signal,), coded, 1, segment_length, batch_size)
    return estimates.reshape(-1)


def _by_segments(
    model: RepresentationModel,
    signals: Sequence[npt.ArrayLike],
    process: Callable[[Tensor, Tensor], Tensor],
    outputs: int,
    segment_length: int,
    batch_size: int,
) -> FloatArray:
    """Apply ``process`` to overlapping segments (signals, batch, N) and cross-fade its outputs."""
    arrays = [np.asarray(signal) for signal in signals]
    lengths = [array.shape for array in arrays]
    if len(set(lengths)) > 1 or len(lengths[0]) != 1:
        raise InputError(f"signals must be mono and of one length, got the shapes {lengths}")
    length = lengths[0][0]
    if length == 0:
        raise InputError("the recording has no samples")
    if segment_length < 2 or batch_size < 1:
        raise InputError(
            "segment length must be at least 2 and batch size at least 1, got "
            f"{segment_length} and {batch_size}"
        )
    step = segment_length // 2
    starts = range(0, max(length - step, 1), step)
    # Half a sample off the grid, so that no weight is 0 and the division below is always defined.
    weights = np.sin(np.pi * (np.arange(segment_length) + 0.5) / segment_length) ** 2
    weights = weights.astype(np.float32)
    total = np.zeros((outputs, length), dtype=np.float32)
    weight = np.zeros(length, dtype=np.float32)
    parameter = next(model.parameters())
    with torch.inference_mode():
        basis = model.decoder.basis()
        for first in range(0, len(starts), batch_size):
            batch = starts[first : first + batch_size]
            segments = np.zeros((len(arrays), len(batch), segment_length), dtype=np.float32)
            for source, array in enumerate(arrays):
                for row, start in enumerate(batch):
                    piece = array[start : start + segment_length]
                    segments[source, row, : len(piece)] = piece
            moved = torch.from_numpy(segments).to(parameter.device, parameter.dtype)
            results = process(moved, basis).cpu().numpy()
            for row, start in enumerate(batch):
                stop = min(start + segment_length, length)
                kept = weights[: stop - start]
                total[:, start:stop] += results[:, row, : stop - start] * kept
                weight[start:stop] += kept
    total /= weight
    return total
