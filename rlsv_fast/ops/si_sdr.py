"""Scale-invariant signal-to-distortion ratio: the papers' measure of reconstruction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "si_sdr"


@fake("_si_sdr_forward")
def _(estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    items = estimate.shape[0]
    return estimate.new_empty((items,)), estimate.new_empty((items, 3), dtype=torch.float64)


@fake("_si_sdr_backward")
def _(
    grad: Tensor, estimate: Tensor, target: Tensor, moments: Tensor, with_target: bool
) -> tuple[Tensor, Tensor]:
    grad_target = torch.empty_like(target) if with_target else target.new_empty((0,))
    return torch.empty_like(estimate), grad_target


def _backward(
    saved: tuple[Tensor, ...], _: None, needs: tuple[bool, ...], grad: Tensor, __: Tensor
) -> tuple[Any, ...]:
    grads = raw._si_sdr_backward(grad.contiguous(), *saved, needs[1])
    return grads[0], grads[1] if needs[1] else None


_si_sdr = differentiable(
    "SISDR",
    lambda *inputs: raw._si_sdr_forward(*inputs),
    save=lambda inputs, outputs: (*inputs, outputs[1]),
    backward=_backward,
    non_differentiable=(1,),
)


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    r"""Scale-invariant signal-to-distortion ratio in dB; higher is better.

    .. math::
        v = 10 \log_{10} \Big(
            \frac{\|\alpha x\|_2^2}{\|\alpha x - \hat{x}\|_2^2 + \epsilon} + \epsilon \Big), \quad
        \alpha = \frac{\langle \hat{x}, x \rangle}{\|x\|_2^2}, \quad \epsilon = 10^{-24}

    Argument order and meaning as ``scale_invariant_signal_distortion_ratio`` of torchmetrics with
    ``zero_mean=False``. Energies are in double precision and the residual's is summed directly, so
    high ratios are exact too. The rule for silence:

    * silent (or empty) target: NaN, because nothing was asked for; exclude and count such items
      (the evaluation does). Their gradients are 0, not NaN;
    * silent estimate, or one orthogonal to the target, of a sounding target: -240 dB;
    * estimate proportional to the target: finite, :math:`240 + 10 \log_{10} \|\alpha x\|_2^2` dB
      up to rounding.

    Args:
        estimate: shape (B, N), any unit.
        target: shape (B, N), any unit.

    Returns:
        Shape (B,), in dB.

    Raises:
        TypeError: an argument is not a floating tensor, or dtypes differ.
        ValueError: shapes or devices do not fit.

    Reference:
        Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019, eq. 3;
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, eq. 15.
    """
    estimate = _check.floating(_OP, "estimate", estimate)
    target = _check.floating(_OP, "target", target)
    _check.shape(_OP, "estimate", estimate, "(B, N)", None, None)
    _check.shape(_OP, "target", target, f"{tuple(estimate.shape)} as estimate", *estimate.shape)
    _check.same_kind(_OP, "estimate", estimate, "target", target)
    value: Tensor = _si_sdr(estimate.contiguous(), target.contiguous())[0]
    return value
