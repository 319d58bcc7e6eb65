"""Pictures of representations."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rlsv_fast.report.style import COLOUR_MAP, hertz, new_figure, plain, style

Array: TypeAlias = npt.NDArray[np.floating[Any]]


def representation_figure(
    mixture: Array,
    voice: Array,
    accompaniment: Array,
    *,
    hop: int,
    sample_rate: int,
    carriers: Array | None = None,
    name: str = "",
    start: float = 0.0,
) -> Any:
    """Draw the representations of a mixture and its sources, side by side on one colour scale.

    Args:
        mixture: A_m, shape (C, T), components in the order to be drawn, lowest first.
        voice: A_v, same shape.
        accompaniment: A_ac, same shape.
        hop: S in samples, for the time axis.
        sample_rate: in Hz.
        carriers: shape (C,), ascending frequencies in Hz for a second axis, if there are any.
        name: of the recording, for the title.
        start: of the excerpt in its recording, in seconds.

    Returns:
        A matplotlib figure.
    """
    components, frames = mixture.shape
    # A few coefficients tower above the rest; the scale ends below them and says so.
    top = float(np.quantile(np.stack([mixture, voice, accompaniment]), 0.998)) or 1.0
    extent = (start, start + frames * hop / sample_rate, -0.5, components - 0.5)
    with style():
        title = "Representation of a mixture and its sources"
        figure = new_figure(13, 6, f"{title} — {plain(name)}" if name else title)
        axes = figure.subplots(1, 3, sharey=True)
        drawn = None
        for axis, image, label in zip(
            axes,
            (mixture, voice, accompaniment),
            ("mixture  $A_m$", "voice  $A_v$", "accompaniment  $A_{ac}$"),
            strict=True,
        ):
            drawn = axis.imshow(
                np.sqrt(image / top),
                origin="lower",
                aspect="auto",
                extent=extent,
                cmap=COLOUR_MAP,
                vmin=0,
                vmax=1,
            )
            axis.set_title(label)
            axis.set_xlabel("time (s)")
        axes[0].set_ylabel("component" if carriers is None else "component, by carrier")
        if carriers is not None:
            _carrier_axis(axes[-1], carriers)
        colour_bar = figure.colorbar(drawn, ax=list(axes), pad=0.02, aspect=30, extend="max")
        levels = np.array([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
        colour_bar.set_ticks(np.sqrt(levels), labels=[f"{100 * level:.0f} %" for level in levels])
        colour_bar.set_label("magnitude, square-root scale")
        colour_bar.outline.set_visible(False)
    return figure


def _carrier_axis(axis: Any, carriers: Array) -> None:
    """Label the right-hand side with the carrier frequency of some components."""
    right = axis.twinx()
    right.set_ylim(axis.get_ylim())
    places = np.linspace(0, len(carriers) - 1, min(9, len(carriers))).round().astype(int)
    right.set_yticks(places, [hertz(float(carriers[place])) for place in places])
    right.set_ylabel("carrier (Hz)")
