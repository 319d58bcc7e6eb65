"""The recurrent part of a gated layer (GRU), all frames in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "gated_recurrence"


@fake("_gated_recurrence_forward")
def _(projected: Tensor, weight: Tensor, bias: Tensor, keep: bool) -> tuple[Tensor, ...]:
    items, frames, _ = projected.shape
    size = weight.shape[1]
    widths = (size, 2 * size, size, size) if keep else (size, 0, 0, 0)
    return tuple(projected.new_empty((items, frames, width)) for width in widths)


@fake("_gated_recurrence_backward")
def _(grad: Tensor, weight: Tensor, *kept: Tensor) -> tuple[Tensor, Tensor]:
    items, frames, size = grad.shape
    return grad.new_empty((items, frames, 3 * size)), torch.empty_like(grad)


def _backward(
    saved: tuple[Tensor, ...], constants: None, needs: tuple[bool, ...], *grads: Tensor
) -> tuple[Tensor | None, ...]:
    weight, states, *kept = saved
    of_projected, of_parts = raw._gated_recurrence_backward(
        grads[0].contiguous(), weight, states, *kept
    )
    # of the sums before both gates, and of the state's part in the candidate
    of_sums = of_projected[..., : 2 * weight.shape[1]].flatten(0, 1), of_parts.flatten(0, 1)
    of_weight = of_bias = None
    if needs[1]:  # one product for all frames
        before = torch.zeros_like(states)
        before[:, 1:] = states[:, :-1]
        of_weight = torch.cat([part.t() @ before.flatten(0, 1) for part in of_sums])
    if needs[2]:
        of_bias = torch.cat([part.sum(0) for part in of_sums])
    return of_projected if needs[0] else None, of_weight, of_bias, None


_gated_recurrence = differentiable(
    "GatedRecurrence",
    lambda *inputs: raw._gated_recurrence_forward(*inputs),
    save=lambda inputs, outputs: (inputs[1], *outputs),
    backward=_backward,
    non_differentiable=(1, 2, 3),
)


def gated_recurrence(projected: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    r"""States of a gated recurrent layer whose inputs have been projected, from zeros on.

    .. math::
        r_t &= \sigma(x^r_t + W^r h_{t-1} + b^r) \qquad z_t = \sigma(x^z_t + W^z h_{t-1} + b^z) \\
        n_t &= \tanh\big(x^n_t + r_t \odot (W^n h_{t-1} + b^n)\big) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}, \qquad h_{-1} = 0

    With :math:`x_t = W_{ih} u_t + b_{ih}` it is ``torch.nn.GRU`` of one layer and direction: reset
    gate r, update gate z and candidate n lie one after the other in ``projected``, ``weight`` and
    ``bias``, as r, z, n. What projects the inputs is left to the caller, who may share it.

    Sums are made in the dtype of the inputs. The backward pass keeps 4 B T H numbers.

    Args:
        projected: x, shape (B, T, 3H).
        weight: W, shape (3H, H), H > 0.
        bias: b, shape (3H).

    Returns:
        h, shape (B, T, H).

    Raises:
        TypeError: a tensor is not a floating one, or dtypes differ.
        ValueError: shapes or devices do not fit.

    Reference:
        Cho, van Merriënboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio, "Learning Phrase
        Representations using RNN Encoder-Decoder for Statistical Machine Translation", EMNLP 2014;
        in the variant of cuDNN, which resets the product.
    """
    projected = _check.floating(_OP, "projected", projected)
    weight = _check.floating(_OP, "weight", weight)
    bias = _check.floating(_OP, "bias", bias)
    _check.shape(_OP, "weight", weight, "(3H, H)", None, None)
    size = weight.shape[1]
    if size < 1 or weight.shape[0] != 3 * size:
        raise ValueError(
            f"{_OP}: weight must have shape (3H, H) with H > 0, got {tuple(weight.shape)}"
        )
    _check.shape(_OP, "projected", projected, f"(B, T, {3 * size})", None, None, 3 * size)
    _check.shape(_OP, "bias", bias, f"({3 * size},)", 3 * size)
    _check.same_kind(_OP, "projected", projected, "weight", weight)
    _check.same_kind(_OP, "projected", projected, "bias", bias)
    inputs = (projected.contiguous(), weight.contiguous(), bias.contiguous())
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    states: Tensor = _gated_recurrence(*inputs, keep)[0]
    return states
