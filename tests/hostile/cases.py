"""What a hostile case is: files to be made in a folder, and a call that meets them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

SETTINGS = (
    *("model.components=4", "model.kernel_size=32", "model.hop=8", "data.sample_rate=8000"),
    *("data.segment_length=1000", "data.overlap=500", "training.batch_size=2"),
    *("loss.representation=total-variation", "training.max_steps=2", "training.epochs=1"),
)
SET = tuple(f"--set={setting}" for setting in SETTINGS)


@dataclass(frozen=True)
class Place:
    """Folders of one case.

    Attributes:
        given: what the case makes; nothing may be written there.
        out: where the call is to write.
        model: a folder with a good data set and a good run, to be copied from.
        random: where random bytes come from.
    """

    given: Path
    out: Path
    model: Path
    random: np.random.Generator = field(default_factory=np.random.default_rng)

    def root(self) -> Path:
        """A good data set of the case's own; returns its folder."""
        shutil.copytree(self.model / "music", self.given / "music", dirs_exist_ok=True)
        return self.given / "music"

    def track(self, subset: str = "train") -> Path:
        """The folder of the only track of a subset of a good data set."""
        return next(path for path in (self.root() / subset).iterdir() if path.is_dir())

    def run(self, folder: Path | None = None) -> Path:
        """A good run folder of the case's own."""
        folder = folder or self.given / "run"
        shutil.copytree(self.model / "run", folder)
        return folder


Call: TypeAlias = "list[str] | Callable[[], object]"


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        group: what kind of input.
        name: which one.
        make: makes the files and returns a command line, or a function of the library to call.
        ends: "refused", "accepted" or "either" (a random change need not hurt).
        why: why it is right to accept it.
    """

    group: str
    name: str
    make: Callable[[Place], Call]
    ends: str = "refused"
    why: str = ""

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


def train(place: Place, root: Path | None = None, *more: str) -> list[str]:
    """The command that trains on a data set."""
    root = root or place.given / "music"
    return ["train", "-q", f"--root={root}", f"--out={place.out / 'run'}", *SET, *more]


def separate(place: Place, mixture: Path, *more: str) -> list[str]:
    """The command that separates a file with the good run."""
    return ["separate", str(place.model / "run"), str(mixture), f"--out={place.out}", *more]


def distinct(group: str, cases: Iterator[Case]) -> list[Case]:
    """All cases of a group, whose names must differ."""
    found = list(cases)
    names = [case.name for case in found]
    assert len(set(names)) == len(names), f"{group}: {sorted(names)}"
    return found
