"""Sinkhorn divergence in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsv_fast.reference.sinkhorn import _prepare, _solve


def _transport(
    cost: Tensor,
    epsilon: Tensor,
    row: Tensor,
    column: Tensor,
    max_iterations: int,
    tolerance: float,
    symmetric: bool,
) -> Tensor:
    """The dual of OT_eps at its solution, held constant: Danskin's theorem in autograd.

    The potentials f, g are relative to a (x) b, and defined where a weight is zero, too.
    """
    strength = epsilon[:, None]
    with torch.no_grad():
        problem, *_ = _prepare(cost, epsilon, row, column)
        _, beta, *_ = _solve(problem, max_iterations, tolerance, symmetric)
        alpha = -torch.logsumexp(beta[:, None, :] - problem.scaled, 2)
        beta = -torch.logsumexp((row.log() + alpha)[:, :, None] - problem.scaled, 1)
        f, g = strength * alpha, strength * beta
    density = torch.exp((f[:, :, None] + g[:, None, :] - cost) / strength[..., None])
    excess = (row[:, :, None] * column[:, None, :] * density).sum((1, 2)) - problem.row.sum(1)
    return (row * f).sum(1) + (column * g).sum(1) - epsilon * excess


def sinkhorn_divergence(
    cost: Tensor,
    row_cost: Tensor,
    column_cost: Tensor,
    epsilon: float | Tensor,
    *,
    row_marginal: Tensor | None = None,
    column_marginal: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Tensor:
    """See :func:`rlsv_fast.ops.sinkhorn_divergence`."""
    between, over_rows, over_columns = (
        tensor if tensor.dim() == 3 else tensor[None] for tensor in (cost, row_cost, column_cost)
    )
    problem, strength, _ = _prepare(between, epsilon, row_marginal, column_marginal)
    row, column = problem.row, problem.column
    options = (max_iterations, tolerance)
    value = (
        _transport(between, strength, row, column, *options, False)
        - _transport(over_rows, strength, row, row, *options, True) / 2
        - _transport(over_columns, strength, column, column, *options, True) / 2
    )
    return value if cost.dim() == 3 else value[0]
