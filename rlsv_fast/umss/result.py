"""What an evaluation of separators found: statistics, tables beside published results, files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import Statistics
from rlsv_fast.evaluation.result import plain, statistics, write_atomically
from rlsv_fast.files import read_bytes
from rlsv_fast.umss.assignment import VOICES
from rlsv_fast.umss.choirs import Combination
from rlsv_fast.umss.published import RESULTS, Published, plain_name

Scores: TypeAlias = dict[str, npt.NDArray[np.float64]]

MIXTURE, ORACLE, IMPROVEMENT = "SI-SDR_mixture", "SI-SDR_oracle", "SI-SDR_improvement"

DIRECT = ("sp_SNR", "sp_SI-SNR", "mel_cep_dist")
F0 = ("f0_overall", "f0_raw_pitch", "f0_raw_chroma", "f0_voicing_recall", "f0_voicing_false_alarm")
F_MEASURE = "f0_f_measure"
_MOST_BYTES = 1 << 28
_Row: TypeAlias = tuple[str, str | None, str | None]
"""Name, the measure of its SI-SDR, and what the names of its other measures end in."""

_COLUMNS = {
    "sp_SNR": "spectral SNR",
    "sp_SI-SNR": "spectral SI-SNR",
    "mel_cep_dist": "MCD",
    "f0_overall": "f0 overall",
    "f0_raw_pitch": "raw pitch",
    "f0_raw_chroma": "raw chroma",
    "f0_f_measure": "F",
}


@dataclass(frozen=True, eq=False)
class ExcerptScores:
    """Measures of one excerpt.

    Attributes:
        song: its name.
        singers: voice and number of each.
        start: in seconds.
        values: of each measure, shape (V, seconds), NaN where the voice is silent; of f0 (V, 1).
    """

    song: str
    singers: Combination
    start: float
    values: Scores


@dataclass(frozen=True, eq=False)
class EnsembleResult:
    """What :func:`evaluate_separator` found.

    Measures are those of ``compute`` and, in dB, ``SI-SDR_mixture`` (nothing separated),
    ``SI-SDR_oracle`` (masks from the true magnitudes) and ``SI-SDR_improvement`` (over the
    mixture); of the f0 ``f0_overall``, ``f0_raw_pitch``, ``f0_raw_chroma``, ``f0_voicing_recall``,
    ``f0_voicing_false_alarm`` and ``f0_f_measure``.

    Attributes:
        settings: how it was computed.
        excerpts: in the order of the songs.
    """

    settings: dict[str, Any]
    excerpts: tuple[ExcerptScores, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what was measured."""
        return tuple(dict.fromkeys(name for found in self.excerpts for name in found.values))

    @property
    def songs(self) -> tuple[str, ...]:
        """Names of the songs."""
        return tuple(dict.fromkeys(found.song for found in self.excerpts))

    def statistics(
        self, measure: str, *, song: str | None = None, voices: str = "satb"
    ) -> Statistics:
        """Over seconds in which the voice sounds; none where nothing was measured.

        Args:
            measure: one of :attr:`measures`.
            song: of one song alone.
            voices: letters of the voices that count.
        """
        values: list[float] = []
        for found in self.excerpts:
            if measure in found.values and song in (None, found.song):
                rows = [i for i, (voice, _) in enumerate(found.singers) if voice in voices]
                kept = found.values[measure][rows].ravel()
                values += kept[~np.isnan(kept)].tolist()
        return statistics(values)

    def to_json(self) -> dict[str, Any]:
        """Everything, of what JSON can hold; what is not finite is None."""
        summary = {
            measure: {
                "all": asdict(self.statistics(measure)),
                "voices": {v: asdict(self.statistics(measure, voices=v)) for v in self._voices()},
                "songs": {
                    song: {
                        "all": asdict(self.statistics(measure, song=song)),
                        "voices": {
                            voice: asdict(self.statistics(measure, song=song, voices=voice))
                            for voice in self._voices()
                        },
                    }
                    for song in self.songs
                },
            }
            for measure in self.measures
        }
        excerpts = [
            {
                "song": found.song,
                "singers": [list(singer) for singer in found.singers],
                "start": found.start,
                "values": {name: values.tolist() for name, values in found.values.items()},
            }
            for found in self.excerpts
        ]
        text: dict[str, Any] = plain(
            {"settings": self.settings, "summary": summary, "excerpts": excerpts}
        )
        return text

    def markdown(self) -> str:
        """Tables of all songs beside published results, and of each song."""
        test_set = self.settings.get("test_set")
        size = self.settings.get("voices", len(VOICES))
        known = [entry for entry in RESULTS if entry.test_set == test_set and entry.sources == size]
        label = str(self.settings.get("label", "this separator"))
        own: list[_Row] = [
            ("mixture", MIXTURE, None),
            ("oracle ratio mask", ORACLE, None),
            (label, "SI-SDR_mask", "_mask"),
        ]
        if any(name in self.measures for name in DIRECT):
            own.append((f"{label}, synthesised", None, ""))
        rows = [self._cells(row) for row in own]
        rows += [row for entry in known if entry.song is None for row in _published_rows(entry)]
        songs = []
        for song in self.songs:
            songs += [[song, *self._cells(row, song)] for row in own]
            songs += [
                [song, *row]
                for entry in known
                if entry.song == plain_name(song)
                for row in _published_rows(entry)
            ]
        tables = [*_table(_head("model"), rows), "", *_table(["song", *_head("model")], songs)]
        return "\n".join([_intro(self), "", *tables, ""])

    def _voices(self) -> list[str]:
        there = {voice for found in self.excerpts for voice, _ in found.singers}
        return [name[0] for name in VOICES if name[0] in there]

    def _cells(self, row: _Row, song: str | None = None) -> list[str]:
        """Cells of a row of our own."""
        name, measure, ending = row
        means: list[float | None] = [None] * (3 + len(VOICES))
        if measure is not None:
            found = self.statistics(measure, song=song)
            means = [found.mean, found.median, found.std]
            means += [self.statistics(measure, song=song, voices=v).mean for v in "satb"]
        for other in _COLUMNS:
            tracks = other.startswith("f0_")
            if ending is None or (tracks and not ending):
                means.append(None)
            else:
                full = other if tracks else f"{other}{ending}"
                means.append(self.statistics(full, song=song).mean)
        return [name, "", "", *_cells(means)]


class _Table(Protocol):
    def to_json(self) -> dict[str, Any]: ...
    def markdown(self) -> str: ...


def write_result(result: _Table, folder: Path, name: str = "evaluation") -> None:
    """Write ``name.json`` and ``name.md``, each whole or not at all."""
    text = json.dumps(result.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
    write_atomically(folder / f"{name}.json", text + "\n")
    write_atomically(folder / f"{name}.md", result.markdown())


def read_result(path: Path) -> EnsembleResult:
    """Read the measures of :func:`evaluate_separator` back from their JSON; null becomes NaN.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    try:
        found = json.loads(read_bytes(path, _MOST_BYTES).decode("utf-8"))
        excerpts = [
            ExcerptScores(
                str(row["song"]),
                tuple((str(voice), int(number)) for voice, number in row["singers"]),
                float(row["start"]),
                {str(name): np.array(x, np.float64) for name, x in row["values"].items()},
            )
            for row in found["excerpts"]
        ]
        for one in excerpts:
            for name, values in one.values.items():
                if values.ndim != 2 or len(values) != len(one.singers):
                    raise ValueError(f"{name} has the shape {values.shape}")
        return EnsembleResult(dict(found["settings"]), tuple(excerpts))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: is no evaluation of an ensemble ({error}); evaluate again"
        ) from error


def _intro(result: EnsembleResult) -> str:
    which = result.settings.get("test_set") or ", ".join(result.songs)
    tracks = {
        "singers": "of the isolated singers",
        "mixture": "estimated from the mixtures",
        "none": "found by the separator",
    }
    return (
        f"# Separation of {which}\nSI-SDR in dB over {result.statistics(MIXTURE).count} seconds of "
        f"one voice in {len(result.excerpts)} excerpts; f0 "
        f"{tracks.get(result.settings['f0'], 'as given')}. Rows with a source are published ones; "
        "their f0, where not named, is the model's own."
    )


def _head(first: str) -> list[str]:
    return [
        *(first, "trained on", "source", "mean", "median", "std"),
        *"SATB",
        *_COLUMNS.values(),
    ]


def _published_rows(entry: Published) -> Iterator[list[str]]:
    """One for its masks, and one for its synthesis if that was measured, too."""
    voices: Iterable[float | None] = entry.voices or (None,) * len(VOICES)
    masked = [entry.others.get(o if o.startswith("f0_") else f"{o}_mask") for o in _COLUMNS]
    values = (entry.mean, entry.median, entry.std, *voices, *masked)
    yield [entry.model, entry.training, entry.source, *_cells(values)]
    direct = [entry.others.get(other) if other in DIRECT else None for other in _COLUMNS]
    if any(value is not None for value in direct):
        values = (*(None,) * (3 + len(VOICES)), *direct)
        yield [f"{entry.model}, synthesised", entry.training, entry.source, *_cells(values)]


def _cells(values: Sequence[float | None]) -> list[str]:
    """Two digits of what is in dB or a distance, three of the measures of f0, which come last."""
    rates = len(values) - sum(other.startswith("f0_") for other in _COLUMNS)
    return [
        "–" if value is None or not np.isfinite(value) else f"{value:.{3 if i >= rates else 2}f}"
        for i, value in enumerate(values)
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"
