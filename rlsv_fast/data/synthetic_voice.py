"""A singing voice made with numpy: glottal pulses through moving formants, consonants and breath.

The source is a pulse train whose fundamental glides between notes and vibrates; the filter is a
cascade of resonators (the formants of the sung vowel), applied frame by frame in the frequency
domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
ComplexArray: TypeAlias = npt.NDArray[np.complex128]

# First four formants in Hz of an adult male voice; a singer scales them by the tract factor.
VOWELS = {
    "a": (730.0, 1090.0, 2440.0, 3400.0),
    "e": (530.0, 1840.0, 2480.0, 3500.0),
    "i": (270.0, 2290.0, 3010.0, 3600.0),
    "o": (570.0, 840.0, 2410.0, 3300.0),
    "u": (300.0, 870.0, 2240.0, 3300.0),
}
_BANDWIDTHS = (70.0, 90.0, 130.0, 180.0)
# The resonances above stay in place; without them the voice would have no energy beyond 5 kHz.
_UPPER_FORMANTS = (4500.0, 5600.0, 6700.0, 7800.0, 9000.0)
_UPPER_BANDWIDTH = 350.0

# Centre in Hz, width in octaves, duration in s, level; "l" stands for l, m, n (no noise).
CONSONANTS = {
    "s": (6800.0, 0.6, 0.11, 0.30),
    "sh": (3400.0, 0.7, 0.12, 0.30),
    "f": (5000.0, 1.6, 0.09, 0.12),
    "t": (4500.0, 0.9, 0.035, 0.45),
    "k": (2200.0, 0.8, 0.045, 0.45),
    "h": (1500.0, 1.8, 0.08, 0.12),
    "l": (1000.0, 1.0, 0.0, 0.0),
}

_CONTROL_RATE = 400.0  # Hz, of pitch and loudness curves
_FRAME = 1024


@dataclass(frozen=True)
class Singer:
    """What makes one voice differ from another.

    Attributes:
        name: shown in the track's name.
        low: lowest note (MIDI number).
        high: highest note.
        tract: factor on all formant frequencies (a shorter vocal tract has higher ones).
        vibrato_rate: in Hz.
        vibrato_depth: in semitones.
        tilt: corner in Hz above which the source falls by 6 dB per octave; higher is brighter.
        breath: level of the aspiration noise relative to the pulses.
    """

    name: str
    low: int
    high: int
    tract: float
    vibrato_rate: float
    vibrato_depth: float
    tilt: float
    breath: float


@dataclass(frozen=True)
class Note:
    """One sung note: times in seconds, pitch as MIDI number, and its syllable."""

    start: float
    duration: float
    pitch: int
    vowel: str
    consonant: str


def sing(
    notes: Sequence[Note], singer: Singer, samples: int, sample_rate: int, rng: np.random.Generator
) -> Array:
    """Render a melody; silent between phrases.

    Args:
        notes: in order of time, not overlapping.
        singer: the voice.
        samples: length of the result.
        sample_rate: in Hz.
        rng: source of drift, jitter and noise.

    Returns:
        Shape (samples,), of no particular level.
    """
    time = np.arange(samples) / sample_rate
    control = np.arange(0.0, samples / sample_rate + 0.5, 1.0 / _CONTROL_RATE)
    pitch = np.interp(time, control, _pitch_curve(notes, singer, control, rng))
    loudness = np.interp(time, control, _loudness_curve(notes, control))
    f0 = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
    source = _pulses(f0, sample_rate) / np.sqrt(sample_rate / f0)
    source += singer.breath * rng.standard_normal(samples)
    voiced = _through_formants(source * loudness, f0, notes, singer, sample_rate)
    voiced /= np.abs(voiced).max() + 1e-12
    for note in notes:
        _add_consonant(voiced, note, sample_rate, rng)
    return voiced


def _pitch_curve(
    notes: Sequence[Note], singer: Singer, control: Array, rng: np.random.Generator
) -> Array:
    """MIDI pitch over time: glides, a scoop into each phrase, late vibrato, slow drift."""
    steps = np.full(control.shape, float(notes[0].pitch))
    vibrato = np.zeros(control.shape)
    scoop = np.zeros(control.shape)
    previous_end = -1.0
    for note in notes:
        since = control - note.start
        steps[since >= 0] = note.pitch
        within = (since >= 0) & (since < note.duration)
        vibrato[within] = np.clip((since[within] - 0.2) / 0.3, 0.0, 1.0)
        if note.start - previous_end > 0.05:
            scoop[within] -= 1.2 * np.exp(-since[within] / 0.06)
        previous_end = note.start + note.duration
    turns = singer.vibrato_rate * control + 0.3 * np.sin(2 * np.pi * 0.37 * control)
    drift = _smooth(rng.standard_normal(control.shape), 0.4) * 1.5
    jitter = _smooth(rng.standard_normal(control.shape), 0.02) * 0.05
    swing = singer.vibrato_depth * vibrato * np.sin(2 * np.pi * turns)
    return _smooth(steps, 0.16) + scoop + swing + drift + jitter


def _loudness_curve(notes: Sequence[Note], control: Array) -> Array:
    curve = np.zeros(control.shape)
    for note in notes:
        voiced = note.start + CONSONANTS[note.consonant][2]
        end = note.start + note.duration
        since = control - voiced
        attack = 1.0 - np.exp(-np.maximum(since, 0.0) / 0.03)
        shape = attack * (0.75 + 0.25 * np.exp(-(since**2)))
        within = (since >= 0) & (control < end)
        curve[within] = (shape * np.clip((end - control) / 0.05, 0.3, 1.0))[within]
    return _smooth(curve, 0.03)


def _pulses(f0: Array, sample_rate: int) -> Array:
    """Band-limited pulse train Σ_k cos(kφ), all harmonics below 0.45 of the rate, closed form."""
    angle = 2.0 * np.pi * np.mod(np.cumsum(f0 / sample_rate), 1.0)
    harmonics = np.floor(0.45 * sample_rate / f0)
    half = np.sin(0.5 * angle)
    singular = np.abs(half) < 1e-9
    kernel = np.sin((harmonics + 0.5) * angle) / np.where(singular, 1.0, 2.0 * half) - 0.5
    return np.asarray(np.where(singular, harmonics, kernel))


def _through_formants(
    source: Array, f0: Array, notes: Sequence[Note], singer: Singer, sample_rate: int
) -> Array:
    """Filter frames of 1024 samples (Hann, half overlapping) by tilt and formants of their time."""
    hop = _FRAME // 2
    count = len(source) // hop + 2
    padded = np.zeros((count + 1) * hop)
    padded[hop : hop + len(source)] = source
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::hop]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(_FRAME) / _FRAME)
    middle = np.arange(count) * hop / sample_rate
    formants = _formant_tracks(notes, singer, middle)
    # a singer never lets the first formant lie under the fundamental
    fundamental = f0[np.minimum(np.arange(count) * hop, len(f0) - 1)]
    formants[0] = np.maximum(formants[0], 1.05 * fundamental)

    frequency = np.fft.rfftfreq(2 * _FRAME, 1.0 / sample_rate).astype(np.float64)
    response: ComplexArray = np.tile(1.0 / (1.0 + 1j * frequency / singer.tilt), (count, 1))
    for track, width in zip(formants, _BANDWIDTHS, strict=True):
        response *= _resonator(track[:, None], width, frequency, sample_rate)
    for formant in _UPPER_FORMANTS:
        centre = np.array([[singer.tract * formant]])
        response *= _resonator(centre, _UPPER_BANDWIDTH, frequency, sample_rate)
    response[:, 0] = 0.0
    filtered = np.fft.irfft(np.fft.rfft(frames * window, 2 * _FRAME) * response)
    return _overlap_add(filtered, hop)[hop : hop + len(source)]


def _resonator(centre: Array, width: float, frequency: Array, sample_rate: int) -> ComplexArray:
    """Two-pole response of unit gain at 0 Hz; 1 where the centre (Hz) is too near to Nyquist."""
    radius = np.exp(-np.pi * width / sample_rate)
    turn = radius * np.exp(-2j * np.pi * frequency / sample_rate)
    cosine = 2.0 * np.cos(2.0 * np.pi * centre / sample_rate)
    response = (1.0 - cosine * radius + radius**2) / (1.0 - cosine * turn + turn**2)
    return np.where(centre < 0.45 * sample_rate, response, 1.0)


def _overlap_add(frames: Array, hop: int) -> Array:
    """Sum frames whose length is a multiple of `hop` at multiples of `hop`."""
    blocks = frames.reshape(len(frames), -1, hop)
    total = np.zeros((len(frames) + blocks.shape[1] - 1, hop))
    for index in range(blocks.shape[1]):
        total[index : index + len(frames)] += blocks[:, index]
    return total.ravel()


def _formant_tracks(notes: Sequence[Note], singer: Singer, times: Array) -> Array:
    """Shape (4, frames): formants in Hz, moving from vowel to vowel within about 80 ms."""
    changes = [times[0] - 1.0]
    values = [VOWELS[notes[0].vowel]]
    for before, after in zip(notes, notes[1:], strict=False):
        changes += [after.start - 0.04, after.start + 0.04]
        values += [VOWELS[before.vowel], VOWELS[after.vowel]]
    moving = [np.interp(times, changes, column) for column in zip(*values, strict=True)]
    return singer.tract * np.stack(moving)


def _add_consonant(voice: Array, note: Note, sample_rate: int, rng: np.random.Generator) -> None:
    centre, width, duration, level = CONSONANTS[note.consonant]
    start = round(note.start * sample_rate)
    length = min(round(duration * sample_rate), len(voice) - start)
    if length < 8:
        return
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1.0 / sample_rate)
    octaves = np.log2(np.maximum(frequency, 20.0) / min(centre, 0.35 * sample_rate))
    noise = np.fft.irfft(spectrum * np.exp(-0.5 * (octaves / (0.5 * width)) ** 2), length)
    envelope = np.sin(np.pi * (np.arange(length) + 0.5) / length)
    peak = np.abs(noise).max()
    voice[start : start + length] += 0.6 * level * (noise / (peak + 1e-12)) * envelope


def _smooth(curve: Array, seconds: float) -> Array:
    """Hann-weighted moving average of a control curve, edges held."""
    taps = 2 * max(round(0.5 * seconds * _CONTROL_RATE), 1) + 1
    kernel = np.hanning(taps + 2)[1:-1]
    padded = np.pad(curve, taps // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")
