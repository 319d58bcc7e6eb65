"""What the Sinkhorn operators have in common: one checked problem, and the unfinished warning."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from rlsv_fast.ops import _check

_warned = False


class Problem(NamedTuple):
    """The arguments of the raw operators, in their order, and whether there was a batch."""

    cost: Tensor  # (B, N, M), or (1, N, M) for all items
    epsilon: Tensor  # (B,)
    row: Tensor  # (B, N)
    column: Tensor  # (B, M)
    initial: Tensor  # (B, N), or (0, N) for a cold start
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


def positive(op: str, name: str, value: object, dtype: torch.dtype) -> float:
    """Return a number that a type can hold with all its digits.

    Raises:
        TypeError: not a number.
        ValueError: not positive, or out of the type's range.
    """
    number, limits = _check.real(op, name, value), torch.finfo(dtype)
    if not limits.tiny <= number <= limits.max:
        raise ValueError(f"{op}: {name} must be positive and a normal {dtype}, got {number}")
    return number


def _epsilons(op: str, cost: Tensor, epsilon: float | Tensor, items: int) -> Tensor:
    if not isinstance(epsilon, Tensor):
        return cost.new_full((items,), positive(op, "epsilon", epsilon, cost.dtype))
    epsilon = _check.floating(op, "epsilon", epsilon)
    _check.same_kind(op, "cost", cost, "epsilon", epsilon)
    if epsilon.dim() > 0:
        _check.shape(op, "epsilon", epsilon, "(B,) or ()", items)
    if _readable(epsilon):
        for value in epsilon.reshape(-1).tolist():
            positive(op, "epsilon", value, cost.dtype)
    return epsilon.expand(items).contiguous()


def _vectors(op: str, name: str, cost: Tensor, given: Tensor, items: int, axis: int) -> Tensor:
    """One vector per item, of the size of one of the cost's axes."""
    given = _check.floating(op, name, given)
    _check.same_kind(op, "cost", cost, name, given)
    letter, size = ("N", "M")[axis - 1], cost.shape[axis]
    sizes = (items, size) if given.dim() == 2 else (size,)
    _check.shape(op, name, given, f"(B, {letter}) or ({letter},)", *sizes)
    return given.expand(items, size).contiguous()


def _marginal(
    op: str, name: str, cost: Tensor, marginal: Tensor | None, items: int, axis: int
) -> Tensor:
    if marginal is None:
        return cost.new_full((items, cost.shape[axis]), 1 / cost.shape[axis])
    given = _vectors(op, name, cost, marginal, items, axis)
    if _readable(given) and not bool(((given >= 0) & (given < math.inf)).all()):
        raise ValueError(f"{op}: {name} must be non-negative and finite")
    return given


def _check_masses(op: str, rows: list[float], columns: list[float], dtype: torch.dtype) -> None:
    """The mass is the unit of the plan, whose small entries have to be numbers, too."""
    least, most = (1e-15, 1e12) if dtype == torch.float32 else (1e-100, 1e100)
    for row, column in zip(rows, columns, strict=True):
        # Sums of N terms differ by rounding; beyond that no plan has both marginals.
        if abs(row - column) > 1e-3 * row:
            raise ValueError(
                f"{op}: row_marginal and column_marginal must have the same mass, got "
                f"{rows} and {columns}"
            )
        if row != 0 and not least <= row <= most:
            raise ValueError(
                f"{op}: the mass of the marginals must be 0 or from {least:g} to {most:g} in "
                f"{dtype}, got {row:g}"
            )


def _start(op: str, cost: Tensor, initial_f: Tensor | None, items: int) -> Tensor:
    if initial_f is None:
        return cost.new_empty((0, cost.shape[1]))
    given = _vectors(op, "initial_f", cost, initial_f, items, 1).detach()
    if _readable(given) and not bool((given < math.inf).all()):
        raise ValueError(f"{op}: initial_f must be finite, or -inf where nothing is known")
    return given


def _items(cost: Tensor, *others: tuple[Any, int]) -> int | None:
    """The size of the batch, or None where nothing has one: a cost of one item serves for all."""
    if cost.dim() == 3 and cost.shape[0] != 1:
        return cost.shape[0]
    for other, dim in others:
        if isinstance(other, Tensor) and other.dim() == dim:
            return other.shape[0]
    return 1 if cost.dim() == 3 else None


def make_problem(
    op: str,
    cost: Tensor,
    epsilon: float | Tensor,
    row_marginal: Tensor | None,
    column_marginal: Tensor | None,
    initial_f: Tensor | None,
    max_iterations: int,
    tolerance: float,
    symmetric: bool | None,
) -> Problem:
    """Check and complete the arguments of `rlsv_fast.ops.sinkhorn`, which lists the errors."""
    cost = _check.floating(op, "cost", cost)
    if cost.dim() not in (2, 3):
        raise ValueError(f"{op}: cost must have shape (B, N, M) or (N, M), got {tuple(cost.shape)}")
    batch = _items(cost, (epsilon, 1), (row_marginal, 2), (column_marginal, 2), (initial_f, 2))
    items = 1 if batch is None else batch
    if cost.dim() == 2:
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
    tolerance = _check.real(op, "tolerance", tolerance)
    if not tolerance >= 0:
        raise ValueError(f"{op}: tolerance must be at least 0, got {tolerance}")
    row = _marginal(op, "row_marginal", cost, row_marginal, items, 1)
    column = _marginal(op, "column_marginal", cost, column_marginal, items, 2)
    if (row_marginal is not None or column_marginal is not None) and _readable(row):
        _check_masses(op, row.sum(1).tolist(), column.sum(1).tolist(), cost.dtype)
    return Problem(
        cost.contiguous(),
        _epsilons(op, cost, epsilon, items),
        row,
        column,
        _start(op, cost, initial_f, items),
        max_iterations,
        tolerance,
        bool(symmetric),
        batch is not None,
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
