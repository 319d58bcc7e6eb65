"""One build under every Python and torch that can be had: `python matrix.py [--out DIR]`.

The operators are built once, in the tree, and carried: `_C.abi3.so` is copied beside the Python
files and used unchanged. For each Python 3.10 to 3.13 found here and each torch, smoke.py runs
where pip offers a CPU build (or the torch is the one this script runs with); CUDA builds are
several GB and are not installed. PIP_EXTRA_INDEX_URL may name an index with more CPU builds.

A Python without a torch is still asked whether the package imports, whether the operators' binary
loads (with the libtorch of this environment) and whether `_host` compiles and imports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
MINORS = (10, 11, 12, 13)
TORCHES = ("2.11.0", "2.12.1", "2.13.0", "newest")

LOADS = """
import ctypes, importlib.util, sys
libraries, binary = sys.argv[1:]
for name in ("libc10.so", "libtorch_cpu.so"):
    ctypes.CDLL(f"{libraries}/{name}", mode=ctypes.RTLD_GLOBAL)
spec = importlib.util.spec_from_file_location("rlsv_fast._C", binary)
importlib.util.module_from_spec(spec)
"""
HOST = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_host", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert module.build_info()["simd"]
"""
INCLUDE = "import sysconfig; print(sysconfig.get_paths()['include'])"


def run(command: list[str], cwd: Path, **environment: str) -> tuple[bool, str]:
    """Whether a command succeeded, and the last line that it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = done.stdout.strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else ""


def interpreters() -> dict[int, str]:
    """Paths by minor version: this one, those on PATH, pyenv's and uv's."""
    found = {sys.version_info.minor: sys.executable}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in MINORS:
        candidates = [*map(str, sorted(pyenv.glob(f"3.{minor}.*/bin/python")))]
        candidates += filter(None, [shutil.which(f"python3.{minor}")])
        if shutil.which("uv"):
            succeeded, path = run(
                ["uv", "python", "find", "--no-python-downloads", f"3.{minor}"], ROOT
            )
            candidates += [path] if succeeded else []
        for path in candidates:
            if minor not in found and run([path, "-m", "pip", "--version"], ROOT)[0]:
                found[minor] = path
    return found


def offered(python: str, wanted: str, folder: Path) -> tuple[str | None, str]:
    """The version that pip would install if it is a CPU build, or None; and what it is."""
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    requirement = "torch" if wanted == "newest" else f"torch=={wanted}"
    run(
        [python, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed"]
        + ["--quiet", "--report", str(report), requirement],
        folder,
    )
    if not report.exists():
        return None, "pip offers none"
    metadata = json.loads(report.read_text())["install"][0]["metadata"]
    needs = [name for name in metadata.get("requires_dist", []) if name.startswith("nvidia-")]
    if needs:
        return None, f"{metadata['version']} is offered as a CUDA build only"
    return metadata["version"], "CPU build"


def carried(folder: Path) -> Path:
    """The Python files and the operators' binary, without `_host`."""
    library = folder / "library"
    ignore = shutil.ignore_patterns("_host.*", "__pycache__")
    shutil.copytree(ROOT / "rlsv_fast", library / "rlsv_fast", ignore=ignore)
    return library


def smoke(python: str, library: Path) -> str:
    """Run smoke.py on the carried library."""
    script = str(ROOT / "tests/packaging/smoke.py")
    outside = library.parent
    succeeded, line = run(
        [python, script, "--without-host"], outside, PYTHONPATH=str(library), PYTHONNOUSERSITE="1"
    )
    if not succeeded:
        return f"**failed**: {line}"
    found = json.loads(line)
    if not found["location"].startswith(str(library)):
        return f"**failed**: imported from {found['location']}"
    return (
        f"passed: torch {found['torch']}, values and gradients of {found['operators']} operators, "
        f"{found['cases']} cases"
    )


def with_torch(python: str, version: str, library: Path) -> str:
    """Make an environment, install torch, run; the environment goes afterwards."""
    home = library.parent / "environment"
    try:
        for command in (
            [python, "-m", "venv", str(home)],
            [str(home / "bin/python"), "-m", "pip", "install", "--quiet", f"torch=={version}"],
        ):
            succeeded, line = run(command, library.parent)
            if not succeeded:
                return f"not run: {line}"
        return smoke(str(home / "bin/python"), library)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def without_torch(python: str, library: Path) -> str:
    """What can be known of a Python that has no torch."""
    folder = library.parent
    torch_home = Path(torch.__file__).parent
    checks = {}
    checks["command line and messages"] = run(
        [python, "-m", "rlsv_fast", "--help"], folder, PYTHONPATH=str(library)
    )
    checks["`_C.abi3.so` loads"] = run(
        [python, "-c", LOADS, str(torch_home / "lib"), str(library / "rlsv_fast/_C.abi3.so")],
        folder,
    )
    host = folder / "_host.so"
    include = run([python, "-c", INCLUDE], folder)[1]
    succeeded, line = run(
        ["g++", "-std=c++20", "-O0", "-shared", "-fPIC", "-fvisibility=hidden"]
        + ['-DRLSV_FAST_CUDA_BUILD="none"', '-DRLSV_FAST_TORCH_BUILD="none"']
        + [f"-I{ROOT / 'csrc'}", f"-I{torch_home / 'include'}", f"-I{include}"]
        + [str(ROOT / "csrc/host.cpp"), "-o", str(host)],
        folder,
    )
    checks["`_host` compiles and imports"] = (
        run([python, "-c", HOST, str(host)], folder) if succeeded else (False, line)
    )
    return "; ".join(
        f"{name}: yes" if succeeded else f"{name}: **no** ({line})"
        for name, (succeeded, line) in checks.items()
    )


def row(minor: int, python: str, wanted: str, library: Path) -> tuple[str, bool]:
    """A cell's text, and whether operators ran in it."""
    here = torch.__version__.partition("+")[0]
    if python == sys.executable and wanted == here:
        text = smoke(python, library)
    else:
        version, what = offered(python, wanted, library.parent)
        if version is None:
            return f"not run: {what}", False
        if python == sys.executable and version.partition("+")[0] == here:
            return f"as {here}, the newest CPU build offered", False
        text = with_torch(python, version, library)
    return text, text.startswith("passed")


def main() -> int:
    """Fill the table; 1 where something that ran has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for matrix.md")
    options = parser.parse_args()
    lines = [
        "# One binary under many",
        "Made by `make matrix`: `_C.abi3.so` built once with "
        f"Python {platform.python_version()} and torch {torch.__version__}, carried unchanged.",
        "Where no torch is to be had (none), its libtorch is that of the build.",
        "",
        "| Python | torch | result |",
        "|---|---|---|",
    ]
    pythons = interpreters()
    ran = 0
    with tempfile.TemporaryDirectory() as name:
        library = carried(Path(name))
        for minor in MINORS:
            if minor not in pythons:
                lines.append(f"| 3.{minor} | any | not run: no such Python with pip here |")
                continue
            python = pythons[minor]
            exact = run([python, "-c", "import platform; print(platform.python_version())"], ROOT)
            any_ran = False
            for wanted in TORCHES:
                text, passed = row(minor, python, wanted, library)
                any_ran |= passed
                ran += passed
                lines.append(f"| {exact[1]} | {wanted} | {text} |")
            if not any_ran:
                lines.append(f"| {exact[1]} | none | {without_torch(python, library)} |")
    lines += ["", f"Operators ran in {ran} of {len(MINORS) * len(TORCHES)} combinations."]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "matrix.md").write_text(text)
    return int("**failed**" in text or "**no**" in text)


if __name__ == "__main__":
    sys.exit(main())
