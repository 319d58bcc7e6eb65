"""Sinkhorn divergence of two sets of points: fused against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from catalogue import Benchmark, Kernel, Row
from torch import Tensor

from rlsv_fast import ops, reference

EPSILON = 0.1
SHAPES = {"B8 N173 M173": (8, 173, 173), "B8 N64 M64": (8, 64, 64)}


def _costs(items: int, rows: int, columns: int, device: str) -> tuple[Tensor, ...]:
    """Between and within two clouds in the unit cube, one of them shifted."""
    first = torch.rand(items, rows, 3, device=device)
    second = torch.rand(items, columns, 3, device=device) + 0.2
    pairs = ((first, second), (first, first), (second, second))
    return tuple(torch.cdist(left, right).requires_grad_() for left, right in pairs)


BENCHMARKS = [
    Benchmark(
        "sinkhorn_divergence",
        shape,
        lambda device, sizes=sizes: _costs(*sizes, device),
        {
            "fused": lambda *costs: ops.sinkhorn_divergence(*costs, EPSILON),
            "reference": lambda *costs: reference.sinkhorn_divergence(*costs, EPSILON),
        },
        effort=lambda peer: (10, 3) if peer == "fused" else (3, 1),
    )
    for shape, sizes in SHAPES.items()
]
KERNELS: list[Kernel] = []  # it is made of the raw operators of bench_sinkhorn


def test_sinkhorn_divergence(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
