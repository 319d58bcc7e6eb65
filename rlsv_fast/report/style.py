"""One look for all figures, without touching matplotlib's global state."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rlsv_fast.errors import printable, require

INK = "#1f2430"
MUTED = "#6b7280"
LEARNED = "#0f766e"
STFT = "#c2570c"
MIXTURE = "#64748b"
COLOUR_MAP = "magma"
"""Perceptually uniform, and black where there is nothing."""

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "grid.color": "#d7dbe0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "image.interpolation_stage": "data",
}


@contextmanager
def style() -> Iterator[None]:
    """Settings of the figures, to be in force while one is built and while it is saved."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context(_STYLE):
        yield


def plain(name: str) -> str:
    """A file's name as the text of a figure: no mathematics, nothing that has no glyph at all."""
    return printable(name).replace("$", r"\$")


def new_figure(width: float, height: float, title: str) -> Any:
    """A figure of the given size in inches that belongs to no window and no global state."""
    _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG; an older file is replaced once the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with style(), os.fdopen(handle, "wb") as file:
            # No software version in the file: the same figure gives the same bytes.
            figure.savefig(file, format="png", metadata={"Software": None})
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def hertz(value: float, _: object = None) -> str:
    """A frequency in Hz for the ticks of an axis: 0, 0.1, 80, 1.5k, 20k."""
    if abs(value) >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}" if abs(value) >= 0.005 else "0"


def _matplotlib() -> Any:
    return require("matplotlib", extra="report", purpose="draw figures")
