"""How the training step scales, beside the matrix products it is made of, in one run.

Usage: python benchmarks/step_report.py --out DIR [--minutes M] [--only REGEX]

The paper's batch (P2) with both objectives and every side of bench_step.py; then one size at a
time away from it: components C, taps L, hop S, items B, samples N. Sides take turns, samples during
which other processes took more than 15 % of the machine are dropped. All sides keep the memory that
they free, as `rlsv-fast train` does: fresh pages cost the published step up to half its time.
Writes report.json, README.md and scaling.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import bench_step
import machine
import peer_clock
import products
import torch
from gpu_tables import table
from shapes import P2

from rlsv_fast.training import keep_freed_memory

FUSED, HALF, PLAIN = "fused", "fused, bfloat16", "fused, plain convolutions"
PUBLISHED, FLOOR = "published", "products"
AXES = {
    "C": ("components", (400, 800, 1600)),
    "L": ("taps", (1024, 2048, 4096)),
    "S": ("hop", (128, 256, 512)),
    "B": ("items", (4, 8, 16)),
    "N": ("samples", (22050, 44100, 88200)),
}
SCALED = (FUSED, HALF, FLOOR)
BUDGET = 20.0
"""Seconds of samples per side."""


def name(sizes: dict[str, int]) -> str:
    """Sizes in words."""
    frames = -(-sizes["N"] // sizes["S"])
    return " ".join(f"{axis}{sizes[axis]}" for axis in AXES) + f" T{frames}"


def settings() -> Iterator[tuple[dict[str, int], str, tuple[str, ...]]]:
    """Sizes, objective and sides, the most important first."""
    base = {axis: P2[axis] for axis in AXES}
    for objective in ("L_B", "L_A"):
        yield base, objective, tuple(bench_step.PEERS)
    for axis, (_, values) in AXES.items():
        for value in values:
            if value != base[axis]:
                yield {**base, axis: value}, "L_B", SCALED


def measure(sizes: dict[str, int], objective: str, sides: tuple[str, ...]) -> list[dict[str, Any]]:
    """Seconds of every side, in turn."""
    calls = {}
    for side in sides:
        step = bench_step.PEERS[side](objective, "cpu", sizes)
        step()
        calls[side] = (step, peer_clock.sample(step, 1))
    taken = peer_clock.interleaved(calls, BUDGET)
    return [{"side": side, **taken[side]} for side in sides]


def row(report: dict[str, Any], sizes: str, objective: str) -> dict[str, dict[str, Any]]:
    """Sides by name; empty where not measured."""
    for result in report["results"]:
        if result["sizes"] == sizes and result["objective"] == objective:
            return {side["side"]: side for side in result["sides"]}
    return {}


def text(report: dict[str, Any]) -> str:
    """The tables."""
    facts, base = report["facts"], name(P2)
    both = {objective: row(report, base, objective) for objective in ("L_A", "L_B")}
    main = []
    for side, taken in both["L_B"].items():
        other = both["L_A"].get(side)
        main.append(
            (
                side,
                f"{1e3 * taken['median']:.1f}",
                f"{taken['median'] / both['L_B'][FLOOR]['median']:.2f}",
                f"{both['L_B'][PUBLISHED]['median'] / taken['median']:.1f}",
                f"{1e3 * other['median']:.1f}" if other else "",
                f"{taken['median'] / other['median']:.3f}" if other else "",
                f"{report['memory'][side]:.2f}" if side in report["memory"] else "",
                f"{taken['clean']} of {taken['samples']}",
            )
        )
    scaled = []
    for result in report["results"]:
        sides = row(report, result["sizes"], "L_B")
        if result["objective"] == "L_B":
            floor = sides[FLOOR]["median"]
            scaled.append(
                (
                    result["sizes"],
                    f"{result['operations'] / 1e9:.0f}",
                    *(f"{1e3 * sides[side]['median']:.1f}" for side in SCALED),
                    f"{result['operations'] / floor / 1e9:.0f}",
                    *(f"{sides[side]['median'] / floor:.2f}" for side in SCALED[:2]),
                )
            )
    return "\n".join(
        [
            "# The training step",
            "",
            f"{facts['processor']}, {facts['cores']} cores, {report['threads']} threads, "
            f"{facts['build_simd']}; torch {facts['torch']}; commit {facts['commit']}; "
            f"{report['date']}. Medians; made by `python benchmarks/step_report.py`.",
            "",
            f"## The paper's batch, {base}",
            "",
            *table(
                ("side", "L_B (ms)", "of the products", "published over it")
                + ("L_A (ms)", "L_B over L_A", "peak memory of L_B (GB)", "clean samples"),
                main,
            ),
            "## One size at a time, L_B",
            "",
            *table(
                ("sizes", "GFLOP of the products", "fused (ms)", "bfloat16 (ms)", "products (ms)")
                + ("products (GFLOP/s)", "fused / products", "bfloat16 / products"),
                scaled,
            ),
            "![Time over every size](scaling.svg)\n",
        ]
    )


def plot(report: dict[str, Any], path: Path) -> None:
    """A panel per size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.8), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for panel, (axis, (title, values)) in zip(panels, AXES.items(), strict=True):
        for side, style in zip(SCALED, ("o-", "s-", "k--"), strict=True):
            points = []
            for value in values:
                sides = row(report, name({**P2, axis: value}), "L_B")
                if side in sides:
                    points.append((value, 1e3 * sides[side]["median"]))
            panel.plot(*zip(*points, strict=True), style, label=side)
        panel.set(xscale="log", yscale="log", xlabel=f"{title} {axis}", xticks=values)
        panel.set_xticklabels([str(value) for value in values])
        panel.minorticks_off()
    panels[0].set_ylabel("ms per step")
    panels[0].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("step-report"))
    parser.add_argument("--minutes", type=float, default=15.0, help="nothing is begun after")
    parser.add_argument("--only", default="", help="regex on 'L_B C800 L2048 S256 B8 N44100 T173'")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    peer_clock.pin(arguments.threads)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    arguments.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * arguments.minutes
    report: dict[str, Any] = {
        "facts": machine.facts(),
        "threads": arguments.threads,
        "date": str(date.today()),
        "memory": {
            side: bench_step.peak_memory(side, "L_B") for side in (FUSED, HALF, PLAIN, PUBLISHED)
        },
        "results": [],
    }
    for sizes, objective, sides in settings():
        what = f"{objective} {name(sizes)}"
        if not re.search(arguments.only, what):
            continue
        if time.monotonic() > end:
            print(f"{what}: no time left")
            continue
        taken = measure(sizes, objective, sides)
        report["results"].append(
            {
                "sizes": name(sizes),
                "objective": objective,
                "operations": products.operations(sizes),
                "sides": taken,
            }
        )
        print(what, {one["side"]: f"{1e3 * one['median']:.1f} ms" for one in taken}, flush=True)
        (arguments.out / "report.json").write_text(json.dumps(report, indent=1))
    (arguments.out / "README.md").write_text(text(report))
    plot(report, arguments.out / "scaling.svg")


if __name__ == "__main__":
    main()
