"""What becomes of a separator whose f0 is wrong: shifted, an octave off, or missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import Statistics
from rlsv_fast.evaluation.result import plain
from rlsv_fast.nn import Convention
from rlsv_fast.ops._check import floating, integer
from rlsv_fast.umss.assignment import VOICES
from rlsv_fast.umss.choirs import Song
from rlsv_fast.umss.evaluation import Separator, measure_song, prepare_song
from rlsv_fast.umss.result import EnsembleResult, ExcerptScores


def shift_f0(f0: Tensor, hertz: float) -> Tensor:
    """Add the same to every pitch; what would not be above 0 Hz falls silent.

    Args:
        f0: Hz, 0 where unvoiced, any shape.
        hertz: to be added.

    Returns:
        The same shape.
    """
    f0 = floating("shift_f0", "f0", f0)
    return torch.where(f0 > 0, (f0 + hertz).clamp_min(0), f0)


def transpose_f0(f0: Tensor, semitones: float) -> Tensor:
    """Raise every pitch by an interval; 12 semitones are an octave.

    Args:
        f0: Hz, 0 where unvoiced, any shape.
        semitones: up, or down if negative.

    Returns:
        The same shape.
    """
    return floating("transpose_f0", "f0", f0) * 2 ** (semitones / 12)


def mute_voices(f0: Tensor, voices: Iterable[int]) -> Tensor:
    """Silence whole voices.

    Args:
        f0: Hz, shape (..., V, T).
        voices: their numbers.

    Returns:
        The same shape, 0 in these voices.

    Raises:
        ValueError: there is no such voice.
    """
    f0 = floating("mute_voices", "f0", f0).clone()
    for voice in voices:
        if not 0 <= voice < f0.shape[-2]:
            raise ValueError(
                f"mute_voices: voices must be from 0 to {f0.shape[-2] - 1}, got {voice}"
            )
        f0[..., voice, :] = 0
    return f0


def mute_frames(f0: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Silence each frame of each voice at random.

    Args:
        f0: Hz, any shape.
        share: probability of a frame, from 0 to 1.
        generator: of the CPU; its state tells which frames.

    Returns:
        The same shape, 0 in these frames.

    Raises:
        ValueError: the share is none.
    """
    f0 = floating("mute_frames", "f0", f0)
    if not 0 <= share <= 1:
        raise ValueError(f"mute_frames: share must be from 0 to 1, got {share}")
    muted = torch.rand(f0.shape, generator=generator) < share
    return f0.masked_fill(muted.to(f0.device), 0)


class Perturbation(NamedTuple):
    """A test: what is done to the f0.

    Attributes:
        test: what it varies.
        amount: how much of that.
        apply: from the f0 (B, V, T) and a generator to what the separator gets.
        muted: letters of the voices that have no f0 left.
    """

    test: str
    amount: str
    apply: Callable[[Tensor, torch.Generator], Tensor]
    muted: str = ""


def published_perturbations(voices: str = "satb") -> list[Perturbation]:
    """The 95 published tests.

    All pitches shifted by -60 to 57 Hz in steps of 3, and by -3 to 3 octaves; every subset of the
    voices muted; 3 to 99 % of all frames muted, in steps of 3.

    Args:
        voices: letters of the voices of a mixture, in their order.
    """
    shifts = [
        Perturbation("shift", f"{hertz:+d} Hz", _fixed(shift_f0, hertz))
        for hertz in range(-60, 58, 3)
    ]
    octaves = [
        Perturbation("octaves", f"{octaves:+d}", _fixed(transpose_f0, 12 * octaves))
        for octaves in range(-3, 4)
    ]
    muted = []
    for count in range(1, len(voices) + 1):
        for chosen in combinations(range(len(voices)), count):
            letters = "".join(voices[voice] for voice in chosen)
            muted.append(
                Perturbation("muted voices", letters.upper(), _fixed(mute_voices, chosen), letters)
            )
    frames = [
        Perturbation("muted frames", f"{percent} %", _random(mute_frames, percent / 100))
        for percent in range(3, 100, 3)
    ]
    return shifts + octaves + muted + frames


def _fixed(
    change: Callable[[Tensor, Any], Tensor], amount: Any
) -> Callable[[Tensor, torch.Generator], Tensor]:
    return lambda f0, _: change(f0, amount)


def _random(
    change: Callable[[Tensor, float, torch.Generator], Tensor], amount: float
) -> Callable[[Tensor, torch.Generator], Tensor]:
    return lambda f0, generator: change(f0, amount, generator)


def _applied(test: Perturbation, generator: torch.Generator, f0: Tensor) -> Tensor:
    return test.apply(f0, generator)


@dataclass(frozen=True)
class RobustnessRow:
    """SI-SDR in dB of one test: of all voices, of those that have f0, and the mean of each."""

    test: str
    amount: str
    all: Statistics
    sounding: Statistics
    voices: dict[str, float]


@dataclass(frozen=True)
class RobustnessTable:
    """What :func:`robustness_table` found; the first row has the f0 as it is."""

    settings: dict[str, Any]
    rows: tuple[RobustnessRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, of what JSON can hold."""
        found: dict[str, Any] = plain(
            {"settings": self.settings, "rows": [asdict(row) for row in self.rows]}
        )
        return found

    def markdown(self) -> str:
        """The table."""
        letters = list(self.rows[0].voices)
        head = ["test", "amount", "mean", "median", "std", "mean of voices with f0"]
        head += [letter.upper() for letter in letters]
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for row in self.rows:
            values = [row.all.mean, row.all.median, row.all.std, row.sounding.mean]
            values += [row.voices[letter] for letter in letters]
            cells = ["–" if value != value else f"{value:.2f}" for value in values]
            lines.append(f"| {' | '.join([row.test, row.amount, *cells])} |")
        return "\n".join(lines) + "\n"


def robustness_table(
    separate: Separator,
    songs: Sequence[Song],
    *,
    perturbations: Sequence[Perturbation] | None = None,
    seed: int = 0,
    convention: Convention = "code",
    batch_size: int = 8,
    progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> RobustnessTable:
    """SI-SDR of a separator with wrong f0. All excerpts stay in memory for all of the tests.

    Args:
        separate: gives the voices of mixtures.
        songs: from :func:`~rlsv_fast.umss.find_songs`.
        perturbations: None for the published ones.
        seed: of the frames that are muted, the same for each test.
        convention: by default nothing is below -80 dB, as published: a voice without f0 may come
            out as nothing at all.
        batch_size: excerpts at a time.
        progress: called with (tests done, tests in all, what is tested) after each.
        options: which excerpts and f0: further arguments of
            :func:`~rlsv_fast.umss.evaluate_separator` from ``f0`` to ``device``.

    Returns:
        A row for the f0 as it is and one for each test.

    Raises:
        InputError: as there.
    """
    integer("robustness_table", "seed", seed, 0)
    if not songs:
        raise InputError("robustness_table: no songs to evaluate")
    prepared = [prepare_song(song, **options) for song in songs]
    sung = {
        voice for excerpts in prepared for place in excerpts.places for voice, _ in place.singers
    }
    letters = "".join(voice[0] for voice in VOICES if voice[0] in sung)
    if perturbations is None:
        orders = {
            "".join(voice for voice, _ in place.singers)
            for excerpts in prepared
            for place in excerpts.places
        }
        if len(orders) > 1:
            raise InputError(
                f"robustness_table: mixtures of different voices ({', '.join(sorted(orders))}): "
                "their voices cannot be muted by number; give perturbations="
            )
        perturbations = published_perturbations(letters)
    rows = []
    tests = [Perturbation("none", "", lambda f0, _: f0), *perturbations]
    for number, test in enumerate(tests):
        generator = torch.Generator().manual_seed(seed)
        found: list[ExcerptScores] = []
        for excerpts in prepared:
            found += measure_song(
                excerpts,
                separate,
                ("SI-SDR_mask",),
                perturb=partial(_applied, test, generator),
                batch_size=batch_size,
                convention=convention,
            )
        result = EnsembleResult({}, tuple(found))
        sounding = "".join(letter for letter in letters if letter not in test.muted)
        rows.append(
            RobustnessRow(
                test.test,
                test.amount,
                result.statistics("SI-SDR_mask"),
                result.statistics("SI-SDR_mask", voices=sounding),
                {v: result.statistics("SI-SDR_mask", voices=v).mean for v in letters},
            )
        )
        if progress is not None:
            progress(number + 1, len(tests), f"{test.test} {test.amount}".strip())
    settings = {"songs": [e.song for e in prepared], "seed": seed, "convention": convention}
    return RobustnessTable(settings, tuple(rows))
