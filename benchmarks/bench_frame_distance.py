"""Pairwise frame distance: fused against the published cost matrix and torch.cdist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import published
import torch
from catalogue import Benchmark, Kernel, Row, Sizes, Target
from shapes import P2
from torch import Tensor

from rlsv_fast import ops, reference

PUBLISHED = "published loop"


def _cdist(representation: Tensor, p: int) -> Tensor:
    raised = representation + 1 / representation.shape[1]
    scaled = (raised / raised.sum(2, keepdim=True)).transpose(1, 2)
    return torch.cdist(scaled, scaled, p=p).mean(0)


def _peers(p: int) -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "fused": lambda a: ops.frame_distance(a, p=p, normalize="time", reduce="mean"),
        PUBLISHED: lambda a: published.cost_matrix(a, p),
        "torch.cdist": lambda a: _cdist(a, p),
    }


def _plain(p: int) -> Callable[[Tensor], Tensor]:
    return lambda a: reference.frame_distance(a, p=p, normalize="time", reduce="mean")


def representation(sizes: Sizes, device: str) -> Tensor:
    """What an encoder ends with: rectified noise."""
    return torch.relu(torch.randn(sizes["B"], sizes["C"], sizes["T"], device=device))


BENCHMARKS = [
    Benchmark(
        f"frame_distance p={p}",
        "P2",
        lambda device: (representation(P2, device).requires_grad_(),),
        _peers(p),
        plain=_plain(p),
        effort=lambda peer: (3, 1) if peer == PUBLISHED else (10, 3),
        targets=[Target("forward+backward", than=PUBLISHED, times=20)],
    )
    for p in (1, 2)
]


def _arguments(p: int) -> Callable[..., tuple[Any, ...]]:
    def make(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        return representation(sizes, device).to(dtype), p, 1

    return make


def _backward(p: int) -> Callable[..., tuple[Any, ...]]:
    def make(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        features = representation(sizes, device).to(dtype)
        distance = torch.ops.rlsv_fast._frame_distance_forward(features, p, 1)
        return torch.randn_like(distance), features, distance, p, 1

    return make


_SIZES = {
    "P2": {axis: P2[axis] for axis in "BCT"},
    "B=64 T=512": {"B": 64, "C": 800, "T": 512},
}


def pairs(sizes: Sizes) -> int:
    """Channels times ordered pairs of frames."""
    return sizes["B"] * sizes["C"] * sizes["T"] * (sizes["T"] - 1)


def numbers(times: int) -> Callable[[Sizes], float]:
    """So many times the representations and their distances."""
    return lambda n: times * n["B"] * (n["C"] * n["T"] + n["T"] ** 2)


KERNELS = [
    *(
        Kernel(
            "frame_distance_forward",
            {f"{name}, p={p}": sizes for name, sizes in _SIZES.items()},
            _arguments(p),
            numbers=numbers(1),
            operations=pairs,
            target=0.6,
            target_at=[f"B=64 T=512, p={p}"],
            note="two instructions per channel and pair of the upper half",
        )
        for p in (1, 2)
    ),
    *(
        Kernel(
            "frame_distance_backward",
            {f"{name}, p={p}": sizes for name, sizes in _SIZES.items()},
            _backward(p),
            numbers=numbers(2),
            operations=lambda n, each=4 - p: each * pairs(n),
            note=f"read A, M and G, write dA; {4 - p} instructions per channel and ordered pair",
        )
        for p in (1, 2)
    ),
]


def test_frame_distance(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
