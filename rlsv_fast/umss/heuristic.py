"""Voices from the pitches of each frame by continuity alone, without a network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rlsv_fast.ops._check import integer

FloatArray = npt.NDArray[np.float64]

_MOST = 9
"""Pitches of a frame that are tried in every order; of more, those next to the voices are kept."""


def assign_by_continuity(pitches: Sequence[Any], voices: int = 4) -> FloatArray:
    r"""Give the pitches of every frame to voices so that the voices move as little as they can.

    A frame with as many pitches as voices is assigned by sorting. A run of other frames is decided
    frame by frame from a decided neighbour: of all assignments the one with the smallest
    :math:`\sum_v |\Delta f_v|` over the voices that sound, where a voice that was silent is
    compared with its last pitch. Runs between two frames that are full, or two that are empty, are
    decided from both ends and the direction that moves less is kept; else from the full end. The
    ends of the recording are like empty frames.

    Args:
        pitches: for each frame its frequencies in Hz, in any order; zeros are no pitches.
        voices: number of voices.

    Returns:
        Hz, shape (T, voices), the highest voice first, 0 where silent.

    Raises:
        TypeError: voices is not an int.
        ValueError: voices is not positive, or a pitch is negative or not finite.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", TASLP 31, 2023 (the published preprocessing).
    """
    voices = integer("assign_by_continuity", "voices", voices, 1)
    frames = [np.sort(np.asarray(frame, dtype=np.float64).ravel()) for frame in pitches]
    for number, frame in enumerate(frames):
        if not np.isfinite(frame).all() or (frame < 0).any():
            raise ValueError(
                f"assign_by_continuity: pitches of frame {number} must be finite and not negative"
            )
    frames = [frame[frame > 0] for frame in frames]
    tracks = np.zeros((len(frames), voices))  # the lowest voice first
    full = [len(frame) == voices for frame in frames]
    empty = [len(frame) == 0 for frame in frames]
    for number, frame in enumerate(frames):
        if full[number]:
            tracks[number] = frame
    start = 0
    while start < len(frames):
        if full[start] or empty[start]:
            start += 1
            continue
        stop = start
        while stop < len(frames) and not (full[stop] or empty[stop]):
            stop += 1
        after_full = start > 0 and full[start - 1]
        before_full = stop < len(frames) and full[stop]
        ways = []
        if after_full or not before_full:
            ways.append(_follow(frames[start:stop], _nearest(tracks[:start][::-1])))
        if before_full or not after_full:
            cost, way = _follow(frames[start:stop][::-1], _nearest(tracks[stop:]))
            ways.append((cost, way[::-1]))
        tracks[start:stop] = min(ways, key=lambda pair: pair[0])[1]
        start = stop
    return tracks[:, ::-1].copy()


def _nearest(tracks: FloatArray) -> FloatArray:
    """The first pitch of each voice in tracks that begin beside a run; 0 where there is none."""
    found = np.zeros(tracks.shape[1])
    for frame in tracks:
        found = np.where(found > 0, found, frame)
        if (found > 0).all():
            break
    return found


def _follow(frames: Sequence[FloatArray], reference: FloatArray) -> tuple[float, FloatArray]:
    """Assign frame after frame to the nearest voices: how far they moved in all, and the tracks."""
    voices = len(reference)
    # a direction without any pitch to begin from knows nothing
    tracks, moved = np.zeros((len(frames), voices)), 0.0 if reference.any() else np.inf
    for number, pitches in enumerate(frames):
        if len(pitches) > _MOST:
            known = reference[reference > 0]
            far = np.abs(pitches[:, None] - known).min(1) if len(known) else pitches
            pitches = pitches[np.sort(np.argsort(far, kind="stable")[:_MOST])]
        padded = np.concatenate((pitches, np.zeros(max(voices - len(pitches), 0))))
        candidates = padded[_orders(len(padded), voices)]
        sounding = (candidates > 0) & (reference > 0)
        costs = np.where(sounding, np.abs(candidates - reference), 0.0).sum(1)
        best = int(np.argmin(costs))
        tracks[number], moved = candidates[best], moved + float(costs[best])
        reference = np.where(tracks[number] > 0, tracks[number], reference)
    return moved, tracks


@lru_cache(maxsize=32)
def _orders(items: int, places: int) -> npt.NDArray[np.int64]:
    """Every way to put some of the items into the places, in lexicographic order."""
    return np.array(list(itertools.permutations(range(items), places)), dtype=np.int64)
