"""si_sdr: fused against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

from catalogue import Row
from pairs import benchmark, kernels

BENCHMARKS = [benchmark("si_sdr")]
KERNELS = kernels("si_sdr", forward=35, backward=6)


def test_si_sdr(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
