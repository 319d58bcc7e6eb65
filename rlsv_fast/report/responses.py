"""Frequency responses of the components on a mel axis, small enough to be browsed in a page."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from rlsv_fast.nn.initial import hertz_to_mel, mel_to_hertz
from rlsv_fast.report.basis import FLOOR_DB, magnitude_response
from rlsv_fast.report.components import Array, Components

POINTS = 288
"""Cells of the axis, from 0 Hz to half the sample rate at equal steps on the mel scale."""

_TICKS = (0, 100, 200, 300, 500, 1000, 2000, 3000, 5000, 10000, 20000, 50000, 100000)
_BATCH = 64


def mel_responses(signals: Array, sample_rate: int, *, window: bool = False) -> Array:
    """Largest magnitude in each cell of the axis, in dB below the signal's largest.

    Args:
        signals: shape (C, L).
        sample_rate: in Hz.
        window: apply a Blackman window, for signals that do not fade out by themselves.

    Returns:
        Shape (C, POINTS), from ``FLOOR_DB`` to 0.
    """
    size = 4 * signals.shape[-1]
    edges = _edges(sample_rate) / sample_rate * size
    bins = size // 2 + 1
    first = np.minimum(np.floor(edges[:-1]).astype(int), bins - 1)
    last = np.clip(np.ceil(edges[1:]).astype(int), first + 1, bins)
    found = np.empty((len(signals), POINTS))
    for at in range(0, len(signals), _BATCH):  # all spectra of a large basis would take gigabytes
        batch = slice(at, at + _BATCH)
        response = magnitude_response(signals[batch], points=size, window=window)
        # one more column, as reduceat takes no end that is the last column's
        padded = np.concatenate([response, response[:, -1:]], axis=1)
        pairs = np.stack([first, last], axis=1).ravel()
        found[batch] = np.maximum.reduceat(padded, pairs, axis=1)[:, ::2]
    return np.maximum(found, FLOOR_DB)


def all_responses(components: Components, sample_rate: int) -> dict[str, Array]:
    """Responses of carriers and modulators, where there are any, and of their products."""
    found = {}
    if components.carriers is not None and components.modulators is not None:
        # A cosine is cut off at both ends; its window hides the cut, not anything that was learned.
        found["carrier"] = mel_responses(components.carriers, sample_rate, window=True)
        found["modulator"] = mel_responses(components.modulators, sample_rate)
    return {**found, "result": mel_responses(components.basis, sample_rate)}


def as_bytes(response: Array) -> npt.NDArray[np.uint8]:
    """Decibels from ``FLOOR_DB`` to 0 as 0 to 255."""
    return np.asarray(np.rint((1 - response / FLOOR_DB) * 255), dtype=np.uint8)


def mel_ticks(sample_rate: int) -> list[tuple[float, int]]:
    """Places on the axis, from 0 to 1, and their frequencies in Hz."""
    top = hertz_to_mel(sample_rate / 2)
    return [(hertz_to_mel(tick) / top, tick) for tick in _TICKS if tick <= sample_rate / 2]


def _edges(sample_rate: int) -> Array:
    mels = torch.linspace(0, hertz_to_mel(sample_rate / 2), POINTS + 1, dtype=torch.float64)
    return np.asarray(mel_to_hertz(mels).numpy())
