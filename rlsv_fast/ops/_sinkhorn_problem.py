"""What the Sinkhorn operators have in common: one checked problem, and the unfinished warning."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from rlsv_fast.ops import _check

_warned = False


class Problem(NamedTuple):
    """The arguments of the raw operators, in their order, and whether there was a batch."""

    cost: Tensor  # (B, N, M)
    epsilon: Tensor  # (B,)
    row: Tensor  # (B, N)
    column: Tensor  # (B, M)
    max_iterations: int
    tolerance: float
    symmetric: bool
    batched: bool

    def needs_gradient(self) -> bool:
        """Whether autograd will ask for anything."""
        leaves = (self.cost, self.epsilon, self.row, self.column)
        return torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)


def _readable(tensor: Tensor) -> bool:
    """Whether values can be looked at without waiting for a device or breaking a graph."""
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not isinstance(tensor, FakeTensor)
    )


def _real(op: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    return float(value)


def _epsilons(op: str, cost: Tensor, epsilon: float | Tensor) -> Tensor:
    items, limits = cost.shape[0], torch.finfo(cost.dtype)
    expected = f"{op}: epsilon must be positive and a normal {cost.dtype}, got"
    if not isinstance(epsilon, Tensor):
        value = _real(op, "epsilon", epsilon)
        if not limits.tiny <= value <= limits.max:
            raise ValueError(f"{expected} {value}")
        return cost.new_full((items,), value)
    epsilon = _check.floating(op, "epsilon", epsilon)
    _check.same_kind(op, "cost", cost, "epsilon", epsilon)
    if epsilon.dim() > 0:
        _check.shape(op, "epsilon", epsilon, "(B,) or ()", items)
    if _readable(epsilon):
        usable = (epsilon >= limits.tiny) & (epsilon <= limits.max)
        if not bool(usable.all()):
            raise ValueError(f"{expected} {epsilon.tolist()}")
    return epsilon.expand(items).contiguous()


def _marginal(op: str, name: str, cost: Tensor, marginal: Tensor | None, size: int) -> Tensor:
    items = cost.shape[0]
    if marginal is None:
        return cost.new_full((items, size), 1 / size)
    marginal = _check.floating(op, name, marginal)
    _check.same_kind(op, "cost", cost, name, marginal)
    letter = "N" if name.startswith("row") else "M"
    if marginal.dim() == 2:
        _check.shape(op, name, marginal, f"(B, {letter}) or ({letter},)", items, size)
    else:
        _check.shape(op, name, marginal, f"(B, {letter}) or ({letter},)", size)
    if _readable(marginal) and not bool(((marginal >= 0) & (marginal < math.inf)).all()):
        raise ValueError(f"{op}: {name} must be non-negative and finite")
    return marginal.expand(items, size).contiguous()


def make_problem(
    op: str,
    cost: Tensor,
    epsilon: float | Tensor,
    row_marginal: Tensor | None,
    column_marginal: Tensor | None,
    max_iterations: int,
    tolerance: float,
    symmetric: bool | None,
) -> Problem:
    """Check and complete the arguments of `rlsv_fast.ops.sinkhorn`, which lists the errors."""
    cost = _check.floating(op, "cost", cost)
    if cost.dim() not in (2, 3):
        raise ValueError(f"{op}: cost must have shape (B, N, M) or (N, M), got {tuple(cost.shape)}")
    batched = cost.dim() == 3
    if not batched:
        cost = cost[None]
    rows, columns = cost.shape[1:]
    if rows == 0 or columns == 0:
        raise ValueError(
            f"{op}: cost must have at least one row and column, got {tuple(cost.shape)}"
        )
    _check.choice(op, "symmetric", symmetric, (None, True, False))
    if symmetric and rows != columns:
        raise ValueError(f"{op}: symmetric=True needs a square cost, got {tuple(cost.shape)}")
    if symmetric and row_marginal is not column_marginal:
        raise ValueError(
            f"{op}: symmetric=True needs equal marginals: pass None for both, or one tensor as both"
        )
    max_iterations = _check.integer(op, "max_iterations", max_iterations, 0)
    tolerance = _real(op, "tolerance", tolerance)
    if not tolerance >= 0:
        raise ValueError(f"{op}: tolerance must be at least 0, got {tolerance}")
    row = _marginal(op, "row_marginal", cost, row_marginal, rows)
    column = _marginal(op, "column_marginal", cost, column_marginal, columns)
    if row_marginal is not column_marginal and _readable(row):
        # Sums of N terms differ by rounding; beyond that no plan has both marginals.
        gap = (row.sum(1) - column.sum(1)).abs()
        if bool((gap > 1e-3 * row.sum(1)).any()):
            raise ValueError(
                f"{op}: row_marginal and column_marginal must have the same mass, got "
                f"{row.sum(1).tolist()} and {column.sum(1).tolist()}"
            )
    return Problem(
        cost.contiguous(),
        _epsilons(op, cost, epsilon),
        row,
        column,
        max_iterations,
        tolerance,
        bool(symmetric),
        batched,
    )


def warn_if_unfinished(op: str, tolerance: float, error: Tensor) -> None:
    """Say once per process that a result is further from its marginals than was asked for."""
    global _warned
    if _warned or tolerance == 0 or not _readable(error):
        return
    unmet = [value for value in error.tolist() if value > tolerance]
    if unmet:
        _warned = True
        warnings.warn(
            f"{op}: marginals met to {max(unmet):.1e} only, tolerance is {tolerance:.1e}; raise "
            "max_iterations, epsilon or tolerance (ops.sinkhorn reports the error of every item; "
            "this warning is given once)",
            stacklevel=3,
        )
