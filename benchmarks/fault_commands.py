"""Damaged checkpoints through the command line: what it says, and with which bits a run ends."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from fault_runs import STEPS, Bench, Job, one_line

from rlsv_fast.training.run_files import CHECKPOINT, PREVIOUS

STOP = 43
"""Steps of the run whose files are damaged."""

_PART = "command line"


def commands(bench: Bench) -> list[Job]:
    """Jobs in which every command reads damaged copies of one run."""
    run = bench.folder / "damaged"
    bench.trained(run, f"training.max_steps={STOP}")
    content = (run / CHECKPOINT).read_bytes()
    tensors = 8 + int.from_bytes(content[:8], "little")
    cases: dict[str, bytes | None] = {
        "header length": b"\xff" + content[1:],
        "header": content[:60] + b"#" + content[61:],
        "tensor": content[:tensors] + bytes([content[tensors] ^ 1]) + content[tensors + 1 :],
        "truncated": content[: len(content) // 2],
        "zeros": bytes(len(content)),
        "missing": None,
    }
    return [
        *(partial(_resume, bench, run, name, changed) for name, changed in cases.items()),
        *(partial(_read, bench, run, verb) for verb in ("evaluate", "report", "separate")),
    ]


def _resume(bench: Bench, run: Path, name: str, changed: bytes | None) -> None:
    copy = _copy(run, bench.folder / f"resumed-{name}", changed)
    status, errors = bench.trained(copy, f"training.max_steps={STEPS}")
    promises = {
        "names both files": CHECKPOINT in errors and PREVIOUS in errors,
        "resumes to the end": status == 0,
        **bench.whole(copy),
    }
    bench.ledger.check(_PART, f"train --resume, newest {name}", promises, errors)


def _read(bench: Bench, run: Path, verb: str) -> None:
    torn = (run / CHECKPOINT).read_bytes()[:-1]
    for both in (False, True):
        copy = _copy(run, bench.folder / f"{verb}-{both}", torn)
        if both:
            (copy / PREVIOUS).write_bytes(torn)
        track = next((bench.music / "test").iterdir())
        options = [f"--root={bench.music}", f"--cache={bench.cache}", f"--out={copy / 'out'}"]
        if verb == "separate":
            sources = [str(track / "mixture.wav"), f"--vocals={track / 'vocals.wav'}"]
            options = [*sources, f"--out={copy / 'out'}"]
        status, errors = bench.finish(bench.command(verb, "-q", str(copy), *options))
        wanted = 2 if both else 0
        promises = {
            f"status {wanted}": status == wanted,
            "one line, which names both files": one_line(errors) and PREVIOUS in errors,
        }
        fault = f"{verb}, {'both' if both else 'newest'} truncated"
        bench.ledger.check(_PART, fault, promises, errors)


def _copy(run: Path, target: Path, newest: bytes | None) -> Path:
    """A copy of a run with another newest checkpoint, or none."""
    shutil.copytree(run, target)
    (target / CHECKPOINT).unlink()
    if newest is not None:
        (target / CHECKPOINT).write_bytes(newest)
    return target
