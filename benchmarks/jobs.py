"""Programs run side by side, each with a log and an end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOG_BYTES = 8 << 20


@dataclass
class Job:
    """A program to run, with its log."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None  # None: stopped at its end
    output: str = ""
    seconds: float = 0.0


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes and their children, politely first: pytest then still sums up."""
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)  # each leads a group of its own
        patience = time.monotonic() + 5
        while any(one.poll() is None for one in processes) and time.monotonic() < patience:
            time.sleep(0.1)
        if all(one.poll() is not None for one in processes):
            return


def run_together(jobs: Sequence[Job], logs: Path, end: float) -> None:
    """Run jobs side by side until `end` (of the monotonic clock); output goes through files."""
    logs.mkdir(parents=True, exist_ok=True)
    files = [logs / f"{index}.log" for index in range(len(jobs))]
    start = time.monotonic()
    running: dict[int, subprocess.Popen[bytes]] = {}
    for index, (job, file) in enumerate(zip(jobs, files, strict=True)):
        with file.open("wb") as output:
            running[index] = subprocess.Popen(
                job.command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    while running and time.monotonic() < end:
        for index, process in list(running.items()):
            if process.poll() is not None:
                jobs[index].status = process.returncode
                jobs[index].seconds = time.monotonic() - start
                del running[index]
        time.sleep(0.1)
    _stop(list(running.values()))
    for index in running:
        jobs[index].seconds = time.monotonic() - start
    for job, file in zip(jobs, files, strict=True):
        job.output = clipped(file.read_text(errors="replace"))
    shutil.rmtree(logs)


def clipped(text: str, most: int = LOG_BYTES) -> str:
    """A log's start and end, where it is too long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 4]}\n[... cut ...]\n{text[-3 * most // 4 :]}"


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
