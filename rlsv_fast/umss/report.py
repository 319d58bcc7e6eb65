"""The page of a run: excerpts of songs to hear, losses, measures and settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast.errors import InputError, require
from rlsv_fast.ops._check import integer
from rlsv_fast.report.curves import read_curves, read_validation, validated_panels
from rlsv_fast.report.ensemble import (
    MOST_SOUNDS,
    EnsembleExample,
    EnsemblePage,
    VoiceVersion,
)
from rlsv_fast.training.log import read_log
from rlsv_fast.training.settings import flatten
from rlsv_fast.umss.assignment import VOICES
from rlsv_fast.umss.choirs import Combination, Song
from rlsv_fast.umss.excerpts import ExcerptStore, Place
from rlsv_fast.umss.layers import evaluating
from rlsv_fast.umss.model import EnsembleModel, Known
from rlsv_fast.umss.result import IMPROVEMENT, MIXTURE, ORACLE, EnsembleResult
from rlsv_fast.umss.separator import SourceFilterSeparator
from rlsv_fast.umss.settings import EnsembleConfig

_SEED = 4
_NAMES = {name[0]: name for name in VOICES}
_MEASURES = {
    MIXTURE: "mixture, SI-SDR (dB)",
    ORACLE: "oracle ratio mask, SI-SDR (dB)",
    "SI-SDR_mask": "separated, SI-SDR (dB)",
    IMPROVEMENT: "separated, improvement (dB)",
    "sp_SNR_mask": "separated, spectral SNR (dB)",
    "sp_SI-SNR_mask": "separated, spectral SI-SNR (dB)",
    "mel_cep_dist_mask": "separated, mel cepstral distance",
    "sp_SNR": "synthesised, spectral SNR (dB)",
    "sp_SI-SNR": "synthesised, spectral SI-SNR (dB)",
    "mel_cep_dist": "synthesised, mel cepstral distance",
    "f0_overall": "f0, overall accuracy",
    "f0_raw_pitch": "f0, raw pitch accuracy",
    "f0_raw_chroma": "f0, raw chroma accuracy",
    "f0_voicing_recall": "f0, voicing recall",
    "f0_voicing_false_alarm": "f0, voicing false alarm",
    "f0_f_measure": "f0, F-measure",
}


class EnsembleReport(NamedTuple):
    """What was written, the page among it, and a sentence on each part that is missing."""

    page: Path
    files: list[Path]
    notes: list[str]


def write_report(
    config: EnsembleConfig,
    model: EnsembleModel,
    out: Path,
    *,
    title: str = "separator",
    songs: Sequence[Song] = (),
    examples: int = 4,
    seconds: float = 4.0,
    singer: int | None = None,
    f0: Literal["singers", "mixture"] = "singers",
    log: Path | None = None,
    evaluation: EnsembleResult | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> EnsembleReport:
    """Write the page of a run, ``index.html``, with all that it loads beside it.

    It needs no server and no network. Each file appears whole or not at all, the page last.

    Args:
        config: settings of the run.
        model: its separator.
        out: folder, made if need be.
        title: what the page calls the run.
        songs: of which there are excerpts, in turn: those where the weakest voice is strongest.
        examples: how many.
        seconds: length of an excerpt, in whole hops; the model hears it at once.
        singer: which one of every voice; without it the first.
        f0: which tracks the model gets if it has no networks of its own, as for
            :class:`~rlsv_fast.umss.ExcerptStore`.
        log: ``log.jsonl`` of the run, for the loss curves, and for when the best weights were made.
        evaluation: of the run.
        progress: called before each example and at the end with (examples done, all, name).

    Returns:
        The page, all files, and notes on what is missing.

    Raises:
        InputError: the songs or the log cannot be used.
        MissingPackage: matplotlib or jinja2 is not installed.
    """
    for package in ("matplotlib", "jinja2"):
        require(package, extra="report", purpose="write a report")
    integer("write_report", "examples", examples, 0)
    notes: list[str] = []
    losses: dict[str, Any] = {}
    step = None
    if log is None or not log.is_file():
        notes.append("no loss curves: the run has no log")
    else:
        records = list(read_log(log))
        validation = read_validation(records)
        losses = validated_panels(read_curves(records), validation)
        if len(validation[0]):
            step = int(validation[0][validation[1].argmin()])
        if not losses:
            notes.append(f"no loss curves: no training step in '{log}'")
    if evaluation is None:
        notes.append("no measures: the run has no evaluation")
    page = EnsemblePage(out, title)
    if not songs or not examples:
        notes.append("no examples: no songs were given")
    else:
        made = _examples(config, model, songs, examples, seconds, singer, f0)
        for number in range(examples):
            if progress is not None:
                progress(number, examples, "")
            example = next(made, None)
            if example is None:
                notes.append(f"{number} of {examples} examples: the songs have no more excerpts")
                break
            page.add_example(example)
        if progress is not None:
            progress(examples, examples, "")
    table = None if evaluation is None else _table(evaluation)
    own = [row[0] for row in table[1]] if table is not None else []
    masked = _MEASURES["SI-SDR_mask"]
    tracks = {"singers": "of the singers", "mixture": "of the mixture"}[f0]
    written = page.write(
        facts={
            "voices": str(config.data.voices),
            "separator": "U-Net" if config.model.kind == "u-net" else "source-filter",
            "trained on": "separate voices" if config.loss.supervised else "mixtures",
            "f0": tracks if model.tracker is None else "its own",
            "sample rate": f"{config.data.sample_rate / 1000:.4g} kHz",
        },
        losses=losses,
        table=table,
        table_note="" if evaluation is None else _about(evaluation),
        own=own.index(masked) if masked in own else None,
        settings=flatten(config),
        notes=notes,
        step=step,
    )
    return EnsembleReport(written, page.files, notes)


def _examples(
    config: EnsembleConfig,
    model: EnsembleModel,
    songs: Sequence[Song],
    count: int,
    seconds: float,
    singer: int | None,
    f0: Literal["singers", "mixture"],
) -> Iterator[EnsembleExample]:
    """Excerpts of the songs in turn, the best of each first."""
    data, hop = config.data, model.separator.hop
    if not seconds > 0:
        raise ValueError(f"write_report: seconds must be positive, got {seconds}")
    synthesised = isinstance(model.separator, SourceFilterSeparator)
    if 1 + data.voices * (3 if synthesised else 2) > MOST_SOUNDS:
        raise InputError(f"data.voices = {data.voices}: a page has players of at most 10 voices")
    store = ExcerptStore(
        songs,
        voices=data.voices,
        length=max(round(seconds * data.sample_rate / hop), 1) * hop,
        hop=hop,
        sample_rate=data.sample_rate,
        singers="all" if singer is None else (singer,),
        f0=f0 if model.tracker is None else "none",
        device=next(model.parameters()).device,
    )
    ranked: dict[int, list[tuple[float, Place]]] = {}
    for place in store.grid():
        weakest = float(store.gather([place]).sources[0].square().sum(-1).min())
        ranked.setdefault(place.song, []).append((weakest, place))
    queues = [sorted(found, key=lambda pair: -pair[0]) for found in ranked.values()]
    left = count
    for rank in range(max(map(len, queues), default=0)):
        for queue in queues:
            if rank < len(queue) and left:
                left -= 1
                yield _example(model, store, queue[rank][1])


@torch.no_grad()
def _example(model: EnsembleModel, store: ExcerptStore, place: Place) -> EnsembleExample:
    """Everything that there is to be heard and seen of an excerpt."""
    batch = store.gather([place])
    separator = model.separator
    generator = torch.Generator(batch.mixture.device).manual_seed(_SEED)
    signals: dict[tuple[str, VoiceVersion], Any] = {}
    names = _voice_names(place.singers)
    with evaluating(model):
        f0, _ = model.track(batch.mixture, Known(batch.f0 if model.tracker is None else None))
        if isinstance(separator, SourceFilterSeparator):
            separated = separator.separate(batch.mixture, f0, generator=generator)[0]
            made = separator(batch.mixture, f0, generator=generator).sources[0]
            for name, signal in zip(names, made, strict=True):
                signals[name, "synthesis"] = signal.cpu().numpy()
        else:
            separated = separator.separate(batch.mixture, f0)[0]
    scores = {}
    for name, true, signal in zip(names, batch.sources[0], separated, strict=True):
        signals[name, "true"] = true.cpu().numpy()
        signals[name, "separated"] = signal.cpu().numpy()
        scores[name] = _si_sdr(signal, true)
    song = store.songs[place.song].name
    label = f"{song}, singers {', '.join(f'{voice}{number}' for voice, number in place.singers)}"
    for signal in signals.values():
        if not np.isfinite(signal).all():
            raise InputError(f"'{song}': what the model makes of it is not finite")
    return EnsembleExample(
        name=label,
        sample_rate=store.sample_rate,
        start=place.start / store.sample_rate,
        mixture=batch.mixture[0].cpu().numpy(),
        voices=names,
        signals=signals,
        scores=scores,
        f0=f0[0].double().cpu().numpy(),
    )


def _voice_names(singers: Combination) -> list[str]:
    return [_NAMES.get(voice, voice) for voice, _ in singers]


def _si_sdr(estimate: Tensor, true: Tensor) -> float:
    if not bool(estimate.any()) or not bool(true.any()):
        return math.nan
    return float(ops.si_sdr(estimate[None], true[None]))


def _about(result: EnsembleResult) -> str:
    which = result.settings.get("test_set") or ", ".join(result.songs)
    return (
        f"{which}: {len(result.excerpts)} excerpts, {result.statistics(MIXTURE).count} seconds of "
        "one voice. Mean, median and deviation of all; the mean of each voice."
    )


def _table(result: EnsembleResult) -> tuple[list[str], list[list[str]]]:
    """Titles and rows, as far as there are measures."""
    voices = "".join(letter for letter in _NAMES if letter in _sung(result))
    rows = []
    for measure in (name for name in _MEASURES if name in result.measures):
        every = result.statistics(measure)
        values = [every.mean, every.median, every.std]
        values += [result.statistics(measure, voices=voice).mean for voice in voices]
        digits = 3 if measure.startswith("f0") else 2
        shown = [f"{value:.{digits}f}" if math.isfinite(value) else "–" for value in values]
        rows.append([_MEASURES[measure], *shown])
    return ["", "mean", "median", "std", *(_NAMES[voice] for voice in voices)], rows


def _sung(result: EnsembleResult) -> set[str]:
    return {voice for found in result.excerpts for voice, _ in found.singers}
