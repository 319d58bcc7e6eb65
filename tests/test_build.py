"""The build itself: what setup.py says and refuses, what the binaries hold, how CUDA compiles."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rlsv_fast

ROOT = Path(__file__).resolve().parents[1]
CUDA_SOURCES = sorted((ROOT / "csrc/cuda").glob("*.cu"))


def setup_output(**environment: str) -> tuple[int, str]:
    """Run setup.py up to its decisions (`--version` builds nothing)."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_build_info_names_torch_cuda_compiler_and_simd() -> None:
    info = rlsv_fast.build_info()
    assert set(info) == {"torch", "cuda", "compiler", "simd"}
    assert all(info.values())


def test_setup_says_what_it_builds() -> None:
    status, text = setup_output(RLSV_FAST_CUDA="0")
    assert status == 0
    assert "CUDA kernels: none" in text


def test_setup_refuses_an_unknown_switch() -> None:
    status, text = setup_output(RLSV_FAST_CUDA="yes")
    assert status != 0
    assert "RLSV_FAST_CUDA must be auto, 0 or 1, got 'yes'" in text
    assert "Traceback" not in text


@pytest.mark.skipif(Path("/usr/local/cuda").exists(), reason="the toolkit cannot be hidden here")
def test_setup_without_a_toolkit_says_so(tmp_path: Path) -> None:
    status, text = setup_output(RLSV_FAST_CUDA="1", PATH=str(tmp_path))
    assert status != 0
    assert "no CUDA toolkit" in text
    assert "Traceback" not in text


def test_operators_work_without_the_host_module() -> None:
    """An abi3 `_C` carried to another Python has no `_host`: only build_info() is missing."""
    script = (
        "import sys; sys.modules['rlsv_fast._host'] = None\n"
        "import torch, rlsv_fast\n"
        "print(float(rlsv_fast.ops.total_variation(torch.ones(1, 2, 3))))\n"
        "try: rlsv_fast.build_info()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("0.0")
    assert "python setup.py build_ext" in done.stdout


def test_the_operator_module_is_abi3() -> None:
    assert Path(importlib.import_module("rlsv_fast._C").__file__ or "").name == "_C.abi3.so"


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
@pytest.mark.parametrize("source", CUDA_SOURCES, ids=lambda path: path.name)
def test_cuda_sources_compile_without_spills(source: Path, tmp_path: Path) -> None:
    """For every architecture named in setup.py; a spill, a local array or a warning is an error."""
    targets = [f"-gencode=arch=compute_{cc},code=sm_{cc}" for cc in (75, 80, 86, 90)]
    done = subprocess.run(
        ["nvcc", "-std=c++17", "-O3", "--threads=0", *targets, "-Werror", "all-warnings"]
        + ["-Xptxas", "-Werror,-warn-spills,-warn-lmem-usage"]
        + ["-c", str(source), "-o", str(tmp_path / "out.o")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
