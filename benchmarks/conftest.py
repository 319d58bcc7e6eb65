"""What all benchmarks share: a synchronised clock, pinned threads, facts in the JSON."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rlsv_fast

Measure = Callable[..., Any]
DIRECTIONS = ["forward", "forward+backward"]


def synced_clock() -> float:
    """Seconds, after all work queued on a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip() or "unknown"


FACTS = {
    "torch": torch.__version__,
    "processor": _processor(),
    "cores": os.cpu_count(),
    "commit": _commit(),
    **{f"build_{key}": value for key, value in rlsv_fast.build_info().items()},
}


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Reports are committed: leave out what names a computer rather than its kind."""
    for key in ("node", "release"):
        machine_info.pop(key, None)


@pytest.fixture(autouse=True)
def pinned_threads() -> Iterator[None]:
    """As many threads as cores (OMP_NUM_THREADS overrides): the number is part of the result."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.manual_seed(218)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Run `function` in rounds of many iterations and keep the facts of the run in the JSON.

    `group` is what is compared, `peer` who is measured: "fused" or whom it is compared with.
    """

    def run(
        function: Callable[[], Any],
        *,
        group: str,
        peer: str,
        shape: str,
        rounds: int = 10,
        iterations: int = 5,
        **facts: Any,
    ) -> None:
        benchmark.group = f"{group} [{shape}]"
        benchmark.extra_info.update(
            FACTS, peer=peer, shape=shape, threads=torch.get_num_threads(), device="cpu", **facts
        )
        benchmark._timer = synced_clock
        benchmark.pedantic(
            function, rounds=rounds, iterations=iterations, warmup_rounds=1 if rounds < 5 else 3
        )

    return run


@pytest.fixture
def measure_operator(measure: Measure) -> Measure:
    """Time `call(*leaves)` in one direction; backward goes to every leaf that requires it."""

    def run(
        call: Callable[..., Tensor], *leaves: Tensor, op: str, direction: str, **options: Any
    ) -> None:
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        with torch.no_grad():
            upstream = torch.rand_like(call(*leaves))

        def forward() -> None:
            with torch.no_grad():
                call(*leaves)

        def both() -> None:
            torch.autograd.grad(call(*leaves), wanted, upstream)

        function = forward if direction == "forward" else both
        measure(function, group=f"{op} {direction}", **options)

    return run
