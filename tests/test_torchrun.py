"""The command line under torchrun: killed workers, restarts, signals, shared evaluation."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from training import tiny
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast.cli import main
from rlsv_fast.data import synthesize
from rlsv_fast.training import read_checkpoint, read_log

SETTINGS = [f"--set={setting}" for setting in tiny.SETTINGS]
SETTINGS += ["--set=training.epochs=100000", "--set=training.checkpoint_every=5"]
ENOUGH = 300
"""Seconds for what takes a few where nothing else runs; half of what processes wait for a silent
one, so that a job which only that would end fails the test."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    synthesize(folder, train_tracks=1, test_tracks=2, seconds=4, sample_rate=8000)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found = {key: value for key, value in os.environ.items() if key != "MUSDB_PATH"}
    found["RLSV_FAST_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    found["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    found["OMP_NUM_THREADS"] = "1"
    return found


class Job:
    """A torchrun of two workers, whose output is kept."""

    def __init__(self, environment: dict[str, str], folder: Path, *arguments: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.output = folder / f"output-{port}.txt"
        command = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command, *map(str, arguments)],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def worker(self, rank: int) -> int:
        """Process id of a worker."""
        me = self.process.pid
        for child in Path(f"/proc/{me}/task/{me}/children").read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
        raise AssertionError(f"no worker {rank}: {self.output.read_text()}")

    def status(self) -> int:
        """Exit status, awaited."""
        return self.process.wait(ENOUGH)

    def lines(self) -> list[str]:
        """What the library said, not torchrun."""
        text = self.output.read_text()
        return [line for line in text.splitlines() if line.startswith("rlsv-fast:")]


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    started: list[Job] = []
    yield started
    for job in started:
        if job.process.poll() is None:
            job.process.terminate()
            job.process.wait(ENOUGH)


def saved(run: Path) -> int:
    try:
        return int(read_checkpoint(run).state["step"])
    except ValueError:  # none yet
        return 0


def wait_for(run: Path, step: int, job: Job) -> None:
    end = time.monotonic() + ENOUGH
    while saved(run) < step:
        assert time.monotonic() < end and job.process.poll() is None, job.output.read_text()
        time.sleep(0.02)


def test_a_killed_worker_a_restart_and_a_killed_worker_more(
    root: Path, environment: dict[str, str], jobs: list[Job], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train = ["-m", "rlsv_fast", "train", "-q", f"--root={root}", f"--out={run}"]
    job = Job(environment, tmp_path, "--max-restarts=1", *train, "--restartable", *SETTINGS)
    jobs.append(job)
    wait_for(run, 10, job)
    os.kill(job.worker(1), signal.SIGKILL)
    killed = saved(run)
    wait_for(run, killed + 20, job)
    starts = [record["step"] for record in read_log(run / "log.jsonl") if record["kind"] == "start"]
    assert starts[0] == 0 and len(starts) == 2 and starts[1] >= 10
    os.kill(job.worker(0), signal.SIGKILL)
    assert job.status() != 0

    step = saved(run)
    resume = ["train", "-q", f"--root={root}", f"--out={run}", "--resume"]
    assert main([*resume, f"--set=training.max_steps={step + 3}"]) == 0
    steps = [record["step"] for record in read_log(run / "log.jsonl") if record["kind"] == "step"]
    assert steps == list(range(1, step + 4))


def test_sigterm_to_torchrun_saves_and_evaluation_is_shared(
    root: Path, environment: dict[str, str], jobs: list[Job], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ["-m", "rlsv_fast", "train", "-q", f"--root={root}", f"--out={run}", *SETTINGS]
    job = Job(environment, tmp_path, *arguments, "--set=training.checkpoint_every=1000000")
    jobs.append(job)
    log = run / "log.jsonl"
    end = time.monotonic() + ENOUGH
    while not log.exists() or sum(1 for _ in read_log(log)) < 4:
        assert time.monotonic() < end and job.process.poll() is None, job.output.read_text()
        time.sleep(0.02)
    job.process.terminate()
    assert job.status() != 0
    (line,) = job.lines()
    assert line.startswith("rlsv-fast: stopped by SIGTERM, checkpoint saved in")
    steps = [record["step"] for record in read_log(log) if record["kind"] == "step"]
    assert steps == list(range(1, saved(run) + 1))

    evaluation = ["evaluate", str(run), f"--root={root}", "-q"]
    shared, alone = (f"--out={tmp_path / name}.json" for name in ("shared", "alone"))
    job = Job(environment, tmp_path, "-m", "rlsv_fast", *evaluation, shared)
    jobs.append(job)
    assert main([*evaluation, alone]) == 0
    assert job.status() == 0, job.output.read_text()
    assert (tmp_path / "shared.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
