"""The Sinkhorn loss of a representation: its frames' distances and their transport cost in one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check
from rlsv_fast.ops._sinkhorn_problem import positive, warn_if_unfinished
from rlsv_fast.ops.frame_distance import NORMALIZE

_OP = "sinkhorn_loss"


@fake("_sinkhorn_loss_forward")
def _(
    representation: Tensor,
    epsilon: float,
    p: int,
    normalize: int,
    mean: bool,
    max_iterations: int,
    tolerance: float,
    want_gradient: bool,
) -> tuple[Tensor, ...]:
    batch, _, frames = representation.shape
    items = 1 if mean else batch
    return (
        representation.new_empty((items,)),
        representation.new_empty((items,)),
        representation.new_empty((batch, frames, frames)),
        representation.new_empty((items if want_gradient else 0, frames, frames)),
    )


@fake("_sinkhorn_loss_backward")
def _(
    grad: Tensor,
    representation: Tensor,
    distance: Tensor,
    grad_cost: Tensor,
    p: int,
    normalize: int,
) -> Tensor:
    return torch.empty_like(representation)


def _backward(
    saved: tuple[Tensor, ...],
    constants: tuple[int, int],
    needs: tuple[bool, ...],
    *grads: Tensor,
) -> tuple[Any, ...]:
    return (raw._sinkhorn_loss_backward(grads[0], *saved, *constants), *(None,) * 7)


# Returns (loss, error, distance, the derivative of the loss by the distances).
_loss = differentiable(
    "SinkhornLoss",
    lambda *inputs: raw._sinkhorn_loss_forward(*inputs),
    save=lambda inputs, outputs: (inputs[0], *outputs[2:]),
    constants=lambda inputs: inputs[2:4],
    backward=_backward,
    non_differentiable=(1, 2, 3),
)


def sinkhorn_loss(
    representation: Tensor,
    epsilon: float,
    *,
    p: int = 1,
    normalize: Literal["features", "time"] | None = "features",
    reduce: Literal["none", "mean"] = "mean",
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Tensor:
    r"""Entropic transport cost between the frames of a representation, for training.

    .. math:: L(A) = \langle P, M \rangle, \qquad M = \tfrac1B \sum_b M(A_b), \qquad
        P = \arg\min_{P 1 = P^T 1 = 1/T} \langle P, M \rangle - \epsilon H(P)

    The same as :func:`frame_distance` followed by :func:`sinkhorn_distance` with
    ``symmetric=True`` and its implicit gradient, by fewer launches and with less for autograd to
    keep. For other marginals, gradients or an epsilon per item, use those.

    Args:
        representation: A, shape (B, C, T), T at least 1; non-negative where it is normalised.
        epsilon: strength of the entropy, in units of the distances.
        p: exponent of the distance, 1 or 2.
        normalize: ``"features"``, ``"time"`` or ``None``, as in :func:`frame_distance`.
        reduce: ``"mean"``: one problem for the mean of the distances over the batch (both
            papers'); ``"none"``: one per item.
        max_iterations: most iterations per problem.
        tolerance: L1 violation of the marginals that ends a problem.

    Returns:
        A scalar, or shape (B,) for ``reduce="none"``.

    Raises:
        TypeError: ``representation`` is not a floating tensor, or a number is not one.
        ValueError: a wrong shape or option, a value out of range, or the mean of an empty batch.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, equations 6 and 7.
    """
    representation = _check.floating(_OP, "representation", representation)
    _check.shape(_OP, "representation", representation, "(B, C, T)", None, None, None)
    if representation.shape[2] == 0:
        raise ValueError(
            f"{_OP}: representation must have at least one frame, got {tuple(representation.shape)}"
        )
    _check.choice(_OP, "p", p, (1, 2))
    _check.choice(_OP, "normalize", normalize, tuple(NORMALIZE))
    _check.choice(_OP, "reduce", reduce, ("none", "mean"))
    if reduce == "mean" and representation.shape[0] == 0:
        raise ValueError(f"{_OP}: reduce='mean' needs a batch of at least 1, got 0")
    epsilon = positive(_OP, "epsilon", epsilon, representation.dtype)
    max_iterations = _check.integer(_OP, "max_iterations", max_iterations, 0)
    tolerance = _check.real(_OP, "tolerance", tolerance)
    if not tolerance >= 0:
        raise ValueError(f"{_OP}: tolerance must be at least 0, got {tolerance}")
    wants_gradient = torch.is_grad_enabled() and representation.requires_grad
    settings = (epsilon, p, NORMALIZE[normalize], reduce == "mean", max_iterations, tolerance)
    loss: Tensor
    loss, error, *_ = _loss(representation.contiguous(), *settings, wants_gradient)
    warn_if_unfinished(_OP, tolerance, error)
    return loss[0] if reduce == "mean" else loss
