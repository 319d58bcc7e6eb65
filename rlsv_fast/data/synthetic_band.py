"""Drums, bass and chords for the synthetic set, made with numpy: one-shots and harmonic tones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Timbre:
    """A pitched instrument.

    Attributes:
        name: shown in the track's name.
        harmonics: amplitudes of the harmonics from the first on.
        attack: time constant of the rise in s.
        decay: time constant of the fall in s; infinite for sustained tones.
    """

    name: str
    harmonics: tuple[float, ...]
    attack: float
    decay: float


@dataclass(frozen=True)
class Tone:
    """One played note: times in seconds, pitch as MIDI number."""

    start: float
    duration: float
    pitch: float
    level: float = 1.0


def play(tones: Sequence[Tone], timbre: Timbre, samples: int, sample_rate: int) -> Array:
    """Render tones of one instrument into an array of shape (samples,)."""
    track = np.zeros(samples)
    for tone in tones:
        start = round(tone.start * sample_rate)
        length = min(round(tone.duration * sample_rate), samples - start)
        if length <= 0:
            continue
        f0 = 440.0 * 2.0 ** ((tone.pitch - 69.0) / 12.0)
        time = np.arange(length) / sample_rate
        envelope = (1.0 - np.exp(-time / timbre.attack)) * np.exp(-time / timbre.decay)
        release = np.clip((tone.duration - time) / 0.02, 0.0, 1.0)
        sound = _harmonic_tone(f0 * time, timbre.harmonics[: int(0.45 * sample_rate / f0)])
        track[start : start + length] += tone.level * envelope * release * sound
    return track


def drum(
    patterns: Mapping[str, str],
    step: float,
    kit: Mapping[str, float],
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Array:
    """Render a drum track.

    Args:
        patterns: for ``"kick"``, ``"snare"`` and ``"hat"`` a string that is repeated to the end,
            one character per step: ``x`` a hit, ``o`` a soft one, anything else none.
        step: duration of a step in s.
        kit: ``kick`` and ``snare`` frequencies in Hz, ``hat`` decay in s.
        samples: length of the result.
        sample_rate: in Hz.
        rng: source of noise and of small differences between hits.

    Returns:
        Shape (samples,), of no particular level.
    """
    time = np.arange(round(0.4 * sample_rate)) / sample_rate
    noise = rng.standard_normal(len(time))
    sweep = np.cumsum(kit["kick"] * (1.0 + 2.5 * np.exp(-time / 0.025))) / sample_rate
    sounds = {
        "kick": np.sin(2 * np.pi * sweep) * np.exp(-time / 0.11),
        "snare": 0.5 * np.sin(2 * np.pi * kit["snare"] * time) * np.exp(-time / 0.06)
        + 0.35 * noise * np.exp(-time / 0.09),
        # twice differenced: white noise without its low end
        "hat": 0.1 * np.diff(noise, n=2, prepend=[0.0, 0.0]) * np.exp(-time / kit["hat"]),
    }
    track = np.zeros(samples)
    for name, pattern in patterns.items():
        for index in range(int(samples / sample_rate / step) + 1):
            level = {"x": 1.0, "o": 0.5}.get(pattern[index % len(pattern)], 0.0)
            start = round(index * step * sample_rate)
            length = min(len(time), samples - start)
            if level and length > 0:
                touch = level * rng.uniform(0.85, 1.0)
                track[start : start + length] += touch * sounds[name][:length]
    return track


def _harmonic_tone(turns: Array, amplitudes: Sequence[float]) -> Array:
    """Σ_k a_k sin(2πk·turns) by Horner's rule: one complex exponential for all harmonics."""
    rotor = np.exp(2j * np.pi * np.mod(turns, 1.0))
    total = np.zeros_like(rotor)
    for amplitude in reversed(amplitudes):
        total = (total + amplitude) * rotor
    return np.asarray(total.imag)
