"""Whole recordings through a trained separator: segments of its own length that overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsv_fast.errors import require
from rlsv_fast.ops import _check
from rlsv_fast.umss.assignment import VOICES
from rlsv_fast.umss.comb import on_grid, separate_in_blocks
from rlsv_fast.umss.decode import resample_tracks
from rlsv_fast.umss.layers import evaluating
from rlsv_fast.umss.model import EnsembleModel
from rlsv_fast.umss.separator import MaskOptions, SourceFilterSeparator
from rlsv_fast.umss.tracks import F0Tracks
from rlsv_fast.umss.unet import F0UNet

_OVERLAP = 0.125
_BAND = 0.9
"""Of the model's band: a resampler's slope begins here."""


class _Segment(NamedTuple):
    """Frames from ``first`` to ``last``, heard from ``fade_in`` on; two fades of equal length."""

    first: int
    last: int
    fade_in: int
    fade_out: int


def _segments(frames: int, length: int, overlap: int) -> list[_Segment]:
    """Segments over some frames, each but a shorter whole of the full length.

    The next voice fades in during the last ``overlap`` frames of a segment; the last segment ends
    with the recording, and begins as much earlier as it needs.
    """
    if frames <= length:
        return [_Segment(0, frames, 0, frames)]
    starts = [*range(0, frames - length, length - overlap), frames - length]
    found, heard = [], 0
    for start in starts:
        end = start + length
        found.append(_Segment(start, end, heard, end - overlap if end < frames else end))
        heard = end - overlap
    return found


def separate_trained(
    model: EnsembleModel,
    mixture: Tensor,
    sample_rate: int,
    times: npt.NDArray[np.floating],
    f0: npt.NDArray[np.floating],
    *,
    segment: float = 4.0,
    overlap: float = _OVERLAP,
    continuous: bool = True,
    seconds: float = 5.0,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Separate voices of known pitch, at the rate and with the channels of the recording.

    The model hears the mean of the channels at its own rate, in segments that overlap by whole
    frames; what it makes of them is cross-faded and brought to the rate of the recording, whose
    channels share the masks. At 16 kHz windows have 2048 samples and a hop of 256, at other rates
    they last as long. Above nine tenths of the model's band, where it says nothing, each window is
    shared as the octave below is in sum. A U-Net's voices are those it masks out of the mean.

    Args:
        model: trained, on the device of the mixture.
        mixture: shape (H, N).
        sample_rate: in Hz, at least 8000.
        times: of the frames of the tracks, in seconds, shape (T,).
        f0: in Hz, 0 where unvoiced, shape (V, T).
        segment: seconds that the model hears at a time, best those of its training.
        overlap: share of a segment in which it fades into the next, up to a half; 0 cuts from one
            to the next, as published.
        continuous: let the harmonics of a segment go on with the phases of the one before, so that
            they do not cancel each other where they overlap; otherwise they begin at phase 0, as
            published.
        seconds: of a block of the masks; memory grows with it, results do not depend on it.
        seed: of the noise.

    Yields:
        Shape (V, H, n): consecutive parts of the voices.

    Raises:
        MissingPackage: another rate than the model's, and soxr is not installed.
        ValueError: sizes do not fit, or the recording is shorter than half a window (64 ms).
    """
    op = "separate_trained"
    mixture = _check.floating(op, "mixture", mixture)
    _check.shape(op, "mixture", mixture, "(H, N)", None, None)
    _check.integer(op, "sample_rate", sample_rate, 8000)
    f0 = np.asarray(f0, np.float64)
    if f0.ndim != 2 or f0.shape[1] != len(times) or not f0.size:
        raise ValueError(f"{op}: f0 must be (V, {len(times)}) and not empty, got {f0.shape}")
    rate, own_hop = model.sample_rate, model.separator.hop
    length, shared = _in_frames(op, model, segment, overlap)
    mono = _at_rate(mixture.mean(0), sample_rate, rate)
    centres = (np.arange(-(-len(mono) // own_hop)) + 0.5) * own_hop / rate
    tracks = torch.from_numpy(on_grid(np.asarray(times, np.float64), f0, centres)).to(mixture)
    pieces = _joined(model, mono, tracks, length, shared, continuous=continuous, seed=seed)
    hop = own_hop
    if sample_rate != rate:  # the windows' sizes have small factors
        hop = 32 * max(round(own_hop * sample_rate / rate / 32), 1)
    windows = model.separator.n_fft // own_hop if isinstance(model.separator, F0UNet) else 8
    known = None
    if sample_rate > rate:
        known = max(int(_BAND * rate / sample_rate * windows * hop / 2), 2)
    voices = _Feed(_resampled(pieces, rate, sample_rate), hop, mixture.shape[1])
    separator = model.separator
    masks: MaskOptions = {"power": 1.0, "level_updates": 0}
    if isinstance(separator, SourceFilterSeparator):
        masks = separator.mask_options
    yield from separate_in_blocks(
        *(mixture, voices),
        hop=hop,
        n_fft=windows * hop,
        block=max(round(seconds * sample_rate / hop), 1),
        known_bins=known,
        **masks,
    )


@torch.no_grad()
def track_trained(
    model: EnsembleModel,
    mixture: Tensor,
    sample_rate: int,
    *,
    segment: float = 4.0,
    overlap: float = _OVERLAP,
    progress: Callable[[int, int], None] | None = None,
) -> F0Tracks:
    """The f0 that a model with built-in networks finds in a recording, a segment at a time.

    One segment's tracks follow another's in the middle of what both have heard.

    Args:
        model: with a tracker.
        mixture: shape (H, N), on the device of the model.
        sample_rate: in Hz.
        segment: as for :func:`separate_trained`.
        overlap: likewise.
        progress: called with (frames done, frames in all) after each segment.

    Returns:
        Tracks of four voices at the centres of the separator's frames.

    Raises:
        MissingPackage: another rate than the model's, and soxr is not installed.
        ValueError: the model has no tracker, or sizes do not fit.
    """
    op = "track_trained"
    mixture = _check.floating(op, "mixture", mixture)
    _check.shape(op, "mixture", mixture, "(H, N)", None, None)
    _check.integer(op, "sample_rate", sample_rate, 1)
    tracker = model.tracker
    if tracker is None:
        raise ValueError(f"{op}: the model finds no f0 by itself")
    rate, hop = model.sample_rate, model.separator.hop
    length, shared = _in_frames(op, model, segment, overlap)
    mono = _at_rate(mixture.mean(0), sample_rate, rate)
    frames = -(-len(mono) // hop)
    segments = _segments(frames, length, shared)
    parts = []
    with evaluating(model):
        for number, one in enumerate(segments):
            heard = mono[one.first * hop : one.last * hop]
            found = resample_tracks(tracker(heard[None]).f0[0], one.last - one.first)
            begin = one.fade_in + shared // 2 if number else 0
            end = one.last if one.last == frames else one.fade_out + shared // 2
            parts.append(found[:, begin - one.first : end - one.first].cpu())
            if progress is not None:
                progress(end, frames)
    time = (np.arange(frames) + 0.5) * hop / rate
    return F0Tracks(time, torch.cat(parts, 1).T.double().numpy(), VOICES)


def _in_frames(op: str, model: EnsembleModel, segment: float, overlap: float) -> tuple[int, int]:
    """Frames of a segment and of an overlap."""
    if not segment > 0 or not 0 <= overlap <= 0.5:
        raise ValueError(
            f"{op}: segment must be positive and overlap from 0 to 0.5, got {segment} and {overlap}"
        )
    length = max(round(segment * model.sample_rate / model.separator.hop), 1)
    return length, int(overlap * length)


@torch.no_grad()
def _joined(
    model: EnsembleModel,
    mono: Tensor,
    tracks: Tensor,
    length: int,
    overlap: int,
    *,
    continuous: bool,
    seed: int,
) -> Iterator[Tensor]:
    """Consecutive parts (V, n) of the model's voices, together as long as the mixture (N,)."""
    hop = model.separator.hop
    generator = torch.Generator(mono.device).manual_seed(seed)
    place = torch.arange(overlap * hop, device=mono.device, dtype=mono.dtype) + 0.5
    rise = (math.pi / 2 * place / max(len(place), 1)).sin().square()
    tail = mono.new_zeros(len(tracks), 0)
    phases = _Phases(model) if continuous else None
    for one in _segments(tracks.shape[1], length, overlap):
        heard = mono[None, one.first * hop : one.last * hop]
        f0 = tracks[None, :, one.first : one.last]
        # where both are heard alike their phases have to agree
        middle = one.fade_in + overlap // 2 if one.first else 0
        phase = None if phases is None else phases.begin(f0, one.first, middle)
        with evaluating(model):
            made = _voices(model, heard, f0, phase, generator)[:, (one.fade_in - one.first) * hop :]
        if tail.shape[1]:
            mixed = tail * (1 - rise) + made[:, : len(rise)] * rise
            made = torch.cat([mixed, made[:, len(rise) :]], 1)
        size = (one.fade_out - one.fade_in) * hop
        yield made[:, :size]
        tail = made[:, size:]


def _voices(
    model: EnsembleModel,
    heard: Tensor,
    f0: Tensor,
    phase: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """What the model makes of one segment, shape (V, N)."""
    separator = model.separator
    if isinstance(separator, SourceFilterSeparator):
        made = separator(heard, f0, initial_phase=phase, generator=generator)
        sources: Tensor = made.sources[0]
        return sources
    return separator.separate(heard, f0)[0]


class _Phases:
    """Phases with which the harmonics of each segment have to begin."""

    def __init__(self, model: EnsembleModel) -> None:
        self._separator = model.separator
        self._first = 0
        self._turns: Tensor | None = None

    def begin(self, f0: Tensor, first: int, middle: int) -> Tensor | None:
        """Of a segment from frame ``first`` on, to agree with the one before at ``middle``.

        Args:
            f0: of the segment, shape (1, V, T).
            first: frame.
            middle: frame.

        Returns:
            Shape (1, V), in radians; None where nothing is synthesised.
        """
        if not isinstance(self._separator, SourceFilterSeparator):
            return None
        # (V, T + 1): turns before each frame
        each = self._separator.synthesizer.turns(self._separator.pitch(f0[0]).double())
        turns = torch.nn.functional.pad(each.cumsum(1), (1, 0))
        if self._turns is not None:
            turns = turns + (
                self._turns[:, middle - self._first] - turns[:, middle - first]
            ).unsqueeze(1)
        self._first, self._turns = first, turns
        return (2 * math.pi * turns[:, 0].remainder(1.0)).to(f0.dtype)[None]


class _Feed:
    """Voices of the frames asked for, out of parts that come one after the other.

    Args:
        parts: each (V, n).
        hop: samples of a frame.
        length: of all; what the parts lack of it is silent.
    """

    def __init__(self, parts: Iterator[Tensor], hop: int, length: int) -> None:
        self._parts = parts
        self._hop = hop
        self._length = length
        self._begin = 0
        self._held: Tensor | None = None

    def __call__(self, first: int, last: int) -> Tensor:
        """Frames from ``first`` to ``last``; none before ``first`` is asked for again."""
        begin, end = first * self._hop, min(last * self._hop, self._length)
        pieces = [] if self._held is None else [self._held]
        have = self._begin + sum(piece.shape[1] for piece in pieces)
        while have < end:
            part = next(self._parts, None)
            if part is None:
                pieces.append(pieces[-1].new_zeros(len(pieces[-1]), end - have))
                break
            pieces.append(part)
            have += part.shape[1]
        held = torch.cat(pieces, 1)[:, begin - self._begin :]
        self._begin, self._held = begin, held
        return held[:, : end - begin]


def _at_rate(mono: Tensor, given: int, wanted: int) -> Tensor:
    """A signal (N,) at another rate."""
    if given == wanted:
        return mono
    soxr = require("soxr", extra="umss", purpose=f"resample from {given} to {wanted} Hz")
    found = soxr.resample(mono.cpu().numpy(), given, wanted)
    return torch.from_numpy(np.ascontiguousarray(found)).to(mono)


def _resampled(parts: Iterator[Tensor], given: int, wanted: int) -> Iterator[Tensor]:
    """Consecutive parts (V, n) of a signal at another rate."""
    if given == wanted:
        yield from parts
        return
    soxr = require("soxr", extra="umss", purpose=f"resample from {given} to {wanted} Hz")
    stream = None
    for part in parts:
        if stream is None:
            kind = "float64" if part.dtype == torch.float64 else "float32"
            stream = soxr.ResampleStream(given, wanted, len(part), dtype=kind)
        yield _interleaved(stream, part)
    if stream is not None:
        yield _interleaved(stream, part[:, :0], last=True)


def _interleaved(stream: object, part: Tensor, *, last: bool = False) -> Tensor:
    samples = np.ascontiguousarray(part.cpu().numpy().T)
    found = stream.resample_chunk(samples, last=last)  # type: ignore[attr-defined]
    return torch.from_numpy(found.reshape(-1, len(part)).T.copy()).to(part)
