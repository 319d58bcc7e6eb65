"""Times every kernel and every comparison on a GPU into one JSON file. Needs torch alone.

Usage: python benchmarks/gpu_benchmarks.py FILE.json [--until SECONDS] [--only REGEX]

First the device's two ceilings, then kernels against their floors, then the comparisons; compiled
peers last. What the time does not suffice for is named in the file with the reason. Where FILE.json
exists, what it holds is kept and the rest measured: a kernel can break its process (exit status 4).
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import machine  # noqa: E402
import torch  # noqa: E402
from catalogue import COMPILED, Ceilings, Kernel, Row, Target  # noqa: E402
from timing import Timed, measure  # noqa: E402

Report = dict[str, Any]
MODULES = [path.stem for path in sorted(Path(__file__).parent.glob("bench_*.py"))]


def bandwidth(device: str, size: int = 4 << 30) -> float:
    """Bytes per second, read and written, of a large copy on the device."""
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / measure(Timed(lambda: target.copy_(source)), device)["median"]


def addition_rate(device: str, numbers: int = 1 << 25, steps: int = 512) -> float:
    """Float32 additions per second of a chain that torch.compile keeps in registers."""

    def chain(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        for _ in range(steps // 2):
            x = (x + a) - b
        return x

    x, a, b = (torch.randn(count, device=device) for count in (numbers, 1, 1))
    run = torch.compile(chain)
    return numbers * steps / measure(Timed(lambda: run(x, a, b)), device)["median"]


def kernels(name: str) -> Sequence[Kernel]:
    """The kernels of a bench file."""
    found: Sequence[Kernel] = getattr(importlib.import_module(name), "KERNELS", ())
    return found


def comparisons(device: str, names: Sequence[str] = MODULES) -> list[Row]:
    """The rows of these files in the order of what a short run should not miss."""
    modules = [importlib.import_module(name) for name in names]
    found = [
        row for one in modules for benchmark in one.BENCHMARKS for row in benchmark.rows(device)
    ]
    return sorted(found, key=lambda row: (row.peer == COMPILED, row.effort[1] == 1))


def targets(names: Sequence[str] = MODULES) -> Iterator[tuple[str, str, Target]]:
    """(op, shape, target) of every comparison that has one."""
    for name in names:
        for benchmark in importlib.import_module(name).BENCHMARKS:
            for target in benchmark.targets:
                yield benchmark.op, benchmark.shape, target


def kernel_result(kernel: Kernel, at: str, device: str, ceilings: Ceilings) -> Report:
    """Time and floors of a kernel at one of its sizes."""
    sizes = kernel.sizes[at]
    times = measure(kernel.prepare(sizes, device), device)
    transfer, arithmetic = kernel.floors(sizes, ceilings)
    floor = max(transfer, arithmetic)
    return {
        "sizes": dict(sizes),
        "bytes": 4 * kernel.numbers(sizes),
        "operations": kernel.operations(sizes),
        "transfer_floor": transfer,
        "arithmetic_floor": arithmetic,
        "fraction_of_floor": floor / times["median"],
        "target": kernel.target if at in kernel.target_at else None,
        **times,
    }


def row_result(row: Row) -> Report:
    """Time of one comparison; fewer repetitions where a call takes seconds."""
    slow = row.effort[1] == 1
    return {**measure(row.prepare(), row.device, warm_up=1 if slow else 3), **row.facts()}


class ContextLost(Exception):
    """CUDA has no use for this process any more."""


def run_all(
    write: Callable[[Report], None],
    deadline: float,
    device: str = "cuda",
    former: Report | None = None,
    only: str = "",
) -> int:
    """Measure what `former` lacks until the deadline, of the files whose names match `only`.

    Returns:
        The number of failures.
    """
    names = [name for name in MODULES if re.search(only, name)]
    report = former or {
        "facts": {**machine.facts(), **machine.gpu_facts()},
        "targets": [
            {"group": f"{op} {target.direction}", "shape": shape, **vars(target)}
            for op, shape, target in targets()
        ],
        "ceilings": {},
        "kernels": [],
        "comparisons": [],
    }
    failures = 0

    def attempt(label: str, act: Callable[[], Report], keep: Callable[[Report], None]) -> None:
        """Keep what came of it: results, why not, or that there was no time."""
        nonlocal failures
        if time.monotonic() > deadline:
            keep({"skipped": "not reached in time"})
            return
        try:
            result = act()
        except ModuleNotFoundError as error:
            result = {"skipped": str(error)}
        except Exception as error:  # the others are still worth measuring
            failures += 1
            result = {"failed": f"{type(error).__name__}: {error}"[:500]}
        keep(result)
        write(report)
        print(f"{label}: {result.get('failed') or result.get('skipped') or 'done'}", flush=True)
        if "failed" in result and device != "cpu":
            try:
                torch.cuda.synchronize()
            except Exception as error:
                raise ContextLost from error
        if device != "cpu":
            torch.cuda.empty_cache()

    def missing(part: str, known: Report) -> bool:
        return not any(known.items() <= one.items() for one in report[part])

    def append(part: str, known: Report) -> Callable[[Report], None]:
        return lambda result: report[part].append({**known, **result})

    for name, rate in (("bandwidth", bandwidth), ("float32", addition_rate)):
        if name not in report["ceilings"]:
            attempt(
                name,
                lambda rate=rate: {"per_second": rate(device)},
                lambda result, name=name: report["ceilings"].update({name: result}),
            )
    rates = {name: value.get("per_second") for name, value in report["ceilings"].items()}
    ceilings = Ceilings(**{name: rate for name, rate in rates.items() if rate})
    for kernel, at in ((k, at) for name in names for k in kernels(name) for at in k.sizes):
        known = {"kernel": kernel.name, "at": at}
        if missing("kernels", known):
            attempt(
                f"{kernel.name} [{at}]",
                lambda kernel=kernel, at=at: kernel_result(kernel, at, device, ceilings),
                append("kernels", known),
            )
    for row in comparisons(device, names):
        known = {"group": row.group, "shape": row.shape, "peer": row.peer}
        if missing("comparisons", known):
            attempt(str(row), lambda row=row: row_result(row), append("comparisons", known))
    report["facts"].update(
        {f"{k}_after": v for k, v in machine.gpu_facts().items() if "clock" in k}
    )
    write(report)
    return failures


def main() -> int:
    """Exit status 1 if anything failed, 4 if the process is of no use any more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--until", type=float, default=float("inf"), help="of time.monotonic()")
    parser.add_argument("--only", default="", metavar="REGEX", help="names of bench files")
    arguments = parser.parse_args()
    file: Path = arguments.file
    former = json.loads(file.read_text()) if file.exists() else None

    def write(report: Report) -> None:
        file.write_text(json.dumps(report, indent=1) + "\n")

    try:
        failures = run_all(write, arguments.until, former=former, only=arguments.only)
    except ContextLost as lost:
        print(f"CUDA context lost: {lost.__cause__}", flush=True)
        return 4
    return min(1, failures)


if __name__ == "__main__":
    sys.exit(main())
