"""Music of two channels, small enough for many trainings in a test."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.training import tiny

SMALL = [
    "--preset=small",
    "--device=cpu",
    "--set=data.sample_rate=8000",
    "--set=data.segment_length=2000",
    "--set=data.overlap=1000",
    "--set=model.kernel_size=64",
    "--set=model.hop=16",
    "--set=training.batch_size=2",
    "--set=training.checkpoint_every=20",
]


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("music")
    for subset, seeds in (("train", (0, 1)), ("test", (2,))):
        (root / subset).mkdir()
        for seed in seeds:
            track = tiny.track(seed=seed)
            samples = np.stack([track.accompaniment, track.voice], axis=1)
            soundfile.write(root / subset / f"song{seed}.wav", samples, 8000, subtype="FLOAT")
    return root
