"""Excerpts of songs with one singer for each voice: random ones to train on, a grid to measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsv_fast.data import SILENCE_PEAK
from rlsv_fast.data.sound import FloatArray
from rlsv_fast.errors import InputError
from rlsv_fast.ops._check import choice, integer
from rlsv_fast.umss.choirs import (
    Combination,
    Singer,
    Song,
    read_f0,
    read_mixture_f0,
    read_singer,
)
from rlsv_fast.umss.comb import on_grid
from rlsv_fast.umss.tracks import F0Tracks

F0Source: TypeAlias = Literal["singers", "mixture", "none"] | Mapping[str, F0Tracks]

_ALL = slice(None)
_SECONDS_A_PASS = 2.5
_TRIES = 1000
_COVERED = 0.9


class ChoirBatch(NamedTuple):
    """Excerpts, float32: mixture (B, N), sources (B, V, N), f0 in Hz (B, V, T), 0 if unvoiced.

    Without f0 its T is 0.
    """

    mixture: Tensor
    sources: Tensor
    f0: Tensor


class Place(NamedTuple):
    """Where an excerpt lies: number of its song in the store, singers, first sample."""

    song: int
    singers: Combination
    start: int


class ExcerptStore:
    """Excerpts of songs that are held in memory, each with its f0 and its sources.

    A random excerpt has any singer for each voice and begins anywhere on the grid of the f0, as
    published; those without any sound (``SILENCE_PEAK``) are drawn anew. The mixture is the sum of
    its sources, scaled to a peak of 1, and they with it.

    Args:
        songs: from :func:`~rlsv_fast.umss.find_songs`.
        voices: V, singers of a mixture, each of another voice, in the order soprano to bass. Songs
            with more voices give each subset of them.
        length: N, in samples.
        hop: samples from one f0 to the next: T = ceil(N / hop).
        sample_rate: in Hz; other files are resampled.
        singers: numbers of the singers to use, of every voice; ``"all"`` of them.
        passes: excerpts that an epoch takes of each song; None takes one for every 2.5 s of it, as
            published for parts of 10 s.
        f0: ``"singers"`` for the tracks of each singer, ``"mixture"`` for those estimated from the
            mixtures, which limit the combinations of singers to theirs; ``"none"`` for what finds
            the f0 by itself; or, by the names of the songs, tracks of the mixture of all V voices.
        context: frames of f0 before and behind each excerpt, 0 Hz outside of the song; f0 then has
            T + 2 context frames.
        device: where the audio and the batches are.

    Attributes:
        songs: those in use.
        skipped: names of those that have too few voices, are too short or silent.
        frames: T, without the context.

    Raises:
        InputError: no song can be used, f0 is missing or too short, or a file is damaged.
        MissingPackage: another rate, and soxr is not installed.
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        songs: Sequence[Song],
        *,
        voices: int = 4,
        length: int = 64000,
        hop: int = 256,
        sample_rate: int = 16000,
        singers: Literal["all"] | tuple[int, ...] = "all",
        passes: int | None = None,
        f0: F0Source = "singers",
        context: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """Decode the songs."""
        op = "ExcerptStore"
        self.voices = integer(op, "voices", voices, 1)
        self.hop = integer(op, "hop", hop, 1)
        self.length = integer(op, "length", length, hop)
        self.sample_rate = integer(op, "sample_rate", sample_rate, 1)
        self.context = integer(op, "context", context, 0)
        if passes is not None:
            integer(op, "passes", passes, 1)
        if isinstance(f0, str):
            choice(op, "f0", f0, ("singers", "mixture", "none"))
        self.frames = -(-length // hop)
        self.device = torch.device(device)
        self.songs: list[Song] = []
        self.skipped: list[str] = []
        self._choirs: list[_Choir] = []
        for song in songs:
            choir = _Choir(song, self, singers, f0)
            if choir.usable:
                self.songs.append(song)
                self._choirs.append(choir)
            else:
                self.skipped.append(song.name)
        if not self.songs:
            raise InputError(
                f"none of {len(songs)} song(s) has {voices} voices"
                f"{'' if singers == 'all' else f' of singers {singers}'} and {length} samples "
                f"of sound{'' if not songs else f', from {songs[0].name!r} to {songs[-1].name!r}'}"
            )
        counts = [
            passes or max(round(choir.longest / sample_rate / _SECONDS_A_PASS), 1)
            for choir in self._choirs
        ]
        self._items = np.repeat(np.arange(len(counts)), counts)

    def __len__(self) -> int:
        """Excerpts of an epoch."""
        return len(self._items)

    def batches(self, batch_size: int) -> int:
        """Batches per epoch, the last one filled up."""
        return -(-len(self) // integer("batches", "batch_size", batch_size, 1))

    def order(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        start_batch: int = 0,
        rows: slice = _ALL,
    ) -> Iterator[list[Place]]:
        """What each batch of an epoch takes; arguments as :meth:`epoch`."""
        if min(seed, epoch, start_batch) < 0:
            raise InputError(
                "seed, epoch and start_batch must be at least 0, got "
                f"{seed}, {epoch}, {start_batch}"
            )
        songs = np.random.default_rng((seed, epoch, 0)).permutation(self._items)
        for number in range(start_batch, self.batches(batch_size)):
            items = range(number * batch_size, (number + 1) * batch_size)[rows]
            yield [
                # a generator for each excerpt: none depends on what was drawn before
                self._draw(int(songs[i % len(songs)]), np.random.default_rng((seed, epoch, 1, i)))
                for i in items
            ]

    def epoch(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        start_batch: int = 0,
        rows: slice = _ALL,
    ) -> Iterator[ChoirBatch]:
        """Yield one pass over the songs, in random order.

        Excerpts depend on (seed, epoch) and their place alone, so an epoch resumed at
        ``start_batch`` continues bit for bit.

        Args:
            batch_size: B; the last batch is filled with further excerpts.
            seed: at least 0.
            epoch: at least 0; another number, other excerpts.
            start_batch: first batch to yield.
            rows: which of each batch to yield, where several processes share the batches.

        Yields:
            Newly allocated batches on the store's device.
        """
        for places in self.order(
            batch_size, seed=seed, epoch=epoch, start_batch=start_batch, rows=rows
        ):
            yield self.gather(places)

    def grid(self, first: int = 0) -> list[Place]:
        """Excerpts side by side: those of all subsets of V voices, the first singer of each.

        Args:
            first: number of the first excerpt of each song; 1 in the published evaluation.

        Returns:
            Places for :meth:`gather`, song by song; the silent ones left out.
        """
        return [
            Place(number, singers, start)
            for number, choir in enumerate(self._choirs)
            for singers in choir.first_combinations()
            for start in range(
                first * self.length, choir.end(singers) - self.length + 1, self.length
            )
            if choir.sounds(singers, start)
        ]

    def gather(self, places: Sequence[Place]) -> ChoirBatch:
        """The excerpts at some places, at least one."""
        audio, tracks = [], []
        for place in places:
            choir = self._choirs[place.song]
            for singer in place.singers:
                audio.append(choir.audio[singer][place.start : place.start + self.length])
            first = place.start // self.hop
            tracks += choir.f0(place.singers, first, first + self.frames + 2 * self.context)
        sources = torch.stack(audio).view(len(places), self.voices, self.length)
        mixture = sources.sum(1)
        peak = mixture.abs().amax(1).clamp_min(torch.finfo(mixture.dtype).tiny)
        f0 = torch.stack(tracks).view(len(places), self.voices, len(tracks[0]))
        return ChoirBatch(mixture / peak[:, None], sources / peak[:, None, None], f0)

    def _draw(self, song: int, generator: np.random.Generator) -> Place:
        choir = self._choirs[song]
        for _ in range(_TRIES):
            singers = choir.draw(generator)
            last = (choir.end(singers) - self.length) // self.hop
            start = int(generator.integers(last + 1)) * self.hop
            if choir.sounds(singers, start):
                return Place(song, singers, start)
        raise InputError(
            f"song '{self.songs[song].name}': {_TRIES} random excerpts of {self.length} samples "
            "were all silent; remove it"
        )


class _Choir:
    """One song's audio and f0; the tracks lie between frames of 0 Hz, for the context."""

    def __init__(
        self,
        song: Song,
        store: ExcerptStore,
        numbers: Literal["all"] | tuple[int, ...],
        source: F0Source,
    ) -> None:
        self._store = store
        self.audio: dict[tuple[str, int], Tensor] = {}
        self.longest = 0
        self._loud: dict[tuple[str, int], npt.NDArray[np.int64]] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._tracks: dict[tuple[str, int], Tensor] = {}
        self._mixtures: dict[Combination, Tensor] = {}
        self._limits: dict[Combination, int] = {}
        kept = {
            voice: [singer for singer in singers if numbers == "all" or singer.number in numbers]
            for voice, singers in song.singers.items()
        }
        self._singers = {voice: singers for voice, singers in kept.items() if singers}
        self.usable = len(self._singers) >= store.voices and self._read_audio()
        if self.usable:
            if source == "none":
                self._tracks = dict.fromkeys(self.audio, torch.empty(0, device=store.device))
            elif source == "singers":
                self._read_singers_f0()
            else:
                self._read_mixture_f0(song, source)
            self.usable = self.longest >= store.length

    def _read_audio(self) -> bool:
        """Whether it is long enough and sounds."""
        for voice, singers in self._singers.items():
            for singer in singers:
                samples = read_singer(singer, self._store.sample_rate)
                key = (voice, singer.number)
                self._loud[key] = _loud_until(samples, self._store.hop)
                self._ends[key] = len(samples)
                self.audio[key] = torch.from_numpy(samples).to(self._store.device)
        self.longest = min(self._ends.values())
        sounding = any(loud[-1] for loud in self._loud.values())
        return self.longest >= self._store.length and sounding

    def _read_singers_f0(self) -> None:
        for voice, singers in self._singers.items():
            for singer in singers:
                key = (voice, singer.number)
                tracks, end = self._on_grid(read_f0(singer), self._ends[key], str(singer.f0))
                self._tracks[key] = tracks[0]
                self._ends[key] = min(self._ends[key], end)
        self.longest = min(self._ends.values())

    def _read_mixture_f0(self, song: Song, source: F0Source) -> None:
        voices = self._store.voices
        if isinstance(source, str):
            found = read_mixture_f0(song, voices)
        else:
            alone = tuple((voice, singers[0].number) for voice, singers in self._singers.items())
            if len(self.audio) != voices or song.name not in source:
                raise InputError(
                    f"song '{song.name}': tracks of the mixture of {voices} voices are needed, and "
                    f"one singer for each; there are {len(self.audio)} singers and tracks of "
                    f"{', '.join(source) or 'no song'}"
                )
            found = {alone: source[song.name]}
            if len(source[song.name].voices) != voices:
                raise InputError(
                    f"song '{song.name}': tracks of {len(source[song.name].voices)} voices, "
                    f"expected {voices}"
                )
        for singers, tracks in found.items():
            if self.audio.keys() >= set(singers):
                end = min(self._ends[singer] for singer in singers)
                what = f"song '{song.name}', the f0 of the mixture of {singers}"
                self._mixtures[singers], known = self._on_grid(tracks, end, what)
                self._limits[singers] = min(end, known)
        if not self._mixtures:
            raise InputError(f"song '{song.name}': no f0 of a mixture of the singers chosen")
        self.longest = min(self._limits.values())

    def _on_grid(self, tracks: F0Tracks, samples: int, what: str) -> tuple[Tensor, int]:
        """Tracks (V, frames) within frames of 0 Hz, and until which sample they reach."""
        store = self._store
        if not len(tracks.time):
            raise InputError(f"{what}: holds no frames")
        step = store.hop / store.sample_rate
        centres = (np.arange(-(-samples // store.hop)) + 0.5) * step
        spacing = float(np.median(np.diff(tracks.time))) if len(tracks.time) > 1 else step
        centres = centres[centres < tracks.time[-1] + spacing / 2]
        known = len(centres) * store.hop
        if known < _COVERED * samples:
            raise InputError(
                f"{what}: ends after {known / store.sample_rate:.1f} s of "
                f"{samples / store.sample_rate:.1f} s; make it anew from this audio"
            )
        found = torch.from_numpy(on_grid(tracks.time, tracks.frequency.T, centres)).float()
        # one frame more at the end, where the last excerpt may end within it
        padded = torch.nn.functional.pad(found, (store.context, store.context + 1))
        return padded.to(store.device), known

    def end(self, singers: Combination) -> int:
        """Samples of their mixture whose f0 is known."""
        if self._mixtures:
            return self._limits[singers]
        return min(self._ends[singer] for singer in singers)

    def f0(self, singers: Combination, first: int, last: int) -> list[Tensor]:
        """Frames of each singer; they count from the beginning of the context."""
        if self._mixtures:
            return list(self._mixtures[singers][:, first:last])
        return [self._tracks[singer][first:last] for singer in singers]

    def sounds(self, singers: Combination, start: int) -> bool:
        """Whether anything is to be heard."""
        first, last = start // self._store.hop, -(-(start + self._store.length) // self._store.hop)
        counts = (self._loud[singer] for singer in singers)
        return any(int(loud[min(last, len(loud) - 1)] - loud[first]) for loud in counts)

    def draw(self, generator: np.random.Generator) -> Combination:
        """Random singers of random voices."""
        if self._mixtures:
            known = list(self._mixtures)
            return known[int(generator.integers(len(known)))]
        voices = list(self._singers)
        chosen = generator.choice(len(voices), self._store.voices, replace=False)
        singers: list[tuple[str, int]] = []
        for voice in (voices[i] for i in sorted(chosen)):
            there: list[Singer] = self._singers[voice]
            singers.append((voice, there[int(generator.integers(len(there)))].number))
        return tuple(singers)

    def first_combinations(self) -> list[Combination]:
        """Of each subset of the voices the first singers."""
        found: dict[tuple[str, ...], Combination] = {}
        if self._mixtures:
            for singers in sorted(self._mixtures, key=lambda key: [number for _, number in key]):
                found.setdefault(tuple(voice for voice, _ in singers), singers)
            return list(found.values())
        return [
            tuple((voice, self._singers[voice][0].number) for voice in voices)
            for voices in combinations(self._singers, self._store.voices)
        ]


def _loud_until(samples: FloatArray, hop: int) -> npt.NDArray[np.int64]:
    """How many hops before each are audible; one number more than there are hops."""
    frames = -(-len(samples) // hop)
    padded = np.pad(np.abs(samples), (0, frames * hop - len(samples)))
    loud = padded.reshape(frames, hop).max(1) > SILENCE_PEAK
    return np.concatenate(([0], np.cumsum(loud)))
