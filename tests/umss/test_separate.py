"""The command that separates recordings of ensembles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rlsv_fast.cli import main
from rlsv_fast.umss import F0Tracks, import_weights, read_csv, write_csv

RATE = 22050


def note(f0: float, seconds: float = 1.5) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return sum(np.sin(2 * np.pi * f0 * k * time) / k for k in range(1, 8)) / 4


@pytest.fixture
def duet(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """A stereo wav of two notes, their tracks as CSV, and the samples."""
    samples = np.stack([note(200) + note(310), note(200) - 0.5 * note(310)], 1) / 2
    wav, table = tmp_path / "duet.wav", tmp_path / "tracks.csv"
    soundfile.write(wav, samples, RATE, subtype="FLOAT")
    tracks = F0Tracks(np.array([0.0, 2.0]), np.full((2, 2), (310.0, 200.0)), ("high", "low"))
    write_csv(tracks, table)
    return wav, table, samples


def test_voices_of_given_tracks(
    duet: tuple[Path, Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav, table, samples = duet
    out = tmp_path / "out"
    assert main(["umss", "separate", str(wav), f"--f0={table}", f"--out={out}"]) == 0
    printed = capsys.readouterr()
    assert [Path(line).name for line in printed.out.splitlines()] == [
        "duet_high.wav",
        "duet_low.wav",
    ]
    assert "no trained separator" in printed.err and "masks" in printed.err
    assert sorted(path.name for path in out.iterdir()) == ["duet_high.wav", "duet_low.wav"]
    high, low = (soundfile.read(out / f"duet_{name}.wav") for name in ("high", "low"))
    assert high[1] == low[1] == RATE and high[0].shape == samples.shape
    np.testing.assert_allclose(high[0] + low[0], samples, atol=1e-3)
    target = np.stack([note(310), -0.5 * note(310)], 1) / 2
    error = np.square(high[0] - target).sum() / np.square(target).sum()
    assert error < 0.03


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["umss", "separate", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return lines[-1]


def test_what_is_refused(
    duet: tuple[Path, Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav, table, _ = duet
    out = tmp_path / "out"
    out.mkdir()
    assert "letters of satb" in refused(capsys, wav, "--voices", "bass")
    assert "letters of satb" in refused(capsys, wav, "--voices", "0")
    assert "one recording" in refused(capsys, wav, wav, "--f0", table)
    assert "import-weights" in refused(capsys, wav, "--weights", tmp_path, "--out", out)
    assert not list(out.iterdir())
    (out / "duet_low.wav").touch()
    assert "duet_low.wav" in refused(capsys, wav, "--f0", table, "--out", out)
    short = tmp_path / "short.wav"
    soundfile.write(short, np.ones(99), RATE)
    line = refused(capsys, short, "--f0", table, "--out", out)
    assert "short.wav" in line and "too few" in line
    assert [path.name for path in out.iterdir()] == ["duet_low.wav"]


def test_a_choir_with_the_published_networks(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/choral/ChoralSingingDataset/Nino_Dios/audio_16kHz"
    names = ("Soprano_305", "ContraAlt_307", "tenor3-06-2", "Bajos_304")
    parts = [
        soundfile.read(folder / f"nino_{name}.wav", start=160000, frames=48000)[0] for name in names
    ]
    wav, weights, out = tmp_path / "choir.wav", tmp_path / "weights", tmp_path / "out"
    soundfile.write(wav, sum(parts) / 4, 16000)
    import_weights(sorted((shared / "weights").glob("*.npz")), weights)
    assert main(["umss", "separate", str(wav), f"--weights={weights}", f"--out={out}"]) == 0
    voices = ("soprano", "alto", "tenor", "bass")
    expected = {f"choir_{name}" for name in ("f0.csv", "f0.png", *(f"{v}.wav" for v in voices))}
    assert {path.name for path in out.iterdir()} == expected
    tracks = read_csv(out / "choir_f0.csv")
    assert tracks.voices == voices and (tracks.frequency > 0).mean() > 0.5
    for voice, part in zip(voices, parts, strict=True):
        estimate, target = soundfile.read(out / f"choir_{voice}.wav")[0], part / 4
        noise = np.square(estimate - target).sum()
        before = np.square(sum(parts) / 4 - target).sum()
        assert noise < 0.5 * before
