"""Cutting prepared tracks into segments: shuffled pairs for training, a plain grid for testing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsv_fast.data.audio import (
    Batch,
    DeviceAudio,
    MappedAudio,
    announced,
    check_whole,
    place,
    sent,
)
from rlsv_fast.data.cache import PreparedTrack
from rlsv_fast.data.sound import FloatArray
from rlsv_fast.errors import InputError

SILENCE_PEAK = 1e-4
"""A voice that never exceeds this (−80 dBFS, the deviation of the papers' corruption noise) is
silent: dithered digital silence stays below, the faintest audible singing above."""

_ALL = slice(None)

IndexArray: TypeAlias = npt.NDArray[np.int64]


class SegmentBatch(NamedTuple):
    """Consecutive test segments, each tensor (n, N) float32 on the CPU."""

    voice: Tensor
    accompaniment: Tensor
    mixture: Tensor


class SegmentStore:
    """All segments of a training set, by index arithmetic over audio that is never copied.

    Segments start every ``segment_length − overlap`` samples within each track. Where that leaves a
    rest, one more segment ends at the track's last sample: it overlaps its neighbour more than the
    others do, but no audio is lost and no zeros enter training. A track shorter than a segment
    becomes one zero-padded segment if at least half of it is audio, and is otherwise passed over
    (``skipped``).

    Voice segments that are silent throughout (``SILENCE_PEAK``) are dropped, as there is nothing to
    reconstruct in them; ``silent_segments`` counts them. Accompaniment segments are all kept.

    Args:
        tracks: prepared tracks of one sample rate.
        segment_length: N, in samples.
        overlap: samples shared by neighbouring segments, at least 0 and less than N.
        device: where the batches go. On the CPU they are copied out of the memory maps, whose
            pages are asked for two batches before. On another device all audio is moved there
            once, if it leaves room for the model, and batches are gathered there; if not, they
            are copied there while the former ones are worked on.
        concatenate: join all tracks before cutting, so that segments cross the borders of tracks,
            as in the published code. The papers segment each track by itself.

    Attributes:
        voice_segments: number of voice segments, one epoch's worth.
        accompaniment_segments: number of accompaniment segments.
        silent_segments: voice segments dropped as silent.
        skipped: names of the tracks too short to use.
        resident: whether all audio lies on the device.

    Raises:
        InputError: no track is as long as a segment, rates differ, the length or overlap cannot
            work, or the voice of the whole set is silent.
    """

    def __init__(
        self,
        tracks: Sequence[PreparedTrack],
        segment_length: int,
        overlap: int,
        *,
        device: torch.device | str = "cpu",
        concatenate: bool = False,
    ) -> None:
        """Index the segments and leave out the silent ones (reads the voice once)."""
        if segment_length < 1:
            raise InputError(f"segment length must be at least 1 sample, got {segment_length}")
        if not 0 <= overlap < segment_length:
            raise InputError(
                f"overlap must be at least 0 and less than the segment length {segment_length}, "
                f"got {overlap}"
            )
        _check_rates(tracks)
        _check_lengths(tracks, segment_length, concatenate)
        self.segment_length = segment_length
        self.device = torch.device(device)
        used = [track for track in tracks if concatenate or 2 * len(track) >= segment_length]
        self.skipped = [track.name for track in tracks if track not in used]
        voices = [track.voice for track in used]
        accompaniments = [track.accompaniment for track in used]
        if not concatenate:
            voices = [_padded(samples, segment_length) for samples in voices]
            accompaniments = [_padded(samples, segment_length) for samples in accompaniments]
        lengths = [len(samples) for samples in voices]
        blocks = [sum(lengths)] if concatenate else lengths
        starts = _starts(blocks, segment_length, segment_length - overlap)

        mapped = MappedAudio(voices)
        audible = [
            _peak(piece) > SILENCE_PEAK
            for piece in (mapped.copy(int(start), segment_length) for start in starts)
        ]
        self._voice_starts = starts[np.asarray(audible, dtype=bool)]
        self._accompaniment_starts = starts
        self.voice_segments = len(self._voice_starts)
        self.accompaniment_segments = len(starts)
        self.silent_segments = len(starts) - self.voice_segments
        if self.voice_segments == 0:
            raise _silent_error(tracks)
        self._voice: MappedAudio | DeviceAudio
        self._accompaniment: MappedAudio | DeviceAudio
        self._voice, self._accompaniment = place([voices, accompaniments], self.device)
        self.resident = isinstance(self._voice, DeviceAudio)

    def __len__(self) -> int:
        """Number of voice segments."""
        return self.voice_segments

    def batches(self, batch_size: int) -> int:
        """Batches per epoch: all voice segments once, the last batch filled up."""
        if batch_size < 1:
            raise InputError(f"batch size must be at least 1, got {batch_size}")
        return -(-self.voice_segments // batch_size)

    def order(
        self, batch_size: int, *, seed: int, epoch: int, paired: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What each batch of an epoch takes; see :meth:`epoch`, which has the same arguments.

        Returns:
            First samples of the segments of voice and accompaniment, each (batches, B) int64: on
            the store's device where the audio is, too, else on the CPU.
        """
        batches = self.batches(batch_size)
        if min(seed, epoch) < 0:
            raise InputError(f"seed and epoch must be at least 0, got {seed}, {epoch}")
        voice = _shuffled(self._voice_starts, seed, epoch, source=0)
        accompaniment = voice
        if not paired:
            accompaniment = _shuffled(self._accompaniment_starts, seed, epoch, source=1)
        places = np.arange(batches * batch_size).reshape(batches, batch_size)
        first, second = (
            torch.from_numpy(starts[places % len(starts)]).to(
                self.device if self.resident else "cpu"
            )
            for starts in (voice, accompaniment)
        )
        return first, second

    def gather(self, voice: Tensor, accompaniment: Tensor) -> Batch:
        """The segments that begin at the given samples, each (B,), a row of :meth:`order`."""
        return (
            self._voice.gather(voice, self.segment_length),
            self._accompaniment.gather(accompaniment, self.segment_length),
        )

    def epoch(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        start_batch: int = 0,
        paired: bool = False,
        rows: slice = _ALL,
    ) -> Iterator[Batch]:
        """Yield one pass over the voice segments, with unrelated accompaniment.

        Voice and accompaniment are shuffled by two independent permutations that depend on
        (seed, epoch) alone, so an epoch resumed at ``start_batch`` continues bit for bit. Each
        voice segment occurs once; the last batch is filled by starting the permutation again, as
        all batches must have one size. The accompaniment list is run through likewise.

        Args:
            batch_size: B.
            seed: at least 0.
            epoch: at least 0; another number, another order.
            start_batch: first batch to yield, at least 0.
            paired: accompaniment of the same place as the voice (P1, experiment 1: no random
                mixing).
            rows: which of each batch to yield, where several processes share the batches.

        Yields:
            (voice, accompaniment), each (B, N), or these rows of it, float32 on the store's device,
            newly allocated.
        """
        if start_batch < 0:
            raise InputError(f"start_batch must be at least 0, got {start_batch}")
        voice, accompaniment = (
            starts[:, rows]
            for starts in self.order(batch_size, seed=seed, epoch=epoch, paired=paired)
        )

        def batch(number: int) -> Batch:
            return self.gather(voice[number], accompaniment[number])

        def expect(number: int) -> None:
            for source, starts in (
                (self._voice, voice[number]),
                (self._accompaniment, accompaniment[number]),
            ):
                if isinstance(source, MappedAudio):
                    source.expect(starts, self.segment_length)

        numbers = range(start_batch, len(voice))
        if self.resident:
            yield from map(batch, numbers)
        elif self.device.type == "cpu":
            yield from announced(batch, expect, numbers)
        else:
            yield from sent(batch, numbers, self.device)


def test_segments(
    track: PreparedTrack, segment_length: int, *, batch_size: int = 16
) -> Iterator[SegmentBatch]:
    """Cut a test track into non-overlapping segments, in order and without shuffling.

    The rest at the end is zero-padded to a segment if at least half of it would be audio, and
    dropped otherwise: a mostly empty segment would count as much as a full one in every mean. The
    papers do not say what they do with the rest; the published code always pads. Segments with a
    silent voice are *not* left out here: that rule belongs to the evaluation.

    Args:
        track: prepared track.
        segment_length: N, in samples.
        batch_size: the most segments to yield at a time, which bounds the memory.

    Yields:
        Voice, accompaniment and mixture, each (n, N) with n ≤ batch_size; nothing at all for a
        track shorter than half a segment.
    """
    if segment_length < 1 or batch_size < 1:
        raise InputError(
            "segment length and batch size must be at least 1, got "
            f"{segment_length} and {batch_size}"
        )
    count, rest = divmod(len(track), segment_length)
    count += 2 * rest >= segment_length
    for first in range(0, count, batch_size):
        last = min(first + batch_size, count)
        span = slice(first * segment_length, last * segment_length)
        check_whole(track.voice)  # the others are rows of the same file
        voice, accompaniment, mixture = (
            torch.from_numpy(
                _padded(samples[span], (last - first) * segment_length, copy=True)
            ).view(last - first, segment_length)
            for samples in (track.voice, track.accompaniment, track.mixture)
        )
        yield SegmentBatch(voice, accompaniment, mixture)


# pytest takes every imported name that begins with "test" for a test
test_segments.__test__ = False  # type: ignore[attr-defined]


def check_not_silent(tracks: Sequence[PreparedTrack]) -> None:
    """Raise InputError where no track of a set has an audible voice (``SILENCE_PEAK``)."""
    if not any(_peak(track.voice) > SILENCE_PEAK for track in tracks):
        raise _silent_error(tracks)


def _starts(lengths: Sequence[int], segment_length: int, step: int) -> IndexArray:
    """Starts of all segments, in a flat numbering of the tracks laid end to end."""
    starts = []
    offset = 0
    for length in lengths:
        last = length - segment_length
        regular = np.arange(0, last + 1, step, dtype=np.int64)
        if regular[-1] != last:
            regular = np.append(regular, last)
        starts.append(regular + offset)
        offset += length
    return np.concatenate(starts)


def _shuffled(starts: IndexArray, seed: int, epoch: int, *, source: int) -> IndexArray:
    return np.random.default_rng((seed, epoch, source)).permutation(starts)


def _padded(samples: FloatArray, length: int, *, copy: bool = False) -> FloatArray:
    if len(samples) >= length:
        return np.array(samples) if copy else samples
    return np.pad(samples, (0, length - len(samples)))


def _peak(samples: FloatArray) -> float:
    return max(float(samples.max()), -float(samples.min()))


def _check_rates(tracks: Sequence[PreparedTrack]) -> None:
    rates = {track.sample_rate: track.name for track in tracks}
    if len(rates) > 1:
        listed = ", ".join(f"'{name}' {rate} Hz" for rate, name in rates.items())
        raise InputError(f"tracks of different sample rates: {listed}; prepare them at one rate")


def _check_lengths(tracks: Sequence[PreparedTrack], length: int, concatenate: bool) -> None:
    if not tracks:
        raise InputError("no tracks to cut into segments")
    longest = max(tracks, key=len)
    there = sum(map(len, tracks)) if concatenate else len(longest)
    if there < length:
        what = "all tracks together" if concatenate else f"the longest track '{longest.name}'"
        raise InputError(
            f"a segment of {length} samples is longer than {what} ({there} samples, "
            f"{there / longest.sample_rate:.2f} s); choose shorter segments or longer tracks"
        )


def _silent_error(tracks: Sequence[PreparedTrack]) -> InputError:
    return InputError(
        f"the voice is silent in all {len(tracks)} track(s), from '{tracks[0].name}' to "
        f"'{tracks[-1].name}'; check that vocals hold the singing"
    )
