"""neg_snr: fused against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

from catalogue import Row
from pairs import benchmark, kernels

BENCHMARKS = [benchmark("neg_snr")]
KERNELS = kernels("neg_snr", False, forward=22, backward=4)


def test_neg_snr(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
