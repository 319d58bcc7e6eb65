"""Entropic optimal transport in plain PyTorch.

Two algorithms: alternating updates in the log domain for any cost (the oracle; autograd through
it is the unrolled gradient), and a damped fixed point for symmetric costs (the fair baseline).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rlsv_fast.ops.sinkhorn import SinkhornResult


class _Problem(NamedTuple):
    scaled: Tensor  # M / eps, (B, N, M)
    row: Tensor  # (B, N)
    column: Tensor  # (B, M)
    start: Tensor | None  # f / eps to start from, (B, N); -inf says nothing


def _prepare(
    cost: Tensor,
    epsilon: float | Tensor,
    row: Tensor | None,
    column: Tensor | None,
    initial_f: Tensor | None = None,
) -> tuple[_Problem, Tensor, bool]:
    """The problems with a batch dimension, their eps (B,), and whether anything had a batch."""
    rows, columns = cost.shape[-2:]
    row = cost.new_full((rows,), 1 / rows) if row is None else row
    column = cost.new_full((columns,), 1 / columns) if column is None else column
    strength = torch.as_tensor(epsilon, dtype=cost.dtype, device=cost.device)
    vectors = [row, column] if initial_f is None else [row, column, initial_f]
    batch = torch.broadcast_shapes(  # type: ignore[no-untyped-call]
        cost.shape[:-2], strength.shape, *(vector.shape[:-1] for vector in vectors)
    )
    items = batch or (1,)
    strength = strength.expand(items)
    start = None
    if initial_f is not None:
        start = initial_f.detach().expand(*items, rows) / strength.detach()[:, None]
    problem = _Problem(
        cost / strength[:, None, None],
        row.expand(*items, rows),
        column.expand(*items, columns),
        start,
    )
    return problem, strength, bool(batch)


def _violation(plan: Tensor, row: Tensor, column: Tensor) -> Tensor:
    rows = (plan.sum(2) - row).abs().sum(1)
    columns = (plan.sum(1) - column).abs().sum(1)
    return torch.maximum(rows, columns) / row.sum(1)


def _plan(scaled: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.exp(alpha[:, :, None] + beta[:, None, :] - scaled)


def _alternating(
    problem: _Problem, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Columns first, rows last, from the start or 0; one that meets the tolerance is left alone."""
    scaled, row, column, start = problem
    alpha, beta = torch.zeros_like(row), torch.zeros_like(column)
    if start is not None:
        alpha = torch.where((start == -math.inf) & (row > 0), alpha, start)
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
    problem: _Problem, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Damped updates phi <- (1 - w) phi + w (log a - LSE(phi - M / eps)), w = 1, 1/2, 2/3, ...

    With M_ii = 0, a_i / (N sqrt(max a)) <= exp(phi_i) <= sqrt(a_i) at the solution: a start that is
    given is brought there.
    """
    scaled, row, _, start = problem
    phi = (row.log() - torch.logsumexp(-scaled, 2)) / 2
    if start is not None:
        most = row.amax(1, keepdim=True)
        half = scaled.detach().diagonal(dim1=1, dim2=2) / 2
        lowest = half + row.log() - math.log(row.shape[1]) - most.log() / 2
        near = torch.clamp(start, lowest, half + row.log() / 2)
        phi = torch.where(start == -math.inf, phi, near)
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
    problem: _Problem, max_iterations: int, tolerance: float, symmetric: bool | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if symmetric:
        phi, count, error = _symmetric(problem, max_iterations, tolerance)
        return phi, phi, count, error
    return _alternating(problem, max_iterations, tolerance)


def _implicit_plan(
    problem: _Problem, max_iterations: int, tolerance: float, symmetric: bool | None
) -> Tensor:
    """The plan, carrying the exact derivative of the fixed point.

    The derivative is that of one Newton step from the solution, with its matrix held constant: the
    implicit function theorem. Its value is left out, as it would not be the plan of an unfinished
    iteration. Cholesky factors throughout (batched LU is unreliable on the CPU), which can fail
    where epsilon is tiny and the iteration far from its end; the null direction (1, -1) gets a
    pivot.
    """
    scaled, row, column, _ = problem
    with torch.no_grad():
        alpha, beta, *_ = _solve(problem, max_iterations, tolerance, symmetric)
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
    initial_f: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    symmetric: bool | None = None,
) -> SinkhornResult:
    """See :func:`rlsv_fast.ops.sinkhorn`."""
    problem, strength, batched = _prepare(cost, epsilon, row_marginal, column_marginal, initial_f)
    alpha, beta, count, error = _solve(problem, max_iterations, tolerance, symmetric)
    result = SinkhornResult(strength[:, None] * alpha, strength[:, None] * beta, count, error)
    return result if batched else SinkhornResult(*(field[0] for field in result))


def sinkhorn_plan(
    cost: Tensor,
    epsilon: float | Tensor,
    *,
    row_marginal: Tensor | None = None,
    column_marginal: Tensor | None = None,
    initial_f: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    symmetric: bool | None = None,
) -> Tensor:
    """See :func:`rlsv_fast.ops.sinkhorn_plan`."""
    problem, _, batched = _prepare(cost, epsilon, row_marginal, column_marginal, initial_f)
    plan = _implicit_plan(problem, max_iterations, tolerance, symmetric)
    return plan if batched else plan[0]


def sinkhorn_distance(
    cost: Tensor,
    epsilon: float | Tensor,
    *,
    gradient: str = "implicit",
    row_marginal: Tensor | None = None,
    column_marginal: Tensor | None = None,
    initial_f: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    symmetric: bool | None = None,
) -> Tensor:
    """See :func:`rlsv_fast.ops.sinkhorn_distance`."""
    problem, _, batched = _prepare(cost, epsilon, row_marginal, column_marginal, initial_f)
    if gradient == "unrolled":
        alpha, beta, *_ = _alternating(problem, max_iterations, -1.0)
        plan = _plan(problem.scaled, alpha, beta)
    else:
        with torch.set_grad_enabled(gradient == "implicit" and torch.is_grad_enabled()):
            plan = _implicit_plan(problem, max_iterations, tolerance, symmetric)
    plan = plan if batched else plan[0]
    return (plan * cost).sum((-2, -1))
