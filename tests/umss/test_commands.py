"""``rlsv-fast umss train`` and ``umss evaluate``, from a folder of songs to tables."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast.cli import main
from rlsv_fast.training import read_checkpoint
from rlsv_fast.umss import robustness
from umss.choir_files import quartet
from umss.small import LONG, SETTINGS, make_songs, shrink

OPTIONS = [f"--set={setting}" for setting in SETTINGS]


@pytest.fixture(scope="module", autouse=True)
def all_small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch.setattr)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choirs")
    make_songs(folder, seconds=3.0)
    return folder


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    long = "--set=data.segment_length=16000"
    assert main(["umss", "train", "-q", f"--root={root}", f"--out={folder}", *OPTIONS, long]) == 0
    return folder


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a call that must fail with status 2."""
    status = main(["umss", *map(str, arguments)])
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert status == 2 and len(lines) == 1 and captured.out == "", captured.err
    assert lines[0].startswith("rlsv-fast: error: ")
    return lines[0]


def test_training_says_what_it_does_and_goes_on(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["umss", "train", "--root", str(root), "--preset", "umss-supervised", *OPTIONS]
    assert main([*arguments, "--seed=5", "--set=training.max_steps=3"]) == 0
    told = capsys.readouterr().err
    folder = tmp_path / "runs" / "umss-supervised-1"
    assert "training in runs/umss-supervised-1: 0.0" in told
    assert "4 excerpts an epoch of 1 songs, 0 of 3 steps done, on cpu in float32" in told
    assert "epoch 1: loss " in told and "validation" in told and "best" in told
    assert "trained: rlsv-fast umss evaluate runs/umss-supervised-1 --root DIR" in told
    assert "seed = 5" in (folder / "config.toml").read_text()
    arguments = ["umss", "train", "--root", str(root), "--resume", "--out", str(folder)]
    assert main([*arguments, "--set=training.max_steps=5"]) == 0
    assert "3 of 5 steps done" in capsys.readouterr().err
    assert read_checkpoint(folder).state["step"] == 5


def test_what_is_said_of_f0_networks_alone(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["umss", "train", f"--root={root}", f"--out={tmp_path / 'run'}", *OPTIONS]
    assert main([*arguments, "--preset=w-up-1", f"--set={LONG}", "--set=training.epochs=1"]) == 0
    told = re.search(r"epoch 1: loss (\S+), validation (\S+), best", capsys.readouterr().err)
    assert told is not None and float(told[1]) > 0 and float(told[2]) > 0


def test_a_file_of_settings_names_the_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('[data]\nsegment_length = 4096\nvalidation = "one"\n')
    settings = ["--set=training.max_steps=1", "--set=training.batch_size=1", "--set=data.passes=1"]
    assert main(["umss", "train", "-q", f"--root={root}", "--config=mine.toml", *settings]) == 0
    assert (tmp_path / "runs" / "mine-1" / "config.toml").is_file()


def test_ctrl_c_tells_how_to_go_on(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rlsv_fast.umss.trainer import EnsembleTrainer

    whole = EnsembleTrainer.issued

    def issued(self: EnsembleTrainer) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return whole(self)

    monkeypatch.setattr(EnsembleTrainer, "issued", issued)
    out = tmp_path / "run"
    assert main(["umss", "train", "-q", f"--root={root}", f"--out={out}", *OPTIONS]) == 130
    told = capsys.readouterr().err
    assert f"continue with umss train --resume --out {out}" in told
    assert read_checkpoint(out).state["step"] == 1


def test_training_refuses_on_one_line(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = ("train", f"--root={root}", f"--out={tmp_path / 'run'}")
    assert "no preset 'umms'; did you mean 'umss'" in complaint(capsys, *new, "--preset=umms")
    assert "a run is there already" in complaint(capsys, "train", f"--root={root}", f"--out={run}")
    assert "data.validation names no song" in complaint(capsys, *new)
    assert "--resume needs --out RUN" in complaint(capsys, *new, "--resume", "--preset=umss")
    assert "no such run folder" in complaint(capsys, *new, "--resume")
    assert "nowhere" in complaint(capsys, "train", "--root=nowhere", *OPTIONS)
    message = complaint(
        capsys, "train", f"--root={root}", f"--out={run}", "--resume", "--set=model.kind=u-net"
    )
    assert "u-net" in message
    assert not (tmp_path / "run").exists()


def test_evaluation_of_the_comb(root: Path, tmp_path: Path) -> None:
    assert main(["umss", "evaluate", "-q", f"--root={root / 'one'}", f"--out={tmp_path}"]) == 2
    # one excerpt of 4 s after the first one
    quartet(tmp_path / "songs" / "long", seconds=8.5)
    out = tmp_path / "out"
    assert main(["umss", "evaluate", "-q", f"--root={tmp_path / 'songs'}", f"--out={out}"]) == 0
    found = json.loads((out / "evaluation.json").read_text())
    assert "untrained comb" in (out / "evaluation.md").read_text()
    assert found["settings"]["test_set"] is None


def test_evaluation_of_a_run(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["umss", "evaluate", "-q", str(run), f"--root={root}"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "| run" in printed and "SI-SDR" in printed
    written = (run / "evaluation" / "evaluation.md").read_text()
    assert written.split() == printed.split()
    assert "choose another --out" in complaint(capsys, *arguments[1:])
    again = [*arguments, f"--out={tmp_path}", "--compute=SI-SDR_mask,all_no_mask"]
    assert main(again) == 0
    assert "| run, synthesised |" in (tmp_path / "evaluation.md").read_text()


def test_robustness(
    run: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = robustness.published_perturbations
    monkeypatch.setattr(
        robustness, "published_perturbations", lambda voices: whole(voices)[19:95:74]
    )
    arguments = ["umss", "evaluate", "-q", str(run), f"--root={root}", f"--out={tmp_path}"]
    assert main([*arguments, "--robustness"]) == 0
    table = json.loads((tmp_path / "robustness.json").read_text())
    assert [row["test"] for row in table["rows"]] == ["none", "shift", "muted frames"]
    assert (tmp_path / "robustness.md").read_text().split() == capsys.readouterr().out.split()


def test_robustness_of_chorales_begins_with_the_first_excerpt(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "published_perturbations", lambda voices: [])
    quartet(tmp_path / "songs", "8_BC001_part1_{}_1ch.wav", seconds=1.2)
    arguments = ["umss", "evaluate", "-q", str(run), f"--root={tmp_path / 'songs'}"]
    arguments += ["--test-set=BCBQ", "--robustness", f"--out={tmp_path}"]
    assert main(arguments) == 0


def test_evaluation_refuses_on_one_line(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("evaluate", f"--root={root}", f"--out={tmp_path / 'out'}")
    of_run = (*common, run)
    assert "no measure 'SDR'; there are all" in complaint(capsys, *of_run, "--compute=SDR")
    message = complaint(capsys, *common, "--compute=sp_SNR")
    assert "--compute sp_SNR: untrained comb synthesises no voices" in message
    message = complaint(capsys, *of_run, "--compute=all_mask,f0_infos")
    assert "f0_infos: f0 comes with the songs; give --f0-from-mix" in message
    assert "no such run folder" in complaint(capsys, *common, tmp_path / "nowhere")
    assert "no song of the test set 'CSD'" in complaint(capsys, *of_run, "--test-set=CSD")
    assert "no f0 of mixtures" in complaint(capsys, *of_run, "--f0-from-mix")
    assert not (tmp_path / "out").exists()


def test_a_run_with_networks(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mir_eval")
    out = tmp_path / "run"
    silent = tmp_path / "without f0"
    for name in ("one", "two"):
        quartet(silent / name, f0=False)
    settings = [*OPTIONS, f"--set={LONG}", "--set=training.max_steps=2", "--preset=sf-sft"]
    assert main(["umss", "train", "-q", f"--root={silent}", f"--out={out}", *settings]) == 0
    arguments = ["umss", "evaluate", "-q", str(out)]
    here = f"--out={tmp_path / 'evaluation'}"
    assert main([*arguments, f"--root={silent}", here]) == 0
    told = capsys.readouterr().out
    assert "f0 found by the separator" in told
    assert (tmp_path / "evaluation" / "evaluation.md").read_text().split() == told.split()
    assert main([*arguments, f"--root={root}", "--compute=all"]) == 0
    assert "overall" in capsys.readouterr().out
    for option in ("--f0-from-mix", "--robustness"):
        message = complaint(capsys, "evaluate", out, f"--root={root}", option, f"{here}-2")
        assert f"{option}: {out} finds the f0 by itself" in message
