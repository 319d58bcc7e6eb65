"""Pictures of f0 tracks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rlsv_fast.report.style import COLOUR_MAP, hertz, new_figure, plain, style

Array: TypeAlias = npt.NDArray[np.floating[Any]]

_COLOURS = ("#38bdf8", "#4ade80", "#facc15", "#f87171", "#c084fc", "#f4f4f5")
_SECONDS_PER_INCH = 1.5
_WIDEST = 60.0
_MOST_COLUMNS = 4000
_TICKS = (50, 100, 200, 400, 800, 1600)


def tracks_figure(
    time: Array,
    frequency: Array,
    voices: Sequence[str],
    salience: Array | None = None,
    bins: Array | None = None,
    *,
    name: str = "",
) -> Any:
    """Draw the f0 of every voice over the salience that it was taken from.

    Args:
        time: seconds, shape (T,), equally spaced.
        frequency: Hz, shape (T, V), 0 where unvoiced.
        voices: names, one for each column.
        salience: of all pitches, shape (K, T), from 0 to 1; drawn as a background.
        bins: frequencies of its rows in Hz, shape (K,), equally spaced in octaves.
        name: of the recording, for the title.

    Returns:
        A matplotlib figure, the wider the longer the recording, up to 60 inches.
    """
    end = float(time[-1]) if len(time) else 1.0
    width = min(max(end / _SECONDS_PER_INCH, 9.0), _WIDEST)
    low, high = (float(bins[0]), float(bins[-1])) if bins is not None else _range(frequency)
    with style():
        title = "f0 of the voices"
        figure = new_figure(width, 5.2, f"{title} — {plain(name)}" if name else title)
        axis = figure.subplots()
        axis.set_facecolor("black")
        if salience is not None and salience.size:
            axis.imshow(
                _narrowed(salience),
                origin="lower",
                aspect="auto",
                extent=(float(time[0]), end, np.log2(low), np.log2(high)),
                cmap=COLOUR_MAP,
                vmin=0,
                vmax=1,
            )
        for column, voice in enumerate(voices):
            values = frequency[:, column]
            # a gap in the line where the voice is silent
            pitch = np.log2(np.where(values > 0, values, np.nan))
            colour = _COLOURS[column % len(_COLOURS)]
            axis.plot(time, pitch, color=colour, linewidth=1.3, label=plain(voice))
        sung = frequency[frequency > 0]
        if len(sung):
            low, high = max(low, float(sung.min()) / 1.5), min(high, float(sung.max()) * 2)
        axis.set_ylim(np.log2(low), np.log2(high))
        axis.set_xlim(0, end)
        ticks = [tick for tick in _TICKS if low <= tick <= high]
        axis.set_yticks(np.log2(ticks), [hertz(tick) for tick in ticks])
        axis.set_ylabel("f0 (Hz)")
        axis.set_xlabel("time (s)")
        axis.legend(loc="upper right", ncols=len(voices), labelcolor="white")
    return figure


def _range(frequency: Array) -> tuple[float, float]:
    sung = frequency[frequency > 0]
    return (float(sung.min()) / 2, float(sung.max()) * 2) if len(sung) else (50.0, 1000.0)


def _narrowed(salience: Array) -> Array:
    """At most so many columns as a screen shows, each the largest of those it stands for."""
    group = -(-salience.shape[1] // _MOST_COLUMNS)
    if group == 1:
        return salience
    whole = salience[:, : salience.shape[1] // group * group]
    return np.asarray(whole.reshape(len(salience), -1, group).max(2))
