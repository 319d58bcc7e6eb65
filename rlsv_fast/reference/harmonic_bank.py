"""A bank of harmonic oscillators in plain PyTorch, as the original builds it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def harmonic_bank(
    f0: Tensor,
    amplitude: Tensor,
    *,
    hop: int,
    sample_rate: int,
    harmonics: int = 101,
    initial_phase: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """See :func:`rlsv_fast.ops.harmonic_bank`; every (B, N, K) tensor is made here."""
    (batch, frames), nyquist = f0.shape, sample_rate / 2
    count = harmonics if amplitude.dim() == 2 else amplitude.shape[2]
    number = torch.arange(1, count + 1, device=f0.device).to(f0)
    phase = f0.new_zeros(batch) if initial_phase is None else initial_phase
    if frames == 0:
        return f0 + amplitude.reshape(batch, 0) + phase[:, None], _wrapped(phase)

    # What each harmonic has at each frame: (B, T, K).
    audible = f0[..., None] * number < nyquist
    if amplitude.dim() == 2:
        amplitude = amplitude[..., None] / audible.sum(-1, keepdim=True).clamp(min=1)
    amplitude = amplitude * audible

    # Frequencies: linear, frame i in the middle of its samples, held at both ends.
    sample = torch.arange(frames * hop, device=f0.device)
    place = ((sample.to(f0) + 0.5) / hop - 0.5).clamp(0, frames - 1)
    below = place.floor().long()
    above = (below + 1).clamp(max=frames - 1)
    frequency = f0[:, below] + (f0[:, above] - f0[:, below]) * (place - below)

    # Amplitudes: raised-cosine cross-fade, frame i at its first sample, the last one repeated.
    here = sample // hop
    rise = torch.sin(math.pi / 2 * (sample - here * hop).to(f0) / hop).square()[:, None]
    later = (here + 1).clamp(max=frames - 1)
    envelope = amplitude[:, here] * (1 - rise) + amplitude[:, later] * rise

    frequencies = frequency[..., None] * number
    envelope = torch.where(frequencies < nyquist, envelope, 0)
    phases = (2 * math.pi / sample_rate * frequencies).cumsum(1) + phase[:, None, None] * number
    signal = (envelope * phases.sin()).sum(-1)
    return signal, _wrapped(phase + (2 * math.pi / sample_rate * frequency).sum(1))


def _wrapped(phase: Tensor) -> Tensor:
    return phase - 2 * math.pi * (phase.detach() / (2 * math.pi)).round()
