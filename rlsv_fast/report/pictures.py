"""Bare pictures for the page: no axes, which the page draws itself, and few bytes."""

from __future__ import annotations

import io
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rlsv_fast.errors import require
from rlsv_fast.report.style import COLOUR_MAP

Array: TypeAlias = npt.NDArray[np.floating[Any]]

LEVELS = 64
WIDTH, HEIGHT = 960, 320
"""The most pixels; they are averages where there are more values."""


def picture(values: Array, largest: float = 1.0) -> tuple[bytes, tuple[int, int]]:
    """A PNG of values from 0 to ``largest``, in the colours of all figures.

    Args:
        values: shape (rows, columns), lowest row first.
        largest: drawn in the last colour, as is all above.

    Returns:
        The file's content, and width and height in pixels.
    """
    image = require("PIL.Image", extra="report", purpose="draw pictures")
    values = _fit(_fit(values, HEIGHT).T, WIDTH).T
    level = np.clip(values / largest, 0, 1) * (LEVELS - 1)
    drawn = image.fromarray(np.rint(level).astype(np.uint8)[::-1])
    drawn.putpalette(palette().tobytes())
    file = io.BytesIO()
    drawn.save(file, format="PNG", optimize=True)
    return file.getvalue(), drawn.size


def palette() -> npt.NDArray[np.uint8]:
    """The colours of the levels, shape (LEVELS, 3)."""
    require("matplotlib", extra="report", purpose="draw pictures")
    from matplotlib import colormaps

    return np.asarray(colormaps[COLOUR_MAP](np.linspace(0, 1, LEVELS), bytes=True)[:, :3])


def _fit(values: Array, most: int) -> Array:
    """At most so many rows, each the mean of neighbours."""
    rows = len(values)
    if rows <= most:
        return values
    starts = np.arange(most) * rows // most
    counts = np.diff(np.append(starts, rows))
    return np.asarray(np.add.reduceat(values, starts, axis=0) / counts[:, None])
