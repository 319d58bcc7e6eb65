"""How well voices are separated: measures of one-second frames, as the published evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast.nn import Convention
from rlsv_fast.ops._check import choice, floating, integer, same_kind, shape

SILENCE = 10.0
"""Energy below which the published evaluation leaves a one-second frame at 16 kHz out."""

_WINDOW, _HOP = 512, 256
_MELS, _COEFFICIENTS = 128, 13
_FLOOR = 1e-8


def si_sdr_frames(
    estimate: Tensor,
    target: Tensor,
    sample_rate: int = 16000,
    *,
    silence: float = SILENCE,
    convention: Convention = "paper",
) -> Tensor:
    """SI-SDR of every second, without mean removal.

    Args:
        estimate: shape (B, N).
        target: same shape, on the scale that ``silence`` counts on.
        sample_rate: in Hz; a frame has so many samples. The last one may be shorter, but is left
            out below 512 samples.
        silence: frames whose target has less energy than this are NaN.
        convention: ``"code"`` adds 1e-8 to the ratio, so that nothing is below -80 dB.

    Returns:
        dB, shape (B, frames): use ``nanmean``.

    Raises:
        TypeError: an argument is not a floating tensor, or dtypes differ.
        ValueError: shapes or devices do not fit.
    """

    def measure(estimate: Tensor, target: Tensor) -> Tensor:
        value = ops.si_sdr(estimate, target)
        if convention == "code":
            return 10 * torch.log10(10 ** (value / 10) + _FLOOR)
        return value

    return _by_second("si_sdr_frames", measure, estimate, target, sample_rate, silence, convention)


def spectral_snr_frames(
    estimate: Tensor,
    target: Tensor,
    sample_rate: int = 16000,
    *,
    scale_invariant: bool = False,
    silence: float = SILENCE,
    convention: Convention = "paper",
) -> Tensor:
    r"""SNR of the magnitudes of every second: phases do not matter.

    .. math:: 10 \log_{10} \frac{\sum |S|^2}{\sum (|\hat S| - |S|)^2}

    over an STFT of 512 samples every 256, centred, Hann. With ``scale_invariant`` the target's
    magnitudes are first scaled as near to the estimate's as possible. Arguments, result and errors
    as :func:`si_sdr_frames`.
    """

    def measure(estimate: Tensor, target: Tensor) -> Tensor:
        found, wanted = _magnitudes(estimate), _magnitudes(target)
        if scale_invariant:
            power = wanted.square().sum((1, 2), keepdim=True)
            least = torch.finfo(power.dtype).tiny
            wanted = wanted * ((found * wanted).sum((1, 2), keepdim=True) / power.clamp_min(least))
        ratio = wanted.square().sum((1, 2)) / (found - wanted).square().sum((1, 2))
        return 10 * torch.log10(ratio + (_FLOOR if convention == "code" else 0))

    return _by_second(
        "spectral_snr_frames", measure, estimate, target, sample_rate, silence, convention
    )


def mel_cepstral_distance_frames(
    estimate: Tensor,
    target: Tensor,
    sample_rate: int = 16000,
    *,
    silence: float = SILENCE,
    convention: Convention = "paper",
) -> Tensor:
    """Mel-cepstral distance of every second: 0 is perfect.

    13 coefficients (orthonormal DCT of log(m + 1e-6), m the 128 triangular HTK mel bands of the
    power of an STFT of 512 samples every 256); the Euclidean distance of each STFT frame, averaged
    over the second. Both conventions are alike. Arguments, result and errors as
    :func:`si_sdr_frames`.
    """

    def measure(estimate: Tensor, target: Tensor) -> Tensor:
        difference = _cepstra(estimate, sample_rate) - _cepstra(target, sample_rate)
        return difference.square().sum(1).sqrt().mean(-1)

    return _by_second(
        "mel_cepstral_distance_frames", measure, estimate, target, sample_rate, silence, convention
    )


def _by_second(
    name: str,
    measure: Callable[[Tensor, Tensor], Tensor],
    estimate: Tensor,
    target: Tensor,
    sample_rate: int,
    silence: float,
    convention: Convention,
) -> Tensor:
    estimate = floating(name, "estimate", estimate)
    target = floating(name, "target", target)
    shape(name, "estimate", estimate, "(B, N)", None, None)
    shape(name, "target", target, f"{tuple(estimate.shape)} as estimate", *estimate.shape)
    same_kind(name, "estimate", estimate, "target", target)
    sample_rate = integer(name, "sample_rate", sample_rate, _WINDOW)
    choice(name, "convention", convention, ("paper", "code"))
    values = []
    for start in range(0, estimate.shape[1] - _WINDOW + 1, sample_rate):
        found = estimate[:, start : start + sample_rate]
        wanted = target[:, start : start + sample_rate]
        if wanted.shape[1] < _WINDOW:
            break
        silent = wanted.double().square().sum(1) < silence
        values.append(measure(found, wanted).masked_fill(silent, math.nan))
    return torch.stack(values, 1) if values else estimate.new_empty(len(estimate), 0)


def _magnitudes(signal: Tensor) -> Tensor:
    window = torch.hann_window(_WINDOW, dtype=signal.dtype, device=signal.device)
    return torch.stft(
        signal, _WINDOW, _HOP, window=window, center=True, pad_mode="reflect", return_complex=True
    ).abs()


def _cepstra(signal: Tensor, sample_rate: int) -> Tensor:
    """Mel-frequency cepstral coefficients (B, 13, frames)."""
    bands = _mel_bands(sample_rate).to(signal)
    power = torch.einsum("mf,bft->bmt", bands, _magnitudes(signal).square())
    return torch.einsum("cm,bmt->bct", _cosines().to(signal), torch.log(power + 1e-6))


@lru_cache(maxsize=8)
def _mel_bands(sample_rate: int) -> Tensor:
    """Triangles of height 1, equally spaced in HTK's mel from 0 to half the rate: (128, 257)."""
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, _MELS + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, _WINDOW // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp_min(0)


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The first rows of the orthonormal DCT-II: (13, 128)."""
    place = torch.arange(_MELS, dtype=torch.float64) + 0.5
    order = torch.arange(_COEFFICIENTS, dtype=torch.float64)[:, None]
    rows = torch.cos(math.pi / _MELS * order * place) * math.sqrt(2 / _MELS)
    rows[0] /= math.sqrt(2)
    return rows
