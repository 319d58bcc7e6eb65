"""The shim itself: kernels that are right pass, kernels broken on purpose do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cusim.build import SANITIZERS, SCHEDULES

SOURCE = Path(__file__).with_name("faults.cpp")

# Fault of faults.cpp: which builds must notice it, and what they say. A plain build runs in every
# schedule and must notice it in one of them.
RACE = "data race"
OTHER = "meet at different"
FAULTS = {
    "no barrier after a write": {"none": "wrong result", "thread": RACE},
    "no barrier before reuse": {"none": "wrong result", "thread": RACE},
    "no barrier in a loop": {"none": "wrong result", "thread": RACE},
    "assumes lock-step": {"none": "wrong result", "thread": RACE},
    "every lane writes": {"thread": RACE},
    "blocks add": {"thread": RACE},
    "no tail guard": {"none": "wrong result", "address": "heap-buffer-overflow"},
    "reads past the end": {"address": "heap-buffer-overflow"},
    "scratch too short": {"address": "index 2 out of bounds"},
    "shared memory never written": {"none": "wrong result"},
    "shared memory too small": {"address": "use-after-poison"},
    "shared memory not asked for": {"none": "more shared memory than allowed"},
    "breaks per thread": {"none": OTHER},
    "divergent barrier": {"none": OTHER},
    "full mask in a branch": {"none": OTHER},
    "wrong mask": {"none": "outside its own mask"},
    "reads an exited lane": {"none": "lane that has exited"},
    "warp barrier in a branch": {"none": "deadlock"},
    "too many threads": {"none": "threads must be 1 to 1024"},
    "too many blocks": {"none": "blocks must be 1 to 2\\^31"},
    "a second dimension": {"none": "only x is used"},
}


@pytest.fixture(scope="session")
def programs(build):
    made: dict[str, Path] = {}

    def program(sanitize: str) -> Path:
        if sanitize not in made:
            made[sanitize] = build(sanitize).program("faults", [SOURCE])
        return made[sanitize]

    return program


def test_every_fault_is_expected_somewhere() -> None:
    named = re.findall(r'breaks\(\s*"([^"]+)"', SOURCE.read_text())
    assert sorted(named) == sorted(FAULTS)


@pytest.mark.parametrize("sanitize", SANITIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_right_kernels_pass(sanitize: str, schedule: str, programs, execute) -> None:
    done = execute(programs(sanitize), "none", schedule=schedule)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("fault", "sanitize", "text"),
    [(fault, *seen) for fault, checks in FAULTS.items() for seen in checks.items()],
)
def test_broken_kernels_are_noticed(
    fault: str, sanitize: str, text: str, programs, execute
) -> None:
    schedules = SCHEDULES if sanitize == "none" else SCHEDULES[:1]
    runs = [execute(programs(sanitize), fault, schedule=schedule) for schedule in schedules]
    assert any(run.returncode != 0 and re.search(text, run.stdout + run.stderr) for run in runs)
