"""Real runs to be disturbed, one that never was to compare them with, and the account of both."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

from rlsv_fast.data import synthesize
from rlsv_fast.training import read_checkpoint, read_log
from rlsv_fast.training.checkpoint_files import Checkpoint, verified
from rlsv_fast.training.run_files import CHECKPOINT, CONFIG, LOG, PREVIOUS, STATE, WRITING

STEPS, EVERY = 160, 5
SETTINGS = {
    "model.components": 8,
    "model.kernel_size": 64,
    "model.hop": 16,
    "data.sample_rate": 8000,
    "data.segment_length": 2000,
    "data.overlap": 1000,
    "loss.representation": "total-variation",
    "training.batch_size": 4,
    "training.learning_rate": 1e-3,
    "training.epochs": 1000,
    "training.max_steps": STEPS,
    "training.checkpoint_every": EVERY,
}
"""A tiny model; with 8 steps in an epoch a checkpoint follows every 1 to 5 steps."""

Job: TypeAlias = Callable[[], None]

_PATIENCE = 600.0
_HERE = Path(__file__).resolve().parent


@dataclass
class Ledger:
    """What was tried and what came of it, by part and fault."""

    folder: Path
    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def check(
        self,
        part: str,
        fault: str,
        promises: dict[str, bool],
        detail: str = "",
        outcome: str | None = None,
    ) -> None:
        """Count a case, which holds if all its promises do, and what came of it."""
        broken = [promise for promise, kept in promises.items() if not kept]
        empty = {"cases": 0, "held": 0, "outcomes": {}, "broken": []}
        with self._lock:
            row = self.rows.setdefault((part, fault), empty)
            row["cases"] += 1
            row["held"] += not broken
            row["promises"] = list({**dict.fromkeys(row.get("promises", ())), **promises})
            if outcome is not None:
                row["outcomes"][outcome] = row["outcomes"].get(outcome, 0) + 1
            if broken:
                row["broken"].append(self.clean(f"{'; '.join(broken)}: {detail}"))
        if broken:
            print(f"BROKEN {part}, {fault}: {row['broken'][-1]}", flush=True)

    def note(self, part: str, fault: str, text: str) -> None:
        """Say more about a row that exists."""
        self.rows[part, fault]["note"] = self.clean(text)

    def clean(self, text: str) -> str:
        """Without the folder, which is nobody's business."""
        return text.replace(f"{self.folder}/", "").strip()


class Bench:
    """A synthetic set, its cache, and runs on it.

    Args:
        folder: for everything; an absolute path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(folder)
        self.music, self.cache = folder / "music", folder / "cache"
        synthesize(self.music, train_tracks=1, test_tracks=1, seconds=4, sample_rate=8000)
        self.kept = folder / "kept"
        begin = time.monotonic()
        run = folder / "reference"
        process = self.start(run, fault=f"keep={self.kept}")
        wait(process, lambda: last_step(run) > 0, 0.01)
        self.start_seconds = time.monotonic() - begin
        status, errors = self.finish(process)
        if status:
            raise SystemExit(f"the undisturbed run failed: {errors}")
        self.steps, self.epochs = log_values(run)
        self.final = read_checkpoint(run)

    def start(
        self,
        run: Path,
        *settings: str,
        fault: str = "",
        cache: Path | None = None,
        music: Path | None = None,
        **process: Any,
    ) -> subprocess.Popen[str]:
        """Begin to train in a folder, or continue where there is a run."""
        options = ["--resume"] if (run / CONFIG).exists() else []
        if not options:
            options = [f"--set={key}={value}" for key, value in SETTINGS.items()]
        options += [f"--set={setting}" for setting in settings]
        return self.command(
            *("train", "-q", "--device=cpu", f"--root={music or self.music}", f"--out={run}"),
            *(f"--cache={cache or self.cache}", *options),
            fault=fault,
            **process,
        )

    def command(self, *arguments: str, fault: str = "", **process: Any) -> subprocess.Popen[str]:
        """Begin a command of the command line."""
        program = [str(_HERE / "fault_child.py"), fault] if fault else ["-m", "rlsv_fast"]
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_HERE.parent)},
            **process,
        )

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for the end: the status as a shell gives it, and standard error."""
        _, errors = process.communicate(timeout=_PATIENCE)
        code = process.returncode
        return (128 - code if code < 0 else code), errors

    def trained(self, run: Path, *settings: str, **options: Any) -> tuple[int, str]:
        """Train or continue to the end."""
        return self.finish(self.start(run, *settings, **options))

    def as_reference(self, found: Checkpoint) -> bool:
        """Whether a checkpoint has the bits of the undisturbed run's of the same step."""
        path = self.kept / str(found.state["step"])
        # an interruption saves at steps at which the other run did not
        return path.is_dir() and same(found, read_checkpoint(path))

    def comparable(self, found: Checkpoint) -> bool:
        """Whether the undisturbed run saved at the step of this checkpoint."""
        return (self.kept / str(found.state["step"])).is_dir()

    def whole(self, run: Path) -> dict[str, bool]:
        """The promises about a run that was disturbed and brought to its end."""
        found, (steps, epochs) = read_checkpoint(run), log_values(run)
        names = {CHECKPOINT, PREVIOUS, STATE, CONFIG, LOG}
        return {
            "final checkpoint has the bits of an undisturbed run": same(found, self.final),
            "log has each step and epoch once, with its values": (steps, epochs)
            == (self.steps, self.epochs),
            "nothing is left over": {path.name for path in run.iterdir()} == names,
        }

    def disturbed(self, run: Path) -> dict[str, bool]:
        """The promises about a run that has just been ended by force."""
        files = [path for path in (run / CHECKPOINT, run / PREVIOUS) if path.exists()]
        found = [verified(path) for path in files]
        saved = found[0].state["step"] if found else 0
        logged = max((record["step"] for record in read_log(run / LOG)), default=0)
        return {
            "both checkpoints are whole": all(
                not self.comparable(one) or self.as_reference(one) for one in found
            ),
            f"at most {EVERY} steps are repeated": 0 <= logged - saved <= EVERY,
            "at most three checkpoint files": len(files) + in_the_making(run) <= 3,
        }


def same(first: Checkpoint, second: Checkpoint) -> bool:
    """Whether two checkpoints agree to the bit, in all but the wall time."""
    states = [{**one.state, "seconds": 0} for one in (first, second)]
    return (
        states[0] == states[1]
        and first.tensors.keys() == second.tensors.keys()
        and all(
            tensor.dtype == second.tensors[name].dtype and tensor.equal(second.tensors[name])
            for name, tensor in first.tensors.items()
        )
    )


def log_values(run: Path) -> tuple[list[Any], list[Any]]:
    """The step and the epoch records of a log, without times."""
    kinds: dict[str, list[Any]] = {"step": [], "epoch": []}
    for record in read_log(run / LOG):
        if record["kind"] in kinds:
            timeless = {key: record[key] for key in record.keys() - {"seconds", "throughput"}}
            kinds[record["kind"]].append(timeless)
    return kinds["step"], kinds["epoch"]


def in_the_making(run: Path) -> int:
    """Checkpoint files that are just being written."""
    folder = run / WRITING
    try:
        return sum(path.name != STATE and path.name != LOG for path in folder.iterdir())
    except OSError:
        return 0


def one_line(errors: str) -> bool:
    """Whether standard error is one line of the command line's own."""
    lines = errors.splitlines()
    return len(lines) == 1 and lines[0].startswith("rlsv-fast: ")


def last_step(run: Path) -> int:
    """Last step in the log, 0 before there is one."""
    try:
        tail = (run / LOG).read_bytes()[-2000:]
    except OSError:
        return 0
    found = re.findall(rb'"kind": "step", "step": (\d+)', tail)
    return int(found[-1]) if found else 0


def wait(process: subprocess.Popen[str], condition: Callable[[], bool], pause: float) -> bool:
    """Wait until something is so; False if the process ends before."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause)
    return False
