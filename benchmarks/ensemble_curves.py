"""Learning curves of separators of ensembles: from the logs of runs to one JSON and one picture.

Usage: python benchmarks/ensemble_curves.py --out FOLDER NAME=RUN/log.jsonl ...

One panel for each kind of loss: a U-Net's is not that of a source-filter model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rlsv_fast.report.style import save
from rlsv_fast.training import read_log

KEPT = ("step", "epoch", "reconstruction", "validation", "best", "seconds")


def epochs(log: Path) -> list[dict[str, Any]]:
    """What the log says of each epoch."""
    records = read_log(log)
    return [
        {key: record[key] for key in KEPT if key in record}
        for record in records
        if record["kind"] == "epoch"
    ]


def drawn(curves: dict[str, list[dict[str, Any]]]) -> Figure:
    """Training loss as a line, validation loss as dots."""
    kinds = [[name for name in curves if ("net" in name) == net] for net in (False, True)]
    panels = [names for names in kinds if names]
    figure = Figure(figsize=(4.5 * len(panels), 3.2), layout="constrained")
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            rows = curves[name]
            (line,) = axes.plot(
                [row["step"] for row in rows], [row["reconstruction"] for row in rows], label=name
            )
            seen = [row for row in rows if "validation" in row]
            axes.plot(
                [row["step"] for row in seen],
                [row["validation"] for row in seen],
                "o",
                color=line.get_color(),
                markersize=3,
            )
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss (line: training, dots: validation)")
        axes.legend()
    return figure


def main() -> None:
    """Write curves.json and curves.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", nargs="+", metavar="NAME=LOG")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    curves = {}
    for text in options.logs:
        name, _, path = text.partition("=")
        curves[name] = epochs(Path(path))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "curves.json").write_text(json.dumps(curves, indent=0) + "\n")
    save(drawn(curves), options.out / "curves.png")


if __name__ == "__main__":
    main()
