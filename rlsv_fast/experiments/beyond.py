"""Experiments that neither paper reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from rlsv_fast import nn
from rlsv_fast.experiments.experiment import Cell, Experiment, Plot
from rlsv_fast.experiments.scale import Scale
from rlsv_fast.experiments.sinkhorn import (
    LABELS,
    NORMALISATIONS,
    QUANTITIES,
    sinkhorn_settings,
    total_variation_settings,
)
from rlsv_fast.training.config import Value

SignChange: TypeAlias = Callable[[nn.Convention], float]
"""The epsilon at which the mean gradient of frames' distances changes its sign (p = 1)."""

_RELATIVE = (0.3, 0.6, 0.9, 1.0, 1.25, 3.0)


def _relative(scale: Scale, change: float, relative: float) -> float:
    # three digits: a setting that does not depend on rounding
    return float(f"{relative * change:.3g}")


def _around(
    scale: Scale, sign_change: SignChange
) -> Iterator[tuple[nn.Convention, float, float, float]]:
    """Normalisation, ω, ε / ε* and ε of every cell around the sign change."""
    for convention in NORMALISATIONS:
        change = sign_change(convention)
        for weight in (1.0, 4.0):
            for relative in _RELATIVE:
                yield convention, weight, relative, _relative(scale, change, relative)


def sign_flip(scale: Scale, sign_change: SignChange) -> Experiment:
    """Epsilon below, at and above the sign change of the mean gradient."""
    cells = [
        Cell(
            (LABELS[convention], weight, relative, epsilon),
            sinkhorn_settings(scale, convention, weight, epsilon),
        )
        for convention, weight, relative, epsilon in _around(scale, sign_change)
    ]
    return Experiment(
        name="sinkhorn-sign-flip",
        title="Epsilon below, at and above the sign change of the mean gradient",
        columns=("normalisation", "ω", "ε / ε*", "ε"),
        cells=tuple(cells),
        statistic="mean",
        quantities=QUANTITIES,
        seeds=scale.grid_seeds,
        stft={},
        notes=(
            "ε* is where the mean gradient of the distances changes its sign, found by "
            "SinkhornLoss.diagnose with the untrained model on a batch of test mixtures. P2's dip "
            "in the mask's SI-SDR and peak in additivity lie at λ = 1.3 to 2, which in the "
            "published normalisation at P2's sizes is ε / ε* = 0.8 to 1.23.",
        ),
        plot=Plot("ε / ε*", ("normalisation", "ω"), log=True),
    )


def closing_question(scale: Scale, sign_change: SignChange) -> Experiment:
    """Which regulariser brings the oracle mask closest to the STFT's on the same segments."""
    none: dict[str, Value] = {**total_variation_settings(scale, 0.0), "loss.representation": "none"}
    cells = [Cell(("none", "–", 0.0, "–"), none)]
    cells += [
        Cell(("L_A (TV)", "–", weight, "–"), total_variation_settings(scale, weight))
        for weight in (0.5, 4.0)
    ]
    cells += [
        Cell(
            ("L_B (Sinkhorn)", LABELS[convention], weight, epsilon),
            sinkhorn_settings(scale, convention, weight, epsilon),
        )
        for convention, weight, _, epsilon in _around(scale, sign_change)
    ]
    return Experiment(
        name="closing-question",
        title="P2's closing question: can the learned mask come near, or above, the STFT's?",
        columns=("objective", "normalisation", "ω", "ε"),
        cells=tuple(cells),
        statistic="mean",
        quantities=QUANTITIES,
        seeds=scale.grid_seeds,
        stft={},
        notes=("STFT with the learned model's window and hop, on the same segments.",),
    )


def discriminator(scale: Scale) -> Experiment:
    """The published code's discriminator beside total variation alone."""
    tv = total_variation_settings(scale, 0.5)
    return Experiment(
        name="discriminator",
        title="A discriminator of voice and accompaniment, trained along",
        columns=("objective", "weight of the discriminator"),
        cells=(
            Cell(("L_A (TV), ω = 0.5", 0.0), tv),
            Cell(("L_A (TV), ω = 0.5", 1.0), {**tv, "loss.discriminator": 1.0}),
            Cell(("L_A (TV), ω = 0.5", 10.0), {**tv, "loss.discriminator": 10.0}),
        ),
        statistic="mean",
        quantities=QUANTITIES,
        seeds=scale.table_seeds,
        stft={},
        notes=(
            "The published code has this objective, neither paper reports it. Its faults are not "
            "reproduced: the mean runs over frames, the cross-entropy takes logits, silent batches "
            "have the loss 0, and both terms make one optimiser step instead of a second one on a "
            "graph whose weights have changed.",
        ),
    )
