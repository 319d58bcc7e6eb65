"""The whole Sinkhorn loss, representation to gradient, as one operator against its parts.

"its parts" are this library's frame_distance, mean and sinkhorn_distance; "reference" the same in
plain PyTorch; "published" the published code's cost matrix and 1000 unrolled iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import published
import torch
from bench_frame_distance import numbers, pairs, representation
from catalogue import Benchmark, Kernel, Row, Sizes
from shapes import LARGE_BATCH, P2
from torch import Tensor

from rlsv_fast import ops, reference

EPSILON = 1.3
PUBLISHED = "published"
SETTINGS: dict[str, Any] = {"p": 1, "normalize": "time", "reduce": "mean"}


def _parts(features: Tensor) -> Tensor:
    cost = ops.frame_distance(features, **SETTINGS)
    return ops.sinkhorn_distance(cost, EPSILON, symmetric=True)


def _plain(features: Tensor) -> Tensor:
    return reference.sinkhorn_loss(features, EPSILON, **SETTINGS)


BENCHMARKS = [
    Benchmark(
        "sinkhorn_loss",
        "P2",
        lambda device: (representation(P2, device).requires_grad_(),),
        {
            "fused": lambda features: ops.sinkhorn_loss(features, EPSILON, **SETTINGS),
            "its parts": _parts,
            "reference": _plain,
            PUBLISHED: lambda features: published.sinkhorn_distance(
                published.cost_matrix(features), EPSILON
            ),
        },
        effort=lambda peer: (10, 3) if peer in ("fused", "its parts") else (3, 1),
    )
]


def _forward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    return representation(sizes, device).to(dtype), EPSILON, 1, 2, True, 1000, 1e-6, True


def _backward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    arguments = _forward(sizes, device, dtype)
    loss, _, distance, slope = torch.ops.rlsv_fast._sinkhorn_loss_forward(*arguments)
    return torch.rand_like(loss), arguments[0], distance, slope, 1, 2


_SIZES = {
    name: {axis: sizes[axis] for axis in "BCT"}
    for name, sizes in {"P2": P2, "8 x P2": LARGE_BATCH}.items()
}


KERNELS = [
    Kernel(
        "sinkhorn_loss_forward",
        _SIZES,
        _forward,
        numbers=numbers(1),
        operations=lambda n: pairs(n) + 18 * n["T"] ** 2,
        special=lambda n: n["T"] ** 2,
        note="frame_distance, and one symmetric problem with its derivative: some 18 products",
    ),
    Kernel(
        "sinkhorn_loss_backward",
        _SIZES,
        _backward,
        numbers=numbers(2),
        operations=lambda n: 3 * pairs(n),
        note="the backward of frame_distance",
    ),
]


def test_sinkhorn_loss(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
