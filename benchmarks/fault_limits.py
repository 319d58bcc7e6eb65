"""Trouble from below and from inside: full disks, data that vanish, losses that are not finite."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from fault_runs import STEPS, Bench, Job, last_step, one_line, wait

from rlsv_fast.training import read_checkpoint
from rlsv_fast.training.run_files import CHECKPOINT, CONFIG, LOG, STATE

FILES = (CHECKPOINT, LOG, STATE, CONFIG)

_DATA = "vanished data"
_DISK = 512 << 10
_ROOM = (0, 8, 16, 24, 28, 32, 36, 44, 60)
"""KB left on the full disk: for a line of the log, for half a checkpoint, for one and no more."""


def full_disks(bench: Bench) -> list[Job]:
    """Jobs that fill the disk under a run, or forbid large files."""
    jobs: list[Job] = [partial(_fill, bench, room) for room in _ROOM]
    return jobs + [partial(_limit, bench, size) for size in (12 << 10, 30 << 10)]


def _limit(bench: Bench, size: int) -> None:
    run = bench.folder / f"limited-{size}"
    process = bench.start(run)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    ended = bench.finish(process)
    _stopped(bench, run, ended, f"files may not exceed {size >> 10} KB (FSIZE)")


def _fill(bench: Bench, room: int) -> None:
    fault = "filled during the run"
    folder = bench.folder / f"disk-{room}"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        print(f"full disk, {room} KB left: not tried, as mounting a small disk needs root")
        return
    try:
        run, filler = folder / "run", folder / "filler"
        process = bench.start(run)
        wait(process, lambda: last_step(run) >= 11, 0.001)
        with suppress(OSError), filler.open("wb", buffering=0) as file:  # full all the same
            while _free(folder) > room << 10:
                file.write(bytes(4096))
        ended = bench.finish(process)
        filler.unlink()
        _stopped(bench, run, ended, fault)
        bench.ledger.note("full disk", fault, f"with {', '.join(map(str, _ROOM))} KB left")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _stopped(bench: Bench, run: Path, ended: tuple[int, str], fault: str) -> None:
    """A run that could not go on, and afterwards can."""
    status, errors = ended
    promises = {
        "status 2": status == 2,
        "one line, which names the file": one_line(errors) and "cannot be written" in errors,
        **bench.disturbed(run),
    }
    status, more = bench.trained(run)
    promises.update({"resumes to the end": status == 0, **bench.whole(run)})
    file = next((path for path in FILES if path in errors), "?")
    bench.ledger.check("full disk", fault, promises, errors + more, f"at {file}")


def vanished_data(bench: Bench, seed: str) -> list[Job]:
    """Jobs that take the data away, during a run or before one goes on."""
    return [
        *(
            partial(_removed, bench, number, random.Random(f"{seed} {number}"))
            for number in range(4)
        ),
        *(partial(_cut, bench, number, random.Random(f"{seed} {number}")) for number in range(8)),
        partial(_no_music, bench),
    ]


def _removed(bench: Bench, number: int, chance: random.Random) -> None:
    run, cache, process = _with_own_cache(bench, f"removed-{number}", chance)
    for path in cache.iterdir():
        path.unlink()
    status, errors = bench.finish(process)
    promises = {"goes on to the end": status == 0, **bench.whole(run)}
    bench.ledger.check(_DATA, "decoded track removed during the run", promises, errors)


def _cut(bench: Bench, number: int, chance: random.Random) -> None:
    run, cache, process = _with_own_cache(bench, f"cut-{number}", chance)
    for path in cache.iterdir():
        os.truncate(path, chance.randrange(path.stat().st_size // 2))
    status, errors = bench.finish(process)
    crashed = status == 128 + signal.SIGBUS
    named = status == 2 and one_line(errors) and "cut short while in use" in errors
    promises = {
        "status 2 and one line that names it, or SIGBUS": crashed or named,
        **bench.disturbed(run),
    }
    status, more = bench.trained(run, cache=cache)
    promises.update({"decoded anew, resumes to the end": status == 0, **bench.whole(run)})
    outcome = "SIGBUS" if crashed else "named"
    fault = "decoded track cut short during the run"
    bench.ledger.check(_DATA, fault, promises, errors + more, outcome)


def _no_music(bench: Bench) -> None:
    music, run = bench.folder / "lost", bench.folder / "no-music"
    shutil.copytree(bench.music, music)
    bench.trained(run, "training.max_steps=12", music=music)
    before = (run / CHECKPOINT).read_bytes()
    shutil.rmtree(music)
    status, errors = bench.trained(run, f"training.max_steps={STEPS}", music=music)
    promises = {
        "status 2": status == 2,
        "one line, which names it": one_line(errors) and "lost: no such folder" in errors,
        "checkpoint untouched": (run / CHECKPOINT).read_bytes() == before,
    }
    bench.ledger.check(_DATA, "music removed before --resume", promises, errors)


def _with_own_cache(
    bench: Bench, name: str, chance: random.Random
) -> tuple[Path, Path, subprocess.Popen[str]]:
    """A run at a random moment of its steps, with a cache of its own."""
    run, cache = bench.folder / name, bench.folder / f"{name}-cache"
    process = bench.start(run, cache=cache)
    step = chance.randint(6, STEPS // 4)
    wait(process, lambda: last_step(run) >= step, 0.002)
    time.sleep(chance.uniform(0, 0.02))
    return run, cache, process


def losses(bench: Bench) -> list[Job]:
    """Jobs in which losses become NaN, or explode."""
    return [partial(_loss, bench, "nan", "loss"), partial(_loss, bench, "explode", "gradient")]


def _loss(bench: Bench, fault: str, what: str) -> None:
    run = bench.folder / fault
    status, errors = bench.trained(run, "training.max_skipped=2", fault=f"{fault}=12")
    found = read_checkpoint(run)
    promises = {
        "status 2": status == 2,
        "one line, which says why": one_line(errors)
        and f"the {what} was not finite" in errors
        and "learning_rate" in errors,
        "last checkpoint is whole and finite": all(
            bool(tensor.isfinite().all()) for tensor in found.tensors.values()
        ),
    }
    if fault == "nan":  # after a loss that grew, the bits are others
        default = "training.max_skipped=20"  # which is part of the state, as are all settings
        status, more = bench.trained(run, default)
        promises.update({"resumes to the end": status == 0, **bench.whole(run)})
        errors += more
    bench.ledger.check("losses", f"{fault} from step 12 on", promises, errors)
