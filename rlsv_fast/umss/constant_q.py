"""Kernels of the constant-Q transform and the half-band filter between its octaves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BINS_PER_OCTAVE = 60
Q = 1 / (2 ** (1 / BINS_PER_OCTAVE) - 1)

_TAPS = 256
_BLOCK = 64


@dataclass(frozen=True)
class Bank:
    """Neighbouring bins of a constant-Q transform, whole octaves of them.

    Args:
        lowest: frequency of the first bin in Hz.
        octaves: number of octaves; the highest is taken from the signal at its full rate, each
            octave below from one of half the rate of the octave above.
    """

    lowest: float
    octaves: int

    def frequencies(self) -> Tensor:
        """Centres of all bins in Hz, ascending, float64."""
        bins = torch.arange(self.octaves * BINS_PER_OCTAVE, dtype=torch.float64)
        return self.lowest * 2 ** (bins / BINS_PER_OCTAVE)


def octave_kernels(bank: Bank, sample_rate: float, level: int, half_width: int) -> Tensor:
    r"""Conjugate kernels of the octave that is taken from the signal halved ``level`` times.

    .. math:: k(t) = \frac{2}{L}\Bigl(\tfrac12 + \tfrac12 \cos\frac{2\pi t}{L}\Bigr)
        e^{-2\pi i f t / s}, \quad |t| < L/2, \quad L = \lceil Q s / f \rceil

    with :math:`s` the halved rate. A sum of magnitudes of 1, so a sine of amplitude 1 gives ½.
    The half-band filter has an even number of taps, so sample n of a signal halved l times lies
    :math:`(1 - 2^{-l})/2` of its samples late; the kernels are moved by as much, so that every
    octave is centred on the same instant.

    Args:
        bank: the bank.
        sample_rate: of the signal before any halving, in Hz.
        level: 0 for the highest octave.
        half_width: kernels reach from -half_width to half_width samples.

    Returns:
        Complex128 kernels, shape (2 half_width + 1, 60).
    """
    rate = sample_rate / 2**level
    last = (bank.octaves - level) * BINS_PER_OCTAVE
    frequency = bank.frequencies()[last - BINS_PER_OCTAVE : last]
    length = torch.ceil(Q * rate / frequency)
    late = (1 - 2.0**-level) / 2
    time = torch.arange(-half_width, half_width + 1, dtype=torch.float64)[:, None] + late
    window = torch.where(time.abs() < length / 2, (1 + torch.cos(2 * math.pi * time / length)), 0.0)
    return window / length * torch.exp(-2j * math.pi * frequency / rate * time)


def widest(bank: Bank, sample_rate: float) -> int:
    """Samples on each side of its centre that the longest kernel of an octave reaches."""
    lowest = bank.lowest * 2.0 ** (bank.octaves - 1)
    return math.ceil(math.ceil(Q * sample_rate / lowest) / 2)


def half_band_blocks() -> Tensor:
    """The half-band filter as a matrix that makes 64 samples of 382.

    Frequency sampling with a Hamming window, 256 taps, 6 dB down at half of the band.

    Returns:
        Float64, shape (382, 64): column j holds the taps from row 2 j on.
    """
    grid = torch.linspace(0, 1, _TAPS + 1, dtype=torch.float64)
    gain = torch.where(grid < 0.5, 1.0, torch.where(grid > 0.5, 0.0, 0.5))
    response = gain * torch.exp(-1j * math.pi * grid * (_TAPS - 1) / 2)
    window = torch.hamming_window(_TAPS, periodic=False, dtype=torch.float64)
    taps = torch.fft.irfft(response)[:_TAPS] * window
    blocks = torch.zeros(_TAPS + 2 * (_BLOCK - 1), _BLOCK, dtype=torch.float64)
    for column in range(_BLOCK):
        blocks[2 * column : 2 * column + _TAPS, column] = taps
    return blocks


def halve(signal: Tensor, blocks: Tensor) -> Tensor:
    """Half the rate of a signal, zero outside of its ends.

    Args:
        signal: shape (B, N).
        blocks: :func:`half_band_blocks`, of the signal's type and device.

    Returns:
        Shape (B, N // 2). Sample n lies at 2 n + ½ of the input.
    """
    wanted = signal.shape[-1] // 2
    count = -(-wanted // _BLOCK)
    before = _TAPS // 2 - 1
    after = max(2 * _BLOCK * count + _TAPS - 2 - before - signal.shape[-1], 0)
    padded = torch.nn.functional.pad(signal, (before, after))
    frames = padded.unfold(-1, blocks.shape[0], 2 * _BLOCK)[:, :count]
    return (frames @ blocks).flatten(1)[:, :wanted]
