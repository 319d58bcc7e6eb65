"""All figures of a run, as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from rlsv_fast import ops
from rlsv_fast.data import PreparedTrack
from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import Evaluation
from rlsv_fast.nn import ModulatedCosineDecoder, RepresentationModel, mel_frequencies
from rlsv_fast.report.basis import basis_figure, basis_image, carrier_figure
from rlsv_fast.report.curves import loss_figure, read_curves
from rlsv_fast.report.representation import representation_figure
from rlsv_fast.report.scores import score_figure
from rlsv_fast.report.style import save
from rlsv_fast.training.log import read_log

Array: TypeAlias = npt.NDArray[np.floating[Any]]


class Report(NamedTuple):
    """What was written, and a sentence on each figure that could not be drawn."""

    files: list[Path]
    notes: list[str]


def write_report(
    model: RepresentationModel,
    out: Path,
    *,
    sample_rate: int,
    log: Path | None = None,
    evaluation: Evaluation | None = None,
    step: int | None = None,
    example: PreparedTrack | None = None,
    seconds: float = 3.0,
) -> Report:
    """Draw what there is to see of a run.

    Written are ``responses.png``, ``basis.png`` and ``carriers.png`` (decoders with carriers only),
    ``losses.png`` (given a log), ``scores.png`` (given an evaluation) and ``representation.png``
    (given an example). Each file appears whole or not at all.

    Args:
        model: the representation.
        out: folder for the figures, made if need be.
        sample_rate: in Hz.
        log: ``log.jsonl`` of the run.
        evaluation: of the model, with the rows of its segments.
        step: training step of the model; an evaluation made at another one is left out.
        example: a track whose representation is to be shown.
        seconds: length of the excerpt that is shown, which is the one where voice and accompaniment
            are both strong.

    Returns:
        The files, and notes on the figures left out.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    files: list[Path] = []
    notes: list[str] = []

    def write(name: str, figure: Any) -> None:
        save(figure, out / name)
        files.append(out / name)

    basis, order, frequencies = _sorted_basis(model, sample_rate)
    decoder = model.decoder
    if isinstance(decoder, ModulatedCosineDecoder) and frequencies is not None:
        cosines, modulators = _factors(decoder, order)
        write(
            "basis.png",
            basis_figure(cosines, modulators, basis, frequencies, sample_rate=sample_rate),
        )
        initial = mel_frequencies(decoder.components, sample_rate).double() ** decoder.power
        write(
            "carriers.png",
            carrier_figure(frequencies, initial.numpy() * sample_rate, sample_rate=sample_rate),
        )
    else:
        notes.append("no carriers.png and basis.png: the decoder's kernels have no carriers")
    write("responses.png", basis_image(basis, sample_rate=sample_rate, frequencies=frequencies))

    curves = {}
    if log is None or not log.is_file():
        notes.append("no losses.png: the run has no log")
    else:
        curves = read_curves(read_log(log))
        if curves:
            write("losses.png", loss_figure(curves))
        else:
            notes.append(f"no losses.png: no training step in '{log}'")

    if evaluation is None or not evaluation.segments:
        notes.append("no scores.png: the run has no evaluation with segments")
    elif step is not None and (made := evaluation.settings.get("step", step)) != step:
        notes.append(
            f"no scores.png: the evaluation was made at step {made}, the model is at step {step}; "
            "evaluate again"
        )
    else:
        write("scores.png", score_figure(evaluation))

    if example is None:
        notes.append("no representation.png: no example track was given")
    else:
        write("representation.png", example_figure(model, example, seconds=seconds))
    return Report(files, notes)


def _sorted_basis(
    model: RepresentationModel, sample_rate: int
) -> tuple[Array, npt.NDArray[np.int64], Array | None]:
    """Basis and order by carrier, with the carriers in Hz; by spectral peak if there are none."""
    with torch.inference_mode():
        basis = model.decoder.basis().double().cpu().numpy()
        carriers = model.decoder.carriers()
    if carriers is None:
        peaks = np.abs(np.fft.rfft(basis, axis=-1)).argmax(axis=-1)
        order = np.argsort(peaks, kind="stable")
        return basis[order], order, None
    order = model.order().cpu().numpy()
    return basis[order], order, carriers.double().cpu().numpy()[order] * sample_rate


def _factors(decoder: ModulatedCosineDecoder, order: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Carriers without modulators, and the modulators, each (C, L)."""
    with torch.inference_mode():
        modulators = decoder.modulator.expand(decoder.components, decoder.kernel_size)
        cosines, _ = ops.modulated_cosines(
            decoder.frequency,
            decoder.phase,
            torch.ones_like(modulators[:1]),
            power=decoder.power,
            sort=False,
        )
        return cosines.double().cpu().numpy()[order], modulators.double().cpu().numpy()[order]


def example_figure(
    model: RepresentationModel, example: PreparedTrack, *, seconds: float = 3.0
) -> Any:
    """Draw the representations of an excerpt's mixture, voice and accompaniment.

    Args:
        model: the representation.
        example: a track; the excerpt is the one where voice and accompaniment are both strong.
        seconds: length of the excerpt.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: the track has no samples.
    """
    _, order, frequencies = _sorted_basis(model, example.sample_rate)
    if len(example) == 0:
        raise InputError(f"the example track '{example.name}' has no samples")
    length = min(max(round(seconds * example.sample_rate), 1), len(example))
    start = _busiest(example, length)
    span = slice(start, start + length)
    signals = np.stack([example.mixture[span], example.voice[span], example.accompaniment[span]])
    parameter = next(model.parameters())
    with torch.inference_mode():
        encoded = model.encode(torch.from_numpy(signals).to(parameter.device, parameter.dtype))
    mixture, voice, accompaniment = encoded.float().cpu().numpy()[:, order]
    return representation_figure(
        mixture,
        voice,
        accompaniment,
        hop=model.hop,
        sample_rate=example.sample_rate,
        carriers=frequencies,
        name=example.name,
        start=start / example.sample_rate,
    )


def _busiest(track: PreparedTrack, length: int) -> int:
    """Start of the excerpt in which the weaker of voice and accompaniment has most energy."""
    step = max(length // 4, 1)
    starts = range(0, len(track) - length + 1, step)

    def energy(start: int) -> float:
        span = slice(start, start + length)
        return min(float(np.square(s[span]).sum()) for s in (track.voice, track.accompaniment))

    return max(starts, key=energy)
