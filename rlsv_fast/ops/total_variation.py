"""Total variation of a representation: the smoothness loss of the first paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "total_variation"


@fake("_total_variation_forward")
def _(representation: Tensor, norm: int) -> tuple[Tensor, Tensor]:
    value = representation.new_empty(() if norm == 2 else representation.shape[:1])
    return value, representation.new_empty((2 if norm == 2 else 0,), dtype=torch.float64)


@fake("_total_variation_backward")
def _(grad: Tensor, representation: Tensor, norms: Tensor, norm: int) -> Tensor:
    return torch.empty_like(representation)


def _backward(
    saved: tuple[Tensor, ...], norm: int, needs: tuple[bool, ...], grad: Tensor, _: Tensor
) -> tuple[Any, ...]:
    return raw._total_variation_backward(grad.contiguous(), *saved, norm), None


_total_variation = differentiable(
    "TotalVariation",
    lambda *inputs: raw._total_variation_forward(*inputs),
    save=lambda inputs, outputs: (inputs[0], outputs[1]),
    constants=lambda inputs: inputs[1],
    backward=_backward,
    non_differentiable=(1,),
)


def total_variation(representation: Tensor, *, norm: int = 1) -> Tensor:
    r"""Total variation along frames and components, in one pass without difference tensors.

    .. math::
        \text{norm 1:}\quad V_b &= \frac{1}{CT} \Big(
            \sum_{c \ge 1, t} |A_{b,c,t} - A_{b,c-1,t}|
            + \sum_{c, t \ge 1} |A_{b,c,t} - A_{b,c,t-1}| \Big) \\
        \text{norm 2:}\quad V &= \frac{1}{T} \|A_{:,:,1:} - A_{:,:,:-1}\|_2
            + \frac{1}{C} \|A_{:,1:,:} - A_{:,:-1,:}\|_2

    Norm 1 is the paper's, per item. Norm 2 is the published code's, over the whole batch; it is
    about six times larger on real representations, so loss weights do not carry over. Short sums
    are made in the representation's precision and added in double. Equal neighbours (norm 1) and a
    vanishing norm (norm 2) have subgradient 0.

    Args:
        representation: shape (B, C, T), of any sign and unit; the result has the same unit.
        norm: 1 or 2.

    Returns:
        Shape (B,) for norm 1, () for norm 2. Without cells (B, C or T = 0) the value is 0; with one
        component or one frame only the other direction counts.

    Raises:
        TypeError: ``representation`` is not a floating tensor.
        ValueError: its shape does not fit, or ``norm`` is neither 1 nor 2.

    Reference:
        Mimilakis, Drossos, Schuller, "Unsupervised Interpretable Representation Learning for
        Singing Voice Separation", EUSIPCO 2020, eq. 1.
    """
    representation = _check.floating(_OP, "representation", representation)
    _check.shape(_OP, "representation", representation, "(B, C, T)", None, None, None)
    _check.choice(_OP, "norm", norm, (1, 2))
    value: Tensor = _total_variation(representation.contiguous(), norm)[0]
    return value
