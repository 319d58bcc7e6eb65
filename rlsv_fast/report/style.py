"""One look for all figures, without touching matplotlib's global state."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path
from typing import Any

from rlsv_fast.errors import printable, require

INK = "#1f2430"
MUTED = "#6b7280"
LEARNED = "#0f766e"
STFT = "#c2570c"
MIXTURE = "#64748b"
LINE = "#d7dbe0"
PAPER = "#ffffff"
COLOUR_MAP = "magma"
"""Perceptually uniform, and black where there is nothing."""

_NAMES = {
    INK: "ink",
    MUTED: "muted",
    LEARNED: "learned",
    STFT: "stft",
    MIXTURE: "mixture",
    LINE: "line",
    PAPER: "paper",
}
"""What the page calls these colours; there they depend on light and dark."""

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
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "image.interpolation_stage": "data",
    "svg.fonttype": "none",
    "svg.hashsalt": "rlsv_fast",
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


def new_figure(width: float, height: float, title: str = "") -> Any:
    """A figure of the given size in inches that belongs to no window and no global state."""
    _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG; an older file is replaced once the new one is whole."""
    file = io.BytesIO()
    with style():
        # No software version in the file: the same figure gives the same bytes.
        figure.savefig(file, format="png", metadata={"Software": None})
    write_whole(path, file.getvalue())


def inline_svg(figure: Any, label: str) -> str:
    """A figure as an SVG element whose colours and letters are those of the page around it.

    Args:
        figure: drawn in the colours above.
        label: what a screen reader says of it, plain text.
    """
    file = io.StringIO()
    with style():
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing, transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for colour, name in _NAMES.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r"(font[^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1var(--sans)", text)
    # the page says how wide it is; the view box keeps the proportions
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; an older one is replaced once the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
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
