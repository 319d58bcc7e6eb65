"""Initial values: mel-spaced carriers and uniform kernels."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Convention: TypeAlias = Literal["paper", "code"]
"""Whose choice is followed where the papers and their published code differ."""

CONVENTIONS: tuple[Convention, ...] = ("paper", "code")


def hertz_to_mel(frequency: float) -> float:
    """The mel scale, 2595 log10(1 + f / 700)."""
    return 2595.0 * math.log10(1.0 + frequency / 700.0)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """The inverse of the mel scale, 700 (10^(m / 2595) - 1)."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def mel_grid(components: int, sample_rate: float, *, low: float = 30.0) -> Tensor:
    """Mel values at equal steps from a lowest frequency to half the sampling rate.

    Args:
        components: number of points C.
        sample_rate: in Hz.
        low: lowest frequency in Hz.

    Returns:
        Shape (C,), float64.
    """
    ends = hertz_to_mel(low), hertz_to_mel(sample_rate / 2)
    return torch.linspace(*ends, components, dtype=torch.float64)


def mel_frequencies(components: int, sample_rate: float = 44100.0, *, low: float = 30.0) -> Tensor:
    """Frequencies at equal steps on the mel scale, in cycles per sample.

    Args:
        components: number of frequencies C.
        sample_rate: in Hz; the highest frequency is half of it.
        low: lowest frequency in Hz.

    Returns:
        Shape (C,), ascending, in the default dtype, from ``low / sample_rate`` to 0.5.
    """
    grid = mel_to_hertz(mel_grid(components, sample_rate, low=low)) / sample_rate
    return grid.to(torch.get_default_dtype())


def uniform_kernels(*shape: int, convention: Convention) -> Tensor:
    """Encoder kernels drawn from a centred uniform distribution.

    Args:
        shape: (C, L) or (C, C, L'): the first size is the number of components.
        convention: ``"paper"``: bound sqrt(3 / C) (P2, section 3); ``"code"``: sqrt(6 / fan_in),
            the Kaiming rule of the published code.

    Returns:
        Kernels of that shape in the default dtype.
    """
    fan_in = math.prod(shape[1:])
    bound = math.sqrt(3 / shape[0]) if convention == "paper" else math.sqrt(6 / fan_in)
    return torch.empty(shape).uniform_(-bound, bound)
