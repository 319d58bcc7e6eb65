"""Linear prediction coefficients from line spectral frequencies, in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def _product(frequency: Tensor) -> Tensor:
    """Coefficients of prod_i (1 - 2 cos w_i z^-1 + z^-2), lowest first; factors on the last axis.

    The factors are taken in steps of about the golden ratio of their number: with neighbours one
    after the other, partial products grow so large that their digits are lost.
    """
    count = frequency.shape[-1]
    product = frequency.new_ones(*frequency.shape[:-1], 1)
    step = next(s for s in range(max(5 * count // 8, 1), count + 2) if math.gcd(s, count) == 1)
    for index in range(count):
        cosine = torch.cos(frequency[..., index * step % count])[..., None]
        product = (
            functional.pad(product, (0, 2))
            - 2 * cosine * functional.pad(product, (1, 1))
            + functional.pad(product, (2, 0))
        )
    return product


def lsf_to_lpc(lsf: Tensor) -> Tensor:
    """See :func:`rlsv_fast.ops.lsf_to_lpc`."""
    order = lsf.shape[-1]
    first, second = _product(lsf[..., ::2].double()), _product(lsf[..., 1::2].double())
    if order % 2 == 0:
        first = functional.pad(first, (0, 1)) + functional.pad(first, (1, 0))
        second = functional.pad(second, (0, 1)) - functional.pad(second, (1, 0))
    else:
        second = functional.pad(second, (0, 2)) - functional.pad(second, (2, 0))
    return ((first + second) / 2)[..., 1 : order + 1].to(lsf.dtype)
