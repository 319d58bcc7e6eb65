"""The published code's numbers for the parts of UMSS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor

Golden: TypeAlias = dict[str, Tensor]


@pytest.fixture
def golden(shared: Path) -> Callable[[str], Golden]:
    """Reads one file of golden arrays as tensors."""

    def read(name: str) -> Golden:
        with np.load(shared / "golden" / "umss" / f"{name}.npz") as arrays:
            return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}

    return read
