"""The tables of a report of umss_step.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu_tables import table

OURS, ORIGINAL = "ours", "original"
STAGES = ("data", "forward", "backward", "optimiser")


def _ratio(row: dict[str, Any], side: str, value: Callable[[dict[str, Any]], float]) -> str:
    """How many times ours the original takes, for the sides that stand for ours."""
    sides = row["sides"]
    if side == ORIGINAL or ORIGINAL not in sides:
        return ""
    return f"{value(sides[ORIGINAL]) / value(sides[side]):.1f}"


def _size(row: dict[str, Any], voices: int) -> str:
    return f"{row['model']}, {row['items']} × {voices}"


def text(report: dict[str, Any], voices: int) -> str:
    """The tables of mixtures of so many voices."""
    facts, rows = report["machine"], report["runs"]
    whole = [
        (
            _size(row, voices),
            str(row["threads"]),
            row["memory"],
            side,
            f"{one['median']:.3f}",
            _ratio(row, side, lambda s: s["median"]),
            f"{one['peak_mib']:.0f}" if "peak_mib" in one else "",
            _ratio(row, side, lambda s: s["peak_mib"]) if "peak_mib" in one else "",
            f"{one['clean']} of {one['samples']}",
        )
        for row in rows
        for side, one in row["sides"].items()
    ]
    stages = [
        (
            _size(row, voices),
            str(row["threads"]),
            row["memory"],
            side,
            *(
                f"{one['stages'][stage]:.3f} ({100 * one['stages'][stage] / total:.0f} %)"
                for stage in STAGES
            ),
        )
        for row in rows
        for side, one in row["sides"].items()
        for total in [sum(one["stages"].values())]
    ]
    lines = [
        "# A training step of the source-filter separator",
        "",
        f"`python benchmarks/umss_step.py`, {facts['processor']}, torch {facts['torch']}, commits "
        f"{', '.join(sorted({row['commit'] for row in rows}))}; the original's harmonic CQT: "
        f"{report['transform']}. Wall seconds, medians; × is the original over that side. The "
        "script says what each is.",
        "",
        *table(
            ("model, items × voices", "threads", "freed memory", "side", "s", "×")
            + ("peak MiB", "×", "clean samples"),
            whole,
        ),
        "From equal weights, noise and features the first losses and gradients differ by",
        "",
        *(
            f"- {model}: {found['loss_apart']:.1e} and {found['gradient_apart']:.1e} of their size"
            for model, found in report["agreement"].items()
        ),
        "",
        "(the original sums up the phase of every harmonic in single precision).",
        "",
        "## Stages of a step, seconds",
        "",
        *table(("model, items × voices", "threads", "freed memory", "side", *STAGES), stages),
        "The frozen multi-f0 network of ours belongs to the data, as what it finds is kept.",
        "",
        "## Parts of a step, forward and backward",
        "",
    ]
    for row in rows:
        own, other = (row["sides"].get(side, {}).get("parts", {}) for side in (OURS, ORIGINAL))
        if not own:
            continue
        total = sum(own.values())
        cells = []
        for name in (name for name in own if not name.endswith(", backward")):
            both = [name, f"{name}, backward"]
            ours, theirs = (sum(parts.get(key, 0.0) for key in both) for parts in (own, other))
            cells.append(
                (
                    name,
                    *(f"{own[key]:.4f}" if key in own else "" for key in both),
                    f"{100 * ours / total:.0f} %",
                    *(f"{other[key]:.4f}" if key in other else "" for key in both),
                    f"{theirs / ours:.1f}" if other else "",
                )
            )
        lines += [
            f"{_size(row, voices)}, {row['threads']} thread(s)",
            "",
            *table(("part", "ours, s", "backward", "share", "original, s", "backward", "×"), cells),
        ]
    return "\n".join(lines)
