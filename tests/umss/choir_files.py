"""Small songs on disk, in the layouts of the data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
PITCHES = {"s": 400.0, "a": 300.0, "t": 200.0, "b": 120.0}


def tone(pitch: float, seconds: float, rate: int = RATE, level: float = 0.2) -> np.ndarray:
    """Harmonics that fall off, float64."""
    time = np.arange(round(seconds * rate)) / rate
    waves = [np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6)]
    return level * np.sum(waves, 0)


def stem(
    path: Path, voice: str, seconds: float = 3.0, *, detune: float = 0.0, f0: bool = True
) -> None:
    """A steady voice, and its f0 as an array beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pitch = PITCHES[voice] + detune
    soundfile.write(path, tone(pitch, seconds), RATE, subtype="FLOAT")
    if f0:
        np.save(path.with_suffix(".npy"), np.full(-(-round(seconds * RATE) // 256), pitch))


def quartet(folder: Path, pattern: str = "{}.wav", seconds: float = 3.0, f0: bool = True) -> Path:
    """Four stems, named by the letters of their voices."""
    for voice in "satb":
        stem(folder / pattern.format(voice), voice, seconds, f0=f0)
    return folder


def choir(folder: Path, seconds: float = 3.0, singers: int = 2, *, f0: bool = True) -> Path:
    """A song as in the Choral Singing Dataset, with tracks for each combination of singers."""
    names = {"s": "nino_Soprano_{}05", "a": "nino_ContraAlt_{}07"}
    names |= {"t": "nino_tenor{}-06-2", "b": "nino_Bajos_{}04"}
    numbers = range(1, singers + 1)
    for voice, name in names.items():
        for n in numbers:
            path = folder / "audio_16kHz" / f"{name.format(n)}.wav"
            stem(path, voice, seconds, detune=10.0 * n, f0=f0)
    frames = -(-round(seconds * RATE) // 256)
    arrays = {}
    for s, a, t, b in np.ndindex(*(singers,) * 4):
        key = f"nino_dios_Sno_{s + 1}05_Alt_{a + 1}07_t{t + 1}-06-2_Bos_{b + 1}04"
        pitches = [PITCHES[v] + 10.0 * (n + 1) for v, n in zip("satb", (s, a, t, b), strict=True)]
        arrays[key] = np.tile(np.float32(pitches), (frames, 1))
    np.savez(folder / f"{folder.name}_4sources.npz", **arrays)
    return folder
