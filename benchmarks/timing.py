"""Clocks: CUDA events on a GPU, a synchronised clock elsewhere; inputs in turn; CUDA graphs."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MOST_SETS = 32
MOST_BYTES = 8 << 30


def synced_clock() -> float:
    """Seconds, after all work queued on a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Timed:
    """What is timed: running it makes `calls` calls, on `sets` sets of inputs in turn."""

    run: Callable[[], Any]
    calls: int = 1
    sets: int = 1


def cache_bytes(device: str) -> int:
    """Size of a GPU's second-level cache; 0 on a CPU, whose benchmarks keep one set of inputs."""
    if device == "cpu":
        return 0
    return int(torch.cuda.get_device_properties(device).L2_cache_size)


def rotating(
    make: Callable[[], tuple[Any, ...]],
    call: Callable[..., Any],
    device: str,
    cache: int | None = None,
) -> Timed:
    """Calls on so many sets of inputs that together they are three times the cache.

    The last results are kept, so that outputs take turns in memory as well.
    """
    first = make()
    size = sum(x.numel() * x.element_size() for x in first if isinstance(x, Tensor))
    cache = cache_bytes(device) if cache is None else cache
    count = min(MOST_SETS, MOST_BYTES // max(size, 1), -(-3 * cache // max(size, 1)))
    sets = [first, *(make() for _ in range(count - 1))]
    turns, kept = itertools.cycle(sets), deque[Any](maxlen=len(sets) if cache else 0)
    return Timed(lambda: kept.append(call(*next(turns))), 1, len(sets))


def captured(timed: Timed, least: int = 20) -> Timed:
    """The same calls as one CUDA graph: whole rounds of the sets, at least `least` calls."""
    calls = timed.sets * -(-least // timed.sets)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # allocations and lazy loading belong before the capture
        for _ in range(max(3, timed.sets)):
            timed.run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            timed.run()
    return Timed(graph.replay, calls, timed.sets)


def _cuda_rounds(run: Callable[[], Any], rounds: int, iterations: int) -> list[float]:
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(rounds)] for _ in range(2)]
    torch.cuda.synchronize()
    for start, end in zip(*events, strict=True):
        start.record()
        for _ in range(iterations):
            run()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in zip(*events, strict=True)]


def _cpu_rounds(run: Callable[[], Any], rounds: int, iterations: int) -> list[float]:
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(iterations):
            run()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure(
    timed: Timed,
    device: str,
    *,
    rounds: int = 20,
    least: float = 2e-3,
    most: float = 30.0,
    warm_up: int = 3,
) -> dict[str, float]:
    """Seconds per call: median, least and spread of rounds of at least `least` seconds.

    What takes so long that `rounds` would need more than `most` seconds is repeated less often.
    """
    clock = _cpu_rounds if device == "cpu" else _cuda_rounds
    for _ in range(warm_up):
        timed.run()
    once = max(clock(timed.run, 1, 1)[0], 1e-9)
    rounds = max(3, min(rounds, int(most / once)))
    iterations = max(1, min(1000, round(least / once)))
    seconds = [s / (iterations * timed.calls) for s in clock(timed.run, rounds, iterations)]
    low, _, high = statistics.quantiles(seconds, n=4)
    return {
        "median": statistics.median(seconds),
        "min": min(seconds),
        "quartiles_apart": high - low,
        "rounds": rounds,
        "calls_per_round": iterations * timed.calls,
        "input_sets": timed.sets,
    }
