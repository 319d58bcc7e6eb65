"""Markdown and plot of a report of bench_peers.py: targets, the best peers, every cell.

Usage: python benchmarks/peer_tables.py report.json [--out DIR]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalogue import DIRECTIONS
from gpu_tables import duration, met, table, why_not
from peers import EAGER, EXACT, OURS, OURS_GENERAL, OURS_SYMMETRIC, TWIN

Row = dict[str, Any]

FORWARD, BOTH = DIRECTIONS
SETTINGS = ("100", "1000", "1e-6")
BUDGETS = {"loss_error": 5e-6, "gradient_error": 2e-5}
"""What this library's tests allow float32."""
CLEAN = 3


@dataclass(frozen=True)
class Target:
    """Ours against others at B = 8, T = 173, forward and backward; than None: the best peer."""

    problem: str
    setting: str
    than: str | None
    times: float


TARGETS = [
    Target("general", "100", None, 15),
    Target("self", "1e-6", None, 150),
    Target("self", "1e-6", EAGER, 400),
    Target("self", "1e-6", TWIN, 20),
]


def equally_accurate(row: Row, ours: Row) -> bool:
    """No error above ten times ours, or above the tests' budget for float32 if that is larger.

    Forward + backward counts only with a gradient that tends to the exact one.
    """
    backward = row["pass"] == BOTH
    if backward and row["gradient"] not in EXACT:
        return False
    names = list(BUDGETS) if backward else ["loss_error"]
    return all(row[name] <= max(10 * ours[name], BUDGETS[name]) for name in names)


class Cell:
    """All results of one problem, size, setting and pass."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = {row["peer"]: row for row in rows}
        first = rows[0]
        self.setting, self.direction = first["setting"], first["pass"]
        symmetric = first["problem"] == "self" and self.setting == "1e-6"
        self.ours = self.rows.get(OURS_SYMMETRIC if symmetric else OURS_GENERAL, {})

    def times_ours(self, peer: str | None) -> float | None:
        """A peer's time over ours, where both were measured."""
        row = self.rows.get(peer or "", {})
        if "median" not in row or "median" not in self.ours:
            return None
        return float(row["median"] / self.ours["median"])

    def best(self, any_accuracy: bool = False) -> str | None:
        """The fastest peer as accurate as ours, or with a true gradient and any accuracy."""
        if "median" not in self.ours:
            return None
        others = [r for n, r in self.rows.items() if n not in (*OURS, TWIN) and "median" in r]
        if any_accuracy:
            fit = [r for r in others if self.direction == FORWARD or r["gradient"] in EXACT]
        else:
            fit = [row for row in others if equally_accurate(row, self.ours)]
        return min(fit, key=lambda row: float(row["median"]))["peer"] if fit else None


Cells = dict[tuple[str, int, int, str, str], Cell]


def cells_of(report: Row) -> Cells:
    """Results by problem, size, setting and pass."""
    groups: dict[tuple[str, int, int, str, str], list[Row]] = {}
    for row in report["results"]:
        key = (row["problem"], row["items"], row["frames"], row["setting"], row["pass"])
        groups.setdefault(key, []).append(row)
    return {key: Cell(rows) for key, rows in groups.items()}


def target_rows(cells: Cells) -> Iterator[list[str]]:
    """Every target: what was asked, what was measured, met or missed and by how much."""
    for target in TARGETS:
        cell = cells.get((target.problem, 8, 173, target.setting, BOTH))
        what = f"{target.problem}, {_setting(target.setting)}"
        asked = f"{target.times:g} x {target.than or 'the best peer of equal accuracy'}"
        peer = (target.than or cell.best()) if cell else None
        ratio = cell.times_ours(peer) if cell else None
        if ratio is None:
            yield [what, asked, "", "not measured"]
            continue
        share = f", {ratio / target.times:.2f} of it"
        yield [what, asked, f"{ratio:.3g} x ({peer})", met(ratio >= target.times) + share]


def _setting(setting: str) -> str:
    return "to 1e-6" if setting == "1e-6" else f"{setting} iterations"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}"


def _summary_rows(cells: Cells) -> Iterator[list[str]]:
    for (problem, items, frames, setting, direction), cell in sorted(cells.items()):
        if "median" not in cell.ours:
            continue
        best, fastest = cell.best(), cell.best(any_accuracy=True)
        yield [
            f"{problem}, B={items} T={frames}, {_setting(setting)}, {direction}",
            duration(cell.ours["median"]),
            f"{_ratio(cell.times_ours(best))} {best or ''}".strip(),
            "" if fastest == best else f"{_ratio(cell.times_ours(fastest))} {fastest}",
            _ratio(cell.times_ours(EAGER)),
            _ratio(cell.times_ours(TWIN)),
        ]


class Notes:
    """Numbered reasons under a table."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def number(self, reason: str) -> str:
        """A mark for the table's cell."""
        return f"[{self._seen.setdefault(reason, len(self._seen) + 1)}]"

    def lines(self) -> list[str]:
        """The reasons."""
        listed = [f"[{number}] {reason}." for reason, number in self._seen.items()]
        return [" ".join(listed), ""] if listed else []


def _time(cell: Cell | None, peer: str, notes: Notes) -> str:
    row = cell.rows.get(peer) if cell else None
    if cell is None or row is None:
        return ""
    if "median" not in row:
        return notes.number(why_not(row))
    ratio = cell.times_ours(peer)
    mark = "\\*" if row["clean"] < CLEAN else ""
    return duration(row["median"]) + mark + (f" ({_ratio(ratio)})" if ratio else "")


def _errors(cells: Sequence[Cell | None], peer: str) -> str:
    """Loss, gradient, off-diagonal part; from forward + backward if there, else from forward."""
    rows = [cell.rows.get(peer, {}) for cell in reversed(cells) if cell]
    row = next((row for row in rows if "loss_error" in row), None)
    if row is None:
        return ""
    names = ("loss_error", "gradient_error", "off_diagonal_error")
    return " / ".join(f"{row[name]:.0e}" for name in names if name in row)


def _detail(cells: Cells, problem: Row, peers: Sequence[str]) -> list[str]:
    head, rows, notes = ["who", "gradient"], [], Notes()
    where = (problem["problem"], problem["items"], problem["frames"])
    found = {s: [cells.get((*where, s, d)) for d in DIRECTIONS] for s in SETTINGS}
    found = {setting: pair for setting, pair in found.items() if any(pair)}
    for setting in found:
        head += [f"{_setting(setting)}, f", "f+b", "errors"]
        head += ["iterations"] if setting == "1e-6" else []
    for peer in peers:
        members = [c.rows[peer] for pair in found.values() for c in pair if c and peer in c.rows]
        if not members:
            continue
        line = [peer, members[0]["gradient"]]
        for setting, pair in found.items():
            line += [_time(cell, peer, notes) for cell in pair]
            line.append(_errors(pair, peer))
            if setting == "1e-6":
                made = [c.rows.get(peer, {}).get("iterations", "") for c in pair if c]
                line.append(str(made[0]))
        rows.append(line)
    eigenvalues, needed = problem["second_eigenvalue"], problem["alternating_iterations"]
    text = (
        f"Mean cost {problem['mean_cost']:.2f}, largest {problem['largest_cost']:.1f}; second "
        f"eigenvalue {min(eigenvalues):.3f} to {max(eigenvalues):.3f}; alternating needs "
        f"{min(needed)} to {max(needed)} iterations to 1e-6 in float64 (first {len(needed)} items)."
    )
    title = f"### {where[0]}, B = {where[1]}, T = {where[2]}"
    return [title, text, "", *table(head, rows), *notes.lines()]


def markdown(report: Row) -> str:
    """The whole report."""
    facts, cells = report["facts"], cells_of(report)
    peers = list(dict.fromkeys(row["peer"] for row in report["results"]))
    lines = ["# Sinkhorn against its peers", "", f"Commit {facts['commit']}, {report['date']}.", ""]
    lines += table(["fact", "value"], [[k.replace("_", " "), str(v)] for k, v in facts.items()])
    lines += [f"{name}: {reason}." for name, reason in report["missing"].items()]
    lines += [
        "Float32, epsilon = 1. Medians, all implementations in turn. Number in parentheses: the "
        "time over ours in the same column (symmetric for self-costs to 1e-6, else general). "
        "Errors: relative distance from the float64 solution, of the loss, of its gradient, and of "
        "the gradient's off-diagonal part, of the results that were timed. \\*: fewer than "
        f"{CLEAN} samples without other load on the machine. Equal accuracy: no error above ten "
        f"times ours or above {BUDGETS['loss_error']:g} (loss) and "
        f"{BUDGETS['gradient_error']:g} (gradient), whichever is larger, and with backward a "
        f"gradient that tends to the exact one. {TWIN} is this library's algorithm in plain "
        f"PyTorch and no peer. {_early_ends(report)}",
        "",
        "## Targets (B = 8, T = 173, forward + backward)",
        "",
        *table(["what", "asked", "measured", ""], list(target_rows(cells))),
        "![Time over T and B](scaling.svg)",
        "",
        "## Times of others over ours",
        "",
    ]
    head = ["what", "ours", "best of equal accuracy", "fastest, if another", EAGER, TWIN]
    lines += [*table(head, list(_summary_rows(cells))), "## Every cell", ""]
    for problem in report["problems"]:
        lines += _detail(cells, problem, peers)
    return "\n".join(lines)


def plot(report: Row, file: Path) -> None:
    """Forward + backward to 1e-6 on self-costs, over T at B = 8 and over B at T = 173."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    rows = [
        row
        for row in report["results"]
        if (row["problem"], row["setting"], row["pass"]) == ("self", "1e-6", BOTH)
        and "median" in row
    ]
    panels = (("frames", "T", "items", "B", 8), ("items", "B", "frames", "T", 173))
    for axes, panel in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        axis, label, fixed, fixed_label, value = panel
        for index, peer in enumerate(dict.fromkeys(row["peer"] for row in rows)):
            points = sorted(
                (row[axis], 1e3 * row["median"])
                for row in rows
                if row["peer"] == peer and row[fixed] == value
            )
            style = {"linewidth": 2.5} if peer in OURS else {"linewidth": 1, "linestyle": "--"}
            marker = "osv^D<>pX*"[index % 10]
            x, y = ([point[i] for point in points] for i in (0, 1))
            axes.plot(x, y, label=peer, marker=marker, **style)
        axes.set(xscale="log", yscale="log", xlabel=label, title=f"{fixed_label} = {value}")
        ticks = sorted({row[axis] for row in rows})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms, forward + backward, to 1e-6")
    if rows:
        figure.axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, metadata={"Date": None})


def _early_ends(report: Row) -> str:
    """What a number of iterations means for the path of ours that ends by itself."""
    made = [
        row["iterations"]
        for row in report["results"]
        if row["peer"] == "ours, general" and row["setting"] == "1000" and "median" in row
    ]
    if not made:
        return ""
    return (
        "Of 1000 iterations, ours (general) makes those until rounding allows no progress, here "
        f"{min(made)} to {max(made)}; all others, ours (unrolled) too, make all of them."
    )


def render(report: Row, folder: Path) -> None:
    """README.md and scaling.svg beside the report."""
    (folder / "README.md").write_text(markdown(report))
    try:
        plot(report, folder / "scaling.svg")
    except ImportError:
        print("no plot: pip install matplotlib")


def main() -> None:
    """Render again."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    render(json.loads(arguments.file.read_text()), arguments.out or arguments.file.parent)


if __name__ == "__main__":
    main()
