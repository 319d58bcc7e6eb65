"""What the runs of an experiment came to, beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsv_fast.evaluation import Evaluation
from rlsv_fast.experiments.experiment import Cell, Experiment, Label, Published, Statistic
from rlsv_fast.experiments.runs import finished, runs_of
from rlsv_fast.experiments.scale import Scale


@dataclass(frozen=True)
class Result:
    """One quantity of one cell, over all segments of all its finished runs.

    Attributes:
        mean: over segments and runs.
        median: likewise.
        std: over segments, mean over the runs.
        per_seed: the experiment's statistic of each run.
        seed_std: standard deviation (n − 1) of ``per_seed``; None with a single run.
        excluded: values that are not finite and left out.
        published: what the paper prints.
        difference: the experiment's statistic minus the paper's.
    """

    mean: float
    median: float
    std: float
    per_seed: tuple[float, ...]
    seed_std: float | None
    excluded: int
    published: Published | None
    difference: float | None

    def value(self, statistic: Statistic) -> float:
        """The mean or the median."""
        return self.mean if statistic == "mean" else self.median


@dataclass(frozen=True)
class Row:
    """One line of a table; without results where no run of its cell is finished."""

    labels: tuple[Label, ...]
    runs: tuple[str, ...]
    seeds_wanted: int
    seeds: tuple[int, ...]
    parameters: int | None
    published_parameters: str
    results: dict[str, Result]
    sinkhorn: dict[str, Any] | None = None
    stft: bool = False

    @property
    def missing(self) -> int:
        """Runs that are not finished."""
        return self.seeds_wanted - len(self.seeds)


@dataclass(frozen=True)
class Table:
    """An experiment with its rows and the facts that its numbers depend on."""

    experiment: Experiment
    rows: tuple[Row, ...]
    facts: dict[str, Any]

    @property
    def missing(self) -> list[Row]:
        """Rows that lack runs."""
        return [row for row in self.rows if row.missing and not row.stft]


def tabulate(experiment: Experiment, scale: Scale, folder: Path, facts: dict[str, Any]) -> Table:
    """Gather the finished runs of an experiment.

    Args:
        experiment: its cells.
        scale: their size.
        folder: of all run folders.
        facts: on the data, to stand below the table.
    """
    rows = []
    stft: Evaluation | None = None
    steps: set[int] = set()
    for cell in experiment.cells:
        runs = runs_of(cell, scale, experiment.seeds)
        found = [(run, made) for run in runs if (made := finished(run, folder)) is not None]
        evaluations = [made for _, made in found]
        steps.update(int(made.settings["step"]) for made in evaluations)
        stft = stft or next(iter(evaluations), None)
        rows.append(
            Row(
                labels=cell.labels,
                runs=tuple(run.name for run in runs),
                seeds_wanted=len(runs),
                seeds=tuple(run.config.training.seed for run, _ in found),
                parameters=evaluations[0].settings["parameters"] if found else None,
                published_parameters=cell.parameters,
                results=_results(experiment, cell, evaluations),
                sinkhorn=evaluations[0].settings.get("sinkhorn") if found else None,
            )
        )
    if experiment.stft is not None and stft is not None:
        rows.append(_stft_row(experiment, stft))
    facts = {
        **facts,
        "preset": scale.name,
        "steps": sorted(steps),
        "batch_size": scale.config({}).training.batch_size,
        "seeds": list(experiment.seeds),
    }
    if stft is not None:
        facts["segments"] = len(stft.segments)
    return Table(experiment, tuple(rows), facts)


def _results(
    experiment: Experiment, cell: Cell, evaluations: Sequence[Evaluation]
) -> dict[str, Result]:
    if not evaluations:
        return {}
    return {
        quantity: _result(
            [_finite(made, "learned", quantity) for made in evaluations],
            sum(made.summary["learned"][quantity].excluded for made in evaluations),
            cell.published.get(quantity),
            experiment.statistic,
        )
        for quantity in experiment.quantities
    }


def _stft_row(experiment: Experiment, made: Evaluation) -> Row:
    """The STFT on the same segments; the same in all runs of an experiment."""
    published = experiment.stft or {}
    results = {
        quantity: _result(
            [_finite(made, made.stft, quantity)],
            made.summary[made.stft][quantity].excluded,
            published.get(quantity),
            experiment.statistic,
        )
        for quantity in experiment.quantities
        # its reconstruction is exact but for rounding
        if quantity != "reconstruction_si_sdr"
    }
    labels = ("STFT", *[""] * (len(experiment.columns) - 1))
    return Row(labels, (), 0, (), None, "", results, stft=True)


def _finite(made: Evaluation, method: str, quantity: str) -> np.ndarray[Any, Any]:
    return np.asarray(made.values(method, quantity), dtype=np.float64)


def _result(
    runs: Sequence[np.ndarray[Any, Any]],
    excluded: int,
    published: Published | None,
    statistic: Statistic,
) -> Result:
    every = np.concatenate(runs)
    nan = float("nan")
    take = np.mean if statistic == "mean" else np.median
    per_seed = tuple(float(take(values)) if len(values) else nan for values in runs)
    mean = float(every.mean()) if len(every) else nan
    median = float(np.median(every)) if len(every) else nan
    own = mean if statistic == "mean" else median
    return Result(
        mean=mean,
        median=median,
        std=float(np.mean([values.std() if len(values) else nan for values in runs])),
        per_seed=per_seed,
        seed_std=float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None,
        excluded=excluded,
        published=published,
        difference=None if published is None else own - published.value,
    )


def as_json(table: Table) -> dict[str, Any]:
    """All of a table, for a file."""
    return {
        "experiment": table.experiment.name,
        "title": table.experiment.title,
        "statistic": table.experiment.statistic,
        "columns": list(table.experiment.columns),
        "facts": table.facts,
        "missing_runs": sum(row.missing for row in table.missing),
        "rows": [{**asdict(row), "missing": row.missing} for row in table.rows],
        "notes": list(table.experiment.notes),
    }
