"""The cost of entropic optimal transport, by three kinds of gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check
from rlsv_fast.ops._sinkhorn_problem import make_problem, warn_if_unfinished
from rlsv_fast.ops.sinkhorn import solve


@fake("_sinkhorn_distance")
def _(
    cost: Tensor,
    epsilon: Tensor,
    row: Tensor,
    column: Tensor,
    initial: Tensor,
    max_iterations: int,
    tolerance: float,
    symmetric: bool,
) -> tuple[Tensor, ...]:
    return (
        torch.empty_like(epsilon),
        torch.empty_like(epsilon),
        cost.new_empty((epsilon.shape[0], *cost.shape[1:])),
        *(torch.empty_like(tensor) for tensor in (epsilon, row, column)),
    )


@fake("_sinkhorn_unrolled_forward")
def _(
    cost: Tensor, epsilon: Tensor, row: Tensor, column: Tensor, iterations: int
) -> tuple[Tensor, ...]:
    items, rows, columns = cost.shape
    return (
        cost.new_empty((items,)),
        cost.new_empty((items, iterations + 1, rows + columns)),
        cost.new_empty((items,)),
    )


@fake("_sinkhorn_unrolled_backward")
def _(
    grad: Tensor, cost: Tensor, epsilon: Tensor, row: Tensor, column: Tensor, potentials: Tensor
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(tensor) for tensor in (cost, epsilon, row, column))


def _scale(
    saved: tuple[Tensor, ...], shape: torch.Size, needs: tuple[bool, ...], *grads: Tensor
) -> tuple[Any, ...]:
    """The derivatives that the forward made, times the upstream gradient (B,)."""
    grad = grads[0]
    slopes: list[Tensor | None] = [None] * len(needs)
    for index, derivative in enumerate(saved):
        if needs[index]:
            slopes[index] = derivative * grad.reshape(-1, *(1,) * (derivative.dim() - 1))
    by_cost = slopes[0]
    if by_cost is not None and by_cost.shape != shape:  # one cost for all items
        slopes[0] = by_cost.sum(0, keepdim=True)
    return tuple(slopes)


# Returns (distance, error, and the derivatives of the distance by the first four inputs).
_implicit = differentiable(
    "SinkhornDistance",
    lambda *inputs: raw._sinkhorn_distance(*inputs),
    save=lambda inputs, outputs: outputs[2:],
    constants=lambda inputs: inputs[0].shape,
    backward=_scale,
    non_differentiable=(1, 2, 3, 4, 5),
)
# Returns (distance, plan, f, g, iterations, error).
_envelope = differentiable(
    "SinkhornEnvelope",
    lambda *inputs: raw._sinkhorn_forward(*inputs),
    save=lambda inputs, outputs: outputs[1:2],
    constants=lambda inputs: inputs[0].shape,
    backward=_scale,
    non_differentiable=(1, 2, 3, 4, 5),
)
_unrolled = differentiable(
    "SinkhornUnrolled",
    lambda *inputs: raw._sinkhorn_unrolled_forward(*inputs),
    save=lambda inputs, outputs: (*inputs[:4], outputs[1]),
    backward=lambda saved, constants, needs, *grads: (
        *raw._sinkhorn_unrolled_backward(grads[0].contiguous(), *saved),
        None,
    ),
    non_differentiable=(1, 2),
)


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
    r"""The transport cost of the entropic plan, ⟨P, M⟩, without the entropy term.

    Args:
        cost: as all arguments but ``gradient``, see :func:`rlsv_fast.ops.sinkhorn`.
        epsilon: strength of the entropy.
        gradient: how ⟨P, M⟩ is differentiated.

            - ``"implicit"``: the exact derivative at the fixed point, by one linear solve; see
              :func:`rlsv_fast.ops.sinkhorn_plan`. Correct whatever number of iterations found the
              plan. It is made together with the value, wherever autograd may ask for it.
            - ``"unrolled"``: the derivative of exactly ``max_iterations`` alternating iterations
              (``tolerance`` and ``symmetric`` change nothing then), from stored potentials:
              max_iterations · (N + M) numbers per problem, never N × M per iteration.
            - ``"envelope"``: P held constant, dL/dM = P. This is **not** the gradient of ⟨P, M⟩
              but that of the regularised value ⟨P, M⟩ - ε H(P). For distances between frames it
              is half wrong or worse at medium ``epsilon``, and for small ones its off-diagonal
              part, the one that trains, has the opposite sign on average. Nothing flows to
              ``epsilon`` and the marginals.
        row_marginal: row sums.
        column_marginal: column sums.
        initial_f: row potentials to start from; not with ``"unrolled"``.
        max_iterations: most iterations per problem.
        tolerance: L1 violation of the marginals that ends a problem.
        symmetric: promise of a symmetric problem.

    Returns:
        Shape (B,), or () where nothing has a batch dimension.

    Raises:
        TypeError: as :func:`rlsv_fast.ops.sinkhorn`.
        ValueError: as :func:`rlsv_fast.ops.sinkhorn`, or an unknown ``gradient``.
    """
    op = "sinkhorn_distance"
    _check.choice(op, "gradient", gradient, ("implicit", "unrolled", "envelope"))
    if gradient == "unrolled" and initial_f is not None:
        raise ValueError(f"{op}: gradient='unrolled' starts at f = 0, initial_f must be None")
    arguments = (row_marginal, column_marginal, initial_f, max_iterations, tolerance, symmetric)
    problem = make_problem(op, cost, epsilon, *arguments)
    distance: Tensor
    if gradient == "unrolled":
        items = problem.epsilon.shape[0]
        leaves = (problem.cost.expand(items, -1, -1).contiguous(), *problem[1:4])
        distance, _, _ = _unrolled(*leaves, problem.max_iterations)
    else:
        if not problem.needs_gradient():
            distance, *_, error = solve(*problem[:8], False)
        elif gradient == "envelope":
            distance, *_, error = _envelope(*problem[:8], True)
        else:
            distance, error, *_ = _implicit(*problem[:8])
        warn_if_unfinished(op, problem.tolerance, error)
    return distance if problem.batched else distance[0]
