"""Tables as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from rlsv_fast.experiments.experiment import Label, Published
from rlsv_fast.experiments.results import Result, Row, Table, as_json
from rlsv_fast.training.run_files import write_text

_HEADS = {
    "reconstruction_si_sdr": ("SI-SDR (dB)", 2),
    "mask_si_sdr": ("mask SI-SDR (dB)", 2),
    "additivity": ("additivity", 3),
}


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write ``table.md``, ``table.csv`` and ``table.json`` into a folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.dumps(_plain(as_json(table)), indent=1, ensure_ascii=False, allow_nan=False)
    contents = {"md": markdown(table), "csv": comma_separated(table), "json": plain + "\n"}
    files = []
    for suffix, text in contents.items():
        files.append(folder / f"table.{suffix}")
        write_text(files[-1], text)
    return files


def markdown(table: Table) -> str:
    """A page with the table beside the paper's numbers, and what its own depend on."""
    experiment = table.experiment
    heads = [*experiment.columns]
    with_parameters = any(row.published_parameters for row in table.rows)
    if with_parameters:
        heads += ["parameters", "paper's"]
    for quantity in experiment.quantities:
        heads.append(_HEADS[quantity][0])
        heads += ["paper", "difference"] if quantity in experiment.published else []
    with_diagnosis = any(row.sinkhorn for row in table.rows)
    if with_diagnosis:
        heads.append("ε / ε* after training")
    heads.append("runs")
    lines = [f"# {experiment.title}", "", f"{_how(table)}", "", _line(heads)]
    lines.append("|---" * len(heads) + "|")
    for row in table.rows:
        cells = [_label(label) for label in row.labels]
        if with_parameters:
            count = "–" if row.parameters is None else f"{row.parameters:,}"
            cells += [count, row.published_parameters or "–"]
        for quantity in experiment.quantities:
            found = _cells(row.results.get(quantity), quantity, table)
            cells += found if quantity in experiment.published else found[:1]
        if with_diagnosis:
            cells.append(_relative(row))
        cells.append(_runs(row))
        lines.append(_line(cells))
    lines += ["", _facts(table)]
    if table.missing:
        lines += ["", "Missing:"]
        lines += [
            f"- {', '.join(_label(label) for label in row.labels)}: {row.missing} of "
            f"{row.seeds_wanted} runs"
            for row in table.missing
        ]
    lines += ["", *experiment.notes] if experiment.notes else []
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """One line per row, full precision."""
    experiment = table.experiment
    heads = [*experiment.columns, "parameters", "published_parameters", "runs", "runs_wanted"]
    names = ("mean", "median", "std", "seed_std", "published", "published_std", "difference")
    heads += [f"{quantity}_{name}" for quantity in experiment.quantities for name in names]
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(heads)
    for row in table.rows:
        cells: list[Any] = [*row.labels, row.parameters, row.published_parameters]
        cells += [len(row.seeds), row.seeds_wanted]
        for quantity in experiment.quantities:
            found = row.results.get(quantity)
            if found is None:
                cells += [None] * len(names)
                continue
            published = found.published or Published(math.nan)
            cells += [found.mean, found.median, found.std, found.seed_std]
            cells += [published.value, published.std, found.difference]
        writer.writerow([_cell(value) for value in cells])
    return target.getvalue()


def _how(table: Table) -> str:
    several = any(len(row.seeds) > 1 for row in table.rows)
    over = (
        "segments and runs, in brackets the least and the largest run's"
        if several
        else ("the segments of one run")
    )
    if table.experiment.statistic == "median":
        return f"Median over {over}."
    return f"Mean ± standard deviation (over segments) over {over}."


def _facts(table: Table) -> str:
    facts = table.facts
    steps = "–".join(str(step) for step in sorted({*facts["steps"][:1], *facts["steps"][-1:]}))
    parts = [
        f"Data: {facts['data']}, {facts['train_tracks']} training tracks ({facts['minutes']:.0f} "
        f"minutes) and {facts['test_tracks']} test tracks, {facts.get('segments', 'no')} test "
        "segments with singing",
        f"preset {facts['preset']}: {steps or 'no'} steps of {facts['batch_size']} segments",
        f"{len(facts['seeds'])} seed{'s' * (len(facts['seeds']) != 1)} "
        f"({', '.join(map(str, facts['seeds']))})",
    ]
    if facts.get("commit"):
        parts.append(f"tabulated at commit {facts['commit'][:12]}")
    return "; ".join(parts) + "."


def _cells(found: Result | None, quantity: str, table: Table) -> list[str]:
    """Own number, the paper's, and their difference."""
    digits = _HEADS[quantity][1]
    if found is None:
        return ["–", "–", "–"]
    statistic = table.experiment.statistic
    own = f"{found.value(statistic):.{digits}f}"
    if statistic == "mean":
        own += f" ± {found.std:.{digits}f}"
    if len(found.per_seed) > 1:
        low, high = min(found.per_seed), max(found.per_seed)
        own += f" [{low:.{digits}f}, {high:.{digits}f}]"
    published, difference = "–", "–"
    if found.published is not None:
        published = f"{found.published.value:.2f}"
        if found.published.std is not None:
            published += f" ± {found.published.std:.2f}"
        difference = f"{found.difference:+.2f}"
    return [text.replace("-", "−") for text in (own, published, difference)]


def _relative(row: Row) -> str:
    change = (row.sinkhorn or {}).get("sign_change")
    return f"{row.sinkhorn['epsilon'] / change:.2f}" if row.sinkhorn and change else "–"


def _runs(row: Row) -> str:
    if row.stft:
        return "–"
    if not row.seeds:
        return f"missing (0 of {row.seeds_wanted})"
    return f"{len(row.seeds)} of {row.seeds_wanted}"


def _label(label: Label) -> str:
    return label if isinstance(label, str) else f"{label:g}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.7g}" if math.isfinite(value) else ""
    return "" if value is None else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
