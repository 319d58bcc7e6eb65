"""Builds for the tests of emulated kernels; skips them where there can be none."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cusim.build import Build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def platform_is_supported() -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("emulated kernels: fibers are written for x86-64 Linux")
    if shutil.which("g++") is None:
        pytest.skip("emulated kernels: no g++")


@pytest.fixture(scope="session")
def build() -> Callable[[str], Build]:
    """Return the build for a sanitizer; objects are kept from run to run."""

    def make(sanitize: str) -> Build:
        library = {"address": "libasan.so", "thread": "libtsan.so"}.get(sanitize)
        if library and not os.path.isabs(output("g++", f"-print-file-name={library}")):
            pytest.skip(f"emulated kernels: this g++ has no {library}")
        return Build(ROOT, ROOT / "build/emulated" / sanitize, sanitize)

    return make


@pytest.fixture(scope="session")
def execute() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a program in a schedule and keeps what it says."""
    # ThreadSanitizer stops where addresses are more random than it was built for.
    fixed = ("setarch", "-R")
    fixed_works = shutil.which("setarch") and not subprocess.run([*fixed, "true"]).returncode

    def run(program: Path, *arguments: str, schedule: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CUSIM_SCHED": schedule, "ASAN_OPTIONS": "detect_leaks=0"}
        prefix: tuple[str, ...] = ()
        if program.parent.name == "thread":
            environment["CUSIM_BLOCKS"] = "2"  # it has memory for few threads only
            prefix = fixed if fixed_works else ()
        return subprocess.run(
            [*prefix, str(program), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
