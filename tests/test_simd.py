"""Every instruction set that the CPU kernels are compiled for, as far as this processor has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rlsv_fast

ROOT = Path(__file__).resolve().parents[1]
BEST = rlsv_fast.build_info()["simd"]


@pytest.mark.parametrize("level", ["baseline", "v3"])
def test_lower_instruction_sets_meet_the_contract(level: str) -> None:
    if level == "v3" and not BEST.startswith(("x86-64-v3", "x86-64-v4")):
        pytest.skip(f"this processor runs {BEST}")
    chosen = "float64_agrees or error_budget or number_of_threads or marginal or golden"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_contract.py"]
        + ["tests/ops/test_sinkhorn.py", "-k", f"({chosen}) and not cuda"],
        cwd=ROOT,
        env={**os.environ, "RLSV_FAST_SIMD": level},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    name = subprocess.run(
        [sys.executable, "-c", "import rlsv_fast; print(rlsv_fast.build_info()['simd'])"],
        cwd=ROOT,
        env={**os.environ, "RLSV_FAST_SIMD": level},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert ("AVX2" in name) == (level == "v3")
