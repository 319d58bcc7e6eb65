"""Every operator forward and backward on small inputs: the program that compute-sanitizer watches.

Usage: compute-sanitizer --tool memcheck --kernel-name kns=rlsv_fast python tests/gpu/sanitized.py
Needs torch alone. Prints one line per operator, and stops early with exit status 3 after --seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from cases import CASES, Case  # noqa: E402

from rlsv_fast import ops  # noqa: E402


def run(case: Case, dtype: torch.dtype, device: str) -> None:
    """Value and gradients once."""
    inputs = case.inputs(dtype, device)
    output = case.call(ops, *inputs)
    torch.autograd.grad(output.sum(), inputs, allow_unused=True)


def main() -> int:
    """Small cases first, one of each operator before the second of any, then the larger ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    turn: Counter[str] = Counter()
    order = []
    for index, case in enumerate(CASES):
        turn[case.op] += 1
        order.append((not case.small, turn[case.op], index))
    left = sorted(order)
    done: Counter[str] = Counter()
    for place, (*_, index) in enumerate(left):
        if time.monotonic() > end:
            names = ", ".join(str(CASES[i]) for *_, i in left[place:])
            print(f"out of time, not run: {names}")
            return 3
        for dtype in (torch.float32, torch.float64):
            run(CASES[index], dtype, arguments.device)
        done[CASES[index].op] += 1
    if arguments.device != "cpu":
        torch.cuda.synchronize()
    for op, count in sorted(done.items()):
        print(f"{op}: {count} inputs, forward and backward, float32 and float64")
    return 0


if __name__ == "__main__":
    sys.exit(main())
