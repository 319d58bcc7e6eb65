import subprocess
import sys
from pathlib import Path

import pytest

from rlsv_fast.errors import InputError
from rlsv_fast.training import lock_run, train
from training import tiny

CONFIG = tiny.config("training.max_steps=1")


def test_a_run_belongs_to_one_at_a_time(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    with lock_run(run):
        with pytest.raises(InputError, match=f"another process is working in {run}; wait"):
            train(CONFIG, [tiny.track()], run)
        assert [path.name for path in run.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []  # nothing was written: nothing stays
    train(CONFIG, [tiny.track()], run)
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert ".lock" not in {path.name for path in before}
    with lock_run(run), pytest.raises(InputError, match="another process is working in"):
        train(CONFIG, [tiny.track()], run, resume=True)
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_the_lock_of_another_process_ends_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    holder = (
        "import sys; from pathlib import Path; from rlsv_fast.training import lock_run\n"
        "with lock_run(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is working in"), lock_run(run):
            pass
    finally:
        process.kill()
        process.communicate()
    # killed, it leaves the file behind, which is neither a lock nor a run
    assert (run / ".lock").exists()
    train(CONFIG, [tiny.track()], run)
    assert not (run / ".lock").exists() and (run / "checkpoint.safetensors").exists()


def test_what_lies_in_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear reader")
    with pytest.raises(InputError, match="not a run folder"):
        train(CONFIG, [tiny.track()], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="not a run folder"):
        train(CONFIG, [tiny.track()], tmp_path / "thesis.txt")
    with pytest.raises(InputError, match="no such run folder"):
        train(CONFIG, [tiny.track()], tmp_path / "nowhere", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
