"""Multi-resolution distance of magnitude spectra in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def spectral_loss(
    estimate: Tensor,
    target: Tensor,
    *,
    fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64),
    overlap: float = 0.75,
    magnitude_weight: float = 1.0,
    log_magnitude_weight: float = 1.0,
    reduce: Literal["none", "mean"] = "none",
) -> Tensor:
    """See :func:`rlsv_fast.ops.spectral_loss`."""
    total = (estimate + target)[:, :0].sum(1)
    for size in fft_sizes if estimate.numel() else ():
        x, y = (magnitudes(signal, size, overlap) for signal in (estimate, target))
        distance = magnitude_weight * (x - y).abs()
        distance = distance + log_magnitude_weight * (x.log() - y.log()).abs()
        total = total + distance.mean((1, 2))
    return total.mean() if reduce == "mean" else total


def magnitudes(signal: Tensor, size: int, overlap: float) -> Tensor:
    """Floored magnitudes of the frames that begin in a signal, (B, frames, bins)."""
    samples = signal.shape[1]
    hop = max(int(size * (1 - overlap)), 1)
    frames = -(-samples // hop)
    padded = functional.pad(signal, (0, (frames - 1) * hop + size - samples))
    window = torch.hann_window(size, dtype=signal.dtype, device=signal.device)
    spectrum = torch.fft.rfft(padded.unfold(1, size, hop) * window)
    squares: Tensor = spectrum.real.square() + spectrum.imag.square() + 1e-10
    return squares.sqrt()
