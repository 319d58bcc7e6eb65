import json
import shutil
from pathlib import Path

import pytest

from rlsv_fast.errors import InputError
from rlsv_fast.training import read_log, train
from rlsv_fast.training.log import RunLog
from training import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny.config("training.max_steps=6"), [tiny.track()], run)
    return run


@pytest.fixture
def log(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(trained / "log.jsonl", tmp_path))


def _steps(path: Path) -> list[int]:
    return [record["step"] for record in read_log(path) if record["kind"] == "step"]


def test_a_full_disk_names_the_log_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"log\.jsonl: cannot be written \(No space left"):
        with RunLog(tmp_path / "log.jsonl") as log:
            monkeypatch.setattr(log, "_file", Path("/dev/full").open("w"))
            log.write("step", step=1)


@pytest.mark.parametrize("damage", ['{"kind": "st', "\0\0\0", "[1]", '{"kind": 3, "step": 4}'])
def test_a_damaged_line_is_told_and_left_out(
    damage: str, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = log.read_text().splitlines()
    lines[4] = damage
    log.write_text("\n".join(lines) + "\n")
    assert _steps(log) == [1, 2, 3, 5, 6]
    assert "log.jsonl: damaged, left out are lines 5" in caplog.text
    caplog.clear()
    with RunLog(log, after_step=5):
        pass
    assert _steps(log) == [1, 2, 3, 5]
    assert "does not hold each of the steps 1 to 5 once" in caplog.text


def test_a_line_that_a_kill_has_cut_is_no_damage(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.write_bytes(log.read_bytes()[:-9])
    with RunLog(log, after_step=6):
        pass
    assert _steps(log) == [1, 2, 3, 4, 5, 6]
    assert caplog.text == ""


def test_a_step_that_is_there_twice_or_a_lost_log_is_told(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.write_text(log.read_text() + json.dumps({"kind": "step", "step": 6}) + "\n")
    with RunLog(log, after_step=6):
        pass
    assert "does not hold each of the steps" in caplog.text
    caplog.clear()
    log.unlink()
    with RunLog(log, after_step=6):
        pass
    assert "does not hold each of the steps" in caplog.text
