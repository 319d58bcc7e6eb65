"""What every benchmark shares: pinned threads and the facts that a figure is worthless without."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlsv_fast import build_info


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """Threads of every benchmark: OMP_NUM_THREADS, or all cores."""
    before = torch.get_num_threads()
    pinned = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    torch.set_num_threads(pinned)
    yield pinned
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def machine() -> dict[str, str]:
    """What the figures were made with."""
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True
    ).stdout.strip()
    return {"torch": torch.__version__, "simd": build_info()["simd"], "commit": commit}


@pytest.fixture
def extra_info(benchmark: Any, machine: dict[str, str], threads: int) -> dict[str, Any]:
    """The benchmark's extra_info, filled; add the shape."""
    info: dict[str, Any] = benchmark.extra_info
    info.update(machine, device="cpu", threads=threads)
    return info


@pytest.fixture
def measure(benchmark: Any, extra_info: dict[str, Any]) -> Callable[..., None]:
    """`measure(call, *inputs, backward=…, shape=…)` times the call, with its backward if asked."""

    def run(
        call: Callable[..., torch.Tensor], *inputs: torch.Tensor, backward: bool, shape: str
    ) -> None:
        extra_info["shape"] = shape
        leaf = inputs[0].requires_grad_(backward)
        output = call(leaf, *inputs[1:])
        grad = torch.ones_like(output)

        def step() -> None:
            output = call(leaf, *inputs[1:])
            if backward:
                torch.autograd.grad(output, leaf, grad)

        benchmark.pedantic(step, rounds=20, iterations=5, warmup_rounds=3)

    return run
