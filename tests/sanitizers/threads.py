"""Every operator on several threads at once, under ThreadSanitizer; see README.md."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[number]) for number in (1, 2)]

from substitute import substitute  # noqa: E402

substitute()

import torch  # noqa: E402
from cases import CASES  # noqa: E402

from rlsv_fast import ops  # noqa: E402


def main() -> None:
    torch.set_num_threads(4)
    for case in CASES:
        inputs = case.inputs(torch.float32)
        output = case.call(ops, *inputs)
        torch.autograd.grad(output.sum(), inputs, materialize_grads=True)
    print(f"{len(CASES)} cases on {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
