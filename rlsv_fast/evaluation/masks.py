"""Oracle masks: the best that a separator of the papers' kind could know."""

from __future__ import annotations

from torch import Tensor

from rlsv_fast.evaluation.metrics import check_convention
from rlsv_fast.nn import Convention


def binary_mask(
    voice: Tensor,
    accompaniment: Tensor,
    threshold: float = 0.5,
    convention: Convention = "paper",
) -> Tensor:
    r"""The coefficients in which the voice is strong enough to be kept.

    .. math:: G = 1 \text{ where } A_v / A_{ac} \ge \theta, \text{ else } 0

    The published code compares with ``>``. With the papers' threshold of 0.5 a coefficient is kept
    although the voice is 6 dB below the accompaniment. No quotient is formed, so there is no NaN:
    x/0 gives 1; 0/0 gives 0, as nothing in the mixture's coefficient then comes from the voice.

    Args:
        voice: A_v, any shape, non-negative magnitudes.
        accompaniment: A_ac, same shape.
        threshold: θ, at least 0.
        convention: ``"paper"`` (≥) or ``"code"`` (>).

    Returns:
        Zeros and ones of the shape and dtype of ``voice``.

    Raises:
        ValueError: shapes differ or the threshold is negative.
    """
    check_convention(convention)
    if voice.shape != accompaniment.shape:
        raise ValueError(
            "binary_mask: voice and accompaniment must have one shape, got "
            f"{tuple(voice.shape)} and {tuple(accompaniment.shape)}"
        )
    if not threshold >= 0:
        raise ValueError(f"binary_mask: threshold must be at least 0, got {threshold}")
    bound = threshold * accompaniment
    kept = voice > bound if convention == "code" else (voice >= bound) & (voice > 0)
    return kept.to(voice.dtype)
