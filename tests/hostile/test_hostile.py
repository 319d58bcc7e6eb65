"""A few of the hostile files, and tests of what they have brought to light.

`python tests/hostile` feeds all of them.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hostile.cases import SETTINGS
from hostile.run import all_cases, make_model, run_case
from hostile.sounds import encoded, flac, tone, wav

from rlsv_fast.cli import main
from rlsv_fast.data import find_tracks, load_track, sound, synthesize
from rlsv_fast.data.sound import read_audio
from rlsv_fast.errors import InputError, printable
from rlsv_fast.evaluation import read_json
from rlsv_fast.files import read_bytes
from rlsv_fast.report.curves import read_curves

CASES = {str(case): case for case in all_cases()}
CHOSEN = (
    "stem: nan",
    "stem: flac of 2**36 samples",
    "stem: rate 1 Hz",
    "mixture: flac of 0 samples",
    "stem.mp4: cut at 30%",
    "path: mixture is a fifo",
    "path: a raw file as mixture",
    "path: stem is a link to /dev/zero",
    "name: not UTF-8, trained",
    "name: not UTF-8, separated",
    "name: terminal control, refused",
    "name: mathematics, report",
    "settings: a key with control characters",
    "checkpoint: a header of 2**60 bytes",
    "evaluation.json: nested lists",
    "evaluation.json: a value that is text",
    "log.jsonl: drawn: a loss of 4000 digits",
    "original state: a value that is nan",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("matplotlib")
    pytest.importorskip("av")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLSV_FAST_CACHE", "")
        patch.delenv("MUSDB_PATH", raising=False)
        return make_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", CHOSEN)
def test_a_hostile_file_is_refused_on_one_line_or_taken(name: str, model: Path) -> None:
    result = run_case(CASES[name], model)
    assert result.end in ("refused", "accepted"), result.detail


def test_there_are_hundreds_of_them() -> None:
    assert len(CASES) == len(all_cases()) >= 200


def test_names_that_are_not_utf8_become_text(tmp_path: Path) -> None:
    folder = tmp_path / "train" / os.fsdecode(b"caf\xe9")
    folder.mkdir(parents=True)
    for stem in ("vocals", "mixture"):
        (folder / f"{stem}.wav").write_bytes(encoded(tone()))
    (track,) = find_tracks(tmp_path, "train")
    assert track.name == r"caf\xe9" and track.path == folder
    assert len(load_track(track, 8000).voice) == 8000


def test_audio_is_decoded_from_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.raw"  # a name that tells nothing
    path.write_bytes(encoded(tone(8), subtype="FLOAT"))
    samples, rate = read_audio(path)
    assert (samples.shape, rate) == ((8000, 8), 8000)
    mono, _ = read_audio(path, mono=True)
    np.testing.assert_array_equal(mono, samples.mean(axis=1, dtype=np.float32))
    path.write_bytes(flac(total=9000))
    with pytest.raises(InputError, match="truncated|cannot be read as audio"):
        read_audio(path)
    path.write_bytes(flac(total=0))  # a stream that does not say how long it is
    with pytest.raises(InputError, match="longer than 4 hours, or does not say"):
        read_audio(path)
    monkeypatch.setattr(sound, "LONGEST", 0.5)
    path.write_bytes(encoded(tone()))
    with pytest.raises(InputError, match="longer than"):
        read_audio(path)
    path.write_bytes(wav(rate=999))
    with pytest.raises(InputError, match="sample rate 999 Hz, must be from 1000"):
        read_audio(path)


def test_audio_that_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    path = tmp_path / "x.wav"
    path.write_bytes(wav())
    monkeypatch.setattr(soundfile.SoundFile, "read", full)
    with pytest.raises(InputError, match=r"x\.wav: too long to decode in memory"):
        read_audio(path)


def test_only_regular_files_of_some_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="not a regular file"):
            read_bytes(path, 10)
    (tmp_path / "file").write_bytes(bytes(11))
    assert read_bytes(tmp_path / "file", 11) == bytes(11)
    with pytest.raises(InputError, match="larger than"):
        read_bytes(tmp_path / "file", 10)


def test_complaints_are_printable_and_of_bounded_length(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert printable("a é\x1b[31m\u202e\udce9") == r"a é\x1b[31m\u202e\udce9"
    assert main(["train", f"--root={tmp_path}/\x1b[31m" + "x" * 5000]) == 2
    assert main(["\x1b[31m"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.isprintable() and len(line) < 1100 for line in lines)


def test_only_devices_that_can_work_are_asked_of_torch(capsys: pytest.CaptureFixture[str]) -> None:
    for device in ("mkldnn", "meta", "cpu:x", ""):  # of some, torch says more than one line
        assert main(["train", "--root=.", f"--device={device}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "expected cpu, cuda or cuda:N" in line


def test_synthetic_music_of_any_folder_and_no_other_rate(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    tracks = synthesize(folder, train_tracks=1, test_tracks=0, seconds=1, sample_rate=8000)
    assert len(tracks) == 1 and (tracks[0] / "vocals.wav").stat().st_size > 16000
    with pytest.raises(InputError, match="sample rate must lie between 8000 and 768000"):
        synthesize(tmp_path / "x", sample_rate=2**70)


def test_warnings_are_printable(caplog: pytest.LogCaptureFixture) -> None:
    from rlsv_fast.cli import _make_printable

    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s: cropped", ("\x1b[31m",), None)
    assert _make_printable(record) and record.getMessage() == r"\x1b[31m: cropped"


def test_curves_of_numbers_that_cannot_be_drawn() -> None:
    records = [
        {"kind": "step", "step": step, "total": total}
        for step, total in ((1, 10**4000), (10**4000, 1.0), ("3", 1.0), (4, "1"), (5, 2.5))
    ]
    (curve,) = read_curves(records).values()
    assert [list(part) for part in curve] == [[5.0], [2.5]]


@pytest.mark.parametrize("value", ["loud", {}, [1], True, 10**4000])
def test_evaluations_hold_numbers(value: object, model: Path, tmp_path: Path) -> None:
    whole = json.loads((model / "run/evaluation.json").read_text())
    whole["segments"][0]["values"]["learned"]["mask_si_sdr"] = value
    (tmp_path / "e.json").write_text(json.dumps(whole))
    with pytest.raises(InputError, match="no whole evaluation|cannot read the evaluation"):
        read_json(tmp_path / "e.json")


def test_an_original_state_holds_finite_tensors() -> None:
    from rlsv_fast.nn import load_original_state
    from rlsv_fast.training import resolve
    from rlsv_fast.training.build import build_model

    model = build_model(resolve(overrides=SETTINGS))
    analysis = {
        "conv_a1.weight": torch.full_like(model.encoder.kernels[:, None], torch.nan),
        "conv_a2.weight": "weights",
    }
    with pytest.raises(InputError, match=r"conv_a1.* must be finite; .*conv_a2.* must be a tensor"):
        load_original_state(model, analysis, {})
    with pytest.raises(InputError, match="must be a dictionary of tensors, got list"):
        load_original_state(model, [analysis], {})  # type: ignore[arg-type]
