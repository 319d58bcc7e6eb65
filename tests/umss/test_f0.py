from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from rlsv_fast.cli import main
from rlsv_fast.errors import InputError
from rlsv_fast.umss import (
    F0Networks,
    F0Tracks,
    VoasCNN,
    estimate_f0,
    f0,
    read_csv,
    write_csv,
)
from rlsv_fast.umss.multif0 import LateDeep

SONG = "data/choral/ChoralSingingDataset/Nino_Dios"
STEMS = ("nino_Soprano_105", "nino_ContraAlt_107", "nino_tenor1-06-2", "nino_Bajos_104")


@pytest.fixture(scope="module")
def untrained() -> F0Networks:
    torch.manual_seed(0)
    return F0Networks(LateDeep().eval(), VoasCNN().eval())


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32)


def test_chunks_are_the_whole(untrained: F0Networks) -> None:
    audio = noise(30_000)  # 117 frames at the networks' own rate
    options = {"assignment": "network", "keep_salience": True, "thresholds": (0.0,) * 4}
    whole = estimate_f0(audio, 22050, untrained, **options)
    parts = estimate_f0(audio, 22050, untrained, chunk=50, **options)
    assert whole.frequency.shape == (117, 4) and whole.salience.shape == (360, 117)
    np.testing.assert_allclose(parts.salience, whole.salience, rtol=0, atol=2e-6)
    np.testing.assert_allclose(parts.confidence, whole.confidence, rtol=0, atol=2e-6)
    assert set(whole.seconds) == {
        "resample", "hcqt", "multi-f0 network", "assignment network", "decode",
    }  # fmt: skip


def test_tf32_changes_nothing_on_a_cpu(untrained: F0Networks) -> None:
    options = {"assignment": "network", "keep_salience": True, "thresholds": (0.0,) * 4}
    plain, rounded = (
        estimate_f0(noise(30_000), 22050, untrained, precision=precision, **options)
        for precision in ("float32", "tf32")
    )
    np.testing.assert_array_equal(plain.salience, rounded.salience)
    np.testing.assert_array_equal(plain.frequency, rounded.frequency)


def test_only_the_networks_may_round(
    untrained: F0Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flags of a GPU, asked for here: HCQT without, both networks as the precision says."""
    for allowed in (False, True):
        with f0._tf32(allowed, torch.device("cuda")):
            assert torch.backends.cudnn.allow_tf32 == allowed
    for precision in ("float32", "tf32", "bfloat16"):
        asked: list[bool] = []

        def ask(allowed: bool, _: torch.device, asked: list[bool] = asked) -> nullcontext[None]:
            asked.append(allowed)
            return nullcontext()

        monkeypatch.setattr(f0, "_tf32", ask)
        estimate_f0(
            noise(30_000), 22050, untrained, assignment="network", precision=precision, chunk=200
        )
        assert asked == [False, False, precision == "tf32", precision == "tf32"]


def test_bad_recordings(untrained: F0Networks) -> None:
    with pytest.raises(InputError, match=r"lasts 1.00 s; at least 1.32 s are needed"):
        estimate_f0(noise(22050), 22050, untrained)
    with pytest.raises(InputError, match="not finite"):
        estimate_f0(np.full(60_000, np.nan), 22050, untrained)
    with pytest.raises(TypeError, match="floating type, got int16"):
        estimate_f0(np.zeros(60_000, np.int16), 22050, untrained)
    with pytest.raises(ValueError, match=r"shape \(N,\) or \(N, channels\)"):
        estimate_f0(np.zeros((2, 2, 2)), 22050, untrained)
    with pytest.raises(ValueError, match="assignment must be one of 'tracking', 'network'"):
        estimate_f0(noise(60_000), 22050, untrained, assignment="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'tf32', 'bfloat16'"):
        estimate_f0(noise(60_000), 22050, untrained, precision="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="finds 4 voices, got voices=3"):
        estimate_f0(noise(60_000), 22050, untrained, assignment="network", voices=3)
    with pytest.raises(ValueError, match="voices must be from 1 to 5"):
        estimate_f0(noise(60_000), 22050, untrained, voices=6)


def test_csv_there_and_back(tmp_path: Path) -> None:
    tracks = F0Tracks(
        np.arange(3) * 0.0116, np.array([[440.0, 0], [441.25, 110], [0, 0]]), ("soprano", "bass")
    )
    write_csv(tracks, tmp_path / "a.csv")
    again = read_csv(tmp_path / "a.csv")
    assert again.voices == tracks.voices
    np.testing.assert_allclose(again.time, tracks.time, atol=1e-6)
    np.testing.assert_array_equal(again.frequency, tracks.frequency)
    for text, complaint in (
        ("", "line 1 must be 'time'"),
        ("f0,a\n", "line 1 must be 'time'"),
        ("time,a\n0,x\n", "row 2 is not made of numbers"),
        ("time,a\n0,1,2\n", "row 2 has 3 values, expected 2"),
        ("time,a\n0,nan\n", "row 2 holds a value that is negative or not finite"),
        ("time,a\n1,5\n0,5\n", "times must ascend"),
    ):
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(InputError, match=complaint):
            read_csv(tmp_path / "b.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not text"):
        read_csv(tmp_path / "b.csv")


def test_commands_on_real_singing(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four seconds of four voices, 44.1 kHz stereo, against the tracks published with them."""
    pytest.importorskip("soxr")
    weights = [shared / "weights" / n for n in ("late_deep_multif0.npz", "voas_cnn.npz")]
    stems = [shared / SONG / "audio_16kHz" / f"{name}.wav" for name in STEMS]
    if not all(path.is_file() for path in [*weights, *stems]):
        pytest.skip("no pretrained weights or singing beside the checkout")
    assert main(["umss", "import-weights", *map(str, weights), f"--out={tmp_path / 'w'}"]) == 0
    start, length = 30 * 16000, 4 * 16000
    mixture = sum(soundfile.read(path)[0][start : start + length] for path in stems)
    soundfile.write(tmp_path / "choir.wav", 0.2 * np.stack([mixture, mixture], 1), 16000)
    arguments = ["umss", "f0", str(tmp_path / "choir.wav"), f"--weights={tmp_path / 'w'}"]
    capsys.readouterr()
    assert main([*arguments, f"--out={tmp_path / 'out'}"]) == 0
    captured = capsys.readouterr()
    assert "choir_f0.csv" in captured.out and "multi-f0 network" in captured.err
    assert (tmp_path / "out" / "choir_f0.png").stat().st_size > 10_000
    tracks = read_csv(tmp_path / "out" / "choir_f0.csv")
    with np.load(shared / SONG / "Nino_Dios_4sources.npz") as file:
        published = file["nino_dios_Sno_105_Alt_107_t1-06-2_Bos_104"][start // 256 :]
    right = []
    for voice in range(4):
        both = published[np.round(tracks.time * 62.5).astype(int), voice]
        compared = (both > 0) & (tracks.frequency[:, voice] > 0)
        cents = 1200 * np.abs(np.log2(tracks.frequency[compared, voice] / both[compared]))
        right.append((cents < 50).mean())
    assert np.mean(right) > 0.8, right

    assert main([*arguments, f"--out={tmp_path / 'out'}"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_commands_complain_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLSV_FAST_WEIGHTS", str(tmp_path / "none"))
    soundfile.write(tmp_path / "a.wav", noise(30_000) / 10, 22050)
    for arguments, complaint in (
        (["f0", str(tmp_path / "a.wav")], "no weights there; make them from the published files"),
        (["f0", "a.wav", "b/a.wav"], "two recordings are named 'a'"),
        (["import-weights", str(tmp_path / "a.wav")], "expected a file that ends in"),
        (["f0"], "required: FILE"),
        ([], "required: COMMAND"),
    ):
        assert main(["umss", *arguments]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and complaint in lines[0], lines
