"""Costs, marginals and measures of error shared by the tests of entropic optimal transport."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlsv_fast import ops

Float = torch.dtype
both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
both_paths = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "general"])
quiet = pytest.mark.filterwarnings("ignore:sinkhorn.*marginals met")


def self_cost(items: int, frames: int, features: int = 20, p: float = 1, seed: int = 0) -> Tensor:
    """Distances between random frames: symmetric, zero diagonal, of negative type."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(items, frames, features, generator=generator, dtype=torch.float64) ** 3
    distance = torch.stack([torch.cdist(item, item, p=p) for item in points]) / features
    return (distance + distance.transpose(1, 2)) / 2


def general_cost(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(*shape: int, seed: int = 1) -> Tensor:
    """Uneven marginals of mass 1: even ones hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).pow(3).softmax(-1)


def gradient(cost: Tensor, epsilon: float | Tensor, **options: object) -> tuple[Tensor, Tensor]:
    """The distance and its gradient (of the sum over items)."""
    leaf = cost.detach().clone().requires_grad_()
    value = ops.sinkhorn_distance(leaf, epsilon, **options)
    value.sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def relative(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other).norm() / other.norm())


def off_diagonal(matrix: Tensor) -> Tensor:
    return matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))


def violation(plan: Tensor, row: Tensor, column: Tensor) -> Tensor:
    rows = (plan.double().sum(-1) - row).abs().sum(-1)
    columns = (plan.double().sum(-2) - column).abs().sum(-1)
    return torch.maximum(rows, columns) / row.sum(-1)
