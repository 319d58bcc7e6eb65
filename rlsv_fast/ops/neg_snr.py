"""Negative signal-to-noise ratio: the reconstruction loss of both papers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "neg_snr"


@fake("_neg_snr_forward")
def _(estimate: Tensor, target: Tensor, batch: bool) -> tuple[Tensor, Tensor]:
    rows = 1 if batch else estimate.shape[0]
    value = estimate.new_empty(() if batch else (rows,))
    return value, estimate.new_empty((rows, 2), dtype=torch.float64)


@fake("_neg_snr_backward")
def _(
    grad: Tensor,
    estimate: Tensor,
    target: Tensor,
    energies: Tensor,
    batch: bool,
    with_target: bool,
) -> tuple[Tensor, Tensor]:
    grad_target = torch.empty_like(target) if with_target else target.new_empty((0,))
    return torch.empty_like(estimate), grad_target


def _backward(
    saved: tuple[Tensor, ...], batch: bool, needs: tuple[bool, ...], grad: Tensor, _: Tensor
) -> tuple[Any, ...]:
    grads = raw._neg_snr_backward(grad.contiguous(), *saved, batch, needs[1])
    return grads[0], grads[1] if needs[1] else None, None


_neg_snr = differentiable(
    "NegSNR",
    lambda *inputs: raw._neg_snr_forward(*inputs),
    save=lambda inputs, outputs: (inputs[0], inputs[1], outputs[1]),
    constants=lambda inputs: inputs[2],
    backward=_backward,
    non_differentiable=(1,),
)


def neg_snr(estimate: Tensor, target: Tensor, *, reduce: str = "item") -> Tensor:
    r"""Negative signal-to-noise ratio in dB; lower is better.

    .. math::
        v = -10 \log_{10} \Big( \frac{\|x\|_2^2}{\|x - \hat{x}\|_2^2 + \epsilon} + \epsilon \Big),
        \quad \epsilon = 10^{-24}

    One pass makes both energies in double precision, one writes the gradients. The floors keep
    every value and gradient finite, as long as the energies are:

    * silent (or empty) target: +240 dB whatever the estimate, gradients 0, so that a silent segment
      shifts a mean by a constant and teaches nothing;
    * perfect estimate: :math:`-(240 + 10 \log_{10} \|x\|_2^2)` dB, gradient 0 to the estimate.

    Args:
        estimate: shape (B, N), any unit.
        target: shape (B, N), the same unit.
        reduce: "item" gives one ratio per item (the papers), "batch" one ratio of the energies
            of the whole batch (the published code).

    Returns:
        Shape (B,) for "item", () for "batch", in dB.

    Raises:
        TypeError: an argument is not a floating tensor, or dtypes differ.
        ValueError: shapes or devices do not fit, or ``reduce`` is unknown.

    Reference:
        Mimilakis, Drossos, Schuller, "Unsupervised Interpretable Representation Learning for
        Singing Voice Separation", EUSIPCO 2020, section 2 (loss).
    """
    estimate = _check.floating(_OP, "estimate", estimate)
    target = _check.floating(_OP, "target", target)
    _check.shape(_OP, "estimate", estimate, "(B, N)", None, None)
    _check.shape(_OP, "target", target, f"{tuple(estimate.shape)} as estimate", *estimate.shape)
    _check.same_kind(_OP, "estimate", estimate, "target", target)
    _check.choice(_OP, "reduce", reduce, ("item", "batch"))
    value: Tensor = _neg_snr(estimate.contiguous(), target.contiguous(), reduce == "batch")[0]
    return value
