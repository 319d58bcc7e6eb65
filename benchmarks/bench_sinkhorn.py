"""Sinkhorn distance of self-costs: fused against plain PyTorch and the published loop.

"published loop" runs the exponential domain for exactly 1000 unrolled iterations, item by item;
"log domain" the same 1000 iterations on the whole batch; "symmetric" is the fused kernels'
algorithm in plain PyTorch, with Cholesky: the ratio against it is what the kernels alone gain.
"""

from __future__ import annotations

from collections.abc import Callable

import published
import pytest
import torch
from conftest import DIRECTIONS, Measure
from torch import Tensor

from rlsv_fast import ops, reference

EPSILON, ITERATIONS = 1.0, 1000
SHAPES = {"B8 T173": (8, 173), "B8 T64": (8, 64), "B1 T173": (1, 173), "B1 T64": (1, 64)}
"""Items and frames; the first is the Sinkhorn paper's batch with one problem per item."""


def _published(cost: Tensor) -> Tensor:
    return torch.stack([published.sinkhorn_distance(item, EPSILON, ITERATIONS) for item in cost])


def _fused(**options: object) -> Callable[[Tensor], Tensor]:
    return lambda cost: ops.sinkhorn_distance(cost, EPSILON, **options)


def _reference(**options: object) -> Callable[[Tensor], Tensor]:
    return lambda cost: reference.sinkhorn_distance(cost, EPSILON, **options)


PEERS: dict[str, Callable[[Tensor], Tensor]] = {
    "fused": _fused(symmetric=True),
    "fused general": _fused(tolerance=0, max_iterations=ITERATIONS),
    "fused unrolled": _fused(gradient="unrolled", max_iterations=ITERATIONS),
    "reference symmetric": _reference(symmetric=True),
    "reference log domain": _reference(gradient="unrolled", max_iterations=ITERATIONS),
    "published loop": _published,
}
SLOW = ("reference log domain", "published loop")


def _self_cost(items: int, frames: int) -> Tensor:
    """Distances of music-like frames (a few loud components), scaled to the mean of real ones."""
    representation = torch.rand(items, 200, frames) ** 4 * torch.rand(items, 200, 1)
    cost = ops.frame_distance(representation, normalize="time")
    return cost * (6.7 / cost.mean())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_sinkhorn_distance(
    measure_operator: Measure, peer: str, shape: str, direction: str
) -> None:
    slow = peer in SLOW
    measure_operator(
        PEERS[peer],
        _self_cost(*SHAPES[shape]).requires_grad_(),
        op="sinkhorn_distance",
        direction=direction,
        peer=peer,
        shape=shape,
        rounds=2 if slow else 10,
        iterations=1 if slow else (3 if "unrolled" in peer or "general" in peer else 50),
    )
