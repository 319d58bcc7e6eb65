from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rlsv_fast.data import SegmentStore, find_tracks, load_track, prepare_tracks, synthesize
from rlsv_fast.errors import InputError

STEMS = ("vocals", "drums", "bass", "other")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("synthetic") / "set"
    synthesize(directory, seed=1, train_tracks=4, test_tracks=2, seconds=4.0)
    return directory


def digest(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_layout_and_exact_sums(made: Path) -> None:
    assert len(find_tracks(made, "train")) == 4
    assert len(find_tracks(made, "test")) == 2
    for track in find_tracks(made, "train") + find_tracks(made, "test"):
        read = {}
        for name in (*STEMS, "mixture"):
            info = soundfile.info(str(track.path / f"{name}.wav"))
            assert (info.samplerate, info.channels, info.frames) == (44100, 2, 4 * 44100)
            assert info.subtype == "PCM_16"
            read[name], _ = soundfile.read(str(track.path / f"{name}.wav"), dtype="int16")
        total = np.sum([read[name].astype(np.int64) for name in STEMS], axis=0)
        np.testing.assert_array_equal(total, read["mixture"])
        assert max(np.abs(samples).max() for samples in read.values()) < 0.9 * 32768
        assert all(np.abs(samples).max() > 300 for samples in read.values())


def test_voice_is_about_as_loud_as_the_rest_and_rests(made: Path) -> None:
    for track in find_tracks(made, "train") + find_tracks(made, "test"):
        audio = load_track(track, 44100)
        voice, mixture = audio.voice.astype(float), audio.mixture.astype(float)
        scaled = voice * (voice @ mixture) / (voice @ voice)
        residual = scaled - mixture
        assert -3.5 < 10 * np.log10((scaled @ scaled) / (residual @ residual)) < 3.5
        blocks = np.abs(voice).reshape(-1, 2205).max(axis=1)
        assert 0.05 < np.mean(blocks < 1e-3) < 0.6


def test_voice_has_moving_harmonics(made: Path) -> None:
    track = find_tracks(made, "train")[0]
    voice = load_track(track, 44100).voice
    frames = np.lib.stride_tricks.sliding_window_view(voice, 4096)[::1024] * np.hanning(4096)
    spectra = np.abs(np.fft.rfft(frames))
    loud = spectra[np.linalg.norm(spectra, axis=1) > 0.3 * np.linalg.norm(spectra, axis=1).max()]
    # sums of sinusoids: most energy in few bins, and not always the same ones
    share = np.sort(loud**2, axis=1)[:, -40:].sum(axis=1) / (loud**2).sum(axis=1)
    assert np.median(share) > 0.8
    assert len(set(loud.argmax(axis=1))) > 4


def test_same_seed_same_bytes(made: Path, tmp_path: Path) -> None:
    options = {"seconds": 1.0, "sample_rate": 16000}
    for name, seed, count in (("a", 5, 2), ("b", 5, 2), ("c", 6, 2), ("d", 5, 3)):
        synthesize(tmp_path / name, seed=seed, train_tracks=count, test_tracks=1, **options)
    first = digest(tmp_path / "a")
    assert digest(tmp_path / "b") == first
    audio = {path: value for path, value in first.items() if path.endswith(".wav")}
    assert not set(audio.values()) & set(digest(tmp_path / "c").values())
    # more tracks leave the first ones as they were
    more = digest(tmp_path / "d")
    assert all(more[path] == value for path, value in audio.items())
    # written anew, the same again
    synthesize(tmp_path / "a", seed=5, train_tracks=2, test_tracks=1, **options)
    assert digest(tmp_path / "a") == first


def test_mono_set_serves_the_segment_store(tmp_path: Path) -> None:
    folders = synthesize(
        tmp_path / "set", train_tracks=1, test_tracks=0, seconds=2.0, sample_rate=8000, channels=1
    )
    assert [folder.parent.name for folder in folders] == ["train"]
    assert soundfile.info(str(folders[0] / "vocals.wav")).channels == 1
    tracks = prepare_tracks(find_tracks(tmp_path / "set", "train"), 8000, tmp_path / "cache")
    assert len(SegmentStore(tracks, 4000, 2000)) >= 3


def test_readme_is_honest(made: Path) -> None:
    text = (made / "README.txt").read_text()
    assert "not a recording" in text
    assert "seed 1, 4 training and 2 test tracks of 4 s, 44100 Hz, 2 channel(s)" in text


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty, not made by synthesize"):
        synthesize(tmp_path, seconds=1.0)
    with pytest.raises(InputError, match="is a file"):
        synthesize(tmp_path / "mine.txt", seconds=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    options = {"train_tracks": 1, "test_tracks": 0, "seconds": 1.0, "sample_rate": 8000}
    synthesize(tmp_path / "set", **options)
    before = digest(tmp_path / "set")
    with pytest.raises(InputError, match="other settings"):
        synthesize(tmp_path / "set", seed=1, **options)
    assert digest(tmp_path / "set") == before


@pytest.mark.parametrize(
    "options",
    [
        {"seed": -1},
        {"train_tracks": -1},
        {"train_tracks": 0, "test_tracks": 0},
        {"seconds": 0.5},
        {"seconds": float("nan")},
        {"sample_rate": 4000},
        {"channels": 3},
    ],
)
def test_arguments_that_cannot_work(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(InputError):
        synthesize(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()
