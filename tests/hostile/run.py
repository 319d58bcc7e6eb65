"""Feed hostile files to the command line and the library, each in a process of its own.

A process is a fork of this one, with the library imported: that is what a fresh `rlsv-fast` is
after its imports, and takes no seconds. Its address space, time and file sizes are limited.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile import audio, records, tools
from hostile.cases import SET, Case, Place, distinct
from hostile.known import KNOWN

from rlsv_fast.cli import main as rlsv_fast
from rlsv_fast.errors import InputError

SECONDS = 60  # of a processor
IDLE = 10  # seconds without any: it waits for something that never comes
MEMORY = 2 << 30  # bytes above what the process has after its imports
FILE = 6 << 30
MENDED = "mended: take it out of known.py"


@dataclass
class Result:
    """What became of a case: "refused", "accepted", "known" or "WRONG"."""

    group: str
    name: str
    end: str
    detail: str
    seconds: float
    megabytes: int


def all_cases() -> list[Case]:
    """Every case, by group."""
    groups: dict[str, list[Case]] = {}
    for module in (audio, records, tools):
        for case in module.cases():
            groups.setdefault(case.group, []).append(case)
    return [case for name, group in groups.items() for case in distinct(name, iter(group))]


def make_model(folder: Path) -> Path:
    """A small good data set, and a run on it with an evaluation and figures.

    What these commands import lies in memory when a case forks.
    """
    from rlsv_fast.data import synthesize

    os.environ["RLSV_FAST_CACHE"] = str(folder / "cache")
    os.environ.pop("MUSDB_PATH", None)
    music, run = folder / "music", folder / "run"
    synthesize(music, train_tracks=1, test_tracks=1, seconds=3, sample_rate=8000)
    for line in (
        ["train", "-q", f"--root={music}", f"--out={run}", *SET],
        ["evaluate", "-q", str(run), f"--root={music}"],
        ["report", "-q", str(run), f"--root={music}", f"--out={folder / 'figures'}"],
    ):
        with redirect_stdout(io.StringIO()):
            status = rlsv_fast(line)
        if status:
            raise RuntimeError(f"the good run cannot be made: {line}")
    return folder


def run_case(case: Case, model: Path, seed: int = 0) -> Result:
    """Make the files of a case, make the call, and judge."""
    number = zlib.crc32(str(case).encode())
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        given, out, private = (Path(name, part) for part in ("given", "out", "private"))
        for folder in (given, out, private):
            folder.mkdir()
        place = Place(given, out, model, np.random.default_rng([seed, number]))
        call = case.make(place)
        before = snapshot(given, model)
        begin = time.perf_counter()
        status, memory = _in_a_fork(call, private)
        seconds = time.perf_counter() - begin
        said = (private / "stderr").read_bytes()
        end, detail = _judge(case, status, said)
        if snapshot(given, model) != before:
            end, detail = "WRONG", "something outside of the output's folder was changed"
        if memory > MEMORY:
            end, detail = "WRONG", f"took {memory >> 20} MB"
        known = KNOWN.get(str(case), "")
        if known:
            end, detail = ("known", f"{known}: {detail}") if end == "WRONG" else ("WRONG", MENDED)
    return Result(case.group, case.name, end, detail, round(seconds, 2), memory >> 20)


def _in_a_fork(call: Sequence[str] | Any, private: Path) -> tuple[int, int]:
    """Exit status, negative for a signal, and the bytes that the call added to the peak."""
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _call_and_exit(call, private)
    seen, since = -1, time.monotonic()
    try:
        while time.monotonic() - since < IDLE:
            done, status, used = os.wait4(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), max(used.ru_maxrss - start, 0) << 10
            spent, works = _spent(child)
            if works or spent != seen:
                seen, since = spent, time.monotonic()
            time.sleep(0.005)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    os.kill(child, signal.SIGKILL)
    _, _, used = os.wait4(child, 0)
    return 124, max(used.ru_maxrss - start, 0) << 10


def _spent(child: int) -> tuple[int, bool]:
    """Ticks of a processor that a process has had, and whether it wants more."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]), fields[0] in "RD"


def _call_and_exit(call: Sequence[str] | Any, private: Path) -> None:
    """The child's side: never returns."""
    status = 70
    try:
        torch.set_num_threads(1)  # a fork has lost the threads that this process may have made
        os.chdir(private)
        os.setsid()  # without a terminal, /dev/tty is nobody's
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(private / name, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2 * MEMORY, now + 2 * MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.environ["RLSV_FAST_CACHE"] = str(private / "cache")
        if callable(call):
            try:
                call()
                status = 0
            except InputError as error:
                print("rlsv-fast: error:", " ".join(str(error).split()), file=sys.stderr)
                status = 2
        else:
            status = rlsv_fast(call)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _judge(case: Case, status: int, said: bytes) -> tuple[str, str]:
    text = said.decode("utf-8", "replace")
    lines = text.splitlines()
    if status == 124:
        return "WRONG", "waits for ever"
    if status not in (0, 2) or "Traceback" in text:
        return "WRONG", f"exit status {status}: {lines[-1] if lines else ''}"[:300]
    if any(ord(letter) < 32 and letter != "\n" or letter == "\x7f" for letter in text):
        return "WRONG", f"control characters on standard error: {text[:200]!r}"
    if status == 2 and (len(lines) != 1 or not text.startswith("rlsv-fast: error: ")):
        return "WRONG", f"not one line: {text[:300]!r}"
    if max(map(len, lines), default=0) > 2000:
        return "WRONG", f"a line of {max(map(len, lines))} characters"
    end = "accepted" if status == 0 else "refused"
    if case.ends not in (end, "either"):
        return "WRONG", f"{end}, not {case.ends}: {text[:200]}"
    return end, lines[-1].removeprefix("rlsv-fast: error: ")[:200] if lines else ""


def snapshot(*folders: Path) -> list[tuple[Any, ...]]:
    """Names, kinds, sizes and times of everything in some folders; links are not followed."""
    found = []
    for folder in folders:
        for place, names, files in os.walk(folder):
            for name in (*names, *files):
                path = os.path.join(place, name)
                if "/cache" not in path:
                    status = os.lstat(path)
                    found.append((path, status.st_mode, status.st_size, status.st_mtime_ns))
    return sorted(found)


def table(results: Sequence[Result]) -> str:
    """The results as Markdown: counts by group, then every case."""
    groups: dict[str, collections.Counter[str]] = {}
    for result in results:
        groups.setdefault(result.group, collections.Counter())[result.end] += 1
    ends = ("refused", "accepted", "known", "WRONG")
    lines = [
        "# Hostile files",
        "",
        f"`python tests/hostile`: {len(results)} cases, each in a process with at "
        f"most {2 * MEMORY >> 30} GB of address space and {MEMORY >> 30} GB of memory more than it "
        f"has after its imports, and {SECONDS} s of a processor; the most that a case took was "
        f"{max(result.megabytes for result in results)} MB.",
        "",
        "*Refused*: exit status 2, one line on standard error, no traceback, no control "
        "character. *Accepted*: exit status 0, for the reason given. Nothing outside of the "
        "output's folder was changed. *Known*: a defect not mended yet. *WRONG*: anything else.",
        "",
        f"| input | {' | '.join(ends)} |",
        f"|---|{'---:|' * len(ends)}",
    ]
    for name, counts in groups.items():
        lines.append(f"| {name} | " + " | ".join(str(counts[end]) for end in ends) + " |")
    lines += ["", "| case | end | what was said |", "|---|---|---|"]
    for result in results:
        said = result.detail.replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| {result.group}: {result.name.strip()} | {result.end} | {said} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """The command: run all cases, or those of some groups."""
    parser = argparse.ArgumentParser(prog="tests/hostile", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="every case as it ends")
    parser.add_argument("--out", type=Path, help="folder for hostile.json and hostile.md")
    parser.add_argument("--again", action="store_true", help="only those not in --out, or WRONG")
    options = parser.parse_args()
    done = _done(options.out) if options.again else {}
    torch.set_num_threads(1)
    begin = time.perf_counter()
    results = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        model = make_model(Path(folder))
        for case in all_cases():
            if options.only not in str(case):
                continue
            if str(case) in done:
                results.append(done[str(case)])
                continue
            results.append(run_case(case, model, options.seed))
            if options.verbose:
                print(f"{results[-1].seconds} s {results[-1].end}: {case}", file=sys.stderr)
            # paths of this machine are nobody's business
            results[-1].detail = _without_paths(results[-1].detail)
            if results[-1].end in ("WRONG", "known"):
                print(f"{results[-1].end}: {case}: {results[-1].detail}", file=sys.stderr)
    seconds = time.perf_counter() - begin
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        rows = [asdict(result) for result in results]
        (options.out / "hostile.json").write_text(json.dumps(rows, indent=1) + "\n")
        (options.out / "hostile.md").write_text(table(results))
    wrong = sum(result.end == "WRONG" for result in results)
    print(f"{len(results)} cases, {wrong} wrong, {seconds:.0f} s")
    return bool(wrong)


def _done(out: Path) -> dict[str, Result]:
    """The results of a former run that need not be repeated."""
    rows = [Result(**row) for row in json.loads((out / "hostile.json").read_text())]
    return {f"{row.group}: {row.name}": row for row in rows if row.end != "WRONG"}


def _without_paths(text: str) -> str:
    import re

    return re.sub(r"\S*/hostile-[^/\s]+/", "", text)
