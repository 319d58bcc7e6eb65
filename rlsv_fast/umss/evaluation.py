"""How well a separator does on real ensembles, by the published protocol and beside its results.

Excerpts of 4 s side by side, from the second one of each song on, scaled to a peak of 1 with their
sources; measures of every second and voice in which the source's energy is at least 10; means,
medians and deviations over these.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import Statistics
from rlsv_fast.evaluation.result import plain, statistics, write_atomically
from rlsv_fast.files import read_bytes
from rlsv_fast.nn import Convention
from rlsv_fast.ops._check import choice, integer
from rlsv_fast.umss.assignment import VOICES
from rlsv_fast.umss.choirs import Combination, Song, find_songs, split_songs
from rlsv_fast.umss.excerpts import ChoirBatch, ExcerptStore, F0Source, Place
from rlsv_fast.umss.f0_metrics import melody_scores, multipitch_scores
from rlsv_fast.umss.masks import soft_mask_separation
from rlsv_fast.umss.metrics import (
    mel_cepstral_distance_frames,
    si_sdr_frames,
    spectral_snr_frames,
)
from rlsv_fast.umss.published import CANTORIA, RESULTS, SINGERS, TEST_SETS, Published, TestSet
from rlsv_fast.umss.tracks import F0Tracks

Separator: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From a mixture (B, N) and the f0 of its voices in Hz (B, V, T) to the voices (B, V, N)."""

Tracker: TypeAlias = Callable[[Tensor], Tensor]
"""From a mixture (B, N) to the f0 of its voices in Hz (B, V, T)."""

Choice: TypeAlias = int | Mapping[str, int] | None
"""Which singer of every voice: a number, or one for each song by its name; None as published."""

Scores: TypeAlias = dict[str, npt.NDArray[np.float64]]

MIXTURE, ORACLE, IMPROVEMENT = "SI-SDR_mixture", "SI-SDR_oracle", "SI-SDR_improvement"

_MEASURES: dict[str, Callable[..., Tensor]] = {
    "SI-SDR": si_sdr_frames,
    "sp_SNR": spectral_snr_frames,
    "sp_SI-SNR": partial(spectral_snr_frames, scale_invariant=True),
    "mel_cep_dist": mel_cepstral_distance_frames,
}
_MASKED = tuple(f"{name}_mask" for name in _MEASURES)
_DIRECT = ("sp_SNR", "sp_SI-SNR", "mel_cep_dist")
COMPUTE = ("all", "all_mask", "all_no_mask", *_MASKED, *_DIRECT, "f0_infos")
"""What can be computed, by the published names; ``_mask`` is separation, without it synthesis."""

_F0 = ("f0_overall", "f0_raw_pitch", "f0_raw_chroma", "f0_voicing_recall", "f0_voicing_false_alarm")
_F_MEASURE = "f0_f_measure"
_SEED = 4
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
        if any(name in self.measures for name in _DIRECT):
            own.append((f"{label}, synthesised", None, ""))
        rows = [self._cells(row) for row in own]
        rows += [row for entry in known if entry.song is None for row in _published_rows(entry)]
        songs = []
        for song in self.songs:
            songs += [[song, *self._cells(row, song)] for row in own]
            songs += [
                [song, *row]
                for entry in known
                if entry.song == _plain_name(song)
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


def evaluate_separator(
    separate: Separator,
    songs: Sequence[Song],
    *,
    compute: Iterable[str] = ("all_mask",),
    synthesise: Separator | None = None,
    track: Tracker | None = None,
    f0: F0Source = "singers",
    perturb: Callable[[Tensor], Tensor] | None = None,
    singers: Choice = None,
    voices: int = 4,
    length: int = 64000,
    hop: int = 256,
    sample_rate: int = 16000,
    first: int = 1,
    limit: int | None = None,
    batch_size: int = 8,
    context: int = 0,
    device: torch.device | str = "cpu",
    convention: Convention = "paper",
    label: str = "this separator",
    progress: Callable[[int, int, str], None] | None = None,
) -> EnsembleResult:
    """Separate songs and measure every second of every voice.

    Noise is drawn from one seed for each batch, and the caller's generators are left as they were.

    Args:
        separate: gives the voices of mixtures.
        songs: from :func:`~rlsv_fast.umss.find_songs`.
        compute: names out of ``COMPUTE``. ``all`` is all that the arguments allow.
        synthesise: gives the synthesised voices, for measures without ``_mask``.
        track: gives the f0 that the separator finds by itself, for ``f0_infos``; without it these
            judge the tracks of the mixture that were given. The reference is that of the singers.
        f0: which tracks the separator gets, as for :class:`~rlsv_fast.umss.ExcerptStore`.
        perturb: changes these tracks (B, V, T) before the separator gets them.
        singers: the number of the singer of every voice, or one for each song; None for those of
            the published mixtures of the Choral Singing Dataset, and the first ones elsewhere.
        voices: of a mixture; fewer than a song has give all subsets.
        length: of an excerpt, in samples.
        hop: samples from one f0 to the next.
        sample_rate: in Hz.
        first: number of the first excerpt.
        limit: the most excerpts of each song.
        batch_size: excerpts at a time.
        context: frames of f0 before and behind each excerpt that the separator needs.
        device: where it computes.
        convention: of the measures.
        label: name of the separator in tables.
        progress: called with (songs done, songs in all, name) after each song.

    Returns:
        The measures.

    Raises:
        InputError: a song is too short, lacks the singer or the f0.
        MissingPackage: ``f0_infos`` without mir_eval.
        ValueError: an unknown measure, or one that the arguments do not allow; the separator
            gives another shape.
    """
    op = "evaluate_separator"
    wanted = _wanted(op, compute, synthesise is not None, track is not None or f0 != "singers")
    if not songs:
        raise InputError(f"{op}: no songs to evaluate")
    integer(op, "batch_size", batch_size, 1)
    found: list[ExcerptScores] = []
    chosen: dict[str, Any] = {}
    for number, song in enumerate(songs):
        excerpts = prepare_song(
            song,
            reference="f0_infos" in wanted,
            f0=f0,
            singers=singers,
            voices=voices,
            length=length,
            hop=hop,
            sample_rate=sample_rate,
            first=first,
            limit=limit,
            context=context,
            device=device,
        )
        chosen[song.name] = [list(singer) for singer in excerpts.places[0].singers]
        found += measure_song(
            excerpts,
            separate,
            (MIXTURE, ORACLE, *wanted),
            synthesise=synthesise,
            track=track,
            perturb=perturb,
            batch_size=batch_size,
            convention=convention,
        )
        if progress is not None:
            progress(number + 1, len(songs), song.name)
    settings = {
        "label": label,
        "f0": f0 if isinstance(f0, str) else "given",
        "voices": voices,
        "singers": chosen,
        "length": length,
        "hop": hop,
        "sample_rate": sample_rate,
        "first": first,
        "limit": limit,
        "convention": convention,
    }
    return EnsembleResult(settings, tuple(found))


@dataclass(frozen=True, eq=False)
class SongExcerpts:
    """A song ready to be measured.

    Attributes:
        song: its name.
        store: its audio, and the f0 that the separator gets.
        places: its excerpts.
        reference: the f0 that is compared with, or None.
    """

    song: str
    store: ExcerptStore
    places: list[Place]
    reference: ExcerptStore | None


def prepare_song(
    song: Song,
    *,
    reference: bool = False,
    f0: F0Source = "singers",
    singers: Choice = None,
    voices: int = 4,
    length: int = 64000,
    hop: int = 256,
    sample_rate: int = 16000,
    first: int = 1,
    limit: int | None = None,
    context: int = 0,
    device: torch.device | str = "cpu",
) -> SongExcerpts:
    """Decode a song; arguments and errors as :func:`evaluate_separator`."""
    integer("evaluate_separator", "first", first, 0)
    if limit is not None:
        integer("evaluate_separator", "limit", limit, 1)

    def opened(source: F0Source, frames: int) -> ExcerptStore:
        return ExcerptStore(
            [song],
            voices=voices,
            length=length,
            hop=hop,
            sample_rate=sample_rate,
            singers=_chosen(song, singers),
            f0=source,
            context=frames,
            device=device,
        )

    store = opened(f0, context)
    places = store.grid(first)
    true = None
    if reference:
        true = store if f0 == "singers" and not context else opened("singers", 0)
        known = set(true.grid(first))
        places = [place for place in places if place in known]
    if not places:
        raise InputError(
            f"song '{song.name}': no excerpt of {length} samples from number {first} on"
        )
    return SongExcerpts(song.name, store, places[:limit], true)


@torch.inference_mode()
def measure_song(
    excerpts: SongExcerpts,
    separate: Separator,
    wanted: Sequence[str],
    *,
    synthesise: Separator | None = None,
    track: Tracker | None = None,
    perturb: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 8,
    convention: Convention = "paper",
) -> list[ExcerptScores]:
    """Measure single measures on a song; arguments and errors as :func:`evaluate_separator`."""
    store, found = excerpts.store, []
    for begin in range(0, len(excerpts.places), batch_size):
        some = excerpts.places[begin : begin + batch_size]
        batch = store.gather(some)
        if perturb is not None:
            batch = batch._replace(f0=perturb(batch.f0))
        columns = _columns(batch, wanted, separate, synthesise, store.sample_rate, convention)
        scores = [{name: values[i] for name, values in columns.items()} for i in range(len(some))]
        if excerpts.reference is not None:
            true = excerpts.reference.gather(some).f0
            guess = _inner(batch.f0 if track is None else track(batch.mixture), true)
            step = store.hop / store.sample_rate
            for values, one, other in zip(scores, true, guess, strict=True):
                values.update(_f0_scores(one, other, step, convention))
        found += [
            ExcerptScores(excerpts.song, place.singers, place.start / store.sample_rate, values)
            for place, values in zip(some, scores, strict=True)
        ]
    return found


def evaluate(
    separate: Separator,
    data: Path | str,
    *,
    test_set: TestSet | None = None,
    f0_from_mix: bool = False,
    out: Path | None = None,
    **options: Any,
) -> EnsembleResult:
    """Evaluate a separator on a published test set, or on any folder of songs.

    Args:
        separate: gives the voices of mixtures.
        data: folder of the data set.
        test_set: ``"CSD"``, its three songs; ``"BCBQ"``, the parts of songs 8 and 9, from their
            first excerpt on; ``"cantoria"``, EJB1, EJB2 and CEA; None for all songs in the folder.
        f0_from_mix: give the separator the tracks that were estimated from the mixtures.
        out: folder for ``evaluation.json`` and ``evaluation.md``; None writes nothing.
        options: further arguments of :func:`evaluate_separator`.

    Returns:
        The measures.

    Raises:
        InputError: no such songs, or as there.
        ValueError: as there.
    """
    songs = test_songs(data, test_set)
    if test_set == "BCBQ":
        options.setdefault("first", 0)
    result = evaluate_separator(
        separate, songs, f0="mixture" if f0_from_mix else "singers", **options
    )
    result.settings["test_set"] = test_set
    if out is not None:
        write_result(result, out)
    return result


def test_songs(data: Path | str, test_set: TestSet | None = None) -> list[Song]:
    """The songs of a published test set in a folder, or all songs there.

    Raises:
        InputError: there are none.
        ValueError: no such set.
    """
    songs = find_songs(data)
    if test_set is None:
        return songs
    choice("evaluate", "test_set", test_set, TEST_SETS)
    if test_set == "CSD":
        kept = [song for song in songs if _plain_name(song.name) in SINGERS]
        names = "El_Rossinyol, Locus_Iste or Nino_Dios"
    elif test_set == "BCBQ":
        kept = split_songs(songs)[1]
        kept = [song for song in kept if re.search(r"_part\d+$", song.name)]
        names = "parts of songs 8 and 9, as 8_…_part1_s_1ch.wav"
    else:
        kept = [song for song in songs if song.name.upper() in CANTORIA]
        names = ", ".join(f"Cantoria_{name}_s.wav" for name in CANTORIA)
    if not kept:
        raise InputError(f"{data}: no song of the test set '{test_set}' there; expected {names}")
    return kept


# pytest takes every imported name that begins with "test" for a test
test_songs.__test__ = False  # type: ignore[attr-defined]


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


def _wanted(op: str, compute: Iterable[str], direct: bool, tracks: bool) -> tuple[str, ...]:
    """The single measures that some names mean, and that can be had."""
    if isinstance(compute, str):
        compute = (compute,)
    found: list[str] = []
    for name in compute:
        choice(op, "compute", name, COMPUTE)
        if name == "all":
            found += [*_MASKED, *(_DIRECT if direct else ()), *(("f0_infos",) if tracks else ())]
        elif name == "all_mask":
            found += _MASKED
        elif name == "all_no_mask":
            found += _DIRECT
        else:
            found.append(name)
    if not found:
        raise ValueError(f"{op}: compute must name something out of {', '.join(COMPUTE)}")
    if not direct and any(name in _DIRECT for name in found):
        raise ValueError(f"{op}: measures without '_mask' need synthesise=")
    if not tracks and "f0_infos" in found:
        raise ValueError(f"{op}: 'f0_infos' needs track= or tracks of the mixture (f0='mixture')")
    return tuple(dict.fromkeys(found))


def _columns(
    batch: ChoirBatch,
    wanted: Sequence[str],
    separate: Separator,
    synthesise: Separator | None,
    sample_rate: int,
    convention: Convention,
) -> Scores:
    """Measures of the signals, each (B, V, seconds)."""
    mixture, sources, f0 = batch

    def measured(kind: str, estimate: Tensor) -> npt.NDArray[np.float64]:
        value = _MEASURES[kind](
            estimate.flatten(0, 1), sources.flatten(0, 1), sample_rate, convention=convention
        )
        return value.view(*sources.shape[:2], -1).double().cpu().numpy()

    def voices(give: Separator) -> Tensor:
        with torch.random.fork_rng([mixture.device] if mixture.is_cuda else []):
            torch.manual_seed(_SEED)
            found = give(mixture, f0)
        if found.shape != sources.shape:
            raise ValueError(
                f"evaluate_separator: the separator must give voices of shape "
                f"{tuple(sources.shape)}, got {tuple(found.shape)}"
            )
        return found.to(sources)

    columns: Scores = {}
    if MIXTURE in wanted:
        columns[MIXTURE] = measured("SI-SDR", mixture[:, None].expand_as(sources))
    if ORACLE in wanted:
        columns[ORACLE] = measured("SI-SDR", soft_mask_separation(mixture, sources))
    masked = [name for name in wanted if name in _MASKED]
    direct = [name for name in wanted if name in _DIRECT]
    if masked:
        separated = voices(separate)
        for name in masked:
            columns[name] = measured(name.removesuffix("_mask"), separated)
        if "SI-SDR_mask" in columns and MIXTURE in columns:
            columns[IMPROVEMENT] = columns["SI-SDR_mask"] - columns[MIXTURE]
    if direct and synthesise is not None:
        synthesised = voices(synthesise)
        for name in direct:
            columns[name] = measured(name, synthesised)
    return columns


def _inner(found: Tensor, true: Tensor) -> Tensor:
    """Tracks (B, V, T) without the context around them."""
    spare = found.shape[-1] - true.shape[-1]
    if found.shape[:2] != true.shape[:2] or spare < 0 or spare % 2:
        raise ValueError(
            f"evaluate_separator: f0 must have shape {tuple(true.shape)}, got {tuple(found.shape)}"
        )
    return found[..., spare // 2 : found.shape[-1] - spare // 2]


def _f0_scores(true: Tensor, found: Tensor, step: float, convention: Convention) -> Scores:
    """Measures of the f0 of one excerpt, each (V, 1)."""
    names = tuple(map(str, range(len(true))))
    time = (np.arange(true.shape[-1], dtype=np.float64) + 0.5) * step
    reference, estimate = (
        F0Tracks(time, f0.T.double().cpu().numpy(), names) for f0 in (true, found)
    )
    melody = melody_scores(reference, estimate, convention=convention)
    values: Scores = {
        name: np.array([[melody[voice][name.removeprefix("f0_")]] for voice in names])
        for name in _F0
    }
    together = multipitch_scores(reference, estimate, convention=convention)["f_measure"]
    values[_F_MEASURE] = np.full((len(names), 1), together)
    return values


def _chosen(song: Song, singers: Choice) -> Literal["all"] | tuple[int, ...]:
    """The one number for the store, or all where every voice has one singer."""
    number = singers.get(song.name) if isinstance(singers, Mapping) else singers
    if number is None and all(len(found) == 1 for found in song.singers.values()):
        return "all"
    if number is None:
        number = SINGERS.get(_plain_name(song.name), next(iter(song.singers.values()))[0].number)
    for voice in song.voices:
        song.singer(voice, number)
    return (number,)


def _plain_name(name: str) -> str:
    """Letters alone, without their accents: how published names are compared."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z]", "", letters)


def _intro(result: EnsembleResult) -> str:
    which = result.settings.get("test_set") or ", ".join(result.songs)
    tracks = {"singers": "of the isolated singers", "mixture": "estimated from the mixtures"}
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
    direct = [entry.others.get(other) if other in _DIRECT else None for other in _COLUMNS]
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
