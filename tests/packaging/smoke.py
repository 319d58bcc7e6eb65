"""An installed rlsv_fast computes what it should: `python smoke.py [--without-host]`.

Needs torch alone. Run it where `import rlsv_fast` finds the installation to be checked: values and
gradients of every operator of tests/cases against the plain PyTorch twins, in float64; one line
of JSON with what ran. Any difference is an error.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cases

import torch
from cases import CASES, Case
from torch import Tensor

import rlsv_fast
from rlsv_fast import ops, reference


def value_and_gradients(case: Case, module: object) -> list[Tensor]:
    """What the case gives with one implementation."""
    inputs = case.inputs()
    output = case.call(module, *inputs)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    total = (output * weight.to(output)).sum()
    return [output.detach(), *torch.autograd.grad(total, inputs, materialize_grads=True)]


def check(case: Case) -> None:
    """Raise where the compiled operator and its twin differ."""
    pairs = zip(value_and_gradients(case, ops), value_and_gradients(case, reference), strict=True)
    for mine, truth in pairs:
        largest = float(truth.abs().max()) if truth.numel() else 0.0
        torch.testing.assert_close(mine, truth, rtol=0.0, atol=1e-10 * max(largest, 1e-30))


def host(expected: bool) -> str:
    """What the helper module says, or that it says readably that it is of another Python."""
    try:
        return rlsv_fast.build_info()["torch"]
    except ImportError as error:
        if expected or "rebuild it with" not in str(error):
            raise
        return "of another Python, said readably"


def main() -> None:
    """Check everything and print one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-host", action="store_true", help="_host may be missing")
    options = parser.parse_args()
    cases = [case for case in CASES if case.small]
    for case in cases:
        check(case)
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "operators": len({case.op for case in cases}),
        "cases": len(cases),
        "build": host(not options.without_host),
        "location": str(Path(rlsv_fast.__file__).parent),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
