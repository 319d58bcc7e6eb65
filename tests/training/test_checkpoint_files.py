import itertools
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlsv_fast.errors import InputError
from rlsv_fast.training import Trainer, checkpoint_files, load_run, read_checkpoint, train
from rlsv_fast.training.checkpoint_files import Checkpoint, verified, write_checkpoint
from rlsv_fast.training.run_files import writing
from training import tiny

NEWEST, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
FILES = {NEWEST, PREVIOUS, "state.json", "config.toml", "log.jsonl"}
SETTINGS = ["training.checkpoint_every=3", "training.max_steps=11"]  # 5 steps make an epoch


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny.config(*SETTINGS), [tiny.track()], run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def same(first: Checkpoint, second: Checkpoint) -> bool:
    return {**first.state, "seconds": 0} == {**second.state, "seconds": 0} and all(
        tensor.equal(second.tensors[name]) for name, tensor in first.tensors.items()
    )


def torn(content: bytes) -> bytes:
    return content[:-1]


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


def other_version(content: bytes) -> bytes:
    """The number alone: all else is as this version writes it."""
    return content.replace(b'"version":"1"', b'"version":"2"')


def no_checkpoint(content: bytes) -> bytes:
    return (2).to_bytes(8, "little") + b"{}"


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


DAMAGES: list[Callable[[bytes], bytes]] = [torn, flipped, other_version, no_checkpoint, zeros]


def damage(path: Path, how: Callable[[bytes], bytes]) -> None:
    before = path.read_bytes()
    path.write_bytes(how(before))
    assert path.read_bytes() != before


def test_the_newest_two_are_kept_and_no_more(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == FILES
    steps = [verified(run / name).state["step"] for name in (NEWEST, PREVIOUS)]
    assert steps == [11, 10]
    assert json.loads((run / "state.json").read_text())["step"] == 11


def test_one_save_ends_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    save = Trainer.save

    def noted(trainer: Trainer) -> None:
        saved.append(trainer.position.step)
        save(trainer)

    monkeypatch.setattr(Trainer, "save", noted)
    settings = ["training.checkpoint_every=5", "training.max_steps=11"]
    train(tiny.config(*settings), [tiny.track()], tmp_path / "run")
    assert saved == [5, 10, 11]  # a second one would push the last step before it out


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_one_falls_back_to_the_one_before(
    how: Callable[[bytes], bytes], run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(run / NEWEST, how)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert read_checkpoint(run).state["step"] == 10
    (record,) = caplog.records
    assert record.levelno == logging.ERROR  # so that --quiet does not hide it
    assert f"{run / NEWEST}: " in record.message
    assert f"taking {run / PREVIOUS}, of step 10" in record.message
    load_run(run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_where_both_are_damaged_both_are_named(run: Path) -> None:
    damage(run / NEWEST, torn)
    damage(run / PREVIOUS, flipped)
    with pytest.raises(InputError, match=rf"{NEWEST}: truncated.*{PREVIOUS}: damaged.*restore"):
        read_checkpoint(run)


def test_a_checkpoint_of_another_release_is_not_taken_for_a_damaged_one(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = verified(run / NEWEST)
    with monkeypatch.context() as other:
        other.setattr(checkpoint_files, "VERSION", 2)
        other.setattr(checkpoint_files, "_checksum", lambda *_: "by other rules")
        write_checkpoint(run, found.tensors, found.state)
    with pytest.raises(InputError, match="format version 2, this release reads 1"):
        read_checkpoint(run)


@pytest.mark.parametrize("how", [flipped, None])
def test_a_run_that_goes_on_from_the_one_before_ends_with_the_same_bits(
    how: Callable[[bytes], bytes] | None, run: Path, tmp_path: Path
) -> None:
    config = tiny.config("training.checkpoint_every=3", "training.max_steps=13")
    train(config, [tiny.track()], tmp_path / "whole")
    if how is None:
        (run / NEWEST).unlink()
    else:
        damage(run / NEWEST, how)
    train(config, [tiny.track()], run, resume=True)
    assert same(read_checkpoint(run), read_checkpoint(tmp_path / "whole"))
    assert {path.name for path in run.iterdir()} == FILES
    lines = (run / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    steps = [record["step"] for record in records if record["kind"] == "step"]
    assert steps == list(range(1, 14))
    starts = [record["step"] for record in records if record["kind"] == "start"]
    assert starts == [0, 10]


def test_a_whole_one_is_not_pushed_out_by_a_damaged_one(run: Path) -> None:
    damage(run / NEWEST, torn)
    # nothing left to do at step 10: restored, and nothing saved
    train(tiny.config(SETTINGS[0], "training.max_steps=10"), [tiny.track()], run, resume=True)
    assert verified(run / NEWEST).state["step"] == 10 and not (run / PREVIOUS).exists()
    assert json.loads((run / "state.json").read_text())["step"] == 10
    train(tiny.config(SETTINGS[0], "training.max_steps=12"), [tiny.track()], run, resume=True)
    steps = [verified(run / name).state["step"] for name in (NEWEST, PREVIOUS)]
    assert steps == [12, 10]


def test_without_hard_links_two_are_kept_as_well(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    found = verified(run / NEWEST)
    monkeypatch.setattr(os, "link", no_links)
    write_checkpoint(run, found.tensors, {**found.state, "step": 12})
    steps = [verified(run / name).state["step"] for name in (NEWEST, PREVIOUS)]
    assert steps == [12, 11]


def _counted(act: Callable[..., Any], count: Iterator[int], last: int) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        if next(count) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return act(*arguments, **options)

    return counted


def _killed_at(operation: int, run: Path, found: Checkpoint) -> bool:
    """Save in a process that SIGKILL ends just before its n-th operation on files."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
        return status != 0
    try:
        count = itertools.count(1)
        for name in ("mkdir", "link", "replace", "fsync", "unlink", "rmdir"):
            setattr(os, name, _counted(getattr(os, name), count, operation))
        checkpoint_files.save_file = _counted(checkpoint_files.save_file, count, operation)
        write_checkpoint(run, found.tensors, {**found.state, "step": 12})
        os._exit(0)
    finally:
        os._exit(1)


def test_a_kill_between_any_two_operations_leaves_two_whole_ones(
    trained: Path, tmp_path: Path
) -> None:
    found = verified(trained / NEWEST)
    seen = set()
    for operation in range(1, 40):
        run = tmp_path / str(operation)
        shutil.copytree(trained, run)
        killed = _killed_at(operation, run, found)
        steps = tuple(verified(run / name).state["step"] for name in (NEWEST, PREVIOUS))
        assert read_checkpoint(run).state["step"] == steps[0]
        seen.add(steps)
        write_checkpoint(run, found.tensors, {**found.state, "step": 13})
        assert verified(run / NEWEST).state["step"] == 13
        assert verified(run / PREVIOUS).state["step"] == steps[0]
        assert {path.name for path in run.iterdir()} == FILES
        if not killed:
            break
    assert not killed and operation > 10
    assert seen == {(11, 10), (11, 11), (12, 11)}


def test_what_a_kill_has_left_goes_at_the_next_start(run: Path, tmp_path: Path) -> None:
    for folder in (run, tmp_path / "new"):
        (folder / ".writing").mkdir(parents=True)
        (folder / ".writing" / ".tmpAbCdEf").write_bytes(bytes(9999))  # safetensors' own
    train(tiny.config(*SETTINGS), [tiny.track()], run, resume=True)
    train(tiny.config(*SETTINGS), [tiny.track()], tmp_path / "new")
    for folder in (run, tmp_path / "new"):
        assert {path.name for path in folder.iterdir()} == FILES


def test_what_a_kill_has_left_makes_room_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / ".writing").mkdir()
    (tmp_path / ".writing" / "checkpoint.safetensors").write_bytes(bytes(9999))
    with writing(tmp_path) as folder:
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "", "[]", '{"sha256": "?", "step": "x"}', "7"])
def test_a_damaged_state_file_is_told_and_done_without(
    content: str, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run / "state.json").write_text(content)
    assert read_checkpoint(run).state["step"] == 11
    assert "state.json: damaged" in caplog.text and f"{NEWEST} is whole" in caplog.text


def test_a_state_file_that_says_something_else_is_told(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps({**state, "epoch": 7}))
    assert read_checkpoint(run).state["epoch"] == state["epoch"]
    assert "state.json: damaged" in caplog.text
