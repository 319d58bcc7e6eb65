"""Voices from a common salience, by the best path through the peaks of all frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from rlsv_fast.ops._check import floating, integer, shape
from rlsv_fast.umss.constant_q import BINS_PER_OCTAVE
from rlsv_fast.umss.hcqt import BINS, LOWEST

FloatArray = npt.NDArray[np.float64]

MOST_VOICES = 5

_SPARE = 2  # peaks of a frame beyond the number of voices
_NEIGHBOURS = 2


@dataclass(frozen=True)
class TrackingCosts:
    """What a path pays; all in nats of salience.

    Chosen on one mixture of the Choral Singing Dataset's "Niño Dios" (the first singers).

    Args:
        floor: added to the salience before its logarithm.
        silence: salience that a peak must have to be better than silence.
        switch: for a voice that begins or ends.
        bin: for each bin of 20 cents that a voice moves between frames; a leap is cheaper through a
            frame of silence.
        unison: for each voice that shares its peak with another.
    """

    floor: float = 0.02
    silence: float = 0.04
    switch: float = 4.0
    bin: float = 0.6
    unison: float = 3.0


def track_voices(
    salience: Tensor,
    voices: int = 4,
    costs: TrackingCosts | None = None,
    *,
    window: int = 1,
) -> tuple[FloatArray, FloatArray]:
    r"""Find the voices together: the path through the peaks of all frames that pays the least.

    A frame offers its ``voices + 2`` largest peaks. A state says for each voice which peak it
    sings, or that it is silent; voices do not cross, but may meet. A frame gives
    :math:`\sum_v \log(S_v + \epsilon)`, moves between frames cost by their distance. Since the cost
    of a move is a sum over voices, the best predecessor of every state (Viterbi) is found voice by
    voice.

    The pitch of single frames follows vibrato and the overshoot of note changes. A ``window``
    averages :math:`\log(S + \epsilon)` over time with Hann weights first: 17 frames (0.2 s) come
    nearer to f0 references that smooth as much themselves, but separate worse.

    Args:
        salience: of all pitches, shape (360, T), from 0 to 1.
        voices: 1 to 5; a state more or less for each voice and peak makes (voices + 3)^voices.
        costs: None means the defaults.
        window: frames of 11.6 ms to average over, odd; 1 takes each by itself.

    Returns:
        Hz and (averaged) salience of each voice, both of shape (T, voices), highest voice first, 0
        where silent. A pitch is the mean of the bins around its peak, weighted with the salience.

    Raises:
        TypeError: salience is not a floating tensor, or voices not an int.
        ValueError: another shape, a salience that is negative or not finite, too many voices, or
            an even window.
    """
    salience = floating("track_voices", "salience", salience)
    shape("track_voices", "salience", salience, "(360, T)", BINS, None)
    voices = integer("track_voices", "voices", voices, 1)
    if voices > MOST_VOICES:
        raise ValueError(f"track_voices: voices must be at most {MOST_VOICES}, got {voices}")
    window = integer("track_voices", "window", window, 1)
    if window % 2 == 0:
        raise ValueError(f"track_voices: window must be odd, got {window}")
    salience = salience.detach().double().cpu()
    # one bad frame would silence all that the window reaches
    if not ((salience >= 0) & (salience < torch.inf)).all():
        raise ValueError("track_voices: salience holds values that are negative or not finite")
    costs = TrackingCosts() if costs is None else costs
    averaged = _averaged(salience, window, costs.floor)
    bins, heights = _peaks(averaged, voices + _SPARE)
    path = _best_path(bins, heights, voices, costs)
    return _pitches(averaged.numpy(), bins, heights, path)


def _averaged(salience: Tensor, window: int, floor: float) -> Tensor:
    """Geometric mean of the salience over time, above a floor; the ends are held."""
    frames = salience.shape[1]
    if window == 1 or not frames:
        return salience
    weights = torch.hann_window(window + 2, periodic=False, dtype=torch.float64)[1:-1]
    reach = window // 2
    levels = functional.pad((salience + floor).log_(), (reach, reach), mode="replicate")
    total = torch.zeros_like(salience)
    for shift, weight in enumerate((weights / weights.sum()).tolist()):
        total.add_(levels[:, shift : shift + frames], alpha=weight)
    return total.exp_().sub_(floor).clamp_min_(0.0)


def _peaks(salience: Tensor, count: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The largest peaks of each frame, high pitches first: bins and saliences, 0 where none."""
    inner = salience[1:-1]
    peak = (inner > salience[:-2]) & (inner >= salience[2:])
    padded = torch.zeros_like(salience)
    padded[1:-1] = torch.where(peak, inner, 0.0)
    _, bins = padded.topk(count, dim=0)
    bins = bins.sort(0, descending=True).values
    return bins.T.numpy(), padded.gather(0, bins).T.numpy()


def _best_path(
    bins: npt.NDArray[np.int64], heights: FloatArray, voices: int, costs: TrackingCosts
) -> npt.NDArray[np.int64]:
    """The choice of each voice in each frame, (T, voices): a peak's number, or one more, silent."""
    frames, count = bins.shape
    options = count + 1
    grid = (options,) * voices
    standing = torch.from_numpy(_allowed(options, voices, costs.unison))
    gains = np.full((frames, options), np.log(costs.silence + costs.floor))
    # slots without a peak cannot be sung
    gains[:, :count] = np.where(heights > 0, np.log(heights + costs.floor), -np.inf)
    moves = np.full((frames, options, options), costs.switch)
    distances = np.abs(bins[:-1, :, None] - bins[1:, None, :])
    moves[1:, :count, :count] = costs.bin * distances
    moves[:, count, count] = 0.0
    gain, move = torch.from_numpy(gains), torch.from_numpy(moves)
    start = torch.arange(options**voices, dtype=torch.int32).reshape(grid)
    origins = torch.empty(frames, options**voices, dtype=torch.int32)
    score = torch.zeros(grid, dtype=torch.float64)
    for frame in range(frames):
        if frame:
            origin = start
            for axis in range(voices):
                score, origin = _step(score, origin, move[frame], axis)
            origins[frame] = origin.flatten()
        score = score + standing
        for axis in range(voices):
            score = score + gain[frame].reshape([-1 if a == axis else 1 for a in range(voices)])
    path = np.empty((frames, voices), dtype=np.int64)
    state = int(score.argmax()) if frames else 0
    for frame in range(frames - 1, -1, -1):
        path[frame] = np.unravel_index(state, grid)
        state = int(origins[frame, state]) if frame else 0
    return path


def _step(score: Tensor, origin: Tensor, moves: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The best score of every new choice of one voice, and the state it came from."""
    before = score.movedim(axis, 0)
    flat = before.reshape(len(moves), -1)
    values, best = (flat[:, None] - moves[:, :, None]).max(0)
    came = origin.movedim(axis, 0).reshape(len(moves), -1).gather(0, best)
    shaped = before.shape
    return values.reshape(shaped).movedim(0, axis), came.reshape(shaped).movedim(0, axis)


def _allowed(options: int, voices: int, unison: float) -> FloatArray:
    """What a state pays by itself: for unisons, and everything where voices would cross."""
    choices = np.indices((options,) * voices)
    silent = choices == options - 1
    paid = np.zeros((options,) * voices)
    for high in range(voices):
        for low in range(high + 1, voices):
            both = ~silent[high] & ~silent[low]
            paid[both & (choices[high] > choices[low])] = -np.inf
    for voice in range(1, voices):
        shared = np.zeros(paid.shape, dtype=bool)
        for other in range(voice):
            shared |= ~silent[voice] & (choices[other] == choices[voice])
        paid[shared] -= unison
    return paid


def _pitches(
    salience: FloatArray,
    bins: npt.NDArray[np.int64],
    heights: FloatArray,
    path: npt.NDArray[np.int64],
) -> tuple[FloatArray, FloatArray]:
    """Hz and salience of the peaks on a path."""
    frames, count = bins.shape
    sung = path < count
    rows = np.arange(frames)[:, None]
    peak = np.where(sung, bins[rows, np.minimum(path, count - 1)], 1)
    offsets = np.arange(-_NEIGHBOURS, _NEIGHBOURS + 1)
    places = peak[..., None] + offsets
    inside = (places >= 0) & (places < BINS)
    weights = salience[np.clip(places, 0, BINS - 1), rows[..., None]] * inside
    total = np.maximum(weights.sum(-1), np.finfo(np.float64).tiny)
    middle = peak + (weights * offsets).sum(-1) / total
    frequency = np.where(sung, LOWEST * 2 ** (middle / BINS_PER_OCTAVE), 0.0)
    return frequency, np.where(sung, heights[rows, np.minimum(path, count - 1)], 0.0)
