"""The source-filter model of a singing voice: from its parameters to its waveform."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.ops import _check
from rlsv_fast.umss.filters import filter_frames, impulse_response, roll_off_response


def exp_sigmoid(inputs: Tensor, *, maximum: float = 2.0, exponent: float = 10.0) -> Tensor:
    r"""A positive amplitude from any number.

    .. math:: y = M \, \sigma(x)^{\ln E} + 10^{-7}

    Args:
        inputs: x, any shape.
        maximum: M, what it tends to.
        exponent: E.

    Returns:
        The shape of the inputs, in (0, M].

    Reference:
        Engel, Hantrakul, Gu, Roberts, "DDSP: Differentiable Digital Signal Processing", ICLR 2020,
        B.5.
    """
    inputs = _check.floating("exp_sigmoid", "inputs", inputs)
    power = math.log(exponent) * nn.functional.logsigmoid(inputs)
    return maximum * power.exp() + 1e-7


def line_spectral_frequencies(inputs: Tensor) -> Tensor:
    r"""P ascending angles in (0, pi) from P + 1 numbers: their shares of the half circle.

    .. math:: w_k = \pi \, \sum_{i \le k} x_i / \sum_i x_i, \quad x = \text{exp\_sigmoid}(u)

    Args:
        inputs: u, shape (..., P + 1).

    Returns:
        Shape (..., P), in radians.
    """
    inputs = _check.floating("line_spectral_frequencies", "inputs", inputs)
    shares = exp_sigmoid(inputs)
    angles = math.pi * (shares / shares.sum(-1, keepdim=True)).cumsum(-1)
    return angles[..., :-1]


class VoiceParameters(NamedTuple):
    """What the decoder says of each voice, before the activations.

    T frames of B signals; a voice of an item of a batch is a signal of its own.
    """

    harmonic_amplitude: Tensor
    """(B, T)"""
    noise_gain: Tensor
    """(B, T)"""
    line_spectrum: Tensor
    """(B, T, P + 1), of the vocal tract"""
    noise_magnitudes: Tensor
    """(B, F), response of the filter of the noise, one for all frames"""


class SourceFilterSynthesizer(nn.Module):
    r"""Harmonics and noise through an all-pole filter: a glottal source and a vocal tract.

    .. math:: s = \text{all-pole}\big( \text{roll-off} * \text{harmonics}(f_0, a) + g \cdot
        (\text{shape} * \text{noise}) \big)

    Harmonics of equal amplitude up to half the sample rate, sloping by ``roll_off`` dB an octave
    above ``reference``; noise uniform in [-1, 1), filtered, with a gain a frame. It has no
    parameters of its own.

    Args:
        sample_rate: in Hz.
        hop: samples from one frame to the next.
        harmonics: K, the most of them.
        roll_off: in dB per octave, for every frame; another can be given with each call.
        reference: in Hz, where the slope begins.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", TASLP 2023, section III.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        hop: int = 256,
        harmonics: int = 101,
        roll_off: float = 6.0,
        reference: float = 200.0,
    ) -> None:
        super().__init__()
        name = "SourceFilterSynthesizer"
        _check.integer(name, "sample_rate", sample_rate, 1)
        _check.integer(name, "hop", hop, 1)
        _check.integer(name, "harmonics", harmonics, 1)
        self.sample_rate = sample_rate
        self.hop = hop
        self.harmonics = harmonics
        self.roll_off = float(roll_off)
        self.reference = float(reference)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"sample_rate={self.sample_rate}, hop={self.hop}, harmonics={self.harmonics}"

    def forward(
        self,
        f0: Tensor,
        parameters: VoiceParameters,
        *,
        roll_off: Tensor | None = None,
        initial_phase: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Synthesise voices.

        Args:
            f0: fundamental frequencies in Hz, shape (B, T).
            parameters: of the same frames.
            roll_off: in dB per octave, shape (B, T) or (B, 1); default: the module's.
            initial_phase: of the fundamental before the first sample, in radians, shape (B,).
            generator: of the noise, on the device of the parameters.

        Returns:
            Shape (B, T hop).
        """
        harmonics = self.source(
            f0,
            exp_sigmoid(parameters.harmonic_amplitude),
            roll_off=roll_off,
            initial_phase=initial_phase,
        )
        noise = self.noise(
            exp_sigmoid(2.5 * parameters.noise_magnitudes),
            exp_sigmoid(parameters.noise_gain, maximum=1.0),
            generator=generator,
        )
        angles = line_spectral_frequencies(parameters.line_spectrum)
        return ops.all_pole(
            harmonics + noise, ops.lsf_to_lpc(angles), frame=2 * self.hop, hop=self.hop
        )

    def turns(self, f0: Tensor) -> Tensor:
        """Turns that each frame adds to the phase of the fundamental.

        Frequencies are linear from the centre of one frame to the next, and constant before the
        first and behind the last; the weight of a neighbour is the sum of its shares in a frame.

        Args:
            f0: in Hz, shape (B, T).

        Returns:
            Shape (B, T).
        """
        half = self.hop // 2
        neighbour = half / 2 - half * half / (2 * self.hop)
        before = torch.cat([f0[:, :1], f0[:, :-1]], 1)
        after = torch.cat([f0[:, 1:], f0[:, -1:]], 1)
        cycles = (self.hop - 2 * neighbour) * f0 + neighbour * (before + after)
        return cycles / self.sample_rate

    def source(
        self,
        f0: Tensor,
        amplitude: Tensor,
        *,
        roll_off: Tensor | None = None,
        initial_phase: Tensor | None = None,
    ) -> Tensor:
        """The harmonics with their slope.

        Args:
            f0: in Hz, shape (B, T); frames of amplitude 0 are silent.
            amplitude: shape (B, T).
            roll_off: as for the call.
            initial_phase: of the fundamental before the first sample, in radians, shape (B,).

        Returns:
            Shape (B, T hop).
        """
        signal, _ = ops.harmonic_bank(
            f0,
            amplitude,
            hop=self.hop,
            sample_rate=self.sample_rate,
            harmonics=self.harmonics,
            initial_phase=initial_phase,
        )
        if roll_off is None:
            roll_off = signal.new_full((1, 1), self.roll_off)
        response = roll_off_response(
            roll_off, sample_rate=self.sample_rate, reference=self.reference
        )
        return filter_frames(signal, impulse_response(response))

    def noise(
        self, magnitudes: Tensor, gain: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Noise of one colour with a loudness of its own in each frame.

        Args:
            magnitudes: of the response, shape (B, F).
            gain: shape (B, T).
            generator: of the noise.

        Returns:
            Shape (B, T hop).
        """
        items, count = gain.shape
        uniform = torch.rand(
            (items, (count + 1) * self.hop),
            generator=generator,
            dtype=gain.dtype,
            device=gain.device,
        )
        coloured = filter_frames(2 * uniform - 1, impulse_response(magnitudes).unsqueeze(1))
        window = torch.hann_window(2 * self.hop, dtype=gain.dtype, device=gain.device)
        windows = window.repeat(count, 1)
        windows[:1, : self.hop] = 1  # nothing overlaps with the first half of the first frame
        cut = ops.frames(coloured, self.hop, kernel_size=2 * self.hop, count=count)
        return ops.overlap_add(
            cut * windows * gain.unsqueeze(-1), self.hop, length=count * self.hop
        )
