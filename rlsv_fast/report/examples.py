"""Excerpts of test tracks: everything that there is to be heard and seen of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from rlsv_fast import ops
from rlsv_fast.data import PreparedTrack
from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import STFT, binary_mask, reconstruct, separate_oracle
from rlsv_fast.nn import Convention, RepresentationModel

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Source: TypeAlias = Literal["mixture", "voice", "accompaniment"]
Version: TypeAlias = Literal["input", "decoded", "learned", "stft"]

SOURCES: tuple[Source, ...] = ("mixture", "voice", "accompaniment")
VERSIONS: tuple[Version, ...] = ("input", "decoded", "learned", "stft")


@dataclass(frozen=True, eq=False)
class Example:
    """An excerpt of a track.

    Attributes:
        name: of the track.
        sample_rate: in Hz.
        start: of the excerpt in the track, in seconds.
        signals: by source and version, each (N,): the ``input``; ``decoded``, that is encoded and
            decoded; from the mixture by the oracle mask of the ``learned`` representation; and by
            that of the ``stft``. A mixture has the first two alone.
        scores: SI-SDR in dB of all versions but the input; NaN where the input or the version is
            silent.
        representations: of each source, shape (C, T), components in the model's order.
    """

    name: str
    sample_rate: int
    start: float
    signals: Mapping[tuple[Source, Version], Array]
    scores: Mapping[tuple[Source, Version], float]
    representations: Mapping[Source, Array]


def make_example(
    model: RepresentationModel,
    track: PreparedTrack,
    *,
    seconds: float,
    segment_length: int,
    convention: Convention = "paper",
) -> Example:
    """Decode and separate the excerpt of a track in which voice and accompaniment are both strong.

    Args:
        model: trained representation.
        track: a test track.
        seconds: length of the excerpt; a shorter track is taken whole.
        segment_length: N in samples, best that of the training.
        convention: of the mask, and of the STFT's window.

    Raises:
        InputError: the track has no samples, or the model's output is not finite.
    """
    if len(track) == 0:
        raise InputError(f"the example track '{track.name}' has no samples")
    length = min(max(round(seconds * track.sample_rate), 1), len(track))
    start = busiest(track, length)
    mixture, voice, accompaniment = (
        np.array(signal[start : start + length])
        for signal in (track.mixture, track.voice, track.accompaniment)
    )
    inputs: dict[Source, Array] = dict(zip(SOURCES, (mixture, voice, accompaniment), strict=True))
    signals: dict[tuple[Source, Version], Array] = {}
    for source, signal in inputs.items():
        signals[source, "input"] = signal
        signals[source, "decoded"] = reconstruct(model, signal, segment_length=segment_length)
    learned = separate_oracle(
        model,
        *(mixture, voice, accompaniment),
        segment_length=segment_length,
        convention=convention,
    )
    by_stft = _separate_by_stft(model, mixture, voice, accompaniment, convention)
    signals["voice", "learned"], signals["accompaniment", "learned"] = learned
    signals["voice", "stft"], signals["accompaniment", "stft"] = by_stft
    representations = represent(model, inputs)
    for made in (*signals.values(), *representations.values()):
        if not np.isfinite(made).all():
            raise InputError(f"'{track.name}': what the model makes of it is not finite")
    scores: dict[tuple[Source, Version], float] = {
        (source, version): _si_sdr(signal, inputs[source])
        for (source, version), signal in signals.items()
        if version != "input"
    }
    start_seconds = start / track.sample_rate
    return Example(track.name, track.sample_rate, start_seconds, signals, scores, representations)


def represent(model: RepresentationModel, signals: Mapping[Source, Array]) -> dict[Source, Array]:
    """Encode signals of one length, each (N,); representations (C, T) in the model's order."""
    parameter = next(model.parameters())
    batch = torch.from_numpy(np.stack(list(signals.values())))
    with torch.inference_mode():
        encoded = model.encode(batch.to(parameter.device, parameter.dtype))
    return dict(zip(signals, encoded.float().cpu().numpy(), strict=True))


def busiest(track: PreparedTrack, length: int) -> int:
    """Start of the excerpt in which the weaker of voice and accompaniment has most energy."""
    step = max(length // 4, 1)
    starts = range(0, len(track) - length + 1, step)

    def energy(start: int) -> float:
        span = slice(start, start + length)
        return min(float(np.square(s[span]).sum()) for s in (track.voice, track.accompaniment))

    return max(starts, key=energy)


def _separate_by_stft(
    model: RepresentationModel,
    mixture: Array,
    voice: Array,
    accompaniment: Array,
    convention: Convention,
) -> tuple[Array, Array]:
    """Voice and accompaniment by the oracle mask of an STFT of the model's sizes."""
    size = model.encoder.kernel_size
    # a model may hop by more than half its kernel, the STFT may not
    hop = min(model.hop, size // 2)
    # reflection needs a signal longer than what it reflects
    hann = convention == "code" and len(mixture) > size // 2
    stft = STFT(size, hop, window="hann" if hann else "hamming")
    sources = torch.from_numpy(np.stack([mixture, voice, accompaniment]))
    coefficients = stft.analyze(sources)
    of_voice, of_accompaniment = coefficients[1:].abs()
    mask = binary_mask(of_voice, of_accompaniment, convention=convention)
    masked = torch.stack([coefficients[0] * mask, coefficients[0] * (1 - mask)])
    first, second = stft.synthesize(masked, len(mixture)).numpy()
    return first, second


def _si_sdr(estimate: Array, target: Array) -> float:
    if not estimate.any() or not target.any():
        return math.nan
    first, second = (torch.from_numpy(np.array(signal))[None] for signal in (estimate, target))
    return float(ops.si_sdr(first, second))
