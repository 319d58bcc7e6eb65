"""The decoder of the trainable separator: from an embedding and a pitch to a voice's parameters."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from rlsv_fast.ops import _check
from rlsv_fast.umss.recurrence import recurrent
from rlsv_fast.umss.synthesis import VoiceParameters, exp_sigmoid

_LOWEST, _HIGHEST = (12 * math.log2(hertz / 440) + 69 for hertz in (20.0, 8000.0))


def unit_pitch(f0: Tensor) -> Tensor:
    """Pitch on a scale of semitones with 20 Hz at 0 and 8 kHz at 1; 0 Hz lies where MIDI has its 0.

    Args:
        f0: in Hz, not negative, any shape.

    Returns:
        The shape of f0; it is not clipped.
    """
    heard = f0 > 0
    semitones = 12 * (torch.where(heard, f0, 440.0) / 440).log2() + 69
    return (torch.where(heard, semitones, 0.0) - _LOWEST) / (_HIGHEST - _LOWEST)


def _blocks(size: int, hidden: int) -> nn.Sequential:
    """Three layers of ``hidden`` units, each of them normalised."""
    layers: list[nn.Module] = []
    for inputs in (size, hidden, hidden):
        layers += [nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


class ParameterDecoder(nn.Module):
    """From the embedding of a mixture and the pitch of each voice to what synthesises it.

    All voices read the same embedding and are told apart by their pitch alone, so what is computed
    of the embedding is computed once for all of them. 4,277,248 parameters before the heads,
    78,279 in them.

    Args:
        embedding: E, values of a frame.
        hidden: units of each layer.
        order: P, of the all-pole filter.
        noise_bins: F, of the filter of the noise, which the last frame decides for all of them.
        roll_off: a slope of the glottal source for each ``"frame"``, up to 20 dB an octave, or for
            the whole ``"excerpt"``, up to 15; without it the slope is not the decoder's business.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", TASLP 2023, section III.
    """

    def __init__(
        self,
        *,
        embedding: int = 128,
        hidden: int = 512,
        order: int = 20,
        noise_bins: int = 40,
        roll_off: Literal["frame", "excerpt"] | None = None,
    ) -> None:
        super().__init__()
        name = "ParameterDecoder"
        _check.integer(name, "embedding", embedding, 1)
        _check.integer(name, "hidden", hidden, 1)
        _check.integer(name, "order", order, 1)
        _check.integer(name, "noise_bins", noise_bins, 2)
        _check.choice(name, "roll_off", roll_off, ("frame", "excerpt", None))
        self.pitch = _blocks(1, hidden)
        self.sound = _blocks(embedding, hidden)
        self.recurrent = nn.GRU(2 * hidden, hidden, batch_first=True)
        self.shared = _blocks(hidden, hidden)
        self.harmonic_amplitude = nn.Linear(hidden, 1)
        self.noise_gain = nn.Linear(hidden, 1)
        self.line_spectrum = nn.Linear(hidden, order + 1)
        self.noise_magnitudes = nn.GRU(hidden, noise_bins, batch_first=True)
        self.frame_slope = nn.Linear(hidden, 1) if roll_off == "frame" else None
        self.excerpt_slope = nn.GRU(hidden, 1, batch_first=True) if roll_off == "excerpt" else None

    def forward(self, embedding: Tensor, f0: Tensor) -> tuple[VoiceParameters, Tensor | None]:
        """Decode V voices of B items as B V signals: voice v of item b is number b V + v.

        Args:
            embedding: shape (B, T, E).
            f0: in Hz, 0 where unvoiced, shape (B, V, T).

        Returns:
            The parameters of the signals, and their roll-off in dB per octave: shape (B V, T) for
            each frame, (B V, 1) for an excerpt, None where it is constant.

        Raises:
            TypeError: an argument is not a floating tensor.
            ValueError: the shapes do not fit, or there are no frames.
        """
        op = "ParameterDecoder"
        embedding = _check.floating(op, "embedding", embedding)
        f0 = _check.floating(op, "f0", f0)
        _check.shape(op, "embedding", embedding, "(B, T, E)", None, None, None)
        items, frames, _ = embedding.shape
        _check.shape(op, "f0", f0, f"({items}, V, {frames}) as embedding", items, None, frames)
        if not frames:
            raise ValueError(f"{op}: embedding must have frames, got {tuple(embedding.shape)}")
        pitch = self.pitch(unit_pitch(f0).unsqueeze(-1))
        sound = self.sound(embedding).unsqueeze(1)
        hidden = self.shared(recurrent(self.recurrent, pitch, sound).flatten(0, 1))
        parameters = VoiceParameters(
            harmonic_amplitude=self.harmonic_amplitude(hidden).squeeze(-1),
            noise_gain=self.noise_gain(hidden).squeeze(-1),
            line_spectrum=self.line_spectrum(hidden),
            noise_magnitudes=recurrent(self.noise_magnitudes, hidden)[:, -1],
        )
        return parameters, self._roll_off(hidden)

    def _roll_off(self, hidden: Tensor) -> Tensor | None:
        if self.frame_slope is not None:
            return exp_sigmoid(self.frame_slope(hidden).squeeze(-1), maximum=20.0)
        if self.excerpt_slope is not None:
            last = recurrent(self.excerpt_slope, hidden)[:, -1]
            return exp_sigmoid(4 * last, maximum=15.0, exponent=2.0)
        return None
