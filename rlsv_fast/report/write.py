"""The report of a run: a page with everything that it shows, and its figures for print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rlsv_fast.data import PreparedTrack
from rlsv_fast.errors import InputError, require
from rlsv_fast.evaluation import Evaluation
from rlsv_fast.nn import Convention, RepresentationModel
from rlsv_fast.report.components import sorted_components
from rlsv_fast.report.curves import read_curves
from rlsv_fast.report.examples import Example, make_example
from rlsv_fast.report.figures import write_figures
from rlsv_fast.report.page import Page
from rlsv_fast.training.log import read_log


class Report(NamedTuple):
    """What was written, the page among it, and a sentence on each part that is missing."""

    page: Path
    files: list[Path]
    notes: list[str]


def write_report(
    model: RepresentationModel,
    out: Path,
    *,
    sample_rate: int,
    title: str = "representation",
    settings: Mapping[str, object] | None = None,
    log: Path | None = None,
    evaluation: Evaluation | None = None,
    step: int | None = None,
    examples: Sequence[PreparedTrack] = (),
    seconds: float = 5.0,
    segment_length: int | None = None,
    convention: Convention = "paper",
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Write the page of a run, ``index.html``, with all that it loads beside it.

    It needs no server and no network. ``figures/`` holds PNG files for print. Each file appears
    whole or not at all, the page last.

    Args:
        model: the representation.
        out: folder, made if need be.
        sample_rate: in Hz.
        title: what the page calls the run.
        settings: of the run, by dotted names, to be listed.
        log: ``log.jsonl`` of the run, for the loss curves.
        evaluation: of the model, with the rows of its segments.
        step: training step of the model; an evaluation made at another one is left out.
        examples: test tracks, of each of which an excerpt is to be heard and seen.
        seconds: length of the excerpts, which are those where voice and accompaniment are both
            strong.
        segment_length: N of the training in samples, one second if not given.
        convention: of the oracle masks and the STFT.
        progress: called before each example and at the end with (examples done, all, name).

    Returns:
        The page, all files, and notes on what is missing.

    Raises:
        InputError: the log cannot be read.
        MissingPackage: matplotlib or jinja2 is not installed.
    """
    for package in ("matplotlib", "jinja2"):
        require(package, extra="report", purpose="write a report")
    notes: list[str] = []
    components = sorted_components(model, sample_rate)
    if components.carriers is None:
        notes.append("no carriers: the decoder's kernels are free")

    curves = {}
    if log is None or not log.is_file():
        notes.append("no loss curves: the run has no log")
    else:
        curves = read_curves(read_log(log))
        if not curves:
            notes.append(f"no loss curves: no training step in '{log}'")

    if evaluation is None or not evaluation.segments:
        notes.append("no scores: the run has no evaluation with segments")
        evaluation = None
    elif step is not None and (made := evaluation.settings.get("step", step)) != step:
        notes.append(
            f"no scores: the evaluation was made at step {made}, the model is at step {step}; "
            "evaluate again"
        )
        evaluation = None

    page = Page(out, components, sample_rate, model.hop, title)
    first: Example | None = None
    if not examples:
        notes.append("no examples: no test tracks were given")
    for done, track in enumerate(examples):
        if progress is not None:
            progress(done, len(examples), track.name)
        try:
            example = make_example(
                model,
                track,
                seconds=seconds,
                segment_length=segment_length or sample_rate,
                convention=convention,
            )
        except InputError as error:
            notes.append(f"an example is missing: {error}")
            continue
        page.add_example(example)
        first = first or example
    if progress is not None:
        progress(len(examples), len(examples), "")

    figures = write_figures(
        out / "figures",
        components,
        sample_rate=sample_rate,
        hop=model.hop,
        curves=curves,
        evaluation=evaluation,
        example=first,
    )
    page.write(
        curves=curves,
        evaluation=evaluation,
        settings=settings or {},
        figures=figures,
        notes=notes,
        step=step,
    )
    return Report(page.files[-1], page.files, notes)
