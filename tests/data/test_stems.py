from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rlsv_fast.data import find_tracks, load_track
from rlsv_fast.data.stems import STREAM_ORDER
from rlsv_fast.errors import InputError, MissingPackage

RATE = 44100


def write_stem_file(path: Path, levels: list[float], *, rate: int = RATE) -> None:
    """A media file with one stereo stream per level, constant at +level left and 0 right."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        # lossless, so that levels can be compared
        streams = [container.add_stream("alac", rate=rate, layout="stereo") for _ in levels]
        for stream, level in zip(streams, levels, strict=True):
            samples = np.zeros((2, 4096), dtype=np.int16)
            samples[0] = round(level * 32768)
            frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="stereo")
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def test_streams_are_told_apart_and_down_mixed(tmp_path: Path) -> None:
    levels = {"mixture": 0.9, "drums": 0.1, "bass": 0.2, "other": 0.3, "vocals": 0.4}
    write_stem_file(tmp_path / "train/song é.stem.mp4", [levels[name] for name in STREAM_ORDER])
    (track,) = find_tracks(tmp_path, "train")
    assert (track.name, track.kind) == ("song é", "stem")
    audio = load_track(track, RATE)
    assert audio.voice.shape == (4096,)
    assert audio.voice.dtype == np.float32
    np.testing.assert_allclose(audio.voice, 0.2, atol=1e-4)
    np.testing.assert_allclose(audio.mixture, 0.45, atol=1e-4)
    np.testing.assert_allclose(audio.accompaniment, 0.3, atol=2e-4)


def test_bad_stem_files(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_stem_file(tmp_path / "two/train/x.stem.mp4", [0.1, 0.2])
    (track,) = find_tracks(tmp_path / "two", "train")
    with pytest.raises(InputError, match=r"x.stem.mp4: 2 audio stream\(s\), expected 5"):
        load_track(track, RATE)

    (tmp_path / "bad/train").mkdir(parents=True)
    (tmp_path / "bad/train/x.stem.mp4").write_bytes(b"nothing that a decoder knows" * 50)
    (track,) = find_tracks(tmp_path / "bad", "train")
    with pytest.raises(InputError, match=r"x.stem.mp4: cannot be decoded"):
        load_track(track, RATE)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/x.stem.mp4").touch()
    (track,) = find_tracks(tmp_path, "train")

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr("rlsv_fast.errors.importlib.import_module", absent)
    with pytest.raises(MissingPackage, match=r"rlsv_fast\[stems\]"):
        load_track(track, RATE)


def test_real_stem_file_agrees_with_its_wav_export(shared: Path) -> None:
    pytest.importorskip("av")
    (track,) = find_tracks(shared / "data" / "stems", "test")
    audio = load_track(track, RATE)
    folder = shared / "data" / "multitrack" / "test" / track.name
    for name, samples in {"vocals": audio.voice, "mixture": audio.mixture}.items():
        exported, _ = soundfile.read(str(folder / f"{name}.wav"))
        assert samples.shape == exported.shape[:1]
        difference = samples - exported.mean(axis=1)  # the export clips at full scale
        assert np.linalg.norm(difference) < 0.02 * np.linalg.norm(samples)
