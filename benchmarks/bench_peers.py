"""Batched Sinkhorn against every peer: time, and error against float64, side by side in one run.

Usage: python benchmarks/bench_peers.py [--out DIR] [--only REGEX] [--full] [--device cuda]

Sizes B in {1, 8, 64}, T in {64, 173, 512}; forward and forward + backward; 100 and 1000 iterations,
and as many as bring the peer's own plan within an L1 marginal error of 1e-6 (at most 1000; found
before timing, in steps of 10 and 50). Peers that are not installed are named and skipped, as is
what would take too long or too much memory. Without --full that is: more than --budget seconds per
peer and cell at B = 8, T = 173 (a quarter of it elsewhere), peers that compile for every size
elsewhere than at B = 8, and what --minutes do not suffice for. Not part of `make bench`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import machine
import peer_clock
import peer_tables
import torch
from catalogue import DIRECTIONS, Benchmark
from peer_limits import BOTH, FORWARD, MAIN, Limits, NotReached, iterations_to_tolerance
from peer_problems import KINDS, Problem, errors, exact, make_problem, marginal_error
from peers import PEERS, Peer, Run, as_tensor
from timing import synced_clock

Row = dict[str, Any]

BENCHMARKS: list[Benchmark] = []
"""Nothing for pytest-benchmark and the GPU report: peers need their own packages and rounds."""

SIZES = [MAIN, (8, 64), (8, 512), (1, 173), (64, 173), (1, 64), (64, 64), (1, 512), (64, 512)]
SETTINGS: tuple[str, ...] = ("100", "1e-6", "1000")
"""B and T, and iterations, in the order of what a short run should not miss."""


@dataclass
class Candidate:
    """A peer in one cell, warmed up."""

    row: Row
    call: Callable[[], Any]
    once: float
    work: float


class Comparison:
    """All peers on one problem."""

    def __init__(self, problem: Problem, chosen: list[Peer], limits: Limits) -> None:
        self.problem, self.limits = problem, limits
        self.peers = [peer for peer in chosen if problem.kind in peer.kinds]
        self._counts: dict[str, int] = {}

    def _row(self, peer: Peer, setting: str, what: str) -> Row:
        return {
            "problem": self.problem.kind,
            "items": self.problem.items,
            "frames": self.problem.frames,
            "setting": setting,
            "pass": what,
            "peer": peer.name,
            "gradient": peer.gradient,
        }

    def _count(self, peer: Peer, setting: str) -> int | None:
        """Iterations to be made; None: the peer stops by itself."""
        if setting != "1e-6":
            return int(setting)
        if peer.stops:
            return None
        if peer.name not in self._counts:
            needed = exact(self.problem.kind, self.problem.frames).iterations[: self.problem.items]
            start = int(needed.max()) if peer.fixed else 20

            def allowed(count: int) -> str | None:
                return self.limits.objection(peer, self.problem, FORWARD, count)

            self._counts[peer.name] = iterations_to_tolerance(peer, self.problem, start, allowed)
        return self._counts[peer.name]

    def _prepare(self, peer: Peer, setting: str, what: str, row: Row) -> Candidate | None:
        """Warm it up, keep its errors; None, and the reason in the row, where it is skipped."""
        if what == BOTH and peer.gradient == "none":
            row["skipped"] = "no gradient"
            return None
        if setting != "1e-6" and not peer.fixed:
            row["skipped"] = "stops after a handful of iterations"
            return None
        try:
            count = self._count(peer, setting)
        except NotReached as error:
            row["skipped"] = str(error)
            return None
        work = self.problem.cost.numel() * (count or 10)
        objection = self.limits.objection(peer, self.problem, what, count or 10)
        if objection:
            row["skipped"] = objection
            return None
        run = peer.prepare(self.problem, count)
        call = run.forward if what == FORWARD else run.both
        call()  # compiles, allocates
        start = synced_clock()
        result = call()
        once = synced_clock() - start
        if once < peer_clock.LEAST:
            once = min(once, peer_clock.sample(call, 5))
        row.update(self._accuracy(run, what, result), iterations=run.iterations() or count)
        return Candidate(row, call, once, work)

    def _accuracy(self, run: Run, what: str, result: Any) -> dict[str, float]:
        loss, gradient = (result, None) if what == FORWARD else result
        found = errors(
            self.problem, as_tensor(loss), None if gradient is None else as_tensor(gradient)
        )
        return {**found, "marginal_error": marginal_error(run.plan(), self.problem)}

    def cell(self, setting: str, what: str) -> list[Row]:
        """All peers in turn; what fails is a row as well."""
        rows, candidates = [], {}
        for peer in self.peers:
            row = self._row(peer, setting, what)
            rows.append(row)
            try:
                candidate = self._prepare(peer, setting, what, row)
            except Exception as error:  # a peer's failure is a result
                row["failed"] = f"{type(error).__name__}: {str(error)[:200]}"
                continue
            if candidate is not None:
                candidates[peer.name] = candidate
        calls = {name: (one.call, one.once) for name, one in candidates.items()}
        for name, times in peer_clock.interleaved(calls, self.limits.of(self.problem)).items():
            candidates[name].row.update(times)
            self.limits.remember(name, what, candidates[name].work, times["min"])
        gc.collect()
        return rows

    def facts(self) -> Row:
        """How hard the problem is."""
        solved = exact(self.problem.kind, self.problem.frames)
        count = min(self.problem.items, len(solved.loss))
        return {
            "problem": self.problem.kind,
            "items": self.problem.items,
            "frames": self.problem.frames,
            "mean_cost": float(self.problem.cost.mean()),
            "largest_cost": float(self.problem.cost.max()),
            "second_eigenvalue": solved.second_eigenvalue[:count].tolist(),
            "alternating_iterations": solved.iterations[:count].tolist(),
        }


def cells(only: str) -> Iterator[tuple[str, tuple[int, int], list[tuple[str, str]]]]:
    """Problem, size, and the settings and passes whose name matches."""
    order = [(kind, MAIN, SETTINGS) for kind in KINDS]
    for kind, settings in (("self", SETTINGS[:2]), ("self", SETTINGS[2:]), ("general", SETTINGS)):
        order += [(kind, size, settings) for size in SIZES if size != MAIN]
    for kind, (items, frames), settings in order:
        chosen = [
            (setting, what)
            for setting, what in itertools.product(settings, DIRECTIONS)
            if re.search(only, f"{kind} B{items} T{frames} {setting} {what}")
        ]
        if chosen:
            yield kind, (items, frames), chosen


def facts(threads: int, device: str) -> Row:
    """Of machine and software."""
    packages = ("numpy", "POT", "geomloss", "ott-jax", "jax")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    gpu = machine.gpu_facts() if device != "cpu" else {}
    return {**machine.facts(), **versions, **gpu, "threads": threads, "device": device}


def compare(
    only: str, chosen: list[Peer], limits: Limits, device: str, write: Callable[[Row], None]
) -> None:
    """Measure and hand over the report after every cell."""
    report: Row = {"problems": [], "results": []}
    for kind, (items, frames), wanted in cells(only):
        if time.monotonic() > limits.end:
            print(f"{kind} B{items} T{frames}: no time left")
            continue
        comparison = Comparison(make_problem(kind, items, frames, device), chosen, limits)
        if comparison.facts() not in report["problems"]:
            report["problems"].append(comparison.facts())
        for setting, what in wanted:
            started = time.monotonic()
            report["results"] += comparison.cell(setting, what)
            write(report)
            took = time.monotonic() - started
            print(f"{kind} B{items} T{frames} {setting} {what}: {took:.0f} s", flush=True)


def main() -> None:
    """Measure, write the report, say which targets are met."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("peers-report"))
    parser.add_argument("--only", default="", help="regex on 'self B8 T173 1e-6 forward+backward'")
    parser.add_argument("--peers", default="", help="regex on names of peers")
    parser.add_argument("--full", action="store_true", help="every cell, however long it takes")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds per peer and cell")
    parser.add_argument("--minutes", type=float, default=12.0, help="for all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    peer_clock.pin(arguments.threads)
    torch.set_num_threads(arguments.threads)
    chosen = [peer for peer in PEERS if re.search(arguments.peers, peer.name)]
    reasons = {peer.name: peer.missing(arguments.device) for peer in chosen}
    missing = {name: reason for name, reason in reasons.items() if reason}
    for name, reason in missing.items():
        print(f"{name}: {reason}")
    chosen = [peer for peer in chosen if peer.name not in missing]
    end = time.monotonic() + (float("inf") if arguments.full else 60 * arguments.minutes)
    limits = Limits(arguments.budget, end, arguments.full)
    arguments.out.mkdir(parents=True, exist_ok=True)
    head = {
        "facts": facts(arguments.threads, arguments.device),
        "date": str(date.today()),
        "budget": arguments.budget,
        "full": arguments.full,
        "missing": missing,
    }

    def write(report: Row) -> None:
        (arguments.out / "report.json").write_text(json.dumps({**head, **report}, indent=1))

    compare(arguments.only, chosen, limits, arguments.device, write)
    report = json.loads((arguments.out / "report.json").read_text())
    peer_tables.render(report, arguments.out)
    for target in peer_tables.target_rows(peer_tables.cells_of(report)):
        print(" | ".join(target))


if __name__ == "__main__":
    main()
