"""The command: complete, killed and continued, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlsv_fast.cli import main
from tests.experiments.conftest import SMALL

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as each of two jobs has on two cores: the same bits."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})


def evaluations(out: Path) -> dict[str, int]:
    return {
        path.parent.name: path.stat().st_mtime_ns for path in out.glob("runs/*/evaluation.json")
    }


def steps(log: Path) -> list[int]:
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [record["step"] for record in records if record["kind"] == "step"]


def test_killed_and_continued(music: Path, tmp_path: Path) -> None:
    arguments = [
        "reproduce",
        "sinkhorn-figure3",
        f"--root={music}",
        f"--cache={tmp_path / 'cache'}",
    ]
    arguments += [*SMALL, "--set=training.max_steps=80", "-q"]
    out = tmp_path / "killed"
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-m", "rlsv_fast", *arguments, f"--out={out}", "--jobs=2"],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 600
        while not evaluations(out) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    # its two jobs end with it: no lock is held and no log grows any more
    time.sleep(2.0)
    before, logs = evaluations(out), {p: p.stat().st_size for p in out.glob("runs/*/log.jsonl")}
    assert 1 <= len(before) < 5 and not list(out.glob("sinkhorn-figure3/*"))
    time.sleep(0.5)
    assert logs == {path: path.stat().st_size for path in logs}

    assert main([*arguments, f"--out={out}"]) == 0
    after = evaluations(out)
    assert len(after) == 5
    assert {name: after[name] for name in before} == before  # not made again
    for log in out.glob("runs/*/log.jsonl"):
        assert steps(log) == list(range(1, 81))

    assert main([*arguments, f"--out={tmp_path / 'whole'}"]) == 0
    for name in ("table.md", "table.csv", "table.json"):
        killed, whole = (o / "sinkhorn-figure3" / name for o in (out, tmp_path / "whole"))
        assert killed.read_text() == whole.read_text()
    assert "missing" not in (out / "sinkhorn-figure3" / "table.md").read_text()


def test_tables_of_what_there_is_and_runs_shared_by_experiments(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", f"--root={music}", f"--cache={tmp_path / 'cache'}", *SMALL]
    arguments += ["--set=training.max_steps=2", f"--out={tmp_path / 'out'}"]
    assert main([*arguments, "sinkhorn-figure3"]) == 0
    captured = capsys.readouterr()
    assert "5 runs, 5 of them to be made" in captured.err and "1 of 1" in captured.out
    assert (tmp_path / "out" / "sinkhorn-figure3" / "errors.png").stat().st_size > 10_000
    # all of figure 3 is in table 1; nothing of table 1 is made
    assert main([*arguments, "sinkhorn-table1", "closing-question", "--jobs=0"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("missing (0 of 1)") == 10 + 25
    assert len(evaluations(tmp_path / "out")) == 5
    assert (tmp_path / "out" / "sinkhorn-table1" / "figure4a-tv-omega4.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["tabel1"], "invalid choice: 'tabel1'"),
        ([], "arguments are required: NAME"),
        (["eusipco-table1", "--preset=tiny"], "invalid choice: 'tiny'"),
        (["eusipco-table1", "--jobs=-1"], "--jobs -1: expected"),
        (["eusipco-table1", "--seeds=0"], "--seeds 0: expected"),
        (["eusipco-table1", "--set=model.components=8"], "differs between the cells"),
        (["eusipco-table1", "--set=training.max_steps=x"], "training.max_steps must be"),
        (["eusipco-table1", "--root=nowhere"], "nowhere: no such folder"),
    ],
)
def test_bad_usage(
    arguments: list[str],
    fragment: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    captured = capsys.readouterr()
    assert fragment in captured.err and len(captured.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_other_tracks_do_not_mix_with_former_runs(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "sinkhorn-figure3", f"--cache={tmp_path / 'cache'}", *SMALL]
    arguments += [f"--out={tmp_path / 'out'}", "--jobs=0", "-q"]
    assert main([*arguments, f"--root={music}"]) == 0
    other = tmp_path / "other"
    other.mkdir()
    for subset in ("train", "test"):
        (other / subset).symlink_to(music / "train")
    capsys.readouterr()
    assert main([*arguments, f"--root={other}"]) == 2
    assert "were made with other tracks" in capsys.readouterr().err
