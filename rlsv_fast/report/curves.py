"""Loss curves of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rlsv_fast.report.style import INK, LEARNED, STFT, new_figure, style

Array: TypeAlias = npt.NDArray[np.floating[Any]]

_PANELS = (
    ("total", "Total", "loss", INK),
    ("reconstruction", "Reconstruction", "negative SNR (dB)", LEARNED),
    ("representation", "Representation", "loss, before weighting", STFT),
)

_LARGEST = 1e100
"""What can be drawn: axes are linear, with margins, in float64."""


def read_curves(records: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Array, Array]]:
    """Collect steps and values of each loss from the records of a run log.

    Records without the step or the value, and values that cannot be drawn, are left out.
    """
    curves: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name, *_ in _PANELS}
    for record in records:
        step = _number(record.get("step"))
        if record.get("kind") != "step" or step is None:
            continue
        for name, (steps, values) in curves.items():
            value = _number(record.get(name))
            if value is not None:
                steps.append(step)
                values.append(value)
    return {
        name: (np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64))
        for name, (steps, values) in curves.items()
        if steps and any(value != 0 for value in values)
    }


def read_validation(records: Iterable[Mapping[str, Any]]) -> tuple[Array, Array]:
    """Steps and validation losses from the records of a run log."""
    points = [
        (step, value)
        for record in records
        if record.get("kind") == "epoch"
        and (step := _number(record.get("step"))) is not None
        and (value := _number(record.get("validation"))) is not None
    ]
    found = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _number(value: object) -> float | None:
    """A finite number, or None for anything else that a log may hold."""
    if not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        return None
    return float(value)


def smoothed(values: Array) -> Array:
    """Mean over a window of a thirtieth of the curve, shorter at both ends."""
    width = max(len(values) // 60, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - width, 0), np.minimum(index + width + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))


def loss_figure(curves: Mapping[str, tuple[Array, Array]]) -> Any:
    """Draw the losses against the training step, raw and smoothed.

    Args:
        curves: from :func:`read_curves`, at least one.

    Returns:
        A matplotlib figure.
    """
    panels = [panel for panel in _PANELS if panel[0] in curves]
    with style():
        figure = new_figure(4.4 * len(panels), 4, "Losses during training, each step and smoothed")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (name, title, unit, colour) in zip(axes, panels, strict=True):
            _draw(axis, curves[name], unit, colour)
            axis.set_title(title)
    return figure


def loss_panels(curves: Mapping[str, tuple[Array, Array]]) -> dict[str, Any]:
    """Draw each of the losses as a figure of its own, by title."""
    panels = {}
    for name, title, unit, colour in _PANELS:
        if name in curves:
            with style():
                figure = new_figure(4.4, 3)
                _draw(figure.subplots(), curves[name], unit, colour)
            panels[title] = figure
    return panels


def validated_panels(
    curves: Mapping[str, tuple[Array, Array]], validation: tuple[Array, Array]
) -> dict[str, Any]:
    """Draw the losses of a run that validates: what separates, and what trains its networks.

    Args:
        curves: from :func:`read_curves`.
        validation: from :func:`read_validation`; of what separates, else of the networks.

    Returns:
        Figures by title.
    """
    panels = {}
    named = {"reconstruction": "Spectral distance", "representation": "Losses of the f0 networks"}
    left: tuple[Array, Array] | None = validation
    for name, title in named.items():
        if name not in curves:
            continue
        with style():
            figure = new_figure(4.4, 3)
            axis = figure.subplots()
            _draw(axis, curves[name], "loss", LEARNED)
            values = curves[name][1]
            # the first steps are far off, and single ones may be
            shown = [smoothed(values)[len(values) // 10 :]]
            if left is not None and len(left[0]):
                axis.plot(*left, ".-", color=STFT, linewidth=1.0, markersize=5)
                shown.append(left[1])
            left = None
            low, high = (f(map(f, shown)) for f in (min, max))
            margin = 0.15 * (high - low) or 1.0
            axis.set_ylim(low - margin, high + margin)
        panels[title] = figure
    return panels


def thinned(steps: Array, values: Array, most: int = 1200) -> tuple[Array, Array]:
    """The curve with at most so many points, or a few more: the extremes of its neighbours."""
    width = -(-2 * len(values) // most)
    if width <= 2:
        return steps, values
    starts = np.arange(0, len(values), width)
    low, high = (reduce.reduceat(values, starts) for reduce in (np.minimum, np.maximum))
    return np.repeat(steps[starts], 2), np.stack([low, high], axis=1).ravel()


def _draw(axis: Any, curve: tuple[Array, Array], unit: str, colour: str) -> None:
    steps, values = curve
    axis.plot(*thinned(steps, values), color=colour, linewidth=0.7, alpha=0.3)
    axis.plot(steps, smoothed(values), color=colour, linewidth=1.8)
    # The first steps are far off; they must not flatten all that follows.
    low, high = np.quantile(values, [0.0, 0.995])
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)
    axis.set_xlabel("step")
    axis.set_ylabel(unit)
    axis.grid(True)
    axis.margins(x=0.01)
