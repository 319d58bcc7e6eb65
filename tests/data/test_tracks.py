from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rlsv_fast.data import find_tracks, load_track
from rlsv_fast.data.tracks import LENGTH_TOLERANCE
from rlsv_fast.errors import InputError, MissingPackage

RATE = 8000


def tone(seed: int, samples: int = RATE, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (samples, channels)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), samples, rate, subtype=subtype)


def load(root: Path, rate: int = RATE, **options: str):  # type: ignore[no-untyped-def]
    (track,) = find_tracks(root, "train")
    return load_track(track, rate, **options)


def test_stems_are_summed_and_down_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "Ünïcode name with spaces"
    vocals, drums, bass = tone(0, channels=2), tone(1, channels=2), tone(2)
    mixture = tone(3, channels=2)
    for name, samples in {"vocals": vocals, "drums": drums, "bass": bass}.items():
        write(folder / f"{name}.wav", samples)
    write(folder / "mixture.wav", mixture)
    (track,) = find_tracks(tmp_path, "train")
    assert (track.name, track.kind) == ("Ünïcode name with spaces", "folder")

    audio = load_track(track, RATE)
    np.testing.assert_allclose(audio.voice, vocals.mean(axis=1), atol=1e-7)
    np.testing.assert_allclose(audio.accompaniment, drums.mean(axis=1) + bass[:, 0], atol=1e-7)
    np.testing.assert_allclose(audio.mixture, mixture.mean(axis=1), atol=1e-7)
    assert audio.mixture.dtype == audio.voice.dtype == audio.accompaniment.dtype == np.float32

    audio = load_track(track, RATE, accompaniment="difference")
    np.testing.assert_array_equal(audio.accompaniment, audio.mixture - audio.voice)


def test_missing_parts_are_derived(tmp_path: Path) -> None:
    vocals, mixture, background = tone(0), tone(1), tone(2)
    write(tmp_path / "a/train/x/vocals.wav", vocals)
    write(tmp_path / "a/train/x/mixture.wav", mixture)
    np.testing.assert_array_equal(load(tmp_path / "a").accompaniment, (mixture - vocals)[:, 0])

    write(tmp_path / "b/train/x/Vocals.WAV", vocals)
    write(tmp_path / "b/train/x/accompaniment.wav", background)
    write(tmp_path / "b/train/x/drums.wav", tone(4))  # already part of the accompaniment
    audio = load(tmp_path / "b")
    np.testing.assert_array_equal(audio.accompaniment, background[:, 0])
    np.testing.assert_array_equal(audio.mixture, (vocals + background)[:, 0])
    difference = load(tmp_path / "b", accompaniment="difference")
    np.testing.assert_array_equal(difference.accompaniment, background[:, 0])


def test_two_channel_flac_holds_accompaniment_left_voice_right(tmp_path: Path) -> None:
    samples = tone(0, channels=2)
    write(tmp_path / "train/clip.flac", samples, subtype="PCM_16")
    audio = load(tmp_path)
    np.testing.assert_allclose(audio.accompaniment, samples[:, 0], atol=2e-5)
    np.testing.assert_allclose(audio.voice, samples[:, 1], atol=2e-5)
    np.testing.assert_array_equal(audio.mixture, audio.voice + audio.accompaniment)


@pytest.mark.parametrize("subtype, step", [("PCM_16", 2.0**-15), ("PCM_24", 2.0**-23)])
def test_integer_samples_are_scaled_to_one(tmp_path: Path, subtype: str, step: float) -> None:
    ramp = np.array([[-1.0], [-0.5], [0.0], [0.5], [1.0 - step]])
    write(tmp_path / "train/x/vocals.wav", ramp, subtype=subtype)
    write(tmp_path / "train/x/mixture.wav", ramp, subtype=subtype)
    np.testing.assert_allclose(load(tmp_path).voice, ramp[:, 0], atol=step / 2)


def test_resampling_keeps_a_tone_and_the_sum(tmp_path: Path) -> None:
    pytest.importorskip("soxr")
    time = np.arange(16000) / 16000
    sine = (0.5 * np.sin(2 * np.pi * 440 * time))[:, None]
    write(tmp_path / "train/x/vocals.wav", sine, 16000)
    write(tmp_path / "train/x/other.wav", 0.3 * sine, 16000)
    audio = load(tmp_path, RATE)
    assert len(audio.voice) == len(audio.accompaniment) == len(audio.mixture) == 8000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / RATE)
    np.testing.assert_allclose(audio.voice[500:-500], expected[500:-500], atol=1e-4)
    np.testing.assert_allclose(audio.mixture, audio.voice + audio.accompaniment, atol=1e-6)


def test_resampling_without_soxr_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "train/x/vocals.wav", tone(0))
    write(tmp_path / "train/x/other.wav", tone(0))

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr("rlsv_fast.errors.importlib.import_module", absent)
    with pytest.raises(MissingPackage, match=r"rlsv_fast\[resample\]"):
        load(tmp_path, 16000)


def test_small_differences_in_length_are_cropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "train/x/vocals.wav", tone(0, 1000))
    write(tmp_path / "train/x/other.wav", tone(1, 1000 + LENGTH_TOLERANCE))
    with caplog.at_level(logging.WARNING):
        audio = load(tmp_path)
    assert len(audio.voice) == len(audio.mixture) == 1000
    assert "cropped to the 1000 samples of vocals" in caplog.text


def test_tracks_are_sorted_and_strangers_passed_over(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden"):
        write(tmp_path / f"test/{name}/vocals.wav", tone(0))
    write(tmp_path / "test/c.wav", tone(0, channels=2))
    (tmp_path / "test/d.stem.mp4").touch()
    (tmp_path / "test/notes.txt").touch()
    (tmp_path / "test/a/._vocals.wav").touch()
    tracks = find_tracks(tmp_path, "test")
    assert [(track.name, track.kind) for track in tracks] == [
        ("a", "folder"),
        ("b", "folder"),
        ("c", "two-channel"),
        ("d", "stem"),
    ]


def test_root_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train/x/vocals.wav", tone(0))
    monkeypatch.setenv("MUSDB_PATH", str(tmp_path))
    assert [track.name for track in find_tracks(None, "train")] == ["x"]
    monkeypatch.delenv("MUSDB_PATH")
    with pytest.raises(InputError, match="MUSDB_PATH"):
        find_tracks(None, "train")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def two_rates(folder: Path) -> None:
    write(folder / "other.wav", tone(1), 2 * RATE)


def two_lengths(folder: Path) -> None:
    write(folder / "other.wav", tone(1, RATE // 2))


def with_nan(folder: Path) -> None:
    samples = tone(1)
    samples[7] = np.nan
    write(folder / "other.wav", samples)


def twice_the_same(folder: Path) -> None:
    write(folder / "vocals.flac", tone(1), subtype="PCM_16")


def cut_flac(folder: Path) -> None:
    write(folder / "other.flac", tone(1), subtype="PCM_16")
    truncate(folder / "other.flac")


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "rates": (two_rates, r"vocals.wav: 8000 Hz, but other.wav .* 16000 Hz"),
    "lengths": (two_lengths, r"differ in length, other has 4000 samples and vocals 8000"),
    "nan": (with_nan, r"other.wav: sample 7 is nan"),
    "duplicate": (twice_the_same, r"vocals.wav and vocals.flac are the same stem"),
    "zero bytes": (lambda folder: (folder / "other.wav").touch(), r"other.wav: empty file"),
    "no samples": (lambda folder: write(folder / "other.wav", tone(0, 0)), r"holds no samples"),
    "not audio": (
        lambda folder: (folder / "other.wav").write_bytes(b"not audio at all" * 9),
        r"other.wav: cannot be read as audio",
    ),
    "cut flac": (cut_flac, r"other.flac: (truncated|cannot be read)"),
    "voice alone": (lambda folder: None, r"vocals alone"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_track_folders(tmp_path: Path, name: str) -> None:
    spoil, message = BAD_FOLDERS[name]
    folder = tmp_path / "train" / "x"
    write(folder / "vocals.wav", tone(0))
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_track_without_vocals_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train/x/mixture.wav", tone(0))
    with pytest.raises(InputError, match="x: no vocals among mixture"):
        load(tmp_path)


def test_bad_roots(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_tracks(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match="has no folder 'train'"):
        find_tracks(tmp_path, "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="no tracks found"):
        find_tracks(tmp_path, "train")
    (tmp_path / "train" / "x").mkdir()
    with pytest.raises(InputError, match="x: empty track folder"):
        find_tracks(tmp_path, "train")
    with pytest.raises(InputError, match="'train' or 'test'"):
        find_tracks(tmp_path, "valid")  # type: ignore[arg-type]


def test_two_tracks_of_one_name(tmp_path: Path) -> None:
    write(tmp_path / "train/x/vocals.wav", tone(0))
    (tmp_path / "train/x.stem.mp4").touch()
    with pytest.raises(InputError, match="both track 'x'"):
        find_tracks(tmp_path, "train")


def test_one_channel_cannot_hold_two_sources(tmp_path: Path) -> None:
    write(tmp_path / "train/x.wav", tone(0))
    with pytest.raises(InputError, match=r"x.wav: 1 channel"):
        load(tmp_path)


def test_real_multitracks_with_missing_stems(shared: Path) -> None:
    tracks = {track.name: track for track in find_tracks(shared / "data" / "multitrack", "test")}
    audio = load_track(tracks["rl_ghpages 1_6"], 44100)  # vocals and other, mono
    assert audio.voice.shape == audio.mixture.shape == (132300,)
    full = load_track(tracks["The Easton Ellises - Falcon 69"], 44100)
    difference = load_track(
        tracks["The Easton Ellises - Falcon 69"], 44100, accompaniment="difference"
    )
    residual = full.mixture - full.voice - full.accompaniment  # not an exact sum: it was limited
    assert 0.1 < np.linalg.norm(residual) / np.linalg.norm(full.mixture) < 0.3
    np.testing.assert_allclose(
        difference.mixture, difference.voice + difference.accompaniment, atol=1e-6
    )


def test_real_two_channel_clips(shared: Path) -> None:
    tracks = find_tracks(shared / "data" / "mir1k", "test")
    assert {track.kind for track in tracks} == {"two-channel"}
    audio = load_track(tracks[0], 16000)
    samples, rate = soundfile.read(str(tracks[0].path))
    assert rate == 16000
    np.testing.assert_allclose(audio.voice, samples[:, 1], atol=1e-6)
    np.testing.assert_allclose(audio.accompaniment, samples[:, 0], atol=1e-6)
