"""Distributions of the evaluation's values over the segments."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlsv_fast.evaluation import Evaluation
from rlsv_fast.report.style import INK, LEARNED, MIXTURE, MUTED, PAPER, STFT, new_figure, style

_LABELS = {
    "learned": ("learned", LEARNED),
    "stft_hamming": ("STFT\n(Hamming)", STFT),
    "stft_hann": ("STFT\n(Hann)", STFT),
    "mixture": ("unprocessed\nmixture", MIXTURE),
}


class _Panel(NamedTuple):
    """What one axis shows: pairs of method and quantity."""

    title: str
    unit: str
    digits: int
    groups: tuple[tuple[str, str], ...]


_PANELS = (
    _Panel("Voice, encoded and decoded", "SI-SDR (dB)", 1,
           (("learned", "reconstruction_si_sdr"),)),
    _Panel("Voice, by oracle mask from the mixture", "SI-SDR (dB)", 1,
           (("learned", "mask_si_sdr"), ("stft", "mask_si_sdr"), ("mixture", "si_sdr"))),
    _Panel("Additivity", "additivity", 2,
           (("learned", "additivity"), ("stft", "additivity"))),
)  # fmt: skip
_OF_CODE = {"Additivity": ("Additivity ratio (lower is better)", "1 − additivity")}
"""Titles and units that are others with the published code's convention."""

_VIOLIN_FROM = 10
_POINTS_UP_TO = 400


def score_figure(evaluation: Evaluation) -> Any:
    """Draw how the values of the segments are distributed, learned beside STFT.

    The STFT's own reconstruction is left out: it is exact but for rounding, and its 100 dB and more
    would flatten the others.

    Args:
        evaluation: with the rows of its segments.

    Returns:
        A matplotlib figure.
    """
    with style():
        count = len(evaluation.segments)
        figure = new_figure(13, 4.8, f"Quality over {count} unseen segments")
        widths = [len(panel.groups) + 1 for panel in _PANELS]
        axes = figure.subplots(1, 3, gridspec_kw={"width_ratios": widths})
        for axis, panel in zip(axes, _PANELS, strict=True):
            title = _draw(axis, panel, evaluation)
            axis.set_title(title)
    return figure


def score_panels(evaluation: Evaluation) -> dict[str, Any]:
    """Draw each of the distributions as a figure of its own, by title."""
    panels = {}
    for panel in _PANELS:
        with style():
            figure = new_figure(4.4, 3.2)
            title = _draw(figure.subplots(), panel, evaluation)
        panels[title] = figure
    return panels


def _draw(axis: Any, panel: _Panel, evaluation: Evaluation) -> str:
    """Draw one panel; its title."""
    title, unit = panel.title, panel.unit
    if evaluation.settings.get("convention") == "code":
        title, unit = _OF_CODE.get(title, (title, unit))
    names = []
    shown = []
    for place, (method, quantity) in enumerate(panel.groups):
        method = evaluation.stft if method == "stft" else method
        label, colour = _LABELS[method]
        names.append(label)
        values = np.asarray(evaluation.values(method, quantity))
        if len(values):
            _distribution(axis, place, values, colour, panel.digits)
            shown.append(values)
    _limit(axis, shown)
    axis.set_xticks(range(len(names)), names)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.set_ylabel(unit)
    axis.grid(True, axis="y")
    axis.tick_params(axis="x", length=0)
    return title


def _limit(axis: Any, groups: list[np.ndarray[Any, Any]]) -> None:
    """Cut off single values far below all others, and say how many."""
    if not groups:
        return
    quartiles = [np.quantile(values, [0.25, 0.75]) for values in groups]
    lows = [low - 4 * (high - low) for low, high in quartiles]
    bottom = min(max(low, values.min()) for low, values in zip(lows, groups, strict=True))
    top = max(values.max() for values in groups)
    margin = 0.05 * (top - bottom) or 1.0
    axis.set_ylim(bottom - margin, top + margin)
    hidden = sum(int((values < bottom).sum()) for values in groups)
    if hidden:
        axis.annotate(
            f"{hidden} lower value{'s' * (hidden != 1)} not shown",
            (0.01, 0.01),
            xycoords="axes fraction",
            fontsize=8,
            color=MUTED,
        )


def _distribution(
    axis: Any, place: int, values: np.ndarray[Any, Any], colour: str, digits: int
) -> None:
    """Violin, box of the quartiles, points and the median as a number."""
    if len(values) >= _VIOLIN_FROM and values.std() > 1e-6 * max(abs(values).max(), 1e-12):
        parts = axis.violinplot(values, [place], widths=0.8, showextrema=False)
        for body in parts["bodies"]:
            body.set(facecolor=colour, alpha=0.25, edgecolor=colour, linewidth=0.8)
    if len(values) <= _POINTS_UP_TO:
        jitter = np.random.default_rng(0).uniform(-0.06, 0.06, len(values))
        axis.scatter(place + jitter, values, s=7, color=colour, alpha=0.55, linewidths=0)
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    axis.vlines(place, low, high, color=colour, linewidth=5, alpha=0.9)
    axis.scatter([place], [median], s=34, color=PAPER, edgecolor=INK, linewidths=1, zorder=4)
    axis.annotate(
        f"{median:.{digits}f}".replace("-", "−"),
        (place, median),
        xytext=(12, 0),
        textcoords="offset points",
        va="center",
        fontsize=10,
        fontweight="bold",
        bbox={"facecolor": PAPER, "alpha": 0.75, "edgecolor": "none", "pad": 1.5},
        zorder=5,
    )
