"""Kill, starve and damage real training runs, and see what is left of them.

Usage: python benchmarks/faults.py --out DIR [--kills 60] [--seed 218] [--only PART ...]

Every run is a process of the command line, on a tiny model, and is compared to the bit with one
that nobody disturbed. The exit status is 0 if every promise was kept.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import machine
from fault_commands import commands
from fault_damage import damage
from fault_kills import kills, signals
from fault_limits import full_disks, losses, vanished_data
from fault_runs import EVERY, SETTINGS, STEPS, Bench, Job

PARTS = ("kills", "signals", "disk", "data", "losses", "commands", "bytes")


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Do everything and describe it."""
    begin = time.monotonic()
    only = options.only or PARTS
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary).resolve())
        parts: dict[str, Callable[[str], list[Job]]] = {
            "kills": lambda seed: kills(bench, options.kills, seed),
            "signals": lambda seed: signals(bench, seed),
            "disk": lambda seed: full_disks(bench),
            "data": lambda seed: vanished_data(bench, seed),
            "losses": lambda seed: losses(bench),
            "commands": lambda seed: commands(bench),
        }
        jobs = [job for part in only if part in parts for job in parts[part](f"{options.seed}")]
        with ThreadPoolExecutor(options.jobs) as pool:
            for done, job in enumerate(as_completed(pool.submit(job) for job in jobs), 1):
                job.result()
                print(f"{done} of {len(jobs)}", flush=True)
        if "bytes" in only:  # by itself, as it listens to what the library says
            damage(bench, random.Random(options.seed))
    commit = machine.commit()
    rows = [
        {"part": part, "fault": fault, "commit": commit, **row}
        for (part, fault), row in bench.ledger.rows.items()
    ]
    return {
        "machine": machine.facts(),
        "seed": options.seed,
        "settings": SETTINGS,
        "seconds": round(time.monotonic() - begin),
        "rows": sorted(rows, key=lambda row: (row["part"], row["fault"])),
    }


def merged(found: dict[str, Any], former: Path) -> dict[str, Any]:
    """With the rows of a former report for what was not tried this time."""
    if not former.exists():
        return found
    before = json.loads(former.read_text(encoding="utf-8"))
    rows = {(row["part"], row["fault"]): row for row in [*before["rows"], *found["rows"]]}
    seconds = before["seconds"] + found["seconds"]
    return {**found, "seconds": seconds, "rows": [rows[key] for key in sorted(rows)]}


def table(found: dict[str, Any]) -> str:
    """The account as Markdown."""
    facts = found["machine"]
    rows = found["rows"]
    commits = " and ".join(sorted({row["commit"] for row in rows}))
    cases, held = (sum(row[key] for row in rows) for key in ("cases", "held"))
    lines = [
        "# What training survives",
        f"{held} of {cases} cases held. Made by `python benchmarks/faults.py --out DIR` at commit "
        f"{commits}, seed {found['seed']}, in {found['seconds']} s, on "
        f"{facts['cores']} cores of {facts['processor']}, torch {facts['torch']}, on the CPU.",
        "",
        f"Runs are real processes of {STEPS} steps of a tiny model, 8 steps to an epoch, with a "
        f"checkpoint every {EVERY} steps and after every epoch. A case holds if all its promises "
        "do; `bits` are those of an undisturbed run's tensors and state, wall time aside.",
        "",
        "| part | fault | held | promises | remarks |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        promises = "; ".join(row["promises"])
        outcomes = [f"{outcome}: {count}" for outcome, count in sorted(row["outcomes"].items())]
        remarks = "; ".join([row.get("note", ""), *outcomes, *row["broken"][:3]]).strip("; ")
        lines.append(
            f"| {row['part']} | {row['fault']} | {row['held']} of {row['cases']} | {promises} "
            f"| {remarks.replace('|', '/')} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write both files and say whether every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=218)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (default: 2)")
    options = parser.parse_args(arguments)
    # a shell's background jobs ignore SIGINT, and so would the runs
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = report(options)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only:
        found = merged(found, options.out / "report.json")
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (options.out / "report.json").write_text(text + "\n", encoding="utf-8")
    (options.out / "README.md").write_text(table(found), encoding="utf-8")
    print(table(found))
    return int(any(row["held"] < row["cases"] for row in found["rows"]))


if __name__ == "__main__":
    raise SystemExit(main())
