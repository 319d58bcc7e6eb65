"""The published harmonic synthesiser in plain PyTorch, as UMSS has it: the peer of harmonic_bank.

Written from its equations. Everything is a tensor of samples by harmonics: interpolated
frequencies, upsampled amplitudes (a window per frame and harmonic, overlap-added), phases.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def harmonic_bank(
    f0: Tensor, amplitude: Tensor, hop: int, sample_rate: int, harmonics: int
) -> Tensor:
    """The signal (B, T hop) of a flat distribution, from f0 and amplitude (B, T)."""
    frames, nyquist = f0.shape[1], sample_rate / 2
    frequency = f0[..., None] * torch.arange(1, harmonics + 1).to(f0)
    distribution = (frequency < nyquist).to(f0)
    distribution = distribution / distribution.sum(-1, keepdim=True)
    return _oscillators(
        _interpolated(frequency, frames * hop),
        _faded(amplitude[..., None] * distribution, hop),
        sample_rate,
    )


def _interpolated(frames: Tensor, samples: int) -> Tensor:
    dense = functional.interpolate(frames.mT, samples, mode="linear", align_corners=False)
    return dense.mT


def _faded(frames: Tensor, hop: int) -> Tensor:
    """Frames under Hann windows of two hops, overlap-added; the last frame is repeated."""
    batch, count, harmonics = frames.shape
    frames = torch.cat([frames, frames[:, -1:]], 1).mT  # (B, K, T + 1)
    window = torch.hann_window(2 * hop).to(frames)
    windowed = frames[..., None] * window  # (B, K, T + 1, 2 hop)
    length = (count + 2) * hop
    added = functional.fold(windowed.flatten(0, 1).mT, (1, length), (1, 2 * hop), stride=(1, hop))
    return added.view(batch, harmonics, length)[..., hop : hop + count * hop].mT


def _oscillators(frequency: Tensor, amplitude: Tensor, sample_rate: int) -> Tensor:
    amplitude = torch.where(frequency < sample_rate / 2, amplitude, 0)
    phase = (2 * math.pi * frequency / sample_rate).cumsum(1)
    return (amplitude * phase.sin()).sum(-1)
