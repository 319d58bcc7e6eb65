"""Linear prediction coefficients from line spectral frequencies."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "lsf_to_lpc"
_MOST = 64  # kMostLines


@fake("_lsf_to_lpc_forward")
def _(lsf: Tensor) -> Tensor:
    return torch.empty_like(lsf)


@fake("_lsf_to_lpc_backward")
def _(grad: Tensor, lsf: Tensor) -> Tensor:
    return torch.empty_like(lsf)


def _backward(
    saved: tuple[Tensor, ...], _: None, needs: tuple[bool, ...], grad: Tensor
) -> tuple[Any, ...]:
    return (raw._lsf_to_lpc_backward(grad.contiguous(), *saved),)


_lsf_to_lpc = differentiable(
    "LSFToLPC",
    lambda *inputs: raw._lsf_to_lpc_forward(*inputs),
    save=lambda inputs, output: inputs,
    backward=_backward,
)


def lsf_to_lpc(lsf: Tensor) -> Tensor:
    r"""Coefficients of the prediction filter that has these line spectral frequencies.

    .. math::
        A(z) = 1 + \sum_{k=1}^{P} a_k z^{-k} = \tfrac{1}{2} (P(z) + Q(z)), \quad
        P(z) = (1 + z^{-1}) \prod_{i = 1, 3, \dots} (1 - 2 \cos w_i\, z^{-1} + z^{-2}), \quad
        Q(z) = (1 - z^{-1}) \prod_{i = 2, 4, \dots} (1 - 2 \cos w_i\, z^{-1} + z^{-2})

    for even P. For odd P the factor :math:`1 + z^{-1}` is absent and :math:`1 - z^{-1}` becomes
    :math:`1 - z^{-2}`. Frequencies that ascend strictly within :math:`(0, \pi)` give a filter whose
    poles all lie inside the unit circle; any others are converted by the same formula. Everything
    is computed in double precision and rounded once.

    Args:
        lsf: shape (..., P), line spectral frequencies in radians per sample; P at most 64.

    Returns:
        Shape (..., P): a_1 to a_P, what :func:`all_pole` takes.

    Raises:
        TypeError: ``lsf`` is not a floating tensor.
        ValueError: it has no axis, or more than 64 frequencies.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", IEEE/ACM TASLP 31, 2023; Itakura, "Line spectrum
        representation of linear predictor coefficients", 1975.
    """
    lsf = _check.floating(_OP, "lsf", lsf)
    if lsf.dim() == 0:
        raise ValueError(f"{_OP}: lsf must have shape (..., P), got ()")
    order = lsf.shape[-1]
    if order > _MOST:
        raise ValueError(f"{_OP}: lsf must have at most {_MOST} frequencies, got {order}")
    rows = lsf.reshape(math.prod(lsf.shape[:-1]), order)
    result: Tensor = _lsf_to_lpc(rows.contiguous())
    return result.reshape(lsf.shape)
