"""Figures of experiments: error plots of their quantities, and pictures of representations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlsv_fast import training
from rlsv_fast.experiments.experiment import Plot
from rlsv_fast.experiments.results import Row, Table
from rlsv_fast.experiments.runs import Bench, finished, runs_of
from rlsv_fast.experiments.scale import Scale
from rlsv_fast.report import example_figure, make_example, save, sorted_components
from rlsv_fast.report.style import MUTED, STFT, new_figure, style

_SECONDS = 1.0
"""Of the excerpt whose representations are drawn."""

_COLOURS = ("#0f766e", "#7c3aed", "#2563eb", "#be123c", "#a16207", "#334155")
_UNITS = {
    "reconstruction_si_sdr": ("Voice, encoded and decoded", "SI-SDR (dB)"),
    "mask_si_sdr": ("Voice, by oracle mask from the mixture", "SI-SDR (dB)"),
    "additivity": ("Additivity", "additivity"),
}


def draw(table: Table, scale: Scale, bench: Bench, folder: Path) -> list[Path]:
    """Draw what the experiment asks for, of the runs that are finished.

    Written are ``errors.png`` and one file per picture; those whose runs are missing are left out.

    Args:
        table: of the experiment.
        scale: its size.
        bench: runs, and the test track for the pictures.
        folder: for the files.

    Returns:
        The files.
    """
    experiment = table.experiment
    files = []
    if experiment.plot is not None and any(row.results for row in table.rows):
        files.append(folder / "errors.png")
        save(error_figure(table, experiment.plot), files[-1])
    for picture in experiment.pictures:
        run = runs_of(picture.cell, scale, experiment.seeds[:1])[0]
        if finished(run, bench.folder) is None:
            continue
        config, model = training.load_run(bench.folder / run.name)
        example = make_example(
            model,
            bench.test[0],
            seconds=_SECONDS,
            segment_length=config.data.segment_length,
            convention=config.convention,
        )
        components = sorted_components(model, config.data.sample_rate)
        files.append(folder / f"{picture.name}.png")
        save(example_figure(example, components, hop=model.hop), files[-1])
    return files


def error_figure(table: Table, plot: Plot) -> Any:
    """Mean and standard deviation over segments against a column, one line per series.

    The STFT's mean is a dashed line; small crosses are the runs of single seeds, if there are
    several.
    """
    experiment = table.experiment
    at = experiment.columns.index(plot.x)
    keys = [experiment.columns.index(name) for name in plot.series]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in table.rows:
        if row.results and not row.stft:
            groups.setdefault(tuple(row.labels[key] for key in keys), []).append(row)
    places = sorted({float(row.labels[at]) for rows in groups.values() for row in rows})
    stft = next((row for row in table.rows if row.stft), None)
    with style():
        figure = new_figure(13, 4.6, experiment.title)
        axes = figure.subplots(1, len(experiment.quantities))
        for axis, quantity in zip(axes, experiment.quantities, strict=True):
            axis.set_title(_UNITS[quantity][0])
            axis.set_ylabel(_UNITS[quantity][1])
            axis.set_xlabel(plot.x)
            if plot.log:
                axis.set_xscale("log")
                axis.minorticks_off()
            axis.set_xticks(places, [f"{place:g}" for place in places], rotation=90, fontsize=8)
            axis.grid(True)
            for number, (key, rows) in enumerate(groups.items()):
                name = ", ".join(
                    str(value) if isinstance(value, str) else f"{head} = {value:g}"
                    for head, value in zip(plot.series, key, strict=True)
                )
                _line(axis, rows, at, quantity, _COLOURS[number % len(_COLOURS)], name, number)
            if stft is not None and quantity in stft.results:
                axis.axhline(stft.results[quantity].mean, color=STFT, linestyle="--", label="STFT")
        handles, labels = axes[-1].get_legend_handles_labels()
        if len(handles) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(handles), 4))
    return figure


def _line(
    axis: Any, rows: list[Row], at: int, quantity: str, colour: str, name: str, number: int
) -> None:
    results = [row.results[quantity] for row in rows]
    # a little apart, or the bars of several lines would cover each other
    shift = 1 + 0.03 * number
    places = [float(row.labels[at]) * shift for row in rows]
    axis.errorbar(
        places,
        [found.mean for found in results],
        yerr=[found.std for found in results],
        color=colour,
        label=name or None,
        marker="o",
        markersize=4,
        capsize=2.5,
        elinewidth=0.7,
    )
    for place, found in zip(places, results, strict=True):
        if len(found.per_seed) > 1:
            axis.plot([place] * len(found.per_seed), found.per_seed, "x", color=MUTED, markersize=4)
