"""Sinkhorn distance of self-costs: fused against plain PyTorch and the published loop.

"published loop" runs the exponential domain for exactly 1000 unrolled iterations, item by item;
"log domain" the same 1000 iterations on the whole batch; "symmetric" is the fused kernels'
algorithm in plain PyTorch, with Cholesky: the ratio against it is what the kernels alone gain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import published
import torch
from catalogue import GRAPH, Benchmark, Kernel, Row, Sizes, Target
from torch import Tensor

from rlsv_fast import ops, reference

EPSILON, ITERATIONS = 1.0, 1000
SHAPES = {"B8 T173": (8, 173), "B8 T64": (8, 64), "B1 T173": (1, 173), "B1 T64": (1, 64)}
"""Items and frames; the first is the Sinkhorn paper's batch with one problem per item."""


def _published(cost: Tensor) -> Tensor:
    return torch.stack([published.sinkhorn_distance(item, EPSILON, ITERATIONS) for item in cost])


def _fused(**options: Any) -> Callable[[Tensor], Tensor]:
    return lambda cost: ops.sinkhorn_distance(cost, EPSILON, **options)


def _reference(**options: Any) -> Callable[[Tensor], Tensor]:
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
BOTH = "forward+backward"


def _effort(peer: str) -> tuple[int, int]:
    if peer in SLOW:
        return 2, 1
    return 10, 3 if "unrolled" in peer or "general" in peer else 50


def _self_cost(items: int, frames: int, device: str) -> Tensor:
    """Distances of music-like frames (a few loud components), scaled to the mean of real ones."""
    loud = torch.rand(items, 200, 1, device=device)
    representation = torch.rand(items, 200, frames, device=device) ** 4 * loud
    cost = ops.frame_distance(representation, normalize="time")
    return cost * (6.7 / cost.mean())


BENCHMARKS = [
    Benchmark(
        "sinkhorn_distance",
        shape,
        lambda device, shape=shape: (_self_cost(*SHAPES[shape], device).requires_grad_(),),
        PEERS,
        effort=_effort,
        # Seconds per call for the launches of 1000 iterations: on a GPU where targets ask for it.
        cuda_only=dict.fromkeys(SLOW, [BOTH] if shape == "B8 T173" else []),
        targets=[
            *(
                Target(BOTH, peer, than, times)
                for peer in ("fused general", "fused unrolled")
                for than, times in (("reference log domain", 50), ("published loop", 20))
            ),
            Target(BOTH, GRAPH, seconds=100e-6),
        ]
        if shape == "B8 T173"
        else [],
    )
    for shape in SHAPES
]


def _problem(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    items, frames = sizes["B"], sizes["T"]
    mass = torch.full((items, frames), 1 / frames, device=device, dtype=dtype)
    epsilon = torch.full((items,), EPSILON, device=device, dtype=dtype)
    return _self_cost(items, frames, device).to(dtype), epsilon, mass, mass


def _distance(symmetric: bool) -> Callable[..., tuple[Any, ...]]:
    def make(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        problem = _problem(sizes, device, dtype)
        cold = problem[2][:0]
        if symmetric:
            return *problem, cold, 1000, 1e-6, True
        return *problem, cold, sizes["I"], 0.0, False

    return make


def _forward(symmetric: bool) -> Callable[..., tuple[Any, ...]]:
    return lambda *given: (*_distance(symmetric)(*given), True)


def _backward(symmetric: bool) -> Callable[..., tuple[Any, ...]]:
    def make(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        arguments = _forward(symmetric)(sizes, device, dtype)
        _, plan, f, g, *_ = torch.ops.rlsv_fast._sinkhorn_forward(*arguments)
        cost, epsilon = arguments[:2]
        return torch.rand_like(plan), cost, plan, f, g, epsilon, symmetric

    return make


def _unrolled(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    return *_problem(sizes, device, dtype), sizes["I"]


def _unrolled_backward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    *problem, iterations = _unrolled(sizes, device, dtype)
    distance, potentials, _ = torch.ops.rlsv_fast._sinkhorn_unrolled_forward(*problem, iterations)
    return (torch.rand_like(distance), *problem, potentials)


_SIZES = {"B8 T173": {"B": 8, "T": 173, "I": 1000}, "B132 T173": {"B": 132, "T": 173, "I": 1000}}


def _named(kind: str) -> dict[str, Sizes]:
    return {f"{name}, {kind}": sizes for name, sizes in _SIZES.items()}


def _cells(sizes: Sizes) -> int:
    return sizes["B"] * sizes["T"] ** 2


KERNELS = [
    Kernel(
        "sinkhorn_forward",
        _named("symmetric"),
        _forward(True),
        numbers=lambda n: 2 * _cells(n),
        operations=lambda n: 10 * _cells(n),
        special=_cells,
        note="read M, write P; one exponential per cell, some 10 products with the kernel",
    ),
    Kernel(
        "sinkhorn_forward",
        _named("1000 iterations"),
        _forward(False),
        numbers=lambda n: 2 * _cells(n),
        operations=lambda n: 2 * n["I"] * _cells(n),
        special=_cells,
        note="two multiply-adds per cell and iteration",
    ),
    Kernel(
        "sinkhorn_backward",
        _named("symmetric"),
        _backward(True),
        numbers=lambda n: 4 * _cells(n),
        operations=lambda n: 8 * _cells(n),
        note="read M, P and dP, write dM; 8 steps of one product",
    ),
    Kernel(
        "sinkhorn_backward",
        _named("general"),
        _backward(False),
        numbers=lambda n: 4 * _cells(n),
        operations=lambda n: 2 * 50 * 2 * _cells(n),
        note="some 50 steps of two products, in double: half the rate",
    ),
    Kernel(
        "sinkhorn_distance",
        _named("symmetric"),
        _distance(True),
        numbers=lambda n: 2 * _cells(n),
        operations=lambda n: 18 * _cells(n),
        special=_cells,
        note="read M, write dM; some 10 products forward, 8 of the derivative",
    ),
    Kernel(
        "sinkhorn_unrolled_forward",
        _named("1000 iterations"),
        _unrolled,
        numbers=lambda n: _cells(n) + 2 * n["I"] * n["B"] * n["T"],
        operations=lambda n: 2 * n["I"] * _cells(n),
        special=_cells,
        note="potentials of every iteration written",
    ),
    Kernel(
        "sinkhorn_unrolled_backward",
        _named("1000 iterations"),
        _unrolled_backward,
        numbers=lambda n: 2 * _cells(n) + 2 * n["I"] * n["B"] * n["T"],
        operations=lambda n: 6 * n["I"] * _cells(n),
        special=_cells,
        note="per iteration two products, two transposed ones, two outer products",
    ),
]


def test_sinkhorn_distance(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
