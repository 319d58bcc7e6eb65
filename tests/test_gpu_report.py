"""`make gpu-report` as far as it can be shown without a GPU: refusal, stages, clocks, tables."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu_benchmarks
import gpu_report
import gpu_tables
import pytest
import torch
from catalogue import Ceilings, Kernel
from gpu_report import Job, Stage
from timing import Timed, measure, rotating

ROOT = Path(__file__).resolve().parents[1]
KERNELS = [kernel for name in gpu_benchmarks.MODULES for kernel in gpu_benchmarks.kernels(name)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_stops_with_one_line(tmp_path: Path) -> None:
    command = ["make", "gpu-report", f"OUT={tmp_path / 'report'}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode == 2
    assert len(said) == 1 and said[0].startswith("gpu-report: no CUDA device is visible to torch")
    assert done.stdout == "" or done.stdout.startswith("make")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "kernel", KERNELS, ids=lambda kernel: f"{kernel.name}-{list(kernel.sizes)[0]}"
)
def test_every_kernel_can_be_timed(kernel: Kernel) -> None:
    for sizes in kernel.sizes.values():
        transfer, arithmetic = kernel.floors(sizes, Ceilings())
        assert transfer > 0 and arithmetic >= 0
    tiny = {axis: min(size, 5) for axis, size in next(iter(kernel.sizes.values())).items()}
    times = measure(kernel.prepare(tiny, "cpu"), "cpu", rounds=3, least=0)
    assert 0 < times["min"] <= times["median"]
    assert set(kernel.target_at) <= set(kernel.sizes)


def test_every_raw_operator_is_timed() -> None:
    names = {n for n in torch._C._dispatch_get_all_op_names() if n.startswith("rlsv_fast::")}
    assert {f"rlsv_fast::_{kernel.name}" for kernel in KERNELS} == names


def test_inputs_take_turns_until_they_exceed_the_cache() -> None:
    seen: list[int] = []
    make = iter(range(100))
    timed = rotating(
        lambda: (torch.full((256,), float(next(make))),),
        lambda x: seen.append(int(x[0])),
        "cpu",
        2000,
    )
    assert timed.sets == 6  # 6 KB are three times the cache
    for _ in range(8):
        timed.run()
    assert seen == [0, 1, 2, 3, 4, 5, 0, 1]


def test_times_are_per_call() -> None:
    times = measure(Timed(lambda: time.sleep(0.004), calls=4), "cpu", rounds=3, least=0)
    assert 0.001 <= times["median"] < 0.01


def test_a_run_ends_in_time_and_names_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bandwidth", "addition_rate"):
        monkeypatch.setattr(gpu_benchmarks, name, lambda device: 1e9)
    reports: list[dict[str, Any]] = []
    failures = gpu_benchmarks.run_all(reports.append, time.monotonic() - 1, "cpu")
    report = json.loads(json.dumps(reports[-1]))
    assert failures == 0
    assert {one["skipped"] for one in report["kernels"] + report["comparisons"]} == {
        "not reached in time"
    }
    text = gpu_tables.markdown({**report, "stages": []})
    assert text.count("not reached in time") >= len(report["kernels"])


def test_a_second_process_goes_on_where_the_first_one_broke(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_benchmarks, "MODULES", [])
    former = {"facts": {}, "targets": [], "ceilings": {"bandwidth": {}, "float32": {"failed": "x"}}}
    reports: list[dict[str, Any]] = []
    former.update(kernels=[], comparisons=[])
    assert gpu_benchmarks.run_all(reports.append, time.monotonic() + 60, "cpu", former) == 0
    assert reports[-1]["ceilings"] == {"bandwidth": {}, "float32": {"failed": "x"}}


def test_jobs_run_side_by_side_and_are_stopped(tmp_path: Path) -> None:
    jobs = [
        Job([sys.executable, "-c", "print('here'); raise SystemExit(3)"]),
        Job([sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]),
    ]
    gpu_report.run_together(jobs, tmp_path / "logs", time.monotonic() + 2)
    assert [job.status for job in jobs] == [3, None]
    assert [job.output.splitlines()[0] for job in jobs] == ["here", "begun"]
    assert not (tmp_path / "logs").exists()


def job(status: int | None, output: str) -> Job:
    return Job([], {}, status, output)


def test_the_test_stage_passes_only_where_tests_passed() -> None:
    good = job(0, "SKIPPED [2] tests/x.py:3: only one CUDA device\n5 passed, 2 skipped in 1.0s\n")
    assert gpu_report.tests_stage({"a": good}).status == "passed"
    assert "only one CUDA device" in gpu_report.tests_stage({"a": good}).summary
    for bad in (job(1, "1 failed, 5 passed in 1.0s"), job(None, ""), job(0, "9 skipped in 1s")):
        assert gpu_report.tests_stage({"a": good, "b": bad}).status == "failed"


def test_the_sanitizer_stage_reads_the_summaries() -> None:
    memory = gpu_report.sanitizer_stage("memcheck", job(0, "========= ERROR SUMMARY: 0 errors\n"))
    assert memory == Stage("memcheck", "passed", "ERROR SUMMARY: 0 errors")
    race = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
    cut = f"out of time, not run: frames-typical\n{race}"
    assert gpu_report.sanitizer_stage("racecheck", job(3, cut)).status == "passed"
    assert "frames-typical" in gpu_report.sanitizer_stage("racecheck", job(3, cut)).summary
    for status, said in ((86, "========= ERROR SUMMARY: 2 errors"), (0, "nothing"), (None, race)):
        assert gpu_report.sanitizer_stage("memcheck", job(status, said)).status == "failed"


REPORT: dict[str, Any] = {
    "date": "2026-11-20",
    "facts": {"gpu": "NVIDIA Test", "commit": "abc"},
    "ceilings": {"bandwidth": {"per_second": 4e12}, "float32": {"failed": "no Triton"}},
    "stages": [{"name": "tests", "status": "passed", "summary": "9 passed | 1", "seconds": 61.4}],
    "targets": [
        {
            "group": "f forward",
            "shape": "P2",
            "peer": "fused",
            "than": "slow",
            "times": 5,
            "seconds": 0,
        },
        {
            "group": "f forward",
            "shape": "P2",
            "peer": "fused",
            "than": "",
            "times": 0,
            "seconds": 1e-6,
        },
        {
            "group": "g forward",
            "shape": "P2",
            "peer": "fused",
            "than": "slow",
            "times": 5,
            "seconds": 0,
        },
    ],
    "kernels": [
        {
            "kernel": "frames",
            "at": "P2",
            "bytes": 12.7e6,
            "operations": 0,
            "transfer_floor": 3e-6,
            "arithmetic_floor": 0.0,
            "fraction_of_floor": 0.75,
            "target": 0.7,
            "median": 4e-6,
        },
        {"kernel": "overlap_add", "at": "P2", "failed": "RuntimeError: no | kernel\nimage"},
    ],
    "comparisons": [
        {"group": "f forward", "shape": "P2", "peer": "slow", "median": 2e-5},
        {"group": "f forward", "shape": "P2", "peer": "fused", "median": 2e-6},
        {"group": "f forward", "shape": "P2", "peer": "torch.compile", "skipped": "out of time"},
    ],
}


def test_the_tables_of_a_report() -> None:
    lines = gpu_tables.markdown(REPORT).splitlines()
    assert "| tests | passed | 61 s | 9 passed / 1 |" in lines
    assert "| frames [P2] | 70% of the floor | 75%, 4 µs | met |" in lines
    assert "| f forward [P2], fused | 5 x slow | 10.0 x | met |" in lines
    assert "| f forward [P2], fused | at most 1 µs | 2 µs | **missed** |" in lines
    assert "| g forward [P2], fused | 5 x slow | no result | not measured |" in lines
    assert "| frames [P2] | 12.7 MB, 3 µs | 0, 0 µs | 3 µs | 4 µs | 75% | 70% |" in lines
    assert "| overlap_add [P2] |  |  |  |  |  | failed: RuntimeError: no / kernel image |" in lines
    assert "| f forward [P2] | slow | 20 µs | 10.00 |  |" in lines
    assert "| f forward [P2] | torch.compile |  |  | skipped: out of time |" in lines
    assert "Measured ceiling, float32: failed: no Triton; that of an H200 is assumed" in lines
    cells = {line.count("|") for line in lines if line.startswith("| f forward [P2] |")}
    assert cells == {6}


def test_the_readme_has_the_floors_of_every_kernel() -> None:
    readme = (ROOT / "benchmarks/README.md").read_text()
    report = json.loads((ROOT / "benchmarks/results/h100/first.json").read_text())
    for line in gpu_tables.floors(report).splitlines():
        counted = line.split(" | ")[:4]  # what follows from the formulas; measurements are edited
        assert " | ".join(counted) in readme, counted
