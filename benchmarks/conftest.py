"""Runs the lists of the bench files under pytest-benchmark, on the CPU and, if present, on CUDA."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import machine
import pytest
import torch
from catalogue import Row
from timing import synced_clock

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
FACTS = {**machine.facts(), **machine.gpu_facts()}


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Reports are committed: leave out what names a computer rather than its kind."""
    for key in ("node", "release"):
        machine_info.pop(key, None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per row of the file's `BENCHMARKS`."""
    if "row" in metafunc.fixturenames:
        benchmarks = metafunc.module.BENCHMARKS
        rows = [row for one in benchmarks for device in DEVICES for row in one.rows(device)]
        metafunc.parametrize("row", rows, ids=str)


@pytest.fixture(autouse=True)
def pinned_threads() -> Iterator[None]:
    """As many threads as cores (OMP_NUM_THREADS overrides): the number is part of the result."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def measure(benchmark: Any) -> Callable[[Row], None]:
    """Time a row in rounds of many calls and keep the facts of the run in the JSON."""

    def run(row: Row) -> None:
        benchmark.group = f"{row.group} [{row.shape}]" + ("" if row.device == "cpu" else " on CUDA")
        benchmark.extra_info.update(
            FACTS,
            peer=row.peer,
            shape=row.shape,
            threads=torch.get_num_threads(),
            device=row.device,
            **({} if benchmark.disabled else row.facts()),
        )
        timed = row.prepare()
        rounds, calls = row.effort
        rounds = rounds if row.device == "cpu" else max(rounds, 20)
        # A clock that counts one call of a graph's many; synchronised, so launches are paid for.
        benchmark._timer = lambda: synced_clock() / timed.calls
        benchmark.pedantic(
            timed.run, rounds=rounds, iterations=calls, warmup_rounds=1 if rounds < 5 else 3
        )

    return run
