"""Every instruction set that the CPU kernels are compiled for, as far as this processor has it."""

import importlib
import os
import platform
import re
import shutil
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
    chosen += " or test_frame_distance"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_contract.py"]
        + ["tests/ops", "-k", f"({chosen}) and not cuda and not many"],
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


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump")
@pytest.mark.skipif(
    platform.machine() != "x86_64" or "lang" in rlsv_fast.build_info()["compiler"],
    reason="one instruction set only",
)
def test_older_processors_meet_no_newer_instruction() -> None:
    """Code outside the namespaces v3 and v4, such as shared library templates, must not use AVX."""
    binary = importlib.import_module("rlsv_fast._C").__file__ or ""
    listing = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", binary],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    newer: dict[str, set[str]] = {"v3": set(), "v4": set(), "elsewhere": set()}
    function = ""
    for line in listing.splitlines():
        if line.endswith(">:"):
            function = line
        elif re.search(r"\tv\w+ .*%[xyz]mm", line):
            place = next((p for p in ("v3", "v4") if f"rlsv_fast::{p}::" in function), "elsewhere")
            newer[place].add(function)
    assert newer["v3"] and newer["v4"]
    assert not newer["elsewhere"]
