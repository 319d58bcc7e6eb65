"""How well voices were separated and their pitches found, by the published protocol."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsv_fast.ops import _check

Convention: TypeAlias = Literal["paper", "code"]

LEAST_ENERGY = 10.0
"""Sum of squares below which a second of a target counts as silent."""

_N_FFT, _HOP = 512, 256
_MELS, _COEFFICIENTS = 128, 13


@dataclass(frozen=True)
class FrameScores:
    """Measures of one second of one voice; dB, but for the distance."""

    voice: int
    second: int
    si_sdr: float
    spectral_snr: float
    spectral_si_snr: float
    mel_cepstral_distance: float


def score_frames(
    estimates: Tensor, targets: Tensor, *, sample_rate: int = 16000
) -> list[FrameScores]:
    r"""Score each second of each voice that is not silent in the target.

    With s a second of the target, :math:`\hat s` of the estimate, and :math:`S, \hat S` their
    magnitude spectrograms:

    .. math::
        \text{SI-SDR} &= 10 \log_{10} \big( \|\alpha s\|^2 / \|\alpha s - \hat s\|^2 + 10^{-8}
            \big), \quad \alpha = \langle s, \hat s \rangle / \langle s, s \rangle

        \text{spectral SNR} &= 10 \log_{10} \big( \textstyle\sum S^2 / \sum (\hat S - S)^2 +
            10^{-8} \big)

    The spectral SI-SNR scales S in the same way. The mel-cepstral distance is that of 13
    coefficients of the log-mel spectrum, the mean of the STFT frames' Euclidean distances. What is
    left of the last second is not scored.

    Args:
        estimates: shape (V, N).
        targets: shape (V, N).
        sample_rate: in Hz.

    Returns:
        A row for each voice and second in which the target's energy is at least ``LEAST_ENERGY``.

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: the shapes differ, or a value is not finite.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", TASLP 2023, section V.
    """
    op = "score_frames"
    targets = _check.floating(op, "targets", targets)
    estimates = _check.floating(op, "estimates", estimates)
    _check.shape(op, "targets", targets, "(V, N)", None, None)
    _check.shape(op, "estimates", estimates, "the targets' shape", *targets.shape)
    for name, signals in (("targets", targets), ("estimates", estimates)):
        if not bool(signals.isfinite().all()):
            raise ValueError(f"{op}: {name} hold NaN or infinity")
    voices, seconds = targets.shape[0], targets.shape[1] // sample_rate
    cut = (voices * seconds, sample_rate)
    target = targets[:, : seconds * sample_rate].reshape(cut).double()
    estimate = estimates[:, : seconds * sample_rate].reshape(cut).double()
    heard = (target.square().sum(1) >= LEAST_ENERGY).nonzero().flatten()
    if not len(heard):
        return []
    target, estimate = target[heard], estimate[heard]
    magnitudes, made = _magnitudes(target), _magnitudes(estimate)
    columns = (
        _ratio(target, estimate, scaled=True),
        _ratio(magnitudes, made, scaled=False),
        _ratio(magnitudes, made, scaled=True),
        (_mfcc(magnitudes, sample_rate) - _mfcc(made, sample_rate)).norm(dim=1).mean(1),
    )
    scores = torch.stack(columns, 1).tolist()
    places = heard.tolist()
    return [
        FrameScores(place // seconds, place % seconds, *row)
        for place, row in zip(places, scores, strict=True)
    ]


def _ratio(target: Tensor, estimate: Tensor, *, scaled: bool) -> Tensor:
    """Signal to noise in dB, shape (R,), over all but the first dimension."""
    target, estimate = target.flatten(1), estimate.flatten(1)
    if scaled:
        factor = (target * estimate).sum(1, keepdim=True) / target.square().sum(1, keepdim=True)
        target = factor * target
    noise = (target - estimate).square().sum(1)
    return 10 * (target.square().sum(1) / noise + 1e-8).log10()


def _magnitudes(signals: Tensor) -> Tensor:
    """Shape (R, F, T)."""
    window = torch.hann_window(_N_FFT, dtype=signals.dtype, device=signals.device)
    return torch.stft(signals, _N_FFT, _HOP, window=window, return_complex=True).abs()


def _mfcc(magnitudes: Tensor, sample_rate: int) -> Tensor:
    """Mel-frequency cepstral coefficients, shape (R, 13, T)."""
    mel, transform = (m.to(magnitudes) for m in _mfcc_matrices(sample_rate))
    return transform @ (mel @ magnitudes.square() + 1e-6).log()


@functools.cache
def _mfcc_matrices(sample_rate: int) -> tuple[Tensor, Tensor]:
    """The mel filters (HTK's formula, not normalised) and the orthonormal cosine transform."""
    highest = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, _MELS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_N_FFT, 1 / sample_rate)
    slopes = (bins - edges[:, None]) / np.diff(edges, append=np.inf)[:, None]
    rising = slopes[:-2]
    falling = 1 - slopes[1:-1]
    filters = np.minimum(rising, falling).clip(0)
    angles = np.pi / _MELS * np.outer(np.arange(_COEFFICIENTS), np.arange(_MELS) + 0.5)
    cosines = np.sqrt(2 / _MELS) * np.cos(angles)
    cosines[0] /= np.sqrt(2)
    return torch.from_numpy(filters), torch.from_numpy(cosines)


def score_f0(
    estimate: npt.NDArray[np.floating],
    reference: npt.NDArray[np.floating],
    *,
    hop_seconds: float = 0.016,
    convention: Convention = "paper",
) -> dict[str, float]:
    """Compare tracks of pitch, voice by voice and all together.

    Args:
        estimate: Hz, 0 where unvoiced, shape (V, T).
        reference: likewise.
        hop_seconds: from one frame to the next.
        convention: ``"code"`` does as the published evaluation: every frame of the estimate counts
            as voiced, and 20 Hz are added to both sides of the multi-pitch measures.

    Returns:
        Means over the voices of mir_eval's melody measures (``overall_accuracy``,
        ``raw_pitch_accuracy``, ``raw_chroma_accuracy``, ``voicing_recall``,
        ``voicing_false_alarm``), and multi-pitch ``precision``, ``recall`` and ``f_score``.

    Raises:
        ValueError: the shapes differ, or a frequency is negative or not finite.

    Reference:
        Raffel et al., "mir_eval: a transparent implementation of common MIR metrics", ISMIR 2014.
    """
    op = "score_f0"
    _check.choice(op, "convention", convention, ("paper", "code"))
    estimate, reference = np.asarray(estimate, np.float64), np.asarray(reference, np.float64)
    if estimate.shape != reference.shape or estimate.ndim != 2 or not estimate.size:
        raise ValueError(
            f"{op}: estimate and reference must be (V, T) alike and not empty, got "
            f"{estimate.shape} and {reference.shape}"
        )
    for name, track in (("estimate", estimate), ("reference", reference)):
        if not (np.isfinite(track).all() and (track >= 0).all()):
            raise ValueError(f"{op}: {name} must be finite and at least 0 Hz")
    if convention == "code":
        estimate = np.maximum(estimate, 1e-5)
    mir_eval = _needed("mir_eval")
    times = hop_seconds * np.arange(estimate.shape[1])
    by_voice = [
        mir_eval.melody.evaluate(times, true, times, found)
        for found, true in zip(estimate, reference, strict=True)
    ]
    scores = {
        name.lower().replace(" ", "_"): float(np.mean([voice[name] for voice in by_voice]))
        for name in by_voice[0]
    }
    shift = 20.0 if convention == "code" else 0.0
    precision, recall = (
        float(value)
        for value in mir_eval.multipitch.metrics(
            times, _sets(reference, shift), times, _sets(estimate, shift)
        )[:2]
    )
    total = precision + recall
    scores |= {"precision": precision, "recall": recall}
    scores["f_score"] = 2 * precision * recall / total if total else 0.0
    return scores


def _sets(tracks: npt.NDArray[np.floating], shift: float) -> list[npt.NDArray[np.floating]]:
    """The frequencies that sound in each frame."""
    return [shift + frame[frame + shift > 1.0] for frame in tracks.T]


def summary(values: Sequence[float]) -> Mapping[str, float]:
    """Mean, median and standard deviation, the published table's columns."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return dict.fromkeys(("mean", "median", "std"), float("nan"))
    return {
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "std": float(array.std()),
    }


def _needed(name: str) -> ModuleType:
    """A package that only these measures need."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} is needed for this measure: pip install 'rlsv_fast[umss]'"
        ) from error
