import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
import torch
from training import tiny
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast import __version__
from rlsv_fast.cli import main
from rlsv_fast.commands.common import chosen_device
from rlsv_fast.data import synthesize
from rlsv_fast.errors import InputError
from rlsv_fast.processes import Processes
from rlsv_fast.training import PRESETS, lock_run, parse_override, read_checkpoint

SETTINGS = [f"--set={setting}" for setting in tiny.SETTINGS] + ["--set=training.max_steps=6"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    synthesize(folder, train_tracks=1, test_tracks=1, seconds=4, sample_rate=8000)
    return folder


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "-q", f"--root={root}", f"--out={folder}", *SETTINGS]) == 0
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("RLSV_FAST_CACHE", str(folder))
    monkeypatch.delenv("MUSDB_PATH", raising=False)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a call that must fail with status 2."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert status == 2, captured.err
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("rlsv-fast: error: "), captured.err
    assert captured.out == ""
    return lines[0]


def test_train_evaluate_separate_report(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), f"--root={root}", f"--out={tmp_path / 'e.json'}"]) == 0
    captured = capsys.readouterr()
    for row in ("learned representation", "STFT (Hamming)", "unprocessed mixture"):
        assert row in captured.out
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["settings"]["step"] == 6
    assert result["settings"]["run"]["model.components"] == 8
    assert result["segments"]

    track = next((root / "test").iterdir())
    arguments = ["separate", str(run), str(track / "mixture.wav")]
    arguments += [f"--vocals={track / 'vocals.wav'}", f"--out={tmp_path / 'out'}"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "SI-SDR" in captured.out and "oracle" in captured.err
    for name in ("mixture_vocals.wav", "mixture_accompaniment.wav"):
        samples, rate = soundfile.read(tmp_path / "out" / name)
        assert (rate, samples.shape) == (8000, (32000,))
    assert "exists already" in complaint(capsys, *arguments)

    pytest.importorskip("matplotlib")
    out = tmp_path / "report"
    assert main(["report", str(run), f"--out={out}", f"--root={root}", "--seconds=1"]) == 0
    assert capsys.readouterr().out == f"{out / 'index.html'}\n"
    assert {"index.html", "examples/01.js", "figures/representation.png"} <= {
        path.relative_to(out).as_posix() for path in out.rglob("*")
    }
    assert "not empty" in complaint(capsys, "report", run, "--out", out)


def test_either_reference_gives_the_same_separation(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track = next((root / "test").iterdir())
    mixture, rate = soundfile.read(track / "mixture.wav", dtype="float32")
    vocals, _ = soundfile.read(track / "vocals.wav", dtype="float32")
    soundfile.write(tmp_path / "band.wav", mixture - vocals, rate, subtype="FLOAT")
    for option, reference in (
        ("--vocals", track / "vocals.wav"),
        ("--accompaniment", tmp_path / "band.wav"),
    ):
        arguments = [option, str(reference), "--out", str(tmp_path / option)]
        assert main(["separate", "-q", str(run), str(track / "mixture.wav"), *arguments]) == 0
    assert capsys.readouterr().err == ""
    for name in ("mixture_vocals.wav", "mixture_accompaniment.wav"):
        first, second = (
            soundfile.read(tmp_path / option / name)[0]
            for option in ("--vocals", "--accompaniment")
        )
        np.testing.assert_allclose(first, second, atol=1e-4)


def test_the_settings_file_of_a_run_trains_its_twin(run: Path, root: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    config = f"--config={run / 'config.toml'}"
    assert main(["train", "-q", config, f"--root={root}", f"--out={twin}"]) == 0
    assert (twin / "config.toml").read_bytes() == (run / "config.toml").read_bytes()
    first, second = read_checkpoint(run).tensors, read_checkpoint(twin).tensors
    assert all(tensor.equal(second[name]) for name, tensor in first.items())


def test_resume_and_seed(run: Path, root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    arguments = ["train", "-q", f"--root={root}", f"--out={other}"]
    assert main([*arguments, *SETTINGS, "--seed=5", "--set=training.max_steps=3"]) == 0
    assert main([*arguments, "--resume", "--set=training.max_steps=6"]) == 0
    first, second = read_checkpoint(run), read_checkpoint(other)
    assert first.state["step"] == second.state["step"] == 6
    assert not first.tensors["model.encoder.kernels"].equal(second.tensors["model.encoder.kernels"])


def test_restartable_begins_a_run_and_then_continues_it(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    arguments = ["train", "-q", "--restartable", f"--root={root}", f"--out={again}", *SETTINGS]
    for steps in (3, 6, 6):
        assert main([*arguments, f"--set=training.max_steps={steps}"]) == 0
        assert read_checkpoint(again).state["step"] == steps
    first, second = read_checkpoint(run).tensors, read_checkpoint(again).tensors
    assert all(tensor.equal(second[name]) for name, tensor in first.items())
    message = "made with model.hop = 16, not 32"
    assert message in complaint(capsys, *arguments, "--set=model.hop=32")


def test_the_gpu_of_one_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    several = Processes(rank=5, size=8, local_rank=1, local_size=4)
    assert chosen_device("cpu", several) == torch.device("cpu")
    with pytest.raises(InputError, match="cuda:0: each process takes the GPU of its own number"):
        chosen_device("cuda:0", several)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="cuda:77: torch sees 2"):
        chosen_device("cuda", Processes(rank=77, size=78, local_rank=77, local_size=78))


def test_epochs_and_the_end_are_told_unless_quiet(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SETTINGS[:-1], "--set=training.epochs=2"]
    arguments = ["train", f"--root={root}", *settings]
    assert main([*arguments, f"--out={tmp_path / 'told'}"]) == 0
    told = capsys.readouterr()
    for start in ("epoch 1: reconstruction ", "epoch 2: reconstruction ", "step "):
        (line,) = (line for line in told.err.splitlines() if line.startswith(start))
        for part in ("steps/s", "segments/s", "waited for data", "decoder", "peak memory"):
            assert part in line
    assert main([*arguments, "-q", f"--out={tmp_path / 'quiet'}"]) == 0
    quiet = capsys.readouterr()
    assert told.out == quiet.out == quiet.err == ""


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ("", "arguments are required: COMMAND; see rlsv-fast --help"),
        ("trian", "invalid choice: 'trian'"),
        ("train --rot=x", "unrecognized arguments: --rot=x"),
        ("train", "give --root DIR or set MUSDB_PATH"),
        ("train --root=nowhere", "nowhere: no such folder"),
        ("train --root={root} --preset=p9", "no preset 'p9'"),
        ("train --root={root} --config=no.toml", "no.toml: cannot be read"),
        ("train --root={root} --set=model.hop=0", "--set: model.hop must be"),
        ("train --root={root} --set=model.hopp=1", "did you mean 'model.hop'"),
        ("train --root={root} --seed=-1", "training.seed must be an integer"),
        ("train --root=nowhere --set=training.cuda_graph=on -d cpu", "needs a CUDA device"),
        ("train --root={root} --device=tpu", "--device tpu: expected cpu, cuda"),
        ("train --root={root} --device=cuda:77", "--device cuda:77: torch "),
        ("train --root={root} --resume", "--resume needs --out RUN"),
        ("train --root={root} --resume --out={tmp}", "not a run folder"),
        ("train --root={root} --restartable", "--restartable needs --out RUN"),
        ("train --root={root} --restartable --resume", "not allowed with argument"),
        ("train --root={root} --out={run}", "continue it with --resume"),
        ("train --root={root} --set=data.segment_length=1000000", "longer than"),
        ("evaluate nowhere --root={root}", "nowhere: no such run folder"),
        ("evaluate {run} --root=nowhere", "nowhere: no such folder"),
        ("evaluate {run} --root={root} --out={run}/log.jsonl", "log.jsonl: exists already"),
        ("separate {run} {root}/nothing.wav", "give --vocals, --accompaniment or both"),
        ("separate {run} {root}/nothing.wav --vocals=v.wav", "nothing.wav: cannot be read"),
        ("separate {run} x.stem.mp4 --vocals=v.wav", "holds its own sources"),
        ("separate {run} x.stem.mp4", "x.stem.mp4: no such file"),
        ("report {root} --out={tmp}/r", "not a run folder"),
        ("report {run}", "required: -o/--out"),
        ("report {run} --out={tmp}/r --examples=-1", "--examples must be at least 0"),
        ("report {run} --out={tmp}/r --seconds=nan", "--seconds from 0.1 to 600"),
        ("synthesize {tmp} --seconds=0", "seconds"),
        ("synthesize {run}", "run: "),
    ],
)
def test_bad_usage_and_bad_input(
    arguments: str,
    fragment: str,
    root: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in run.parent.rglob("*")}
    words = arguments.format(root=root, run=run, tmp=tmp_path).split()
    assert fragment in complaint(capsys, *words)
    assert {path: path.stat().st_mtime_ns for path in run.parent.rglob("*")} == before
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_one_line(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:3000])
    for verb in ("evaluate", "report"):
        options = ["--root", root] if verb == "evaluate" else ["--out", tmp_path / "r"]
        assert "checkpoint.safetensors: truncated" in complaint(capsys, verb, tmp_path, *options)


def test_two_commands_do_not_work_in_one_folder(
    run: Path,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for folder, arguments in (
        (tmp_path / "new", ["train", "--root", root, "--out", tmp_path / "new", *SETTINGS]),
        (run, ["train", "--root", root, "--resume", "--out", run]),
        (tmp_path / "demo" / "run", ["demo"]),
    ):
        with lock_run(folder):
            assert f"another process is working in {folder.name}" in complaint(
                capsys, *arguments
            ).replace(f"{folder.parent}/", "").replace("demo/", "")
    assert list(tmp_path.iterdir()) == []
    with lock_run(Path("runs/p2-1")):
        assert main(["train", "-q", f"--root={root}", *SETTINGS]) == 0
    assert [path.name for path in Path("runs").iterdir()] == ["p2-2"]


def test_scores_belong_to_the_step_of_the_model(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    # a kill leaves it older than the checkpoint
    state = json.loads((copy / "state.json").read_text())
    (copy / "state.json").write_text(json.dumps({**state, "step": 3}))
    assert main(["evaluate", "-q", str(copy), f"--root={root}"]) == 0
    result = json.loads((copy / "evaluation.json").read_text())
    assert result["settings"]["step"] == 6
    assert main(["report", str(copy), f"--out={tmp_path / 'same'}"]) == 0
    assert (tmp_path / "same" / "figures" / "scores.png").exists()
    result["settings"]["step"] = 3
    (copy / "evaluation.json").write_text(json.dumps(result))
    capsys.readouterr()
    assert main(["report", str(copy), f"--out={tmp_path / 'other'}"]) == 0
    assert "no scores: the evaluation was made at step 3" in capsys.readouterr().err
    assert not (tmp_path / "other" / "figures" / "scores.png").exists()


def test_a_report_decodes_the_tracks_it_shows_and_can_do_without(
    run: Path,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    copy = tmp_path / "music"
    shutil.copytree(root, copy)
    (copy / "test" / "~last").mkdir()
    (copy / "test" / "~last" / "vocals.wav").write_bytes(b"no audio")
    arguments = ["report", str(run), f"--root={copy}", "--seconds=1"]
    assert main([*arguments, f"--out={tmp_path / 'one'}", "--examples=1"]) == 0
    assert [path.name for path in (tmp_path / "one" / "examples").glob("*.js")] == ["01.js"]
    capsys.readouterr()
    assert "vocals.wav: cannot be read" in complaint(capsys, *arguments, "--out", tmp_path / "all")
    monkeypatch.setenv("MUSDB_PATH", str(tmp_path / "nowhere"))
    assert main(["report", str(run), f"--out={tmp_path / 'none'}"]) == 0
    assert "MUSDB_PATH: " in capsys.readouterr().err
    assert (tmp_path / "none" / "index.html").exists()
    assert not (tmp_path / "none" / "examples").exists()


def test_a_failed_separation_leaves_nothing(
    run: Path,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    track = next((root / "test").iterdir())
    write = soundfile.write

    def full(file: BinaryIO, *arguments: object, **options: object) -> None:
        write(file, *arguments, **options)
        if "accompaniment" in file.name:
            raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile, "write", full)
    arguments = ["separate", run, track / "mixture.wav", "--vocals", track / "vocals.wav"]
    line = complaint(capsys, *arguments, "--out", tmp_path)
    assert f"{tmp_path / 'mixture_accompaniment.wav'}: cannot be written" in line
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_without_the_characters(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["evaluate", str(run), f"--root={root}", f"--out={tmp_path / 'e.json'}"]) == 0
    assert b"learned representation" in terminal.buffer.getvalue()  # type: ignore[attr-defined]


def test_info_synthesize_and_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert re.search(rf"rlsv_fast +{re.escape(__version__)}\n", capsys.readouterr().out)
    arguments = ["--train-tracks=1", "--test-tracks=1", "--seconds=2", "--sample-rate=8000"]
    assert main(["synthesize", str(tmp_path / "set"), *arguments]) == 0
    assert len(list((tmp_path / "set").rglob("mixture.wav"))) == 2
    capsys.readouterr()
    assert main(["--help"]) == 0
    assert "synthesize" in capsys.readouterr().out


def test_ctrl_c_saves_a_checkpoint_and_exits_130(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "rlsv_fast", "train", f"--root={root}", f"--out={run}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    process = subprocess.Popen(
        [*command, *SETTINGS, "--set=training.max_steps=0", "--set=training.epochs=1000000"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "log.jsonl").exists() and '"step": 5' in (run / "log.jsonl").read_text():
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.05)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "checkpoint saved" in errors and "Traceback" not in errors
    assert read_checkpoint(run).state["step"] >= 5


def test_the_demo_shows_everything_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    settings = dict(parse_override(setting) for setting in tiny.SETTINGS)
    monkeypatch.setitem(PRESETS, "demo", {**settings, "training.max_steps": 4})  # type: ignore[arg-type]
    monkeypatch.setattr("rlsv_fast.commands.demo.TRAIN_TRACKS", 1)
    for _ in range(2):
        assert main(["demo", f"--out={tmp_path}"]) == 0
        captured = capsys.readouterr()
        assert captured.out.count("learned representation") == 1
        assert "unprocessed mixture" in captured.out and "index.html" in captured.out
    assert "4 of 4 steps done" in captured.err  # the second call has nothing left to train
    assert (tmp_path / "run" / "evaluation.json").is_file()
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    assert "made with training.seed = 218" in complaint(
        capsys, "demo", "--out", tmp_path, "--seed=1"
    )
