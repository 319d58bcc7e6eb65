"""The tests of every operator on emulated kernels, in several schedules and on several devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cusim.conftest import ROOT

# Left out: what depends on torch alone, and what takes minutes here and seconds on a CPU.
SLOW = (
    *("inductor", "compiles", "many", "small_epsilon", "small_to_large", "large_sizes"),
    *("with_pot", "differences", "tends_to", "tiny_losses", "properties"),
    *("(opcheck and not small)", "(gradcheck and sinkhorn)"),
)
EXCEPT = " and ".join(f"not {name}" for name in ("cuda", *SLOW))
CONTRACT = ("tests/test_contract.py", "tests/ops", "-k", EXCEPT)
FLOAT64 = ("tests/test_contract.py", "-k", f"{EXCEPT} and float64_agrees")
FLOAT32 = ("tests/test_contract.py", "-k", f"{EXCEPT} and float32_stays")
SIZES = ("tests/cusim/emulated_sizes.py",)
FEW_SIZES = (*SIZES, "-k", "float32 and not 173x173 and not unaligned")

SMALL = {"CUSIM_PROCESSORS": "1", "CUSIM_SHARED": "18000"}
STRIDING = {"CUSIM_PROCESSORS": "3", "CUSIM_BLOCKS": "2"}


@pytest.fixture(scope="session")
def twin(build) -> Path:
    path: Path = build("none").twin()
    return path


@pytest.mark.parametrize(
    ("tests", "schedule", "machine"),
    [
        pytest.param(CONTRACT, "fwd", {}, id="contract-forward"),
        pytest.param(FLOAT64, "rev", {}, id="float64-reverse"),
        pytest.param(FLOAT32, "rand:1", {}, id="float32-random"),
        pytest.param(SIZES, "rand:2", {}, id="sizes"),
        pytest.param(FEW_SIZES, "fwd", SMALL, id="sizes-on-a-small-device"),
        pytest.param(FEW_SIZES, "rev", STRIDING, id="sizes-with-few-blocks"),
    ],
)
def test_operators(
    tests: tuple[str, ...], schedule: str, machine: dict[str, str], twin: Path
) -> None:
    environment = {
        **os.environ,
        **machine,
        "CUSIM_SCHED": schedule,
        "RLSV_FAST_EMULATED": str(twin),
    }
    environment.pop("FAIL_WITHOUT_CUDA", None)
    environment["PYTHONPATH"] = str(ROOT)
    # What is said before an abort goes to stderr itself, hence no capture there.
    options = ("-p", "no:cacheprovider", "--capture=sys", "--durations=5")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    print(done.stdout[-4000:], done.stderr[-4000:])
    assert done.returncode == 0  # 5 where nothing was chosen
