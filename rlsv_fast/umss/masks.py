"""Separation of a mixture by the magnitudes of synthesised voices."""

from __future__ import annotations

import torch
from torch import Tensor

from rlsv_fast.ops import _check

FITTED_UPDATES = 5
"""After so many the levels of voices hardly move."""


def soft_mask_separation(
    mixture: Tensor,
    voices: Tensor,
    *,
    n_fft: int = 2048,
    hop: int = 256,
    power: float = 1.0,
    level_updates: int = 0,
    known_bins: int | None = None,
) -> Tensor:
    r"""Share every cell of the mixture's spectrogram among the voices.

    .. math::
        \hat s_j = \text{iSTFT}(M_j X), \quad
        M_j = |S_j|^p / (\textstyle\sum_i |S_i|^p + 10^{-12})

    Periodic Hann windows, centred, reflected at the ends. With ``level_updates`` each voice gets a
    level of its own in each window first: so many multiplicative updates, from 1 on, towards the
    levels whose sum of voices has the least Kullback-Leibler divergence from the mixture.

    Args:
        mixture: shape (B, N), or (B, H, N) for H channels that share the masks; more than n_fft / 2
            samples.
        voices: estimates by synthesis, shape (B, V, N).
        n_fft: samples of a window.
        hop: samples from one window to the next.
        power: p; 1 as published, 2 as in a Wiener filter.
        level_updates: how many; 0 leaves the levels as they were synthesised.
        known_bins: of each window, from the lowest on, that the estimates tell about, at least 2.
            All bins above share as the octave below that many does in sum. None: all are known.

    Returns:
        Shape (B, V, N), or (B, V, H, N).

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: the shapes do not fit, or the signal is too short for a window.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", TASLP 2023; Lee, Seung, "Algorithms for
        Non-negative Matrix Factorization", NIPS 2000 (the updates).
    """
    op = "soft_mask_separation"
    mixture = _check.floating(op, "mixture", mixture)
    voices = _check.floating(op, "voices", voices)
    _check.integer(op, "n_fft", n_fft, 2)
    _check.integer(op, "hop", hop, 1)
    _check.integer(op, "level_updates", level_updates, 0)
    if known_bins is not None:
        _check.integer(op, "known_bins", known_bins, 2)
    if not power > 0:
        raise ValueError(f"{op}: power must be positive, got {power}")
    if mixture.ndim not in (2, 3):
        raise ValueError(f"{op}: mixture must be (B, N) or (B, H, N), got {tuple(mixture.shape)}")
    items, length = mixture.shape[0], mixture.shape[-1]
    _check.shape(op, "voices", voices, "(B, V, N)", items, None, length)
    if length <= n_fft // 2:
        raise ValueError(
            f"{op}: {length} samples are too few for windows of {n_fft}: more than {n_fft // 2}"
        )
    window = torch.hann_window(n_fft, dtype=mixture.dtype, device=mixture.device)

    def spectra(signals: Tensor) -> Tensor:
        found = torch.stft(
            signals.reshape(-1, length), n_fft, hop, window=window, return_complex=True
        )
        return found.reshape(*signals.shape[:-1], *found.shape[1:])

    magnitudes = spectra(voices).abs()
    if known_bins is not None:
        known = magnitudes[:, :, :known_bins]
        top = known[:, :, known_bins // 2 :].mean(2, keepdim=True)
        beyond = magnitudes.shape[2] - known.shape[2]
        magnitudes = torch.cat([known, top.expand(-1, -1, beyond, -1)], 2)
    cells = spectra(mixture).unsqueeze(1)
    if level_updates:
        heard = cells.abs() if mixture.ndim == 2 else cells.abs().mean(2)
        magnitudes = _levelled(magnitudes, heard, level_updates)
    masks = soft_masks(magnitudes if power == 1 else magnitudes**power)
    if mixture.ndim == 3:
        masks = masks.unsqueeze(2)
    separated = masks * cells
    signals = torch.istft(
        separated.reshape(-1, *separated.shape[-2:]), n_fft, hop, window=window, length=length
    )
    return signals.reshape(*separated.shape[:-2], length)


def soft_masks(shares: Tensor) -> Tensor:
    """What share each voice of (B, V, ...) has in the sum of all; 0 where there is nothing."""
    return shares / (shares.sum(1, keepdim=True) + 1e-12)


def _levelled(voices: Tensor, mixture: Tensor, updates: int) -> Tensor:
    """Voices (B, V, F, T) with levels that bring their sum nearer to the mixture (B, 1, F, T)."""
    least = torch.finfo(voices.dtype).tiny
    floor = 1e-9 * mixture.amax((2, 3), keepdim=True) + least
    weights = voices.sum(2, keepdim=True).clamp(min=least)
    level = torch.ones_like(weights)
    for _ in range(updates):
        ratio = mixture / ((level * voices).sum(1, keepdim=True) + floor)
        level = level * (voices * ratio).sum(2, keepdim=True) / weights
    return level * voices
