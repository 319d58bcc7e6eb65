"""All figures of a run, as PNG files for print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlsv_fast.evaluation import Evaluation
from rlsv_fast.report.basis import basis_figure, basis_image, carrier_figure
from rlsv_fast.report.components import Array, Components
from rlsv_fast.report.curves import loss_figure
from rlsv_fast.report.examples import Example
from rlsv_fast.report.representation import representation_figure
from rlsv_fast.report.scores import score_figure
from rlsv_fast.report.style import save


def write_figures(
    out: Path,
    components: Components,
    *,
    sample_rate: int,
    hop: int,
    curves: Mapping[str, tuple[Array, Array]],
    evaluation: Evaluation | None,
    example: Example | None,
) -> list[Path]:
    """Draw what there is to see of a run.

    Written are ``responses.png``, ``basis.png`` and ``carriers.png`` (decoders with carriers only),
    ``losses.png`` (given curves), ``scores.png`` (given an evaluation) and ``representation.png``
    (given an example). Each file appears whole or not at all.

    Returns:
        The files.
    """
    files: list[Path] = []

    def write(name: str, figure: Any) -> None:
        save(figure, out / name)
        files.append(out / name)

    carriers = components.carrier_frequencies
    if components.carriers is not None and components.modulators is not None:
        factors = components.carriers, components.modulators, components.basis
        frequencies = components.frequencies
        write("basis.png", basis_figure(*factors, frequencies, sample_rate=sample_rate))
        write(
            "carriers.png",
            carrier_figure(frequencies, components.initial, sample_rate=sample_rate),
        )
    write(
        "responses.png",
        basis_image(components.basis, sample_rate=sample_rate, frequencies=carriers),
    )
    if curves:
        write("losses.png", loss_figure(curves))
    if evaluation is not None:
        write("scores.png", score_figure(evaluation))
    if example is not None:
        write("representation.png", example_figure(example, components, hop=hop))
    return files


def example_figure(example: Example, components: Components, *, hop: int) -> Any:
    """Draw the representations of an example's mixture, voice and accompaniment, sorted."""
    mixture, voice, accompaniment = (
        example.representations[source][components.order]
        for source in ("mixture", "voice", "accompaniment")
    )
    return representation_figure(
        *(mixture, voice, accompaniment),
        hop=hop,
        sample_rate=example.sample_rate,
        carriers=components.carrier_frequencies,
        name=example.name,
        start=example.start,
    )
