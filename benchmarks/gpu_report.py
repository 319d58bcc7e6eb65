"""The proof on a GPU, in one command: build, test, sanitize, measure, and write it down.

Usage: make gpu-report [OUT=gpu-report] [PYTHON=python3]

Runs under a Python that has torch with CUDA, and downloads nothing. A stage that fails does not
stop the others; the exit status is 0 only if none failed, and 2 where there is no CUDA device.
Every stage has an end, by which the whole takes --seconds at most; what it cuts off is named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jobs import ROOT, Job, clipped, last_line, run_together

HERE = Path(__file__).resolve().parent
SECONDS = 530.0
BUILD_ENDS, CHECKS_END, BENCHMARKS_END = 170 / 530, 345 / 530, 495 / 530  # shares of the time
SANITIZERS = ("memcheck", "racecheck")
# Tests run as one process per operator: a kernel that breaks its process takes no others along.
# The largest come one after the other: side by side they would not fit into the memory.
PARTS = {
    "large": "beyond or 65536_frames",
    "sinkhorn": "sinkhorn",
    "frame_distance": "frame_distance",
    "modulated_cosines": "modulated_cosines",
    "total_variation": "total_variation",
    "neg_snr, si_sdr": "neg_snr or si_sdr",
    "frames, overlap_add": "frames or overlap_add",
    "harmonic_bank, spectral_loss": "harmonic_bank or spectral_loss",
    "all_pole, lsf_to_lpc, decode_f0, gated_recurrence": "all_pole or lsf or decode or gated",
}
TESTS = (
    "tests/test_contract.py",
    "tests/ops",
    "tests/nn",
    "tests/data/test_segments.py",
    "tests/gpu",
)
LOST = 4  # exit status of benchmarks whose CUDA context has died; a new process can go on
PYTEST_WHEELS = "pytest pluggy iniconfig packaging pygments"
# One operator on the device shows more than an import: that the kernels run on torch's stream.
PROBE = """
import torch
from rlsv_fast import ops
from rlsv_fast._library import has_cuda_kernels
if not has_cuda_kernels(): raise SystemExit("the binary lacks CUDA kernels")
steps = torch.tensor([[[0.0, 1.0, 3.0]]], device="cuda")
value = float(ops.total_variation(steps))
if value != 1.0: raise SystemExit(f"total_variation gave {value} instead of 1.0")
"""


@dataclass
class Stage:
    """What became of a part of the report."""

    name: str
    status: str  # passed, failed, skipped
    summary: str
    seconds: float = 0.0


def with_package(**more: str) -> dict[str, str]:
    """Environment in which this tree's package is found, and what the caller carried."""
    paths = [str(ROOT), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), **more}


def missing_cuda() -> str:
    """Why nothing can be measured here, in one line; empty where it can."""
    try:
        import torch
    except ImportError as error:
        return f"{sys.executable} has no torch ({error}); name another Python: PYTHON=..."
    if torch.cuda.is_available():
        return ""
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
    return f"no CUDA device is visible to torch {torch.__version__}, which is built for {built}"


def build(out: Path, end: float) -> Stage:
    """A carried binary that works here, else a build in place for this device."""
    import torch

    probe = Job([sys.executable, "-c", PROBE], with_package())
    carried = sorted((ROOT / "rlsv_fast").glob("_C*.so"))
    log = ""
    if carried:
        run_together([probe], out / "logs", end)
        if probe.status == 0:
            return Stage("build", "passed", f"carried {carried[0].name} runs here", probe.seconds)
        log = f"{probe.output}\nThe carried binary does not serve: {last_line(probe.output)}\n"
    major, minor = torch.cuda.get_device_capability()
    environment = {
        "RLSV_FAST_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": f"{major}.{minor}",
        "MAX_JOBS": str(os.cpu_count()),
    }
    compiler = Job([sys.executable, "setup.py", "build_ext"], environment)
    run_together([compiler], out / "logs", end)
    taken = probe.seconds + compiler.seconds
    (out / "build.log").write_text(log + compiler.output)
    if compiler.status != 0:
        why = "out of time" if compiler.status is None else last_line(compiler.output)
        return Stage("build", "failed", f"{why} (build.log)", taken)
    run_together([probe], out / "logs", end)
    if probe.status != 0:
        why = f"built, but does not run: {last_line(probe.output)}"
        return Stage("build", "failed", why, taken)
    says = (
        f"built for compute capability {major}.{minor}{'; ' + last_line(log)[:200] if log else ''}"
    )
    return Stage("build", "passed", says, taken)


def find_sanitizer() -> str | None:
    """compute-sanitizer on PATH or in a toolkit's folder."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    if nvcc:
        homes.insert(0, str(Path(nvcc).resolve().parent.parent))
    folders = [
        f"{home}/{part}" for home in filter(None, homes) for part in ("bin", "compute-sanitizer")
    ]
    return shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ["PATH"], *folders]))


def selections() -> dict[str, str]:
    """What pytest's -k is for every part: together all GPU tests, each once."""
    chosen: dict[str, str] = {}
    taken: list[str] = []
    for name, words in PARTS.items():
        others = f" and not ({' or '.join(taken)})" if taken else ""
        chosen[name] = f"cuda and ({words}){others}"
        taken.append(words)
    return {**chosen, "all others": f"cuda and not ({' or '.join(taken)})"}


def test_jobs() -> dict[str, Job]:
    """The test-suite in parts that run side by side."""
    parts = selections()
    threads = str(max(1, (os.cpu_count() or 1) // len(parts)))
    environment = with_package(FAIL_WITHOUT_CUDA="1", OMP_NUM_THREADS=threads)
    options = ["-p", "no:cacheprovider", "-vv", "-rfEs", "--tb=short"]
    pytest = [sys.executable, "-m", "pytest", *options, *TESTS, "-k"]
    return {name: Job([*pytest, words], environment) for name, words in parts.items()}


def kernel_filter(sanitizer: str) -> list[str]:
    """Leaves torch's own kernels alone, where this release of the tool knows how."""
    told = subprocess.run([sanitizer, "--help"], capture_output=True, text=True)
    return ["--kernel-name", "kns=rlsv_fast"] if "--kernel-name" in told.stdout else []


def sanitizer_jobs(sanitizer: str, seconds: float) -> dict[str, Job]:
    """Each tool over every operator; allocations are not cached, so that their ends are known."""
    program = [sys.executable, "tests/gpu/sanitized.py", "--seconds", str(int(seconds))]
    options = [*kernel_filter(sanitizer), "--error-exitcode", "86", "--print-limit", "50"]
    options += ["--target-processes", "all"]
    own = {
        "memcheck": ["--report-api-errors", "no"]
    }  # torch asks for functions that may be missing
    environment = with_package(PYTORCH_NO_CUDA_MEMORY_CACHING="1")
    return {
        tool: Job([sanitizer, "--tool", tool, *own.get(tool, []), *options, *program], environment)
        for tool in SANITIZERS
    }


def counts(output: str) -> dict[str, int]:
    """Numbers of pytest's last summary line."""
    for line in reversed(output.splitlines()):
        found = re.findall(r"(\d+) (passed|failed|errors?|skipped)", line)
        if found and " in " in line:
            return {word.rstrip("s"): int(number) for number, word in found}
    return {}


def tests_stage(jobs: Mapping[str, Job]) -> Stage:
    """One line of all parts; a part without a single passed test has not passed."""
    parts: list[str] = []
    skips: list[str] = []
    good = True
    for name, job in jobs.items():
        found = counts(job.output)
        good = good and job.status == 0 and found.get("passed", 0) > 0
        said = ", ".join(f"{number} {word}" for word, number in found.items())
        ended = {0: "", None: " OUT OF TIME"}.get(job.status, f" (status {job.status})")
        parts.append(f"{name}: {said or 'no summary'}{ended}")
        skips += re.findall(r"^SKIPPED \[\d+\] \S+ (.*)", job.output, flags=re.MULTILINE)
    if skips:
        parts.append(f"skipped because: {', '.join(sorted(set(skips)))}")
    took = max(job.seconds for job in jobs.values())
    return Stage("tests", "passed" if good else "failed", "; ".join(parts), took)


def sanitizer_stage(tool: str, job: Job) -> Stage:
    """What a tool found; a program that ran out of its time is named and is not a failure."""
    found = re.findall(r"=+ ((?:ERROR|RACECHECK) SUMMARY: .*)", job.output)
    says = found[-1] if found else last_line(job.output)
    clean = bool(found) and re.search(r"SUMMARY: 0 (errors|hazards)", says) is not None
    if job.status is None:
        return Stage(tool, "failed", f"out of time; {says}", job.seconds)
    cut = re.findall(r"^out of time, not run: .*", job.output, flags=re.MULTILINE)
    status = "passed" if clean and job.status == (3 if cut else 0) else "failed"
    return Stage(tool, status, "; ".join([says, *cut]), job.seconds)


def checks(out: Path, end: float) -> list[Stage]:
    """Tests and sanitizers, side by side: neither is timed."""
    stages: list[Stage] = []
    tests: dict[str, Job] = {}
    tools: dict[str, Job] = {}
    if importlib.util.find_spec("pytest"):
        tests = test_jobs()
    else:
        need = f"{sys.executable} has no pytest; carry wheels of {PYTEST_WHEELS}, put on PYTHONPATH"
        stages.append(Stage("tests", "failed", need))
    sanitizer = find_sanitizer()
    if sanitizer:
        tools = sanitizer_jobs(sanitizer, 0.8 * (end - time.monotonic()))
    else:
        stages += [Stage(tool, "failed", "compute-sanitizer not found") for tool in SANITIZERS]
    run_together([*tests.values(), *tools.values()], out / "logs", end)
    if tests:
        stages.append(tests_stage(tests))
    stages += [sanitizer_stage(tool, job) for tool, job in tools.items()]
    for name, jobs in (("tests.log", tests), ("sanitizer.log", tools)):
        text = "".join(
            f"##### {label}: {job.command}\n{job.output}\n" for label, job in jobs.items()
        )
        (out / name).write_text(clipped(text or "not run\n"))
    return stages


def benchmarks(out: Path, end: float) -> tuple[Stage, dict[str, Any]]:
    """Times, alone on the device."""
    file = out / "benchmarks.json"
    file.unlink(missing_ok=True)
    until = f"{end - 20:.0f}"  # the last one begun has 20 s to finish
    program = [sys.executable, "benchmarks/gpu_benchmarks.py", str(file), "--until", until]
    output, taken, jobs = "", 0.0, 0
    while True:
        job = Job(program, with_package())
        run_together([job], out / "logs", end)
        output, taken, jobs = output + job.output, taken + job.seconds, jobs + 1
        if job.status != LOST or time.monotonic() > end - 20 or jobs == 20:
            break
    (out / "benchmarks.log").write_text(clipped(output))
    if job.status not in (0, 1):  # names what was not reached
        run_together([Job([*program[:-1], "0"], with_package())], out / "logs", end + 35)
    report: dict[str, Any] = {}
    if file.exists():
        report = json.loads(file.read_text())
        file.unlink()
    results = [*report.get("kernels", []), *report.get("comparisons", [])]
    number = {key: sum(key in one for one in results) for key in ("median", "failed", "skipped")}
    says = f"{number['median']} measured, {number['failed']} failed, {number['skipped']} skipped"
    if job.status not in (0, 1):
        says += "; OUT OF TIME" if job.status is None else f"; broke with status {job.status}"
    elif not results:
        says = f"{last_line(job.output)} (benchmarks.log)"
    good = job.status == 0 and number["failed"] == 0 and number["median"] > 0
    return Stage("benchmarks", "passed" if good else "failed", says, taken), report


def run(out: Path, seconds: float) -> int:
    """All stages; returns the exit status."""
    from gpu_tables import markdown

    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    stages: list[Stage] = []

    def add(*new: Stage) -> None:
        for stage in new:
            print(f"{stage.name}: {stage.status}: {stage.summary}", flush=True)
        stages.extend(new)
        report["stages"] = [asdict(stage) for stage in stages]
        (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        (out / "README.md").write_text(markdown(report))

    report["facts"] = facts()
    add(Stage("facts", "passed", f"{report['facts'].get('gpu', 'unknown device')}"))
    add(build(out, start + seconds * BUILD_ENDS))
    if stages[-1].status == "passed":
        add(*checks(out, start + seconds * CHECKS_END))
        stage, measured = benchmarks(out, start + seconds * BENCHMARKS_END)
        report.update({**measured, "facts": {**report["facts"], **measured.get("facts", {})}})
        add(stage)
    else:
        add(*(Stage(n, "skipped", "no build") for n in ("tests", *SANITIZERS, "benchmarks")))
    print(f"{time.monotonic() - start:.0f} s; written to {out}", flush=True)
    return int(any(stage.status != "passed" for stage in stages))


def facts() -> dict[str, Any]:
    """Of this machine, before anything is built: the package may not be importable yet."""
    code = "import json, machine; print(json.dumps({**machine.facts(), **machine.gpu_facts()}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **with_package()},
    )
    if done.returncode != 0:
        return {"facts": f"unknown: {last_line(done.stderr)}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    """Exit status 0 if all stages passed, 1 if one failed, 2 without a CUDA device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-report"))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything")
    arguments = parser.parse_args()
    reason = missing_cuda()
    if reason:
        print(f"gpu-report: {reason}", file=sys.stderr)
        return 2
    return run(arguments.out.resolve(), arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())
