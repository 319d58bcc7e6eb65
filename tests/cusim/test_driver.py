"""Every launcher on small data under the sanitizers, in every schedule, with one result."""

from __future__ import annotations

from pathlib import Path

import pytest
from cusim.build import SCHEDULES

SOURCE = Path(__file__).with_name("driver.cpp")


@pytest.fixture(scope="session")
def programs(build):
    made: dict[str, Path] = {}

    def program(sanitize: str) -> Path:
        if sanitize not in made:
            builder = build(sanitize)
            made[sanitize] = builder.program("driver", [SOURCE, *builder.kernels()])
        return made[sanitize]

    return program


@pytest.fixture(scope="session")
def expected(programs, execute) -> str:
    """The checksums of the plain build, run forward."""
    done = execute(programs("none"), schedule=SCHEDULES[0])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("sanitize", "schedule"),
    [
        *((sanitize, schedule) for sanitize in ("none", "address") for schedule in SCHEDULES),
        ("thread", SCHEDULES[-1]),  # a minute each: races are seen in any schedule
    ],
)
def test_same_bits_and_nothing_to_report(
    sanitize: str, schedule: str, programs, execute, expected: str
) -> None:
    done = execute(programs(sanitize), schedule=schedule)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected
