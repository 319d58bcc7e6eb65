"""What is said where Python, torch, the compiled modules and the driver do not fit together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlsv_fast import _library
from rlsv_fast.cli import main
from rlsv_fast.commands import common, tools
from rlsv_fast.errors import InputError, InstallationError

ROOT = Path(__file__).resolve().parents[1]

# One process for all: torch takes seconds to import.
IMPORTS = """
import pathlib, sys
import torch
# that of an editable installation finds the tree's modules for any package of the name
sys.meta_path[:] = [f for f in sys.meta_path if "Editable" not in getattr(f, "__name__", "")]
folder = pathlib.Path("rlsv_fast")
for name, content in CASES:
    for path in folder.glob("_C.*"):
        path.unlink()
    if name:
        (folder / name).write_bytes(content)
    try:
        import rlsv_fast.ops
    except ImportError as error:
        print(type(error).__name__, error, sep=": ", end="\\0")
    for module in [module for module in sys.modules if module.startswith("rlsv_fast")]:
        del sys.modules[module]
"""


def test_an_old_python_is_named() -> None:
    script = "import sys; sys.version_info = (3, 9, 18, 'final', 0); import rlsv_fast"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: rlsv_fast: needs Python 3.10 or newer, this is 3.9; ")


@pytest.mark.parametrize("version", ["2.10.1", "2.9.0+cpu", "1.13.1"])
def test_an_old_torch_is_named(version: str) -> None:
    with pytest.raises(InstallationError, match=r"needs torch 2\.11 .* has .*; install one") as it:
        _library._check_torch(version)
    assert version in str(it.value)


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cu130", "2.14.0a0+git1234", "3.0.0"])
def test_newer_ones_are_let_through(version: str) -> None:
    _library._check_torch(version)


def test_missing_foreign_and_damaged_operators_are_told_apart(tmp_path: Path) -> None:
    package = tmp_path / "rlsv_fast"
    package.mkdir()
    for path in (ROOT / "rlsv_fast").iterdir():
        if not path.name.startswith("_C."):
            (package / path.name).symlink_to(path)
    # `_library` looks beside itself, and a link would lead it back to the tree
    (package / "_library.py").unlink()
    (package / "_library.py").write_bytes((ROOT / "rlsv_fast/_library.py").read_bytes())
    cases = [(None, b""), ("_C.cp311-win_amd64.pyd", b"MZ"), ("_C.abi3.so", b"\x7fELF, cut")]
    done = subprocess.run(
        [sys.executable, "-c", f"CASES = {cases}\n{IMPORTS}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    missing, foreign, damaged = done.stdout.rstrip("\0").split("\0")
    assert "are missing, this is " in missing
    assert "are of another platform (_C.cp311-win_amd64.pyd), this is " in foreign
    assert "cannot be loaded on " in damaged
    for text in (missing, foreign, damaged):
        assert text.startswith("InstallationError: rlsv_fast: ")
        assert f"with torch {torch.__version__}" in text and "python setup.py build_ext" in text
        assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InstallationError("rlsv_fast: a reason;\na remedy"), "rlsv_fast: a reason; a remedy"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "pip install torch"),
    ],
)
def test_the_command_line_says_it_on_one_line(
    error: ImportError,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(options: object) -> None:
        raise error

    monkeypatch.setattr(tools, "info", fail)
    assert main(["info"]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint and complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("toolkit", "said"), [(None, "built without CUDA"), ("13.0", "the NVIDIA driver is missing")]
)
def test_a_gpu_that_torch_cannot_see_is_explained(
    toolkit: str | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", toolkit)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(common, "has_cuda_kernels", lambda: True)
    with pytest.raises(InputError, match=f"--device cuda: .*{said}.*--device cpu"):
        common.chosen_device("cuda")
    assert common.chosen_device(None) == torch.device("cpu")
    assert (said in caplog.text) == (toolkit is not None)
