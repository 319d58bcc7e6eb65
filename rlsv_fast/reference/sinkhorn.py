"""Entropic optimal transport in plain PyTorch.

Two algorithms: alternating updates in the log domain for any cost (the oracle; autograd through
it is the unrolled gradient), and a damped fixed point for symmetric costs (the fair baseline).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsv_fast.ops.sinkhorn import SinkhornResult


def _prepare(
    cost: Tensor, epsilon: float | Tensor, row: Tensor | None, column: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """M / eps with a batch dimension, and both marginals."""
    batch = cost if cost.dim() == 3 else cost[None]
    items, rows, columns = batch.shape
    row = batch.new_full((rows,), 1 / rows) if row is None else row
    column = batch.new_full((columns,), 1 / columns) if column is None else column
    strength = torch.as_tensor(epsilon, dtype=batch.dtype, device=batch.device)
    scaled = batch / strength.expand(items)[:, None, None]
    return scaled, row.expand(items, rows), column.expand(items, columns)


def _violation(plan: Tensor, row: Tensor, column: Tensor) -> Tensor:
    rows = (plan.sum(2) - row).abs().sum(1)
    columns = (plan.sum(1) - column).abs().sum(1)
    return torch.maximum(rows, columns) / row.sum(1)


def _plan(scaled: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.exp(alpha[:, :, None] + beta[:, None, :] - scaled)


def _alternating(
    scaled: Tensor, row: Tensor, column: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Columns first, rows last, from alpha = 0; an item that meets the tolerance is left alone."""
    alpha, beta = torch.zeros_like(row), torch.zeros_like(column)
    log_row, log_column = row.log(), column.log()
    count = torch.zeros(len(row), dtype=torch.int64, device=row.device)
    error = _violation(_plan(scaled, alpha, beta), row, column)
    for step in range(iterations):
        running = ~(error <= tolerance) if step > 0 else torch.ones_like(error, dtype=torch.bool)
        if not running.any():
            break
        new_beta = log_column - torch.logsumexp(alpha[:, :, None] - scaled, 1)
        new_alpha = log_row - torch.logsumexp(new_beta[:, None, :] - scaled, 2)
        alpha = torch.where(running[:, None], new_alpha, alpha)
        beta = torch.where(running[:, None], new_beta, beta)
        error = _violation(_plan(scaled, alpha, beta).detach(), row, column)
        count = count + running
    return alpha, beta, count, error


def _symmetric(
    scaled: Tensor, row: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Damped updates phi <- (1 - w) phi + w (log a - LSE(phi - M / eps)), w = 1, 1/2, 2/3, ..."""
    phi = (row.log() - torch.logsumexp(-scaled, 2)) / 2
    count = torch.zeros(len(row), dtype=torch.int64, device=row.device)
    for step in range(iterations + 1):
        target = row.log() - torch.logsumexp(phi[:, None, :] - scaled, 2)
        error = ((phi - target).exp() * row - row).abs().sum(1) / row.sum(1)
        running = ~(error <= tolerance)
        if step == iterations or not running.any():
            break
        weight = (1, 1 / 2, 2 / 3)[step % 3]
        phi = torch.where(running[:, None], torch.lerp(phi, target, weight), phi)
        count = count + running
    return phi, count, error


def _solve(
    scaled: Tensor,
    row: Tensor,
    column: Tensor,
    max_iterations: int,
    tolerance: float,
    symmetric: bool | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if symmetric:
        phi, count, error = _symmetric(scaled, row, max_iterations, tolerance)
        return phi, phi, count, error
    return _alternating(scaled, row, column, max_iterations, tolerance)


def _implicit_plan(
    scaled: Tensor,
    row: Tensor,
    column: Tensor,
    max_iterations: int,
    tolerance: float,
    symmetric: bool | None,
) -> Tensor:
    """The plan, carrying the exact derivative of the fixed point.

    The derivative is that of one Newton step from the solution, with its matrix held constant: the
    implicit function theorem. Its value is left out, as it would not be the plan of an unfinished
    iteration. Cholesky factors throughout (batched LU is unreliable on the CPU), which can fail
    where epsilon is tiny and the iteration far from its end; the null direction (1, -1) gets a
    pivot.
    """
    with torch.no_grad():
        alpha, beta, *_ = _solve(scaled, row, column, max_iterations, tolerance, symmetric)
        plan = _plan(scaled, alpha, beta)
        rows, columns = plan.sum(2), plan.sum(1)
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in (scaled, row, column))):
        return plan
    attached = _plan(scaled, alpha, beta)
    row_gap, column_gap = attached.sum(2) - row, attached.sum(1) - column
    if symmetric:
        matrix = torch.diag_embed(rows) + plan
        gap = (row_gap + column_gap) / 2
        step = torch.cholesky_solve(gap[..., None], torch.linalg.cholesky(matrix))[..., 0]
        newton = _plan(scaled, alpha - step, beta - step)
        return plan + (newton - newton.detach())
    # Scaled by 1 / sqrt(sums), so that the null direction is a unit vector; in double, because
    # the second eigenvalue tends to the null one as epsilon falls.
    sums = torch.cat([rows, columns], 1)
    live = sums > 0
    scale = torch.where(live, sums, torch.ones_like(sums)).rsqrt()
    size = plan.shape[1]
    matrix = torch.diag_embed(torch.ones_like(sums))
    matrix[:, :size, size:] = plan * scale[:, :size, None] * scale[:, None, size:]
    matrix[:, size:, :size] = matrix[:, :size, size:].transpose(1, 2)
    null = torch.where(live, sums, torch.zeros_like(sums)).sqrt()
    null = torch.cat([null[:, :size], -null[:, size:]], 1) / null.norm(dim=1, keepdim=True)
    factor = torch.linalg.cholesky((matrix + null[:, :, None] * null[:, None, :]).double())
    gap = (torch.cat([row_gap, column_gap], 1) * scale).double()
    step = torch.cholesky_solve(gap[..., None], factor)[..., 0].to(scale) * scale
    newton = _plan(scaled, alpha - step[:, :size], beta - step[:, size:])
    return plan + (newton - newton.detach())


def sinkhorn(
    cost: Tensor,
    epsilon: float | Tensor,
    *,
    row_marginal: Tensor | None = None,
    column_marginal: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    symmetric: bool | None = None,
) -> SinkhornResult:
    """See :func:`rlsv_fast.ops.sinkhorn`."""
    scaled, row, column = _prepare(cost, epsilon, row_marginal, column_marginal)
    alpha, beta, count, error = _solve(scaled, row, column, max_iterations, tolerance, symmetric)
    strength = torch.as_tensor(epsilon, dtype=row.dtype, device=row.device)
    strength = strength.expand(len(row))[:, None]
    result = SinkhornResult(strength * alpha, strength * beta, count, error)
    return result if cost.dim() == 3 else SinkhornResult(*(field[0] for field in result))


def sinkhorn_plan(
    cost: Tensor,
    epsilon: float | Tensor,
    *,
    row_marginal: Tensor | None = None,
    column_marginal: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    symmetric: bool | None = None,
) -> Tensor:
    """See :func:`rlsv_fast.ops.sinkhorn_plan`."""
    problem = _prepare(cost, epsilon, row_marginal, column_marginal)
    plan = _implicit_plan(*problem, max_iterations, tolerance, symmetric)
    return plan if cost.dim() == 3 else plan[0]


def sinkhorn_distance(
    cost: Tensor,
    epsilon: float | Tensor,
    *,
    gradient: str = "implicit",
    row_marginal: Tensor | None = None,
    column_marginal: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    symmetric: bool | None = None,
) -> Tensor:
    """See :func:`rlsv_fast.ops.sinkhorn_distance`."""
    scaled, row, column = _prepare(cost, epsilon, row_marginal, column_marginal)
    if gradient == "unrolled":
        alpha, beta, *_ = _alternating(scaled, row, column, max_iterations, -1.0)
        plan = _plan(scaled, alpha, beta)
    else:
        with torch.set_grad_enabled(gradient == "implicit" and torch.is_grad_enabled()):
            plan = _implicit_plan(scaled, row, column, max_iterations, tolerance, symmetric)
    plan = plan if cost.dim() == 3 else plan[0]
    return (plan * cost).sum((-2, -1))
