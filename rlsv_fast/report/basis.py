"""Pictures of the decoder's basis."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rlsv_fast.report.style import COLOUR_MAP, INK, LEARNED, MUTED, STFT, hertz, new_figure, style

Array: TypeAlias = npt.NDArray[np.floating[Any]]

FLOOR_DB, CEILING_DB = -60.0, 3.0


def magnitude_response(signals: Array, *, points: int | None = None, window: bool = False) -> Array:
    """Magnitude of the DFT in dB relative to each signal's largest, not below −120.

    Args:
        signals: shape (C, L).
        points: length of the DFT, L if not given.
        window: apply a Blackman window, for signals that do not fade out by themselves.

    Returns:
        Shape (C, points // 2 + 1).
    """
    if window:
        signals = signals * np.blackman(signals.shape[-1] + 2)[1:-1]
    magnitude = np.abs(np.fft.rfft(signals, points, axis=-1))
    peak = magnitude.max(axis=-1, keepdims=True)
    # A dead component is all floor, not 0/0.
    relative = magnitude / np.where(peak > 0, peak, 1)
    return np.asarray(20 * np.log10(np.maximum(relative, 1e-6)))


def basis_figure(
    carriers: Array,
    modulators: Array,
    basis: Array,
    frequencies: Array,
    *,
    sample_rate: int,
    columns: int = 6,
) -> Any:
    """Draw the spectra of some components: carrier, modulator and the product of both.

    Args:
        carriers: cosines without modulator, shape (C, L), ascending in frequency.
        modulators: shape (C, L), in the same order.
        basis: their products, shape (C, L).
        frequencies: of the carriers in Hz, shape (C,).
        sample_rate: in Hz.
        columns: how many components, evenly spread over all.

    Returns:
        A matplotlib figure.
    """
    count = min(columns, len(basis))
    chosen = np.linspace(0, len(basis) - 1, count).round().astype(int)
    if len(basis) > 2 * count:  # centres of equal parts: the extremes are seldom typical
        chosen = ((np.arange(count) + 0.5) * len(basis) / count).astype(int)
    points = 4 * basis.shape[-1]
    hz = np.fft.rfftfreq(points, 1 / sample_rate)
    # The cosine is cut off at both ends; its window hides the cut, not anything that was learned.
    rows = (
        ("carrier", magnitude_response(carriers[chosen], points=points, window=True), MUTED),
        ("modulator", magnitude_response(modulators[chosen], points=points), STFT),
        ("basis", magnitude_response(basis[chosen], points=points), LEARNED),
    )
    with style():
        figure = new_figure(13, 6.4, "Spectra of the basis: carrier × modulator = basis")
        axes = figure.subplots(3, count, sharex=True, sharey=True, squeeze=False)
        for (label, responses, colour), row in zip(rows, axes, strict=True):
            for axis, response in zip(row, responses, strict=True):
                axis.fill_between(hz, FLOOR_DB, response, color=colour, alpha=0.25, linewidth=0)
                axis.plot(hz, response, color=colour, linewidth=0.9)
                axis.grid(True)
            row[0].set_ylabel(f"{label}\nmagnitude (dB)")
        for axis, component in zip(axes[0], chosen, strict=True):
            axis.set_title(f"component {component}\n{frequencies[component]:,.4g} Hz")
        axes[0, 0].set_ylim(FLOOR_DB, CEILING_DB)
        axes[0, 0].set_xlim(-0.015 * sample_rate, sample_rate / 2)  # keeps 0 Hz off the axis
        axes[0, 0].xaxis.set_major_formatter(hertz)
        figure.supxlabel("frequency (Hz)", fontsize=10)
    return figure


def basis_image(basis: Array, *, sample_rate: int, frequencies: Array | None = None) -> Any:
    """Draw the magnitude responses of all components as one image.

    Args:
        basis: shape (C, L), in the order to be drawn.
        sample_rate: in Hz.
        frequencies: of the carriers in Hz, shape (C,), drawn as a line where there are any.

    Returns:
        A matplotlib figure.
    """
    response = magnitude_response(basis)
    components = len(basis)
    with style():
        figure = new_figure(8.5, 6, "Magnitude responses of all components")
        axis = figure.subplots()
        drawn = axis.imshow(
            response.T,
            origin="lower",
            aspect="auto",
            extent=(-0.5, components - 0.5, 0, sample_rate / 2),
            cmap=COLOUR_MAP,
            vmin=FLOOR_DB,
            vmax=0,
        )
        by = "peak frequency"
        if frequencies is not None:
            by = "carrier"
            axis.plot(
                np.arange(components),
                np.abs(frequencies),
                color="#67e8f9",  # in no colour of the map
                linewidth=1.3,
                linestyle=(0, (3, 5)),  # sparse, as the response often lies just beneath
                label="carrier",
            )
            axis.legend(loc="upper left", labelcolor="white")
            axis.set_xlim(-0.5, components - 0.5)
            axis.set_ylim(0, sample_rate / 2)
        axis.set_xlabel(f"component, by {by}")
        axis.set_ylabel("frequency (Hz)")
        axis.yaxis.set_major_formatter(hertz)
        colour_bar = figure.colorbar(drawn, ax=axis, pad=0.02, aspect=30)
        colour_bar.set_label("magnitude (dB below the component's largest)")
        colour_bar.outline.set_visible(False)
    return figure


def carrier_figure(frequencies: Array, initial: Array | None, *, sample_rate: int) -> Any:
    """Draw carrier frequencies against the component's index, on a logarithmic axis.

    Args:
        frequencies: of the carriers in Hz, shape (C,), ascending.
        initial: those before training, for comparison.
        sample_rate: in Hz.

    Returns:
        A matplotlib figure.
    """
    with style():
        from matplotlib.ticker import LogLocator

        figure = new_figure(8.5, 5.2, "Carrier frequency of each component")
        axis = figure.subplots()
        index = np.arange(len(frequencies))
        if initial is not None:
            axis.plot(index, initial, color=MUTED, linewidth=1.2, linestyle="--", label="initial")
        axis.plot(index, np.abs(frequencies), color=LEARNED, linewidth=2, label="learned")
        axis.axhline(sample_rate / 2, color=INK, linewidth=0.8, linestyle=":")
        axis.annotate(
            "half the sample rate",
            (0, sample_rate / 2),
            xytext=(4, -4),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=MUTED,
        )
        axis.set_yscale("log")
        # Carriers may shrink to nothing, which on this axis is infinitely far down.
        bottom = max(float(np.abs(frequencies).min()), 1e-8 * sample_rate)
        if initial is not None:
            bottom = max(bottom, float(initial.min()) / 10)
        axis.set_ylim(bottom / 1.5, sample_rate)
        axis.yaxis.set_major_locator(LogLocator(numticks=20))
        axis.yaxis.set_major_formatter(hertz)
        axis.set_xlim(0, max(len(frequencies) - 1, 1))
        axis.set_xlabel("component, by carrier")
        axis.set_ylabel("carrier frequency (Hz)")
        axis.grid(True)
        axis.legend(loc="lower right")
    return figure
