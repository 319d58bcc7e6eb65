"""Run the CPU kernels under sanitizers: `python tests/sanitizers/run.py [address] [thread]`.

Builds `_C` with them (`instrumented.py`), then runs on it, in the place of the usual one, the
contract and the operators' own tests and a short fuzz (address, with undefined), or a check of
many threads (thread). See README.md for what each can see.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from instrumented import ROOT, SANITIZERS, build, environment

# Left out: what tests torch's compilers rather than kernels, or takes minutes when instrumented.
SLOW = (
    *("cuda", "inductor", "compiles", "exported", "many", "large_sizes", "properties"),
    *("opcheck", "small_to_large", "with_pot", "(gradcheck and sinkhorn)"),
)
TESTS = (
    *("-m", "pytest", "-o", "addopts=-q", "-p", "no:cacheprovider", "--capture=sys"),
    *("tests/test_contract.py", "tests/ops"),
    *("-k", " and ".join(f"not {name}" for name in SLOW)),
)
CASES = 3000


def runs(sanitizer: str, cases: int) -> dict[str, tuple[str, ...]]:
    """Command lines of Python, by what they are."""
    if sanitizer == "thread":
        return {"many threads": ("tests/sanitizers/threads.py",)}
    fuzz = ("tests/fuzz", "--unlimited", "--seconds", "300", "--cases", str(cases))
    return {"tests": TESTS, "fuzz": fuzz}


def run(sanitizer: str, level: str, cases: int) -> list[str]:
    """Build and run; returns a line per run."""
    library = build(sanitizer, ROOT / "build/sanitizers" / sanitizer)
    variables = {**os.environ, **environment(sanitizer), "RLSV_FAST_EMULATED": str(library)}
    variables |= {"RLSV_FAST_SIMD": level, "PYTHONPATH": str(ROOT)}
    if sanitizer == "address":
        variables["OMP_NUM_THREADS"] = "1"  # most of the time; the contract sets others itself
    lines = []
    for name, command in runs(sanitizer, cases).items():
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=variables, capture_output=True, text=True
        )
        said = (done.stdout + done.stderr).splitlines()
        ok = done.returncode == 0 and not any("runtime error" in line for line in said)
        if not ok:
            print("\n".join(line for line in said if _telling(line)), file=sys.stderr)
        end = "passed" if ok else f"FAILED with status {done.returncode}"
        seconds = time.perf_counter() - begin
        last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "")
        lines.append(f"{sanitizer}, {level}, {name}: {end} in {seconds:.0f} s: {last[:200]}")
        print(lines[-1], flush=True)
    return lines


def _telling(line: str) -> bool:
    """What a sanitizer found, where in our sources, and which tests failed: no frames of Python."""
    parts = ("runtime error", "ERROR:", "WARNING:", "SUMMARY", "csrc/", "FAILED", "Error", "seed ")
    return any(part in line for part in parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sanitizers", nargs="*", default=sorted(SANITIZERS))
    parser.add_argument("--simd", action="append", help="baseline, v3 or v4; default: v3")
    parser.add_argument("--cases", type=int, default=CASES, help="of the fuzz")
    parser.add_argument("--out", type=Path, help="folder for the lines as sanitizers.md")
    options = parser.parse_args()
    lines = [
        line
        for sanitizer in options.sanitizers
        for level in options.simd or ["v3"]
        for line in run(sanitizer, level, options.cases)
    ]
    if options.out is not None:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
        listed = "".join(f"- {line}\n" for line in lines)
        head = f"# Sanitizers\n`python tests/sanitizers/run.py`, commit {commit}:\n\n"
        (options.out / "sanitizers.md").write_text(head + listed, encoding="utf-8")
    return any("FAILED" in line for line in lines)


if __name__ == "__main__":
    sys.exit(main())
