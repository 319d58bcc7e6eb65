"""What is measured besides the SI-SDR (:func:`rlsv_fast.ops.si_sdr`)."""

from __future__ import annotations

from typing import get_args

from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.nn import Convention

_EPSILON = 1e-24
_ACTIVE_ENERGY = {"paper": 0.1, "code": 0.01}


def check_convention(convention: str) -> None:
    """Raise InputError unless the convention is ``"paper"`` or ``"code"``."""
    if convention not in get_args(Convention):
        raise InputError(f"convention must be 'paper' or 'code', got '{convention}'")


def additivity(
    mixture: Tensor, voice: Tensor, accompaniment: Tensor, *, convention: Convention = "paper"
) -> Tensor:
    r"""How nearly the representations of the sources add up to that of the mixture.

    .. math:: 1 - \frac{\|A_m - A_v - A_{ac}\|_1}{\|A_m\|_1 + 10^{-24}}

    The norms are entrywise, per item. 1 is perfect; there is no lower bound. The published code
    reports the quotient itself, lower is better. An all-zero mixture has no additivity: NaN, where
    the formula would call a representation perfect that has died.

    Args:
        mixture: A_m, shape (B, C, T), non-negative.
        voice: A_v, same shape.
        accompaniment: A_ac, same shape.
        convention: ``"paper"``, or ``"code"`` for the quotient.

    Returns:
        Shape (B,).

    Raises:
        ValueError: shapes differ.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, section 4.
    """
    check_convention(convention)
    if not mixture.shape == voice.shape == accompaniment.shape or mixture.dim() != 3:
        raise ValueError(
            "additivity: mixture, voice and accompaniment must share one shape (B, C, T), got "
            f"{tuple(mixture.shape)}, {tuple(voice.shape)} and {tuple(accompaniment.shape)}"
        )
    rest = (mixture - voice - accompaniment).abs().sum((1, 2))
    total = mixture.abs().sum((1, 2))
    ratio = rest / (total + _EPSILON)
    value = ratio if convention == "code" else 1 - ratio
    return value.masked_fill(total == 0, float("nan"))


def is_active(voice: Tensor, *, convention: Convention = "paper") -> Tensor:
    r"""Which segments contain singing.

    The paper asks for :math:`10 \log_{10} \|x\|_2^2 \ge -10`, an energy of 0.1; the published code
    leaves out the square, an energy of 0.01. The energy is that of the whole segment, so the rule
    is stricter for shorter segments and lower sample rates.

    Args:
        voice: shape (B, N).
        convention: ``"paper"`` or ``"code"``.

    Returns:
        Shape (B,), bool. Non-finite segments are active: they must not vanish as silence.
    """
    check_convention(convention)
    return ~(voice.double().square().sum(-1) < _ACTIVE_ENERGY[convention])
