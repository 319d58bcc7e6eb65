"""A model and a data set small enough to train in a test."""

import numpy as np

from rlsv_fast.data import PreparedTrack
from rlsv_fast.training import Config, resolve

SETTINGS = [
    "model.components=8",
    "model.kernel_size=64",
    "model.hop=16",
    "data.sample_rate=8000",
    "data.segment_length=2000",
    "data.overlap=1000",
    "loss.representation=total-variation",
    "training.batch_size=4",
    "training.learning_rate=1e-3",
    "training.epochs=3",
    "training.noise=1e-3",
]


def config(*overrides: str) -> Config:
    return resolve(overrides=[*SETTINGS, *overrides])


def track(seconds: float = 2.6, seed: int = 0, name: str = "tiny") -> PreparedTrack:
    random = np.random.default_rng(seed)
    time = np.arange(round(8000 * seconds)) / 8000
    voice = (0.3 * np.sin(2 * np.pi * (200 + 40 * np.sin(5 * time)) * time)).astype(np.float32)
    accompaniment = random.normal(0, 0.1, len(time)).astype(np.float32)
    return PreparedTrack(name, 8000, voice + accompaniment, voice, accompaniment)
