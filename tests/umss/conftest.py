"""The published code's numbers for the parts of UMSS; models and songs small enough to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast.umss import Song
from umss.small import make_songs, shrink

Golden: TypeAlias = dict[str, Tensor]


@pytest.fixture
def golden(shared: Path) -> Callable[[str], Golden]:
    """Reads one file of golden arrays as tensors."""

    def read(name: str) -> Golden:
        with np.load(shared / "golden" / "umss" / f"{name}.npz") as arrays:
            return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}

    return read


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a run trains is small, and the imported networks are random ones."""
    shrink(monkeypatch.setattr)


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Song]:
    """One song to train on, "one", and one to validate on, "two"."""
    return make_songs(tmp_path_factory.mktemp("songs"))
