"""Run many cases in processes of their own, outlive their crashes, and report.

A case is a seed. The worker notes each seed before its call, so that a crash or a hang is blamed on
the right one; the supervisor then goes on behind it.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import mmap
import os
import platform
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SECONDS = 20.0  # a call that takes longer hangs; most take a millisecond
MEMORY = 6 << 30  # of addresses, so that absurd sizes are refused as they are on a full machine
SHOWN = 20


def work(first: int, last: int, note: Path, *, limited: bool, seconds: float) -> None:
    """Judge the cases [first, last) and print one JSON object per block of them."""
    from substitute import substitute

    substitute()
    import torch
    from fuzz.drawn import draw_call
    from fuzz.judge import judge

    torch.set_num_threads(1)
    if limited:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with note.open("r+b") as file, mmap.mmap(file.fileno(), 8) as seen:
        for start in range(first, last, 200):
            counts: collections.Counter[str] = collections.Counter()
            wrong, slowest = [], [0.0, 0]
            for seed in range(start, min(start + 200, last)):
                seen[:] = struct.pack("<q", seed)
                faulthandler.dump_traceback_later(seconds, exit=True)
                begin = time.perf_counter()
                call = draw_call(seed)
                verdict = judge(call, seed)
                slowest = max(slowest, [time.perf_counter() - begin, seed])
                counts[f"{call.op}/{verdict.end}"] += 1
                if verdict.end == "WRONG":
                    wrong.append(
                        {"seed": seed, "op": call.op, "what": call.what, "why": verdict.detail}
                    )
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps({"counts": counts, "wrong": wrong, "slowest": slowest}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak": peak * 1024}), flush=True)


def supervise(first: int, last: int, *, limited: bool, seconds: float) -> dict[str, Any]:
    """Have all cases judged, whatever becomes of the processes that do it."""
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[dict[str, Any]] = []
    slowest, peak, begin = [0.0, 0], 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder, "seed")
        while first < last:
            note.write_bytes(struct.pack("<q", first))
            command = [sys.executable, str(HERE), "--worker", str(note)]
            command += ["--first", str(first), "--cases", str(last - first)]
            command += ["--seconds", str(seconds)] + ([] if limited else ["--unlimited"])
            with Path(folder, "errors").open("w+") as errors:
                worker = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True)
                errors.seek(0)
                said = errors.read()
            for line in worker.stdout.splitlines():
                block = json.loads(line)
                counts.update(block.get("counts", {}))
                wrong += block.get("wrong", [])
                slowest = max(slowest, block.get("slowest", slowest))
                peak = max(peak, block.get("peak", 0))
            if worker.returncode == 0:
                break
            seed = struct.unpack("<q", note.read_bytes())[0]
            wrong.append(
                {"seed": seed, "op": "?", "what": [], "why": _end(worker.returncode, said)}
            )
            first = seed + 1
    return {
        "cases": sum(counts.values()),
        "counts": dict(sorted(counts.items())),
        "wrong": wrong,
        "slowest": {"seconds": round(slowest[0], 3), "seed": slowest[1]},
        "peak_bytes": peak,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _end(status: int, said: str) -> str:
    what = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return f"the process ended: {what}: {said[-1500:]}"


def table(found: dict[str, Any]) -> str:
    """The report as Markdown."""
    ends = ("answered", "not finite", "refused", "out of memory", "WRONG")
    rows: dict[str, collections.Counter[str]] = {}
    for key, count in found["counts"].items():
        op, _, end = key.partition("/")
        rows.setdefault(op, collections.Counter())[end] = count
    lines = [
        "# Fuzz of every operator",
        "",
        f"`{found['command']}`: {found['cases']} calls, seeds {found['first']} to "
        f"{found['first'] + found['asked'] - 1}, {found['seconds']:.0f} s on one core of an "
        f"{found['processor']}, torch {found['torch']}, SIMD {found['simd']}. Slowest call "
        f"{found['slowest']['seconds']} s, peak memory {found['peak_bytes'] / 2**20:.0f} MB.",
        "",
        f"| operator | {' | '.join(ends)} | all |",
        f"|---|{'---:|' * (len(ends) + 1)}",
    ]
    for op, row in rows.items():
        cells = " | ".join(str(row[end]) for end in ends)
        lines.append(f"| `{op}` | {cells} | {sum(row.values())} |")
    lines += [
        "",
        "*Answered*: documented shape, finite, the same bits from contiguous copies, finite "
        "gradients of the leaves' shapes and types. *Not finite*: from arguments with NaN, "
        "infinities or extreme values, or as documented (`si_sdr` of silence, potentials of zero "
        "weights). *Refused*: ValueError, TypeError or RuntimeError that names the operator. "
        "*Out of memory*: torch's RuntimeError. In every case the arguments and the memory around "
        "them kept their bits. *WRONG*: anything else, crashes and hangs included:",
        "",
    ]
    lines += [f"- seed {one['seed']} {one['op']}: {one['why']}" for one in found["wrong"][:SHOWN]]
    return "\n".join([*lines, "" if found["wrong"] else "none.", ""])


def facts() -> dict[str, Any]:
    """Where the cases ran."""
    import torch

    import rlsv_fast

    processor = platform.machine()
    with Path("/proc/cpuinfo").open() as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    simd = os.environ.get("RLSV_FAST_SIMD") or rlsv_fast.build_info()["simd"]
    return {
        "processor": names[0] if names else processor,
        "torch": torch.__version__,
        "simd": simd,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/fuzz", description="Fuzz every operator.")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="a longer call hangs")
    parser.add_argument("--unlimited", action="store_true", help="no limit of the address space")
    parser.add_argument("--out", type=Path, help="folder for fuzz.json and fuzz.md")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    span = (options.first, options.first + options.cases)
    if options.worker:
        work(*span, options.worker, limited=not options.unlimited, seconds=options.seconds)
        return 0
    found = supervise(*span, limited=not options.unlimited, seconds=options.seconds)
    command = f"python tests/fuzz --cases {options.cases}"
    found = {"command": command, "first": options.first, "asked": options.cases, **found}
    if options.out:
        found.update(facts())
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "fuzz.json").write_text(json.dumps(found, indent=2) + "\n")
        (options.out / "fuzz.md").write_text(table(found))
    for one in found["wrong"][:SHOWN]:
        print(f"seed {one['seed']} {one['op']}: {one['why']}\n  {one['what']}", file=sys.stderr)
    print(f"{found['cases']} cases, {len(found['wrong'])} wrong, {found['seconds']} s")
    return bool(found["wrong"])
