"""Check training and evaluation with several processes, and write down what was seen.

Usage: python benchmarks/distributed.py --out DIR

Runs the tests of several processes (gloo, on the CPU): 2 and 4 against one, killed and stopped
workers, restarts, and real torchrun jobs. Writes distributed.md. The exit status is pytest's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import machine
from gpu_tables import table

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/training/test_distributed.py", "tests/test_torchrun.py")


def run() -> tuple[int, list[dict[str, str]]]:
    """Exit status of the tests, and a row for each."""
    with tempfile.TemporaryDirectory() as temporary:
        found = Path(temporary) / "tests.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *TESTS, f"--junitxml={found}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        cases = list(ET.parse(found).iter("testcase"))
    return done.returncode, [_row(case) for case in cases]


def _row(case: ET.Element) -> dict[str, str]:
    name, _, case_id = case.get("name", "").partition("[")
    bad = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    properties = {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
    return {
        "test": name.removeprefix("test_").replace("_", " "),
        "case": case_id.rstrip("]"),
        "end": bad[0] if bad else "passed",
        "seconds": f"{float(case.get('time', 0)):.1f}",
        "deviation": properties.get("deviation", ""),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    status, rows = run()
    passed = sum(row["end"] == "passed" for row in rows)
    facts = machine.facts()
    text = (
        f"# Several processes\n{passed} of {len(rows)} passed. Made by `python "
        f"benchmarks/distributed.py --out DIR` at commit {machine.commit()} on "
        f"{facts['cores']} cores of {facts['processor']}, torch {facts['torch']}, gloo.\n\n"
        "*deviation*: largest difference of losses, parameters and moments from one process's "
        "after 4 steps in float64, over the same global batch.\n\n"
    )
    header = ("test", "case", "end", "seconds", "deviation")
    text += "\n".join(table(header, [[row[name] for name in header] for row in rows]))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "distributed.md").write_text(text.rstrip() + "\n", encoding="utf-8")
    print(f"{passed} of {len(rows)} passed")
    return status


if __name__ == "__main__":
    sys.exit(main())
