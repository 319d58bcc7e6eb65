"""One f0 for each voice and frame of saliences, with a gradient (UMSS)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "decode_f0"
_METHODS = ("reconstruction", "soft", "ste", "sigmoid", "threshold", "amplitude")
_KERNELS = ("reconstruction", "as coded", "soft", "ste", "sigmoid", "threshold", "amplitude")
_NUMBERS = {name: number for number, name in enumerate(_KERNELS)}  # F0Method
_MOST_VOICES = 64  # kMostVoices


@fake("_decode_f0_forward")
def _(
    salience: Tensor, thresholds: list[float], method: int, lowest: float, bins_per_octave: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, voices, _, frames = salience.shape
    f0 = salience.new_empty((batch, voices, frames))
    moved = salience.new_empty((batch, voices, frames if method == _NUMBERS["soft"] else 0))
    return f0, f0.new_empty(f0.shape, dtype=torch.int32), torch.empty_like(f0), moved


@fake("_decode_f0_backward")
def _(grad: Tensor, bin: Tensor, slope: Tensor, moved: Tensor, bins: int, method: int) -> Tensor:
    batch, voices, frames = grad.shape
    return grad.new_empty((batch, voices, bins, frames))


def _backward(
    saved: tuple[Tensor, ...],
    constants: tuple[int, int],
    needs: tuple[bool, ...],
    grad: Tensor,
    *_: Tensor,
) -> tuple[Any, ...]:
    bins, method = constants
    if method <= _NUMBERS["as coded"]:
        # One number for all bins: a view, which what comes next reads without having it written.
        flow = (grad * saved[1])[:, :, None].expand(-1, -1, bins, -1)
    else:
        flow = raw._decode_f0_backward(grad.contiguous(), *saved, bins, method)
    return (flow, *(None,) * 4)


_decode = differentiable(
    "DecodeF0",
    lambda *inputs: raw._decode_f0_forward(*inputs),
    save=lambda inputs, outputs: outputs[1:],
    constants=lambda inputs: (inputs[0].shape[2], inputs[2]),
    backward=_backward,
    non_differentiable=(1, 2, 3),
)


def decode_f0(
    salience: Tensor,
    thresholds: Sequence[float],
    *,
    lowest: float,
    bins_per_octave: int,
    method: Literal[
        "reconstruction", "soft", "ste", "sigmoid", "threshold", "amplitude"
    ] = "reconstruction",
    convention: Literal["paper", "code"] = "paper",
) -> Tensor:
    r"""One f0 for each voice and frame, with the gradient of the chosen method.

    With :math:`k^*` the first of the largest bins a frame is voiced if :math:`A_{k^*}` reaches the
    voice's threshold :math:`\theta` and :math:`k^* \ne 0`. The bins' frequencies are
    :math:`F_k = l\, 2^{k / o}`, and :math:`\hat f = F_{k^*}` in voiced frames, 0 in others.

    ================== ================================================ =========================
    method             value                                            gradient to :math:`A_k`
    ================== ================================================ =========================
    ``reconstruction`` :math:`\hat f`                                   1 for all bins of a voiced
                                                                        frame, else 0
    ``soft``           average pitch of the bins :math:`k^* \pm 4`,     its derivative
                       weighted with the salience, in voiced frames
    ``ste``            :math:`\hat f`, 0 where :math:`A_{k^*} = \theta` :math:`\hat f` to the
                                                                        largest bin
    ``sigmoid``        :math:`\sigma(1000 (A_{k^*} - \theta)) \hat f`   its derivative
    ``threshold``      :math:`A_{k^*} \hat f`                           its derivative
    ``amplitude``      :math:`\hat f`                                   none
    ================== ================================================ =========================

    A frame that holds a NaN decodes to NaN, and its gradient is NaN where the method's gradient
    goes. Each bin is read once; the backward pass needs two or three numbers per frame and not the
    salience. What follows from the largest bin is computed in double.

    Args:
        salience: shape (B, V, F, T), one map for each voice; at least one bin, at most 64 voices.
        thresholds: one for each voice.
        lowest: l, frequency of bin 0 in Hz.
        bins_per_octave: o.
        method: see above.
        convention: ``"code"`` for what the published ``reconstruction`` does besides: its gradient
            is 1 in unvoiced frames too, and its value is the sum of all :math:`F_k` that share
            their whole Hertz with :math:`\hat f`. ``ste`` limits its gradient to ±1000 under both.

    Returns:
        Hz, shape (B, V, T), 0 where unvoiced. It has no gradient for ``"amplitude"``.

    Raises:
        TypeError: salience is not a floating tensor, thresholds are no sequence, or a number is
            not one.
        ValueError: another shape, another number of thresholds, a threshold that is NaN, a
            frequency that is not positive and finite, or no such method.

    Reference:
        Richard, Chouteau, Torres, "A fully differentiable model for unsupervised singing voice
        separation", ICASSP 2024.
    """
    salience = _check.floating(_OP, "salience", salience)
    _check.shape(_OP, "salience", salience, "(B, V, F, T)", None, None, None, None)
    _, voices, bins, _ = salience.shape
    if bins == 0:
        raise ValueError(f"{_OP}: salience must have at least one bin, got {tuple(salience.shape)}")
    if voices > _MOST_VOICES:
        raise ValueError(f"{_OP}: salience must have at most {_MOST_VOICES} voices, got {voices}")
    if not isinstance(thresholds, Sequence) or isinstance(thresholds, str):
        raise TypeError(
            f"{_OP}: thresholds must be a sequence of numbers, got {type(thresholds).__name__}"
        )
    if len(thresholds) != voices:
        raise ValueError(
            f"{_OP}: thresholds must be one for each of {voices} voices, got {len(thresholds)}"
        )
    limits = [_check.real(_OP, "thresholds", threshold) for threshold in thresholds]
    if any(math.isnan(limit) for limit in limits):
        raise ValueError(f"{_OP}: thresholds must not be NaN, got {limits}")
    lowest = _check.real(_OP, "lowest", lowest)
    if not (lowest > 0 and math.isfinite(lowest)):
        raise ValueError(f"{_OP}: lowest must be positive and finite, got {lowest}")
    _check.integer(_OP, "bins_per_octave", bins_per_octave, 1)
    _check.choice(_OP, "method", method, _METHODS)
    _check.choice(_OP, "convention", convention, ("paper", "code"))
    number = _NUMBERS[method]
    if method == "reconstruction" and convention == "code":
        number = _NUMBERS["as coded"]
    if method == "amplitude":
        salience = salience.detach()
    result: Tensor = _decode(salience.contiguous(), limits, number, lowest, bins_per_octave)[0]
    return result
