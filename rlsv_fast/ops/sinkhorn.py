"""Entropic optimal transport: potentials, plan and cost, with an exact implicit gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw, readable
from rlsv_fast.ops._sinkhorn_problem import make_problem, warn_if_unfinished


class SinkhornResult(NamedTuple):
    """What :func:`sinkhorn` returns; a cost without batch dimension gives fields without one."""

    f: Tensor
    """Row potentials, shape (B, N), in units of the cost; -inf where the marginal is zero."""
    g: Tensor
    """Column potentials, shape (B, M)."""
    iterations: Tensor
    """Iterations made, shape (B,), int64."""
    error: Tensor
    """L1 marginal violation of the plan (the worse of rows and columns) over the mass, (B,)."""


@fake("_sinkhorn_forward")
def _(
    cost: Tensor,
    epsilon: Tensor,
    row: Tensor,
    column: Tensor,
    initial: Tensor,
    max_iterations: int,
    tolerance: float,
    symmetric: bool,
    want_plan: bool,
) -> tuple[Tensor, ...]:
    items, (_, rows, columns) = epsilon.shape[0], cost.shape
    return (
        cost.new_empty((items,)),
        cost.new_empty((items if want_plan else 0, rows, columns)),
        cost.new_empty((items, rows)),
        cost.new_empty((items, columns)),
        cost.new_empty((items,), dtype=torch.int64),
        cost.new_empty((items,)),
    )


@fake("_sinkhorn_backward")
def _(
    grad: Tensor,
    cost: Tensor,
    plan: Tensor,
    f: Tensor,
    g: Tensor,
    epsilon: Tensor,
    symmetric: bool,
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(tensor) for tensor in (plan, epsilon, f, g))


def _backward(
    saved: tuple[Tensor, ...], symmetric: bool, needs: tuple[bool, ...], *grads: Tensor
) -> tuple[Any, ...]:
    cost, epsilon, plan, f, g = saved
    by_cost, *others = raw._sinkhorn_backward(
        grads[1].contiguous(), cost, plan, f, g, epsilon, symmetric
    )
    return (by_cost.sum_to_size(cost.shape), *others, *(None,) * 5)


# Returns (distance, plan, f, g, iterations, error); without gradients.
solve = readable("Sinkhorn", lambda *inputs: raw._sinkhorn_forward(*inputs))
# The same; the plan is differentiable.
_plan = differentiable(
    "SinkhornPlan",
    lambda *inputs: raw._sinkhorn_forward(*inputs),
    save=lambda inputs, outputs: (*inputs[:2], *outputs[1:4]),
    constants=lambda inputs: inputs[7],
    backward=_backward,
    non_differentiable=(0, 2, 3, 4, 5),
)


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
    r"""Potentials of entropic optimal transport.

    .. math::
        P = \arg\min_P \langle P, M \rangle - \epsilon H(P), \quad P 1 = a, \; P^T 1 = b, \qquad
        P_{ij} = \exp((f_i + g_j - M_{ij}) / \epsilon)

    Correct for every ``epsilon`` > 0: what would under- or overflow is computed in the log domain.
    Each problem of the batch stops on its own, at ``tolerance``, at ``max_iterations``, or when
    rounding allows no further progress; its bits do not depend on the rest of the batch.
    Iterations begin at f = 0 or at ``initial_f`` and update columns first, rows last. The
    potentials carry no gradient; :func:`sinkhorn_plan` and :func:`sinkhorn_distance` do.

    Args:
        cost: shape (B, N, M) or (N, M). An item with a NaN or an infinity gives NaN. With a batch
            of anything else, (N, M) or (1, N, M) is one cost for all items; it is not copied.
        epsilon: strength of the entropy, in units of the cost, a number or shape (B,). It is the
            λ of the tables of Mimilakis et al. (their eq. 7 writes 1/λ).
        row_marginal: shape (B, N) or (N,), row sums of the plan, 1/N by default; zeros are
            allowed. Their sum, the mass, is 0 or from 1e-15 to 1e12 (float64: 1e-100 to 1e100).
        column_marginal: shape (B, M) or (M,), column sums, 1/M by default; same mass.
        initial_f: row potentials to start from, shape (B, N) or (N,), such as the f of a similar
            problem; columns follow from it. An entry of -inf, as of a zero weight, says nothing.
            It carries no gradient and decides how many iterations are made, not where they end.
        max_iterations: most iterations per problem. 0 gives the plan of the starting point.
        tolerance: L1 violation of the marginals, relative to the mass, that ends a problem.
            float32 reaches 1e-6; at small ``epsilon`` a general problem may need thousands of
            iterations for it, and 1e-5 is the sensible value.
        symmetric: True promises a symmetric cost whose diagonal is the least of each row, and
            equal marginals (both None, or one tensor passed as both): a handful of iterations
            suffice then, for any ``epsilon``. None is False: values are never inspected.

    Returns:
        Potentials f (B, N) and g (B, M) in units of the cost, the number of iterations (B,) and
        the error (B,) of the plan that :func:`sinkhorn_plan` returns.

    Raises:
        TypeError: a tensor argument is not floating, dtypes differ, a number is not one.
        ValueError: shapes do not fit; ``symmetric`` contradicts shape or marginals; on the CPU
            also: ``epsilon`` not positive, negative marginals, masses that differ or are out of
            range (tensors are not looked at on CUDA or under ``torch.compile``).

    Reference:
        Cuturi, "Sinkhorn Distances", NIPS 2013; Schmitzer, arXiv 1610.06519 (absorption);
        Knight, Ruiz, Ucar, SIMAX 35(3), 2014 (symmetric scaling).
    """
    arguments = (row_marginal, column_marginal, initial_f, max_iterations, tolerance, symmetric)
    with torch.no_grad():
        problem = make_problem("sinkhorn", cost, epsilon, *arguments)
        _, _, f, g, iterations, error = solve(*problem[:8], False)
    warn_if_unfinished("sinkhorn", problem.tolerance, error)
    result = SinkhornResult(f, g, iterations, error)
    return result if problem.batched else SinkhornResult(*(field[0] for field in result))


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
    r"""The plan of entropic optimal transport, differentiable by the implicit function theorem.

    The gradient is that of the exact plan, whatever number of iterations found it: with H the
    upstream gradient, r and c the sums of P,

    .. math::
        \frac{\partial L}{\partial M} = P \circ (p \oplus q - H) / \epsilon, \qquad
        \begin{pmatrix} \mathrm{diag}(r) & P \\ P^T & \mathrm{diag}(c) \end{pmatrix}
        \begin{pmatrix} p \\ q \end{pmatrix} =
        \begin{pmatrix} (P \circ H) 1 \\ (P \circ H)^T 1 \end{pmatrix}

    Gradients also reach ``epsilon`` and the marginals where these require them; only changes that
    keep both masses equal have a meaning, and zero weights get the gradient 0. With
    ``symmetric=True`` the gradient is exact for symmetric changes of the cost, the only ones such
    a problem admits.

    Args:
        cost: as all arguments, see :func:`sinkhorn`.
        epsilon: strength of the entropy.
        row_marginal: row sums.
        column_marginal: column sums.
        initial_f: row potentials to start from.
        max_iterations: most iterations per problem.
        tolerance: L1 violation of the marginals that ends a problem.
        symmetric: promise of a symmetric problem.

    Returns:
        The plan, shape (B, N, M), or (N, M) where nothing has a batch dimension.

    Raises:
        TypeError: as :func:`sinkhorn`.
        ValueError: as :func:`sinkhorn`.
    """
    arguments = (row_marginal, column_marginal, initial_f, max_iterations, tolerance, symmetric)
    problem = make_problem("sinkhorn_plan", cost, epsilon, *arguments)
    plan: Tensor
    error: Tensor
    _, plan, _, _, _, error = _plan(*problem[:8], True)
    warn_if_unfinished("sinkhorn_plan", problem.tolerance, error)
    return plan if problem.batched else plan[0]
