"""How well a separator does on real ensembles, by the published protocol and beside its results.

Excerpts of 4 s side by side, from the second one of each song on, scaled to a peak of 1 with their
sources; measures of every second and voice in which the source's energy is at least 10; means,
medians and deviations over these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.nn import Convention
from rlsv_fast.ops._check import choice, integer
from rlsv_fast.umss.choirs import Song, find_songs, split_songs
from rlsv_fast.umss.excerpts import ChoirBatch, ExcerptStore, F0Source, Place
from rlsv_fast.umss.f0_metrics import melody_scores, multipitch_scores
from rlsv_fast.umss.masks import soft_mask_separation
from rlsv_fast.umss.metrics import (
    mel_cepstral_distance_frames,
    si_sdr_frames,
    spectral_snr_frames,
)
from rlsv_fast.umss.published import CANTORIA, SINGERS, TEST_SETS, TestSet, plain_name
from rlsv_fast.umss.result import (
    DIRECT,
    F0,
    F_MEASURE,
    IMPROVEMENT,
    MIXTURE,
    ORACLE,
    EnsembleResult,
    ExcerptScores,
    Scores,
    write_result,
)
from rlsv_fast.umss.tracks import F0Tracks

Separator: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From a mixture (B, N) and the f0 of its voices in Hz (B, V, T) to the voices (B, V, N)."""

Tracker: TypeAlias = Callable[[Tensor], Tensor]
"""From a mixture (B, N) to the f0 of its voices in Hz (B, V, T)."""

Choice: TypeAlias = int | Mapping[str, int] | None
"""Which singer of every voice: a number, or one for each song by its name; None as published."""

_MEASURES: dict[str, Callable[..., Tensor]] = {
    "SI-SDR": si_sdr_frames,
    "sp_SNR": spectral_snr_frames,
    "sp_SI-SNR": partial(spectral_snr_frames, scale_invariant=True),
    "mel_cep_dist": mel_cepstral_distance_frames,
}
_MASKED = tuple(f"{name}_mask" for name in _MEASURES)
COMPUTE = ("all", "all_mask", "all_no_mask", *_MASKED, *DIRECT, "f0_infos")
"""What can be computed, by the published names; ``_mask`` is separation, without it synthesis."""

_SEED = 4


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
    found_f0 = track is not None or f0 not in ("singers", "none")
    wanted = _wanted(op, compute, synthesise is not None, found_f0)
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
        kept = [song for song in songs if plain_name(song.name) in SINGERS]
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


def _wanted(op: str, compute: Iterable[str], direct: bool, tracks: bool) -> tuple[str, ...]:
    """The single measures that some names mean, and that can be had."""
    if isinstance(compute, str):
        compute = (compute,)
    found: list[str] = []
    for name in compute:
        choice(op, "compute", name, COMPUTE)
        if name == "all":
            found += [*_MASKED, *(DIRECT if direct else ()), *(("f0_infos",) if tracks else ())]
        elif name == "all_mask":
            found += _MASKED
        elif name == "all_no_mask":
            found += DIRECT
        else:
            found.append(name)
    if not found:
        raise ValueError(f"{op}: compute must name something out of {', '.join(COMPUTE)}")
    if not direct and any(name in DIRECT for name in found):
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
    direct = [name for name in wanted if name in DIRECT]
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
        for name in F0
    }
    together = multipitch_scores(reference, estimate, convention=convention)["f_measure"]
    values[F_MEASURE] = np.full((len(names), 1), together)
    return values


def _chosen(song: Song, singers: Choice) -> Literal["all"] | tuple[int, ...]:
    """The one number for the store, or all where every voice has one singer."""
    number = singers.get(song.name) if isinstance(singers, Mapping) else singers
    if number is None and all(len(found) == 1 for found in song.singers.values()):
        return "all"
    if number is None:
        number = SINGERS.get(plain_name(song.name), next(iter(song.singers.values()))[0].number)
    for voice in song.voices:
        song.singer(voice, number)
    return (number,)
