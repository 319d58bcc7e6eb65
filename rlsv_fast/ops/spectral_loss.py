"""Multi-resolution distance of magnitude spectra: the reconstruction loss of UMSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "spectral_loss"


@fake("_spectral_loss_forward")
def _(
    estimate: Tensor,
    target: Tensor,
    magnitude_weight: float,
    log_magnitude_weight: float,
    want_estimate: bool,
    want_target: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    items, bins, _ = estimate.shape
    return (
        estimate.new_empty((items,)),
        estimate.new_empty((items if want_estimate else 0, bins, 2)),
        target.new_empty((items if want_target else 0, bins, 2)),
    )


def _backward(
    saved: tuple[Tensor, ...], _: None, needs: tuple[bool, ...], grad: Tensor, *rest: Tensor
) -> tuple[Any, ...]:
    flows = [
        slope * grad[:, None, None] if need else None
        for slope, need in zip(saved, needs, strict=False)
    ]
    return (*flows, *(None,) * 4)


# Returns (value, its derivatives by both spectra, which are all that backward needs).
_distance = differentiable(
    "SpectralLoss",
    lambda *inputs: raw._spectral_loss_forward(*inputs),
    save=lambda inputs, outputs: outputs[1:],
    backward=_backward,
    non_differentiable=(1, 2),
)


def spectral_loss(
    estimate: Tensor,
    target: Tensor,
    *,
    fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64),
    overlap: float = 0.75,
    magnitude_weight: float = 1.0,
    log_magnitude_weight: float = 1.0,
    reduce: Literal["none", "mean"] = "none",
) -> Tensor:
    r"""Distance of the magnitudes of short-time spectra, summed over several resolutions.

    .. math::
        L = \sum_{\text{sizes}} \frac1M \sum_{f, t} \Big( a |X_{f,t} - Y_{f,t}|
            + b |\log X_{f,t} - \log Y_{f,t}| \Big), \qquad
        X = \sqrt{\mathrm{Re}(x)^2 + \mathrm{Im}(x)^2 + 10^{-10}}

    with x the spectra of the estimate, Y the same of the target, and M bins of each size. Frames
    of n samples begin every :math:`n (1 - \text{overlap})` samples from the first one on, under a
    periodic Hann window; zeros follow the signal until every frame that begins in it is full.

    ``torch.fft`` transforms the frames, and back in the gradient. Magnitudes, both distances, their
    sum and the derivative by the spectrum are made in one pass, and that derivative is all that is
    kept of it. Equal magnitudes have subgradient 0. The bits of torch's transforms, and so the last
    ones of the loss, depend on the number of threads.

    Args:
        estimate: shape (B, N).
        target: shape (B, N).
        fft_sizes: numbers of samples per frame, at least 2 each.
        overlap: of neighbouring frames, at least 0 and below 1.
        magnitude_weight: a, not negative.
        log_magnitude_weight: b, not negative.
        reduce: "none": one value per item; "mean": their mean, which is the original's.

    Returns:
        Shape (B,), or () for "mean". Without samples the value is 0.

    Raises:
        TypeError: an argument is not a floating tensor, dtypes differ, or a number is not one.
        ValueError: shapes or devices do not fit, a number is out of range, or the mean of an empty
            batch.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", IEEE/ACM TASLP 31, 2023.
    """
    estimate = _check.floating(_OP, "estimate", estimate)
    target = _check.floating(_OP, "target", target)
    _check.shape(_OP, "estimate", estimate, "(B, N)", None, None)
    _check.shape(_OP, "target", target, f"{tuple(estimate.shape)} as estimate", *estimate.shape)
    _check.same_kind(_OP, "estimate", estimate, "target", target)
    weights = [
        _weight("magnitude_weight", magnitude_weight),
        _weight("log_magnitude_weight", log_magnitude_weight),
    ]
    overlap = _check.real(_OP, "overlap", overlap)
    if not 0 <= overlap < 1:
        raise ValueError(f"{_OP}: overlap must be at least 0 and below 1, got {overlap}")
    if not isinstance(fft_sizes, Sequence) or isinstance(fft_sizes, str) or not fft_sizes:
        raise ValueError(f"{_OP}: fft_sizes must be one or more numbers, got {fft_sizes!r}")
    sizes = [_check.integer(_OP, "fft_sizes", size, 2) for size in fft_sizes]
    _check.choice(_OP, "reduce", reduce, ("none", "mean"))
    if reduce == "mean" and estimate.shape[0] == 0:
        raise ValueError(f"{_OP}: reduce='mean' needs at least one item, got estimate of none")

    recorded = torch.is_grad_enabled()
    wanted = (recorded and estimate.requires_grad, recorded and target.requires_grad)
    values = [
        _distance(
            _spectrum(estimate.contiguous(), size, overlap),
            _spectrum(target.contiguous(), size, overlap),
            *weights,
            *wanted,
        )[0]
        for size in sizes
    ]
    total: Tensor = sum(values[1:], values[0])
    return total.mean() if reduce == "mean" else total


def _weight(name: str, value: float) -> float:
    weight = _check.real(_OP, name, value)
    if not (weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"{_OP}: {name} must be finite and not negative, got {value}")
    return weight


def _spectrum(signal: Tensor, size: int, overlap: float) -> Tensor:
    """Real and imaginary parts of all bins of each item, (B, M, 2), frame after frame."""
    if signal.numel() == 0:
        return torch.stack([signal, signal], -1)
    spectrum: Tensor = _transform(signal, size, max(int(size * (1 - overlap)), 1))
    return spectrum


def _window(size: int, like: Tensor) -> Tensor:
    return torch.hann_window(size, dtype=like.dtype, device=like.device)


def _transform_forward(signal: Tensor, size: int, hop: int) -> Tensor:
    batch, samples = signal.shape
    frames = raw._frames(signal, size, hop, -(-samples // hop), 0) * _window(size, signal)
    return torch.view_as_real(torch.fft.rfft(frames)).reshape(batch, -1, 2)


def _transform_backward(
    _: tuple[Tensor, ...],
    constants: tuple[int, int, int],
    needs: tuple[bool, ...],
    grad: Tensor,
) -> tuple[Any, ...]:
    """The adjoint: half the work of torch's own, which makes complex frames of all bins."""
    samples, size, hop = constants
    bins = size // 2 + 1
    # The inverse counts every bin twice but those without a partner, whose imaginary part is 0.
    share = torch.full((bins, 2), 0.5, dtype=grad.dtype, device=grad.device)
    ends = share[:: bins - 1] if size % 2 == 0 else share[:1]
    ends[:, 0], ends[:, 1] = 1, 0
    spectra = torch.view_as_complex(grad.reshape(grad.shape[0], -1, bins, 2) * share)
    frames = torch.fft.irfft(spectra, size, norm="forward") * _window(size, grad)
    return raw._overlap_add(frames, hop, samples, 0), None, None


_transform = differentiable(
    "Transform",
    _transform_forward,
    save=lambda inputs, outputs: (),
    constants=lambda inputs: (inputs[0].shape[1], *inputs[1:]),
    backward=_transform_backward,
)
