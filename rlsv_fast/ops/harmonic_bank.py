"""A bank of harmonic oscillators: the voiced part of the source-filter synthesiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "harmonic_bank"
_MOST_HARMONICS = 2**20


@fake("_harmonic_bank_forward")
def _(
    f0: Tensor,
    amplitude: Tensor,
    initial_phase: Tensor,
    hop: int,
    sample_rate: int,
    harmonics: int,
) -> tuple[Tensor, Tensor]:
    return f0.new_empty((f0.shape[0], f0.shape[1] * hop)), f0.new_empty(f0.shape[:1])


@fake("_harmonic_bank_backward")
def _(
    grad: Tensor,
    grad_phase: Tensor,
    f0: Tensor,
    amplitude: Tensor,
    initial_phase: Tensor,
    hop: int,
    sample_rate: int,
    harmonics: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(f0), torch.empty_like(amplitude), torch.empty_like(initial_phase)


def _backward(
    saved: tuple[Tensor, ...],
    constants: tuple[int, int, int],
    needs: tuple[bool, ...],
    *grads: Tensor,
) -> tuple[Any, ...]:
    flows = [grad.contiguous() for grad in grads]
    return (*raw._harmonic_bank_backward(*flows, *saved, *constants), None, None, None)


_harmonic_bank = differentiable(
    "HarmonicBank",
    lambda *inputs: raw._harmonic_bank_forward(*inputs),
    save=lambda inputs, outputs: inputs[:3],
    constants=lambda inputs: inputs[3:],
    backward=_backward,
)


def harmonic_bank(
    f0: Tensor,
    amplitude: Tensor,
    *,
    hop: int,
    sample_rate: int,
    harmonics: int = 101,
    initial_phase: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Sum of the harmonics of a fundamental frequency, from values per frame.

    With K harmonics, T frames, hop S, rate R and sample :math:`n = S i + m`, :math:`0 \le m < S`:

    .. math::
        y[n] &= \sum_{k=1}^{K} \big( (1 - h_m) A_{i,k} + h_m A_{i+1,k} \big)
            \, [k f(n) < R/2] \, \sin(k \varphi[n]), \qquad h_m = \sin^2 \frac{\pi m}{2 S} \\
        \varphi[n] &= \varphi_0 + \frac{2 \pi}{R} \sum_{n' \le n} f(n') \\
        A_{i,k} &= a_i \, [k f_i < R/2] \, \Big/ \sum_{j=1}^{K} [j f_i < R/2]
            \qquad\text{for } a \text{ of shape } (B, T) \\
        A_{i,k} &= a_{i,k} \, [k f_i < R/2] \qquad\text{for } a \text{ of shape } (B, T, K)

    f(n) interpolates the frames linearly at :math:`(n + \frac12) / S - \frac12` and holds the first
    and last one; the last amplitude is repeated. So frequencies belong to the middle of a frame's
    samples and amplitudes to its first one, half a frame apart as in the original.

    One amplitude per frame is spread evenly over the audible harmonics: the flat distribution,
    whose sum of sines has a closed form, whatever K. Amplitudes per harmonic are taken as they are
    and only cut, by rotation from one harmonic to the next. What the original makes of a
    distribution c with overall amplitude a is ``a * c * audible / (c * audible).sum(-1)`` with
    ``audible = k * f0 < sample_rate / 2``.

    The phase is kept modulo a turn in 64-bit fixed point and does not drift, however long the
    signal. No tensor of samples by harmonics is made, forward or backward, and f0, amplitude and
    initial phase are all that is kept for the gradient, in which masks and numbers of audible
    harmonics are constants.

    Args:
        f0: shape (B, T), in Hz; 0 stands still. Frequencies below 0 run backwards and are not cut.
            From the first one on that is not finite, signal and final phase are NaN.
        amplitude: shape (B, T) or (B, T, K).
        hop: samples per frame.
        sample_rate: R, in Hz.
        harmonics: K, at most 2**20, for amplitudes of shape (B, T); others have their own.
        initial_phase: :math:`\varphi_0` in radians, shape (B,); 0 without it. The final phase of a
            signal goes on in the next.

    Returns:
        The signal, shape (B, T hop), and :math:`\varphi` at its last sample, in radians in
        [-π, π], shape (B,); without frames that is the initial phase.

    Raises:
        TypeError: an argument is not a floating tensor, dtypes differ, or a number is not an int.
        ValueError: shapes or devices do not fit, or a number is out of range.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", IEEE/ACM TASLP 31, 2023.
    """
    f0 = _check.floating(_OP, "f0", f0)
    amplitude = _check.floating(_OP, "amplitude", amplitude)
    _check.shape(_OP, "f0", f0, "(B, T)", None, None)
    batch, frames = f0.shape
    fits = f"{(batch, frames)} or {(batch, frames, 'K')} as f0".replace("'", "")
    sizes = (batch, frames) if amplitude.dim() != 3 else (batch, frames, None)
    _check.shape(_OP, "amplitude", amplitude, fits, *sizes)
    _check.same_kind(_OP, "f0", f0, "amplitude", amplitude)
    hop = _check.integer(_OP, "hop", hop, 1)
    sample_rate = _check.integer(_OP, "sample_rate", sample_rate, 1)
    harmonics = _check.integer(_OP, "harmonics", harmonics, 1)
    count = harmonics if amplitude.dim() == 2 else amplitude.shape[2]
    if count > _MOST_HARMONICS:
        raise ValueError(f"{_OP}: harmonics must be at most 2**20, got {count}")
    if initial_phase is None:
        initial_phase = f0.new_zeros(batch)
    initial_phase = _check.floating(_OP, "initial_phase", initial_phase)
    _check.shape(_OP, "initial_phase", initial_phase, f"({batch},), one per item", batch)
    _check.same_kind(_OP, "f0", f0, "initial_phase", initial_phase)
    tensors = (f0.contiguous(), amplitude.contiguous(), initial_phase.contiguous())
    signal, final_phase = _harmonic_bank(*tensors, hop, sample_rate, harmonics)
    return signal, final_phase
