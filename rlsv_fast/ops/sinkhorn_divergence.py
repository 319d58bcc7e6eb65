"""Sinkhorn divergence: entropic optimal transport without its entropic bias."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, raw
from rlsv_fast.ops import _check
from rlsv_fast.ops._sinkhorn_problem import make_problem, warn_if_unfinished

_OP = "sinkhorn_divergence"


class _Transport(NamedTuple):
    """OT_eps of a batch of problems, in double, and what it is differentiated by."""

    value: Tensor  # (B,)
    plan: Tensor  # (B, N, M): dOT/dM, in the precision of the cost
    information: Tensor  # (B,): dOT/deps, the KL
    f: Tensor  # (B, N): dOT/da up to a constant, where potentials are wanted
    g: Tensor  # (B, M): dOT/db up to the opposite constant, likewise
    error: Tensor  # (B,): of the marginals


def _softmin(cost: Tensor, epsilon: Tensor, potential: Tensor) -> Tensor:
    """-eps log sum_j exp((potential_j - cost_ij) / eps): the best f for a given g."""
    exponent = (potential[:, None, :] - cost) / epsilon[:, None, None]
    return -epsilon[:, None] * torch.logsumexp(exponent, 2)


def _transport(
    cost: Tensor,
    epsilon: Tensor,
    row: Tensor,
    column: Tensor,
    options: tuple[int, float],
    symmetric: bool,
    want_plan: bool,
    want_potentials: bool,
) -> _Transport:
    """Solve, and evaluate the semi-dual at g in double.

    It is stationary there: neither the rounding of g, which is of the size of eps, nor what an
    unfinished iteration lacks enters but by its square. The best potentials for one another are
    also finite where a weight is zero, and have the derivative's value there.
    """
    cold = cost.new_empty((0, cost.shape[1]))
    distance, plan, _, g, _, error = raw._sinkhorn_forward(
        cost, epsilon, row, column, cold, *options, symmetric, want_plan
    )
    cost, epsilon, row, column, g = (t.double() for t in (cost, epsilon, row, column, g))
    # KL relative to a b^T over the mass, in the gauge where b has no share in the value: neither
    # changes S, and masses that differ by rounding do not show, however large eps is.
    mass = column.sum(1, keepdim=True)
    free = torch.where(column > 0, column * (g - epsilon[:, None] * (column / mass).log()), 0)
    g = g - free.sum(1, keepdim=True) / mass
    f = _softmin(cost, epsilon, g)
    value = torch.where(row > 0, row * f, 0).sum(1)
    information = (value - distance) / epsilon
    if want_potentials:
        g = _softmin(cost.transpose(1, 2), epsilon, f + epsilon[:, None] * row.log())
    return _Transport(value, plan, information, f, g, error)


def _forward(
    cost: Tensor,
    row_cost: Tensor,
    column_cost: Tensor,
    epsilon: Tensor,
    row: Tensor,
    column: Tensor,
    max_iterations: int,
    tolerance: float,
    want_plans: bool,
    want_potentials: bool,
) -> tuple[Tensor, ...]:
    """The divergence, what its derivatives by the first six inputs are made of, the error."""
    options, wanted = (max_iterations, tolerance), (want_plans, want_potentials)
    both = _transport(cost, epsilon, row, column, options, False, *wanted)
    rows = _transport(row_cost, epsilon, row, row, options, True, *wanted)
    columns = _transport(column_cost, epsilon, column, column, options, True, *wanted)
    results: tuple[Tensor, ...] = (
        both.value - (rows.value + columns.value) / 2,
        both.plan,
        rows.plan,
        columns.plan,
        both.information - (rows.information + columns.information) / 2,
        both.f - (rows.f + rows.g) / 2,
        both.g - (columns.f + columns.g) / 2,
    )
    error = torch.stack([both.error, rows.error, columns.error]).amax(0)
    # torch 2.11 compiles a conversion that has nothing to convert into one without a gradient
    if cost.dtype != torch.float64:
        results = tuple(result.to(cost.dtype) for result in results)
    return (*results, error)


def _backward(
    saved: tuple[Tensor, ...], constants: None, needs: tuple[bool, ...], *grads: Tensor
) -> tuple[Any, ...]:
    grad = grads[0]
    half = -grad[:, None, None] / 2
    factors = (grad[:, None, None], half, half, grad, grad[:, None], grad[:, None])
    slopes = zip(factors, saved, needs[:6], strict=True)
    return (*(factor * part if need else None for factor, part, need in slopes), *(None,) * 4)


_divergence = differentiable(
    "SinkhornDivergence",
    lambda *inputs: _forward(*inputs),
    save=lambda inputs, outputs: outputs[1:7],
    backward=_backward,
    non_differentiable=tuple(range(1, 8)),
)


def _self_cost(name: str, size: str, own: Tensor, cost: Tensor, count: int) -> Tensor:
    own = _check.floating(_OP, name, own)
    _check.same_kind(_OP, "cost", cost, name, own)
    shape = f"(B, {size}, {size}) or ({size}, {size}), as cost has one"
    _check.shape(_OP, name, own, shape, *cost.shape[:-2], count, count)
    return own if own.dim() == 3 else own[None]


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
    r"""Sinkhorn divergence of two measures, given the costs between and within them.

    .. math::
        S_\epsilon(a, b) = \mathrm{OT}_\epsilon(a, b; M) - \tfrac12 \mathrm{OT}_\epsilon(a, a; R)
            - \tfrac12 \mathrm{OT}_\epsilon(b, b; C), \qquad
        \mathrm{OT}_\epsilon(a, b; M) = \min_{P 1 = a, \, P^T 1 = b}
            \langle P, M \rangle + \epsilon \, \mathrm{KL}(P \,|\, a \otimes b)

    Where one cost function of negative type (a norm to a power of at most 2) gives all three, S is
    zero for equal measures, positive for others, and convex in each of them. It tends to the
    transport cost as ``epsilon`` falls, and to ⟨a, M b⟩ - ½⟨a, R a⟩ - ½⟨b, C b⟩, a squared maximum
    mean discrepancy, as it grows.

    Use it to fit one measure to another: the least :func:`sinkhorn_distance` is not attained at
    equal measures but at a shrunken one, the more so the larger ``epsilon``. To measure how far the
    frames of one representation are from each other there is nothing to debias, as S = 0: that is
    :func:`sinkhorn_distance`.

    The gradient is exact and needs no linear solve: dS/dM = P, dS/dR = -½ of the plan of R, dS/dC
    likewise. To ``epsilon`` it is the same combination of KL terms, to the marginals that of dual
    potentials: only differences have a meaning (changes that keep both masses equal), and at a zero
    weight it is the derivative towards positive ones.

    Args:
        cost: M, shape (B, N, M) or (N, M), between rows and columns. An item with a NaN or an
            infinity in any of its costs gives NaN. Without a batch dimension, all three costs
            serve for every ``epsilon`` and every marginal.
        row_cost: R, shape (B, N, N) or (N, N), within the rows: symmetric, its diagonal the least
            of each row (values are not inspected).
        column_cost: C, shape (B, M, M) or (M, M), within the columns.
        epsilon: strength of the entropy, in units of the cost, a number or shape (B,).
        row_marginal: a, shape (B, N) or (N,), 1/N by default; zeros are allowed.
        column_marginal: b, shape (B, M) or (M,), 1/M by default; same mass.
        max_iterations: most iterations per problem.
        tolerance: L1 violation of the marginals, relative to the mass, that ends a problem. The
            value's error is of the order of its square.

    Returns:
        S, shape (B,), or () where nothing has a batch dimension, in units of the cost. It is formed
        in double, and stays accurate where it is a small difference or ``epsilon`` is large.

    Raises:
        TypeError: as :func:`sinkhorn`, also for ``row_cost`` and ``column_cost``.
        ValueError: as :func:`sinkhorn`, or the self-costs do not fit the cost.

    Reference:
        Genevay, Peyré, Cuturi, "Learning Generative Models with Sinkhorn Divergences", AISTATS
        2018; Feydy, Séjourné, Vialard, Amari, Trouvé, Peyré, "Interpolating between Optimal
        Transport and MMD using Sinkhorn Divergences", AISTATS 2019.
    """
    arguments = (row_marginal, column_marginal, None, max_iterations, tolerance, None)
    problem = make_problem(_OP, cost, epsilon, *arguments)
    between, strength, row, column = problem[:4]
    shaped = between if cost.dim() == 3 else between[0]
    rows = _self_cost("row_cost", "N", row_cost, shaped, row.shape[1])
    columns = _self_cost("column_cost", "M", column_cost, shaped, column.shape[1])
    items = strength.shape[0]  # costs may be shared, as by make_problem
    costs = (one.expand(items, -1, -1).contiguous() for one in (between, rows, columns))
    inputs = (*costs, strength, row, column)
    wanted = [torch.is_grad_enabled() and leaf.requires_grad for leaf in inputs]
    divergence: Tensor
    divergence, *_, error = _divergence(
        *inputs, problem.max_iterations, problem.tolerance, any(wanted[:3]), any(wanted[4:])
    )
    warn_if_unfinished(_OP, problem.tolerance, error)
    return divergence if problem.batched else divergence[0]
