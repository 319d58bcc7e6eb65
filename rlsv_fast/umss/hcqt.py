"""The harmonic constant-Q transform that the f0 networks read."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsv_fast.errors import InputError, require
from rlsv_fast.nn import Convention
from rlsv_fast.ops._check import choice, floating, shape
from rlsv_fast.umss import constant_q

SAMPLE_RATE = 22050
HOP = 256
BINS = 360
HARMONICS = 5
LOWEST = 32.7
FLOOR = -80.0

_BANKS = {  # harmonics 1, 2 and 4 are the same bins, octaves apart
    "octaves": constant_q.Bank(LOWEST, 8),
    "third": constant_q.Bank(3 * LOWEST, 6),
    "fifth": constant_q.Bank(5 * LOWEST, 6),
}
_PLACES = (("octaves", 0), ("octaves", 60), ("third", 0), ("octaves", 120), ("fifth", 0))
_HALF_WIDTHS = {name: constant_q.widest(bank, SAMPLE_RATE) for name, bank in _BANKS.items()}
_LEVELS = max(bank.octaves for bank in _BANKS.values())
_GRAIN = 1 << (_LEVELS - 1)

SHORTEST = max((_HALF_WIDTHS[n] + 1) << (bank.octaves - 1) for n, bank in _BANKS.items())
"""Samples at 22,050 Hz that a signal needs: its lowest octave is reflected at both ends."""

# what a frame hears on each side: the longest kernel, and every halving filter before it
_REACH = max(_HALF_WIDTHS[n] << (bank.octaves - 1) for n, bank in _BANKS.items()) + 128 * _GRAIN
_CONTEXT = -(-_REACH // HOP) * HOP
_CHUNK = 1024


class Features(NamedTuple):
    """What the multi-f0 network reads; both of shape (B, 5, 360, T)."""

    magnitude: Tensor
    """dB below the reference of each harmonic, from -80 to 0."""
    phase: Tensor
    """Phase of the first frame, then differences between frames, in radians."""


def frequencies(dtype: torch.dtype = torch.float64) -> Tensor:
    """The 360 centres of the bins in Hz, 32.7 to 2068.8, 20 cents apart."""
    bins = torch.arange(BINS, dtype=torch.float64)
    return (LOWEST * 2 ** (bins / constant_q.BINS_PER_OCTAVE)).to(dtype)


def frame_count(samples: int) -> int:
    """Frames of a signal of so many samples at 22,050 Hz; frame t is centred on sample 256 t."""
    return samples // HOP


def resample(audio: Tensor, sample_rate: int) -> Tensor:
    """Bring audio to 22,050 Hz on its device with the published filter, differentiably.

    A sinc of six zero crossings under a Hann window, cut off at 0.99 of the band. It makes one
    phase of the filter for each output sample of a period: right for 16 or 44.1 kHz, endless for
    rates without a large common divisor.

    Args:
        audio: shape (..., N), floating.
        sample_rate: its rate in Hz.

    Returns:
        Shape (..., ceil(22050 N / sample_rate)).

    Raises:
        MissingPackage: julius is not installed.
    """
    if sample_rate == SAMPLE_RATE:
        return audio
    julius = require("julius", extra="umss", purpose=f"resample from {sample_rate} Hz")
    length = math.ceil(SAMPLE_RATE * audio.shape[-1] / sample_rate)
    resampled: Tensor = julius.resample_frac(
        audio, sample_rate, SAMPLE_RATE, zeros=6, rolloff=0.99, output_length=length
    )
    return resampled


class HCQT(nn.Module):
    """Harmonic CQT: five constant-Q transforms from 32.7, 65.4, 98.1, 130.8 and 163.5 Hz on.

    60 bins per octave over six octaves. Each octave is a product of frames with cached kernels,
    taken from the signal at half the rate of the octave above; harmonics 1, 2 and 4 share one
    transform of 480 bins.

    The reference of the magnitudes is the largest one of an item, for each harmonic. Under
    ``convention="code"`` it is the largest one of the whole batch, as published, so that the
    features of an item depend on its neighbours.

    Reference:
        Bittner, McFee, Salamon, Li, Bello, "Deep Salience Representations for F0 Estimation in
        Polyphonic Music", 2017; Cuesta, McFee, Gómez, "Multiple F0 Estimation in Vocal Ensembles
        using Convolutional Neural Networks", 2020.
    """

    def __init__(self, *, convention: Convention = "paper") -> None:
        super().__init__()
        choice("HCQT", "convention", convention, ("paper", "code"))
        self.convention = convention
        blocks = constant_q.half_band_blocks()
        self.register_buffer("half_band", blocks.float(), persistent=False)
        for name, bank in _BANKS.items():
            for level in range(bank.octaves):
                kernels = constant_q.octave_kernels(bank, SAMPLE_RATE, level, _HALF_WIDTHS[name])
                # the loudness of a bin as librosa gives it; only ratios within a harmonic matter
                last = (bank.octaves - level) * constant_q.BINS_PER_OCTAVE
                centre = bank.frequencies()[last - constant_q.BINS_PER_OCTAVE : last]
                kernels = kernels * torch.sqrt(torch.ceil(constant_q.Q * SAMPLE_RATE / centre))
                both = torch.cat((kernels.real, kernels.imag), 1).float()
                self.register_buffer(f"{name}_{level}", both, persistent=False)

    def forward(
        self, audio: Tensor, frames: range | None = None, reference: Tensor | None = None
    ) -> Features:
        """Features of all frames or of some, which are the same to rounding.

        Args:
            audio: shape (B, N) at 22,050 Hz, N at least 29,184 (1.33 s).
            frames: which of the N // 256 frames, in steps of 1; None means all.
            reference: largest magnitudes from :meth:`reference`, shape (B, 5); None finds them,
                which for some frames means a pass over all.

        Returns:
            Magnitude and phase.

        Raises:
            TypeError: audio is not a floating tensor.
            ValueError: audio has another shape or is too short, or there are no such frames.
        """
        audio = self._checked(audio)
        total = frame_count(audio.shape[-1])
        frames = range(total) if frames is None else frames
        if frames.step != 1 or not 0 <= frames.start < frames.stop <= total:
            raise ValueError(f"HCQT: frames must lie in range(0, {total}), got {frames}")
        if reference is None and len(frames) < total:
            reference = self.reference(audio)
        before = min(frames.start, 1)  # the first difference needs the frame before
        parts = [
            self.coefficients(audio, range(start, min(start + _CHUNK, frames.stop)))
            for start in range(frames.start - before, frames.stop, _CHUNK)
        ]
        values = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
        magnitude = values[..., before:].abs()
        if reference is None:
            reference = self._shared(magnitude.amax((2, 3)))
        # silence has no level of its own: it lies at the floor
        least = torch.finfo(magnitude.dtype).tiny
        ratio = magnitude / reference.clamp_min(least)[:, :, None, None]
        level = 20 * torch.log10(ratio.clamp_min(10 ** (FLOOR / 20)))
        return Features(level, self._differences(values, before))

    def reference(self, audio: Tensor) -> Tensor:
        """Largest magnitude of each harmonic, shape (B, 5), in memory that does not grow with N."""
        audio = self._checked(audio)
        total = frame_count(audio.shape[-1])
        largest = audio.new_zeros(audio.shape[0], HARMONICS)
        for start in range(0, total, _CHUNK):
            part = self.coefficients(audio, range(start, min(start + _CHUNK, total)))
            largest = torch.maximum(largest, part.abs().amax((2, 3)))
        return self._shared(largest)

    def coefficients(self, audio: Tensor, frames: range) -> Tensor:
        """Complex transform (B, 5, 360, len(frames)) of some frames, from the samples near them."""
        samples = audio.shape[-1]
        # all starts are multiples of the coarsest octave's grid: its samples stay the same ones
        first = max(frames.start * HOP - _CONTEXT, 0)
        last = min(frames.stop * HOP + _CONTEXT, samples)
        if last - first < SHORTEST:
            first = max((last - SHORTEST) // HOP * HOP, 0)
        signal = audio[:, first:last]
        octaves: dict[str, list[Tensor]] = {name: [] for name in _BANKS}
        for level in range(_LEVELS):
            for name, bank in _BANKS.items():
                if level < bank.octaves:
                    start = (frames.start * HOP - first) >> level
                    octaves[name].append(self._octave(signal, name, level, start, len(frames)))
            if level + 1 < _LEVELS:
                signal = constant_q.halve(signal, self.get_buffer("half_band"))
        banks = {name: torch.cat(parts[::-1], -1) for name, parts in octaves.items()}
        chosen = [banks[name][..., bin : bin + BINS] for name, bin in _PLACES]
        return torch.stack(chosen, 1).transpose(2, 3)

    def _octave(self, signal: Tensor, name: str, level: int, start: int, count: int) -> Tensor:
        """60 bins of `count` frames, the first centred on sample `start`: (B, count, 60)."""
        kernels, half_width = self.get_buffer(f"{name}_{level}"), _HALF_WIDTHS[name]
        # both ends of the file are reflected; ends of a chunk are too far away to be heard
        padded = functional.pad(signal[:, None], (half_width, half_width), mode="reflect")[:, 0]
        frames = padded[:, start:].unfold(-1, kernels.shape[0], HOP >> level)[:, :count]
        product = frames @ kernels
        real, imaginary = product.chunk(2, -1)
        return torch.complex(real, imaginary)

    def _differences(self, values: Tensor, before: int) -> Tensor:
        """Phase differences, unwrapped; the published code keeps i times the first coefficient."""
        angle = values.angle()
        steps = angle.diff(dim=-1)
        steps = steps - 2 * math.pi * torch.round(steps / (2 * math.pi))
        if before:
            return steps
        first = (1j * values[..., :1]).angle()
        return torch.cat((first, steps), -1)

    def _shared(self, largest: Tensor) -> Tensor:
        if self.convention == "code" and largest.shape[0]:
            return largest.amax(0, keepdim=True).expand_as(largest)
        return largest

    def _checked(self, audio: Tensor) -> Tensor:
        audio = floating("HCQT", "audio", audio)
        shape("HCQT", "audio", audio, "(B, N)", None, None)
        if audio.shape[-1] < SHORTEST:
            raise InputError(
                f"HCQT: audio must have at least {SHORTEST} samples at {SAMPLE_RATE} Hz "
                f"({SHORTEST / SAMPLE_RATE:.2f} s), got {audio.shape[-1]}"
            )
        return audio.to(self.get_buffer("half_band").dtype)
