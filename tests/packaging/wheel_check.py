"""From the tree to an sdist, a wheel and a fresh environment: `python wheel_check.py [--out DIR]`.

Everything happens in a temporary folder outside the tree. The Python that runs this needs torch,
setuptools, pybind11, ninja and build; the fresh environment gets torch and the wheel alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
TORCH = os.environ.get("TORCH", "torch==2.13.0")

# In the repository and not in the sdist: results are for readers of the repository.
LEFT_OUT = ("benchmarks/results/", ".github/", ".gitignore")
TRAIN = (
    "train --root data --cache cache --out run --quiet --set model.components=8 "
    "--set model.kernel_size=64 --set model.hop=16 --set data.sample_rate=8000 "
    "--set data.segment_length=2000 --set data.overlap=1000 --set training.batch_size=4 "
    "--set training.max_steps=3"
).split()


class Failure(Exception):
    """A check that did not hold."""


def run(command: list[str], cwd: Path, **environment: str) -> str:
    """Run a command outside the tree's influence; its output, or Failure with it."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise Failure(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def require(holds: bool, what: str) -> None:
    """Raise Failure where a check does not hold."""
    if not holds:
        raise Failure(what)


def make_sdist(folder: Path) -> Path:
    """Build it from the tree, and compare its files with the repository's."""
    run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", str(folder)], ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {
            member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()
        }
        archive.extractall(folder / "source", filter="data")
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], ROOT)
    wanted = {name for name in listed.splitlines() if not name.startswith(LEFT_OUT)}
    generated = {name for name in inside if name == "PKG-INFO" or ".egg-info/" in name}
    require(wanted <= inside, f"the sdist lacks {sorted(wanted - inside)}")
    extra = inside - wanted - generated
    require(not extra, f"the sdist should not hold {sorted(extra)}")
    return sdist


def make_wheel(folder: Path) -> Path:
    """Build it from the unpacked sdist, and look into it."""
    (source,) = (folder / "source").iterdir()
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)], source)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    # A wheel with _host inside must not call itself abi3: only _C is.
    require(f"-{tag}-{tag}-" in wheel.name, f"{wheel.name} is not tagged {tag}-{tag}")
    binaries = sorted(Path(name).name for name in names if name.endswith(".so"))
    require(len(binaries) == 2 and binaries[0] == "_C.abi3.so", f"binaries: {binaries}")
    require("rlsv_fast/py.typed" in names, "py.typed is missing")
    page = [path.name for path in (ROOT / "rlsv_fast/report/templates").iterdir()]
    lacking = [name for name in page if f"rlsv_fast/report/templates/{name}" not in names]
    require(not lacking, f"of the page {lacking} are missing")
    require(any(name.endswith("/LICENSE") for name in names), "LICENSE is missing")
    stray = [name for name in names if not name.startswith(("rlsv_fast/", "rlsv_fast-"))]
    require(not stray, f"the wheel should not hold {stray}")
    return wheel


def try_out(folder: Path, wheel: Path) -> dict[str, str]:
    """Install into a fresh environment and use it from outside the tree."""
    home = folder / "environment"
    run([sys.executable, "-m", "venv", str(home)], folder)
    python, command = str(home / "bin/python"), str(home / "bin/rlsv-fast")
    run([python, "-m", "pip", "install", "--quiet", TORCH], folder)
    run([python, "-m", "pip", "install", "--quiet", str(wheel)], folder)
    outside = folder / "outside"
    outside.mkdir()
    smoke = json.loads(
        run([python, str(ROOT / "tests/packaging/smoke.py")], outside).splitlines()[-1]
    )
    require(smoke["location"].startswith(str(home)), f"imported from {smoke['location']}")
    require("train" in run([command, "--help"], outside), "rlsv-fast --help")
    require("build: cuda" in run([command, "info"], outside), "rlsv-fast info lacks the build")
    small = "synthesize data --train-tracks 1 --test-tracks 1 --seconds 3 --sample-rate 8000 -q"
    run([command, *small.split()], outside)
    run([command, *TRAIN], outside)
    run([command, *TRAIN, "--resume", "--set", "training.max_steps=5"], outside)
    log = (outside / "run/log.jsonl").read_text()
    require('"kind": "end", "step": 5' in log, "training did not end at step 5")
    return {
        "smoke": f"values and gradients of {smoke['operators']} operators "
        f"({smoke['cases']} cases), float64, against plain PyTorch",
        "commands": "--help, info, synthesize, train (3 steps), train --resume (to 5)",
    }


def main() -> int:
    """Run all stages; a table in DIR/README.md and on standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for wheel.md")
    options = parser.parse_args()
    rows: dict[str, str] = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "CUDA kernels": os.environ.get("RLSV_FAST_CUDA", "auto"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            sdist = make_sdist(folder)
            rows["sdist"] = f"{sdist.name}, {sdist.stat().st_size / 1e6:.1f} MB"
            wheel = make_wheel(folder)
            rows["wheel"] = f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB"
            rows.update(try_out(folder, wheel))
        except Failure as failure:
            print(f"wheel_check: {failure}", file=sys.stderr)
            return 1
    table = "".join(f"| {key} | {value} |\n" for key, value in rows.items())
    text = f"# Wheel from the sdist\nMade by `make wheel-check`.\n\n| what | |\n|---|---|\n{table}"
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "wheel.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
