"""What the bits of a run on the CPU depend on beside its settings, data and versions.

This library's operators give the same bits for any number of threads, torch's matrix products do
not: some sizes are cut along the summed axis, in as many parts as there are threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Compute with so many threads, then with as many as before; 0 leaves them alone."""
    former = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def arithmetic() -> dict[str, Any]:
    """Number of threads, and the instruction set that torch has chosen for this processor."""
    return {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def differences(state: Mapping[str, Any]) -> str:
    """What of a checkpoint's arithmetic is another now, such as "threads = 2 became 4", or ""."""
    return ", ".join(
        f"{name} = {state[name]} became {value}"
        for name, value in arithmetic().items()
        if state.get(name, value) != value
    )
