"""What a comparison of peers may take: seconds, memory, and iterations to the tolerance."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from catalogue import DIRECTIONS
from peer_problems import Problem, marginal_error
from peers import MOST, TOLERANCE, Peer

FORWARD, BOTH = DIRECTIONS
MAIN = (8, 173)
"""B and T of the Sinkhorn paper."""
LADDER: list[int] = [*range(10, 200, 10), *range(200, MOST + 1, 50)]
CALLS = 4
"""Calls that a cell needs at least: one to warm up, three to time."""


@dataclass
class Limits:
    """What a run may take."""

    budget: float
    end: float
    full: bool
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)

    def of(self, problem: Problem) -> float:
        """Seconds per peer and cell."""
        main = (problem.items, problem.frames) == MAIN
        return self.budget if main or self.full else self.budget / 4

    def remember(self, name: str, what: str, work: float, seconds: float) -> None:
        """For estimates."""
        self.seconds.setdefault((name, what), []).append((work, seconds))

    def expected(self, peer: Peer, what: str, work: float) -> float:
        """An upper bound of the seconds of one call, from others of that peer; 0 if unknown."""
        found = [s * max(1.0, work / w) for w, s in self.seconds.get((peer.name, what), [])]
        if found or what == FORWARD:
            return min(found, default=0.0)
        return (4 if peer.gradient == "unrolled" else 2) * self.expected(peer, FORWARD, work)

    def objection(self, peer: Peer, problem: Problem, what: str, iterations: int) -> str | None:
        """Why not to run it, or nothing."""
        if time.monotonic() > self.end:
            return "no time left; --full"
        if peer.compiles and not self.full and problem.items != MAIN[0]:
            return f"compiled for every size: at B = {MAIN[0]} only, or --full"
        size = 4 * problem.cost.numel()
        needed = peer.kept * iterations * size if what == BOTH else 0
        if needed > _memory(problem.cost.device) / 2:
            return f"autograd would keep about {needed / 1e9:.0f} GB"
        expected = CALLS * self.expected(peer, what, problem.cost.numel() * iterations)
        if not self.full and expected > self.of(problem):
            return f"{CALLS} calls expected to take more than {self.of(problem):g} s; --full"
        return None


def _memory(device: torch.device) -> float:
    """Bytes that are available."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))


class NotReached(Exception):
    """1e-6 is out of reach for a peer."""


def iterations_to_tolerance(
    peer: Peer, problem: Problem, start: int, allowed: Callable[[int], str | None]
) -> int:
    """The least number of the ladder that brings the peer's own plan to the tolerance."""

    def reached(position: int) -> bool:
        reason = allowed(LADDER[position])
        if reason:
            raise NotReached(reason)
        plan = peer.prepare(problem, LADDER[position]).plan()
        return marginal_error(plan, problem) <= TOLERANCE

    last = len(LADDER) - 1
    high = next((i for i, n in enumerate(LADDER) if n >= start), last)
    if reached(high):
        while high > 0 and reached(high - 1):
            high -= 1
        return LADDER[high]
    step, low = 1, high
    while not reached(high := min(last, low + step)):
        if high == last:
            raise NotReached(f"1e-6 not reached within {MOST} iterations")
        step, low = 2 * step, high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return LADDER[high]
