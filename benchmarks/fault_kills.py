"""Ending training from outside: SIGKILL at random moments, SIGINT and SIGTERM."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

from fault_runs import STEPS, Bench, Job, in_the_making, last_step, one_line, wait

from rlsv_fast.training import read_checkpoint
from rlsv_fast.training.run_files import LOG

_PER_RUN = 10
_MOMENTS = ("start-up", "a step", "a checkpoint's writing")


def kills(bench: Bench, wanted: int, seed: str) -> list[Job]:
    """Jobs that each kill a run ten times over and then bring it to its end."""
    counts = [_PER_RUN] * (wanted // _PER_RUN) + [wanted % _PER_RUN]
    return [
        partial(_kill_often, bench, bench.folder / f"killed-{number}", count, f"{seed} {number}")
        for number, count in enumerate(counts)
        if count
    ]


def _kill_often(bench: Bench, run: Path, wanted: int, seed: str) -> None:
    chance = random.Random(seed)
    moments = [_MOMENTS[number % 3] for number in range(wanted)]
    chance.shuffle(moments)
    done = 0
    for moment in moments:
        done += _kill(bench, run, moment, chance)
    # those that came too late for their moment
    while done < wanted and last_step(run) < STEPS:
        done += _kill(bench, run, "start-up", chance)
    status, errors = bench.trained(run)
    promises = {"the end is reached": status == 0, **bench.whole(run)}
    fault = f"resumed to the end, after up to {_PER_RUN} kills"
    bench.ledger.check("SIGKILL", fault, promises, errors)


def _kill(bench: Bench, run: Path, moment: str, chance: random.Random) -> bool:
    """Kill once; False where the process ended before."""
    process = bench.start(run)
    found = _await(bench, process, run, moment, chance)
    if not found:
        bench.finish(process)
        return False
    process.send_signal(signal.SIGKILL)
    status, errors = bench.finish(process)
    if status != 128 + signal.SIGKILL:
        return False
    caught = in_the_making(run) > 0
    promises = {"silent": errors == ""}
    if (run / LOG).exists():
        promises.update(bench.disturbed(run))
    fault = "while a checkpoint was half-written" if caught else f"in {moment}"
    if moment == _MOMENTS[2] and not caught:
        fault = "just after a checkpoint's writing"
    bench.ledger.check("SIGKILL", fault, promises, f"{errors} at step {last_step(run)}")
    return True


def _await(
    bench: Bench, process: subprocess.Popen[str], run: Path, moment: str, chance: random.Random
) -> bool:
    """Wait for a random moment of a kind."""
    before = last_step(run)
    if moment == "start-up":
        began = time.monotonic()
        limit = chance.uniform(0, 1) * bench.start_seconds
        return wait(process, lambda: time.monotonic() - began >= limit, 0.001)
    step = before + chance.randint(1, STEPS // _PER_RUN)
    if not wait(process, lambda: last_step(run) >= min(step, STEPS - 2), 0.002):
        return False
    if moment == "a step":
        time.sleep(chance.uniform(0, 0.02))
        return process.poll() is None
    if not wait(process, lambda: in_the_making(run) > 0, 0.0001):
        return False
    time.sleep(chance.uniform(0, 0.01) * chance.choice((0, 1)))
    return True


def signals(bench: Bench, seed: str) -> list[Job]:
    """Jobs that stop runs by the signals that ask for it."""
    jobs: list[Job] = [partial(_twice, bench)]
    for number in (signal.SIGINT, signal.SIGTERM):
        for moment in _MOMENTS:
            for attempt in range(1 if moment == "start-up" else 3):
                run = bench.folder / f"{number.name}-{moment}-{attempt}".replace(" ", "-")
                chance = random.Random(f"{seed} {run.name}")
                jobs.append(partial(_signal, bench, run, number, moment, chance))
    return jobs


def _twice(bench: Bench) -> None:
    run = bench.folder / "twice"
    process = bench.start(run)
    wait(process, lambda: last_step(run) >= 12, 0.002)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    status, errors = bench.finish(process)
    promises = {"status 130": status == 130, "one line": one_line(errors), **_resumed(bench, run)}
    bench.ledger.check("signals", "SIGINT twice at once", promises, errors)


def _signal(
    bench: Bench, run: Path, number: signal.Signals, moment: str, chance: random.Random
) -> None:
    process = bench.start(run)
    _await(bench, process, run, moment, chance)
    began = last_step(run) > 0
    process.send_signal(number)
    status, errors = bench.finish(process)
    expected = 128 + number
    promises = {f"status {expected}": status == expected}
    if began:
        promises["one line, which says how to continue"] = (
            one_line(errors) and "checkpoint saved" in errors and "--resume" in errors
        )
        promises.update(bench.disturbed(run))
        saved = read_checkpoint(run).state["step"]
        promises["the last step is saved"] = saved == last_step(run)
    promises.update(_resumed(bench, run))
    bench.ledger.check("signals", f"{number.name} in {moment}", promises, errors)
    if not began:
        words = errors.strip().splitlines()
        said = f"one line: {words[0]}" if len(words) == 1 else f"{len(words)} lines"
        bench.ledger.note("signals", f"{number.name} in {moment}", f"nothing to save yet; {said}")


def _resumed(bench: Bench, run: Path) -> dict[str, bool]:
    status, _ = bench.trained(run)
    return {"resumes to the end": status == 0, **bench.whole(run)}
