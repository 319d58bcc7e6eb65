from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlsv_fast.data import read_musdb
from rlsv_fast.errors import InputError, MissingPackage


def fake_musdb(tracks: list[SimpleNamespace]) -> SimpleNamespace:
    """Stands in for the package, which cannot even be imported without ffmpeg."""

    class DB(list):  # type: ignore[type-arg]
        def __init__(self, root: str | None, subsets: list[str], is_wav: bool) -> None:
            super().__init__(tracks if subsets == ["test"] else [])
            self.root = root

    return SimpleNamespace(DB=DB)


def track(name: str, vocals: np.ndarray, rest: np.ndarray) -> SimpleNamespace:
    targets = {"vocals": vocals, "accompaniment": rest}
    return SimpleNamespace(
        name=name,
        rate=8000,
        audio=0.5 * (vocals + rest),
        targets={key: SimpleNamespace(audio=value) for key, value in targets.items()},
    )


def test_stereo_and_mono_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vocals, rest = rng.uniform(-1, 1, (2, 100, 2))
    tracks = [track("stereo", vocals, rest), track("mono", vocals[:, 0], rest[:, 0])]
    monkeypatch.setitem(sys.modules, "musdb", fake_musdb(tracks))  # type: ignore[arg-type]
    read = dict(read_musdb(tmp_path, "test", 8000))
    np.testing.assert_allclose(read["stereo"].voice, vocals.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(read["mono"].accompaniment, rest[:, 0], atol=1e-6)
    assert read["mono"].mixture.dtype == np.float32
    difference = dict(read_musdb(tmp_path, "test", 8000, accompaniment="difference"))["mono"]
    np.testing.assert_allclose(difference.accompaniment, 0.5 * (rest - vocals)[:, 0], atol=1e-6)
    with pytest.raises(InputError, match="finds no .stem.mp4 tracks in 'train'"):
        list(read_musdb(tmp_path, "train", 8000))


def test_missing_ffmpeg_is_one_actionable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise RuntimeError("ffmpeg or ffprobe could not be found!\nMore lines")

    monkeypatch.setattr("rlsv_fast.errors.importlib.import_module", refuse)
    with pytest.raises(MissingPackage, match="install ffmpeg") as caught:
        next(read_musdb(None, "train", 8000))
    assert "\n" not in str(caught.value)
