"""Markdown of a GPU report: stages, targets, kernels against their floors, peers side by side.

Usage: python benchmarks/gpu_tables.py REPORT.json [--out README.md]
       python benchmarks/gpu_tables.py REPORT.json --floors   # the table of benchmarks/README.md
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]


def duration(seconds: float) -> str:
    """Three digits with a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def amount(count: float) -> str:
    """Three digits with a prefix."""
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; nothing where it would be empty."""
    if not rows:
        return []
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:], ""]


def why_not(result: Result) -> str:
    """Why a result has no number, or nothing."""
    for word in ("skipped", "failed"):
        if word in result:
            return f"{word}: {' '.join(str(result[word]).split())}".replace("|", "/")
    return ""


def met(reached: bool) -> str:
    """In a table's cell."""
    return "met" if reached else "**missed**"


def _kernel_targets(kernels: Sequence[Result]) -> Iterator[list[str]]:
    for result in kernels:
        if result.get("target"):
            fraction = result["fraction_of_floor"]
            yield [
                f"{result['kernel']} [{result['at']}]",
                f"{result['target']:.0%} of the floor",
                f"{fraction:.0%}, {duration(result['median'])}",
                met(fraction >= result["target"]),
            ]


def _comparison_targets(targets: Sequence[Result], found: Sequence[Result]) -> Iterator[list[str]]:
    by_key = {(row["group"], row["shape"], row["peer"]): row for row in found}
    for target in targets:
        key = (target["group"], target["shape"])
        mine = by_key.get((*key, target["peer"]), {})
        what = f"{target['group']} [{target['shape']}], {target['peer']}"
        than = by_key.get((*key, target["than"]), {}) if target["than"] else None
        asked = (
            f"at most {duration(target['seconds'])}"
            if than is None
            else f"{target['times']:g} x {target['than']}"
        )
        if "median" not in mine or (than is not None and "median" not in than):
            reason = why_not(mine) or why_not(than or {}) or "no result"
            yield [what, asked, reason, "not measured"]
        elif than is None:
            time = mine["median"]
            yield [what, asked, duration(time), met(time <= target["seconds"])]
        else:
            ratio = than["median"] / mine["median"]
            yield [what, asked, f"{ratio:.1f} x", met(ratio >= target["times"])]


def _kernel_rows(kernels: Sequence[Result]) -> Iterator[list[str]]:
    for result in kernels:
        name = f"{result['kernel']} [{result['at']}]"
        if "median" not in result:
            yield [name, *[""] * 5, why_not(result)]
            continue
        yield [
            name,
            f"{amount(result['bytes'])}B, {duration(result['transfer_floor'])}",
            f"{amount(result['operations'])}, {duration(result['arithmetic_floor'])}",
            duration(max(result["transfer_floor"], result["arithmetic_floor"])),
            duration(result["median"]),
            f"{result['fraction_of_floor']:.0%}",
            f"{result['target']:.0%}" if result.get("target") else "",
        ]


def _comparison_rows(found: Sequence[Result]) -> Iterator[list[str]]:
    groups: dict[str, list[Result]] = defaultdict(list)
    for row in found:
        groups[f"{row['group']} [{row['shape']}]"].append(row)
    for group, members in sorted(groups.items()):
        fused = next((m["median"] for m in members if m["peer"] == "fused" and "median" in m), None)
        for row in sorted(members, key=lambda row: row.get("median", float("inf"))):
            if "median" not in row:
                yield [group, row["peer"], "", "", why_not(row)]
                continue
            ratio = f"{row['median'] / fused:.2f}" if fused else ""
            memory = f"{row['peak_memory_gb']:.2f} GB" if "peak_memory_gb" in row else ""
            yield [group, row["peer"], duration(row["median"]), ratio, memory]


def markdown(report: Result) -> str:
    """The whole report."""
    facts, rates = report["facts"], report.get("ceilings", {})
    commit, date = facts.get("commit", "unknown"), report.get("date", "")
    lines = ["# GPU report", "", f"Commit {commit}, {date}.", ""]
    lines += table(["fact", "value"], [[k.replace("_", " "), str(v)] for k, v in facts.items()])
    lines += [
        f"Measured ceiling, {name}: "
        + (
            f"{rate['per_second'] / 1e12:.3g} T/s"
            if "per_second" in rate
            else f"{why_not(rate)}; that of an H200 is assumed"
        )
        for name, rate in rates.items()
    ]
    lines += ["", "## Stages", ""]
    stages = [
        [s["name"], s["status"], f"{s['seconds']:.0f} s", s["summary"].replace("|", "/")]
        for s in report["stages"]
    ]
    lines += table(["stage", "status", "took", "result"], stages)
    kernels, found = report.get("kernels", []), report.get("comparisons", [])
    wanted = [*_kernel_targets(kernels), *_comparison_targets(report.get("targets", []), found)]
    if wanted:
        lines += ["## Targets", "", *table(["what", "target", "measured", ""], wanted)]
    if kernels:
        lines += [
            "## Kernels against their floors",
            "",
            "Floor: the larger of bytes over the measured copy bandwidth and instructions over the "
            "measured float32 rate. Medians of CUDA-graph replays, float32, inputs in turn.",
            "",
        ]
        head = ["kernel", "bytes", "operations", "floor", "measured", "of the floor", "target"]
        lines += table(head, list(_kernel_rows(kernels)))
    if found:
        lines += ["## Side by side", "", "Medians of 20 rounds between CUDA events, float32.", ""]
        fewer = [row for row in found if row.get("rounds", 20) < 20]
        if fewer:
            slow = ", ".join(f"{one['peer']} {one['group']}: {one['rounds']}" for one in fewer)
            lines += [f"Fewer rounds where they would take more than 30 s: {slow}.", ""]
        head = ["what", "who", "median", "times the fused", "peak memory"]
        lines += table(head, list(_comparison_rows(found)))
    return "\n".join(lines)


def floors(report: Result) -> str:
    """Every kernel's floors at its first size, by the rates and beside the times of a report."""
    from catalogue import Ceilings
    from gpu_benchmarks import MODULES, kernels

    rates = {name: rate["per_second"] for name, rate in report["ceilings"].items()}
    found = {(one["kernel"], one["at"]): one for one in report["kernels"]}
    rows = []
    for kernel in (kernel for name in MODULES for kernel in kernels(name)):
        at, sizes = next(iter(kernel.sizes.items()))
        transfer, arithmetic = kernel.floors(sizes, Ceilings(**rates))
        target = f"{kernel.target:.0%} at {', '.join(kernel.target_at)}" if kernel.target else ""
        measured = found.get((kernel.name, at), {}).get("median")
        shown = "not yet measured"
        if measured:
            shown = f"{duration(measured)}, {max(transfer, arithmetic) / measured:.0%}"
        rows.append(
            [
                f"`{kernel.name}` [{at}]",
                f"{amount(4 * kernel.numbers(sizes))}B, {duration(transfer)}",
                f"{amount(kernel.operations(sizes))}, {duration(arithmetic)}",
                duration(max(transfer, arithmetic)),
                target,
                shown,
                kernel.note,
            ]
        )
    head = ["kernel", "bytes", "operations", "floor", "target", "measured", "counted"]
    return "\n".join(table(head, rows))


def main() -> None:
    """Print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--floors", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report = json.loads(arguments.file.read_text())
    text = floors(report) if arguments.floors else markdown(report)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
