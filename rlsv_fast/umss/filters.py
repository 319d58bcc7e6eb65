"""Filters given by their magnitude response: linear-phase FIRs, one for all or one a frame."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast.ops import _check


def roll_off_response(
    roll_off: Tensor, *, sample_rate: int = 16000, bins: int = 65, reference: float = 200.0
) -> Tensor:
    r"""Response that falls by so many decibels an octave: the spectral slope of a glottal source.

    .. math:: R(f) = 10^{-\frac{d}{20} \log_2 (f / f_r)} \text{ for } f > f_r, \quad 1 \text{ below}

    Args:
        roll_off: d in dB per octave, any shape.
        sample_rate: in Hz.
        bins: F, frequencies from 0 to half the sample rate.
        reference: f_r in Hz.

    Returns:
        Shape (..., F).

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", TASLP 2023.
    """
    op = "roll_off_response"
    roll_off = _check.floating(op, "roll_off", roll_off)
    _check.integer(op, "bins", bins, 2)
    frequencies = torch.linspace(
        0, sample_rate / 2, bins, dtype=torch.float64, device=roll_off.device
    )
    octaves = (frequencies / reference).clamp(min=1).log2().to(roll_off.dtype)
    response: Tensor = 10 ** (-roll_off.unsqueeze(-1) / 20 * octaves)
    return response


def impulse_response(magnitudes: Tensor) -> Tensor:
    r"""Taps of the filter whose response is that of the magnitudes, smoothed by a Hann window.

    The zero-phase response, of 2 (F - 1) taps, is made causal: its peak lies at tap F - 1.

    Args:
        magnitudes: at F frequencies from 0 to half the sample rate, shape (..., F), F >= 2.

    Returns:
        Shape (..., 2 (F - 1)).
    """
    op = "impulse_response"
    magnitudes = _check.floating(op, "magnitudes", magnitudes)
    bins = magnitudes.shape[-1] if magnitudes.ndim else 0
    if bins < 2:
        raise ValueError(
            f"{op}: magnitudes must have at least 2 bins, got {tuple(magnitudes.shape)}"
        )
    taps = torch.fft.irfft(magnitudes, norm="backward").roll(bins - 1, -1)
    window = torch.hann_window(taps.shape[-1], dtype=taps.dtype, device=taps.device)
    response: Tensor = taps * window
    return response


def filter_frames(signal: Tensor, taps: Tensor) -> Tensor:
    r"""Filter every hop of a signal with its own taps, and add up what they reach.

    The first (K - 1) // 2 - 1 samples are cropped, so that of the delay of a linear-phase filter
    two samples remain, as in the published code, on which trained models rely.

    Args:
        signal: shape (B, T hop).
        taps: shape (B, T, K), or with 1 for B or T: one filter for all items, or for all time.

    Returns:
        The shape of the signal.

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: the shapes do not fit.
    """
    op = "filter_frames"
    signal = _check.floating(op, "signal", signal)
    taps = _check.floating(op, "taps", taps)
    _check.shape(op, "signal", signal, "(B, N)", None, None)
    _check.shape(op, "taps", taps, "(B, T, K)", None, None, None)
    items, length = signal.shape
    count, size = taps.shape[1:]
    if taps.shape[0] not in (1, items) or not count or length % count:
        raise ValueError(
            f"{op}: taps of {taps.shape[0]} items and {count} frames do not divide a signal of "
            f"shape {tuple(signal.shape)}"
        )
    if not signal.numel():
        return signal.clone()
    hop = length // count
    points = 1 << (hop + size - 2).bit_length()  # a power of two, and no sample wraps around
    spectrum = torch.fft.rfft(signal.reshape(items, count, hop), points)
    spectrum = spectrum * torch.fft.rfft(taps, points)
    filtered = torch.fft.irfft(spectrum, points)[..., : hop + size - 1]
    return ops.overlap_add(filtered, hop, length=length, offset=(size - 1) // 2 - 1)
