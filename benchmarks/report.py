"""Make a table from a pytest-benchmark JSON: medians side by side and their ratio to the fused one.

Usage: python benchmarks/report.py FILE.json [--out TABLE.md]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any


def table(report: dict[str, Any]) -> str:
    """Markdown: one row per peer, grouped by what is compared."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for benchmark in report["benchmarks"]:
        groups[benchmark["group"]].append(benchmark)
    facts = report["benchmarks"][0]["extra_info"]
    lines = [
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads, "
        f"{facts['build_simd']}; torch {facts['torch']}; commit {facts['commit']}; "
        f"{report['datetime'][:10]}",
        "",
        "| what | who | median (ms) | min (ms) | times the fused | peak memory (GB) |",
        "|---|---|---|---|---|---|",
    ]
    for group in sorted(groups):
        rows = sorted(groups[group], key=lambda row: float(row["stats"]["median"]))
        fused = [r["stats"]["median"] for r in rows if r["extra_info"]["peer"] == "fused"]
        for row in rows:
            stats, info = row["stats"], row["extra_info"]
            ratio = f"{stats['median'] / fused[0]:.2f}" if fused else ""
            memory = f"{info['peak_memory_gb']:.2f}" if "peak_memory_gb" in info else ""
            lines.append(
                f"| {group} | {info['peer']} | {1e3 * stats['median']:.3f} | "
                f"{1e3 * stats['min']:.3f} | {ratio} | {memory} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = table(json.loads(arguments.file.read_text()))
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
