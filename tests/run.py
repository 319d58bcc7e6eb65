"""The whole test-suite: two pytest processes side by side, as much of either uses one core.

Usage: python tests/run.py [pytest's options]

One compiles and emulates kernels, and is printed when it has ended; the other does all else. Exit
status 1 if either fails or runs no test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EMULATED = ("tests/cusim", "tests/test_build.py")


def main() -> int:
    """Run both."""
    pytest = [sys.executable, "-m", "pytest", "--benchmark-disable", *sys.argv[1:]]
    others = ("tests", "benchmarks", *(f"--ignore={path}" for path in EMULATED))
    # threads that wait must not keep a core from the other process
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    with tempfile.TemporaryFile() as log:
        beside = subprocess.Popen(
            [*pytest, "-p", "no:cacheprovider", *EMULATED],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        failed = subprocess.run([*pytest, *others], cwd=ROOT, env=environment).returncode != 0
        failed = beside.wait() != 0 or failed
        log.seek(0)
        print(log.read().decode(errors="replace"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
