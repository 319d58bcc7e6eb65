"""Time-varying all-pole filter: frames from rest, faded and added."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "all_pole"
_MOST = 64  # kMostPoles


@fake("_all_pole_forward")
def _(signal: Tensor, coefficients: Tensor, frame: int, hop: int) -> tuple[Tensor, Tensor]:
    batch, count, _ = coefficients.shape
    return torch.empty_like(signal), signal.new_empty((batch, count, frame))


@fake("_all_pole_backward")
def _(grad: Tensor, coefficients: Tensor, filtered: Tensor, hop: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad), torch.empty_like(coefficients)


def _backward(
    saved: tuple[Tensor, ...], hop: int, needs: tuple[bool, ...], grad: Tensor, _: Tensor
) -> tuple[Any, ...]:
    return (*raw._all_pole_backward(grad.contiguous(), *saved, hop), None, None)


_all_pole = differentiable(
    "AllPole",
    lambda *inputs: raw._all_pole_forward(*inputs),
    save=lambda inputs, outputs: (inputs[1], outputs[1]),
    constants=lambda inputs: inputs[3],
    backward=_backward,
    non_differentiable=(1,),
)


def all_pole(signal: Tensor, coefficients: Tensor, *, frame: int, hop: int) -> Tensor:
    r"""Filter a signal with poles that change from frame to frame.

    Frame t has L samples from sample tS on (zeros past the end of the signal). Each is filtered
    from rest, faded by a periodic Hann window, and added:

    .. math::
        y_{t,n} = x_{tS + n} - \sum_{k=1}^{P} a_{t,k}\, y_{t,n-k}, \quad y_{t,n<0} = 0, \qquad
        v_m = \sum_t h_{m - tS}\, y_{t, m - tS}, \quad h_n = \sin^2 (\pi n / L), \quad 0 \le m < TS

    Nothing comes before the first frame, so its first half is not faded in. With L = 2S, as UMSS
    has it, windows add up to one, and without poles the signal stays as it is. Any other hop up to
    L works by the same formula, but windows then add up to L / (2S) where L is a multiple of 2S (to
    something that changes from sample to sample otherwise), and to less within L of either end.

    Coefficients from :func:`lsf_to_lpc` of ascending frequencies make stable filters. **Others are
    filtered as they are**: with poles on or outside the unit circle a frame grows, and where it
    overflows it is inf or NaN, in the result (at most L samples from its beginning on, nowhere
    else), in the gradient of the signal that it sees, and in that of its own coefficients.

    Float32 is filtered in float32, as the reference does; frames are added in double precision.
    The backward pass needs y, 4 B T L bytes in float32.

    Args:
        signal: shape (B, T S), any unit.
        coefficients: shape (B, T, P), a_1 to a_P of each frame; P at most 64.
        frame: L, samples per frame; even.
        hop: S, samples from one frame to the next; at most L.

    Returns:
        Shape (B, T S), in the unit of the signal.

    Raises:
        TypeError: a tensor is not a floating one, dtypes differ, or a number is not an int.
        ValueError: shapes or devices do not fit; ``frame`` is odd or less than ``hop``, which must
            be positive; more than 64 coefficients.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", IEEE/ACM TASLP 31, 2023.
    """
    signal = _check.floating(_OP, "signal", signal)
    coefficients = _check.floating(_OP, "coefficients", coefficients)
    _check.shape(_OP, "signal", signal, "(B, T * hop)", None, None)
    _check.shape(_OP, "coefficients", coefficients, "(B, T, P)", signal.shape[0], None, None)
    _check.same_kind(_OP, "signal", signal, "coefficients", coefficients)
    _check.integer(_OP, "hop", hop, 1)
    _check.integer(_OP, "frame", frame, 2)
    if frame % 2 != 0 or frame < hop:
        raise ValueError(f"{_OP}: frame must be even and at least hop ({hop}), got {frame}")
    count, order = coefficients.shape[1:]
    if signal.shape[1] != count * hop:
        raise ValueError(
            f"{_OP}: signal must have shape (B, T * hop) = {(signal.shape[0], count * hop)}, "
            f"got {tuple(signal.shape)}"
        )
    if order > _MOST:
        raise ValueError(f"{_OP}: coefficients must be at most {_MOST} per frame, got {order}")
    result: Tensor = _all_pole(signal.contiguous(), coefficients.contiguous(), frame, hop)[0]
    return result
