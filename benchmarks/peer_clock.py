"""Times several implementations in turn, on pinned threads, watching what else the machine does."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from timing import synced_clock

NOISE = 0.15
"""Share of the processors that other processes may take during a sample that counts."""
WINDOW = 0.2
"""Seconds that the load is taken over: /proc/stat counts in steps of 10 ms."""
LEAST, REPEATS = 0.02, 5
"""Seconds per sample (several calls where one is shorter), and clean samples wanted."""
LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def pin(threads: int) -> None:
    """Start the process again on `threads` processors, before any library counts them."""
    processors = sorted(os.sched_getaffinity(0))[:threads]
    limits = dict.fromkeys(LIMITS, str(len(processors)))
    if limits.items() <= os.environ.items() and len(os.sched_getaffinity(0)) == len(processors):
        return
    os.sched_setaffinity(0, processors)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **limits})


def _readings() -> tuple[float, float, float]:
    """Seconds: the clock, work of the whole machine, work of this process."""
    try:
        line = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return time.perf_counter(), 0.0, 0.0
    idle, waiting = 3, 4
    ticks = sum(int(t) for index, t in enumerate(line) if index not in (idle, waiting))
    return time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


class Load:
    """Share of the machine that others take: all work but this process's, over a window."""

    def __init__(self) -> None:
        self._past = deque([_readings()], maxlen=1000)

    def share(self) -> float:
        """Since the previous call, or over the last window if that is longer."""
        last, now = self._past[-1], _readings()
        before = next((past for past in reversed(self._past) if now[0] - past[0] >= WINDOW), last)
        self._past.append(now)
        elapsed, machine, own = (b - a for a, b in zip(before, now, strict=True))
        return max(0.0, machine - own) / (elapsed * (os.cpu_count() or 1))


def sample(call: Callable[[], Any], calls: int) -> float:
    """Seconds per call."""
    start = synced_clock()
    for _ in range(calls):
        call()
    return (synced_clock() - start) / calls


def interleaved(
    calls: Mapping[str, tuple[Callable[[], Any], float]], budget: float
) -> dict[str, dict[str, float]]:
    """Seconds per call of every implementation, in rounds A B C, A B C, ...

    Args:
        calls: by name, the call and the seconds that it takes.
        budget: seconds of samples per implementation: slow ones are repeated less often.

    Returns:
        Medians of the clean samples, or of all where fewer than three are clean.
    """
    load = Load()
    samples: dict[str, list[tuple[float, bool]]] = {name: [] for name in calls}
    repeats = {name: max(1, round(LEAST / max(once, 1e-6))) for name, (_, once) in calls.items()}
    spent = dict.fromkeys(calls, 0.0)

    def wants(name: str) -> bool:
        taken = samples[name]
        if sum(clean for _, clean in taken) >= REPEATS or len(taken) >= 2 * REPEATS:
            return False
        return not taken or spent[name] + spent[name] / len(taken) <= budget

    while waiting := [name for name in calls if wants(name)]:
        for name in waiting:
            if repeats[name] > 1:
                calls[name][0]()  # caches and pages that the one before took
            load.share()
            seconds = sample(calls[name][0], repeats[name])
            samples[name].append((seconds, load.share() <= NOISE))
            spent[name] += seconds * repeats[name]
    return {name: _summary(taken, repeats[name]) for name, taken in samples.items()}


def _summary(taken: list[tuple[float, bool]], calls: int) -> dict[str, float]:
    clean = [seconds for seconds, is_clean in taken if is_clean]
    used = clean if len(clean) >= 3 else [seconds for seconds, _ in taken]
    quartiles = statistics.quantiles(used, n=4) if len(used) > 1 else [used[0]] * 3
    return {
        "median": statistics.median(used),
        "min": min(used),
        "quartiles_apart": quartiles[2] - quartiles[0],
        "samples": len(taken),
        "clean": len(clean),
        "calls_per_sample": calls,
    }
