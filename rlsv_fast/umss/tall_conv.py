"""Convolutions over (frequency, time) whose kernels are tall: multiplied in a transform domain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsv_fast._library import differentiable

TALL = 16
"""Kernel heights from which the transform is used: at 5 it takes longer than oneDNN, at 70 a fifth
of its time (benchmarks/tall_conv.py).
"""

_FRAMES = 64  # transformed at a time: spectra of so many frames stay in a core's caches


class SameConv2d(nn.Conv2d):
    """A convolution whose output has the size of its input, with zeros as TensorFlow pads them.

    An even kernel has one zero more after the input than before it. Tall kernels go through a real
    Fourier transform along frequency in float32 and float64: 25 times fewer multiplications for
    the 70 x 3 kernels of the f0 networks. In half types, for which CPUs have no transform, and for
    low kernels, it is a plain convolution.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: height (frequency) and odd width (time).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int]) -> None:
        super().__init__(in_channels, out_channels, kernel)
        self._tall = kernel[0] >= TALL

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, F, T) to (B, C', F, T)."""
        if self._tall and x.dtype in (torch.float32, torch.float64) and x.numel():
            return transformed(x, self.weight, self.bias)
        height, width = self.weight.shape[2:]
        above = (height - 1) // 2
        if height % 2:
            padding = (above, width // 2)
            return functional.conv2d(x, self.weight, self.bias, padding=padding)
        x = functional.pad(x, (width // 2, width // 2, above, height - 1 - above))
        return functional.conv2d(x, self.weight, self.bias)


def transformed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    r"""The "same" cross-correlation by a real Fourier transform along frequency.

    .. math:: Y_o(\omega, t) = \sum_{c, j} \overline{W_{ocj}(\omega)} X_c(\omega, t + j)

    One small matrix product for each frequency of the transform, and two more for the gradients.
    Its length need only keep apart what the output keeps: F + ⌈(K - 1) / 2⌉, not F + K - 1.
    Differentiable once.

    Args:
        x: shape (B, C, F, T), float32 or float64.
        weight: shape (C', C, K, J), J odd.
        bias: shape (C') or None.

    Returns:
        Shape (B, C', F, T).
    """
    y: Tensor = _correlation(x, weight, bias)
    return y


class _Circle(NamedTuple):
    """How F values of a frame lie on the circle of the transform."""

    height: int
    above: int
    """Zeros before the first of them."""
    length: int

    @classmethod
    def of(cls, x: Tensor, weight: Tensor) -> _Circle:
        """For a convolution of x (B, C, F, T) with weight (C', C, K, J)."""
        height, taps = x.shape[2], weight.shape[2]
        above = (taps - 1) // 2
        return cls(height, above, _smooth(max(height + taps - 1 - above, taps)))

    def kernel(self, weight: Tensor) -> Tensor:
        """Spectra (J, ω, C', C) of a weight (C', C, K, J)."""
        spectrum: Tensor = torch.fft.rfft(weight, n=self.length, dim=2)
        return spectrum.permute(3, 2, 0, 1)

    def spectrum(self, planes: Tensor, start: int, count: int) -> Tensor:
        """(ω, C, count) of the frames from `start` on of planes (C, F, T), silent outside of it."""
        first, last = max(start, 0), min(start + count, planes.shape[2])
        room = planes.new_zeros(len(planes), count, self.length)
        part = planes[:, :, first:last].transpose(1, 2)
        room[:, first - start : last - start, : self.height] = part
        spectrum: Tensor = torch.fft.rfft(room)
        return spectrum.permute(2, 0, 1).contiguous()

    def planes(self, spectrum: Tensor) -> Tensor:
        """(C, L, t) of spectra (ω, C, t)."""
        planes: Tensor = torch.fft.irfft(spectrum.permute(1, 2, 0), n=self.length)
        return planes.transpose(1, 2)


def _chunks(frames: int) -> Iterator[tuple[int, int]]:
    for start in range(0, frames, _FRAMES):
        yield start, min(_FRAMES, frames - start)


def _product(matrices: Tensor, spectrum: Tensor, count: int) -> Tensor:
    """Sum over j of (J, ω, R, C) times (ω, C, t + j), for count frames t."""
    product = torch.bmm(matrices[0], spectrum[..., :count])
    for shift in range(1, len(matrices)):
        product.baddbmm_(matrices[shift], spectrum[..., shift : shift + count])
    return product


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    batch, _, height, frames = x.shape
    outputs, width = weight.shape[0], weight.shape[3]
    circle = _Circle.of(x, weight)
    wrapped = min(circle.above, height)
    first = circle.length - circle.above
    matrices = circle.kernel(weight).conj_physical().contiguous()
    level = 0 if bias is None else bias[:, None, None]
    y = x.new_empty(batch, outputs, height, frames)
    for item in range(batch):
        for start, count in _chunks(frames):
            spectrum = circle.spectrum(x[item], start - width // 2, count + width - 1)
            turned = circle.planes(_product(matrices, spectrum, count))
            out = y[item, :, :, start : start + count]
            # the first outputs lie at the end of the circle
            out[:, :wrapped] = turned[:, first : first + wrapped] + level
            out[:, wrapped:] = turned[:, : height - wrapped] + level
    return y


def _backward(
    saved: tuple[Tensor, ...], constants: None, needs: tuple[bool, ...], *grads: Tensor
) -> tuple[Tensor | None, ...]:
    """All from the upstream gradient and its spectrum G.

    That of x is the convolution, sum over o and j of W_ocj(ω) G_o(ω, t - j); that of the weight
    lies in the lags whose spectrum is the sum over t of conj(G_o(ω, t)) X_c(ω, t + j).
    """
    x, weight = saved
    batch, channels, height, frames = x.shape
    outputs, _, taps, width = weight.shape
    half = width // 2
    circle = _Circle.of(x, weight)
    of_x = torch.empty_like(x) if needs[0] else None
    of_bias = grads[0].sum((0, 2, 3)) if needs[2] else None
    # shifts run backwards here: the first one is to the frame that comes last
    matrices = circle.kernel(weight.flip(3)).transpose(2, 3).contiguous()
    of_lags = matrices.new_zeros(width, matrices.shape[1], outputs, channels)
    for item in range(batch):
        for start, count in _chunks(frames):
            spectrum = circle.spectrum(grads[0][item], start - half, count + width - 1)
            if of_x is not None:
                turned = circle.planes(_product(matrices, spectrum, count))
                of_x[item, :, :, start : start + count] = turned[
                    :, circle.above : circle.above + height
                ]
            if needs[1]:
                own = spectrum[..., half : half + count].conj_physical()
                around = circle.spectrum(x[item], start - half, count + width - 1)
                against = around.transpose(1, 2)
                for shift in range(width):
                    of_lags[shift].baddbmm_(own, against[:, shift : shift + count])
    if not needs[1]:
        return of_x, None, of_bias
    lags = torch.fft.irfft(of_lags, n=circle.length, dim=1).roll(circle.above, 1)[:, :taps]
    return of_x, lags.permute(2, 3, 1, 0).contiguous(), of_bias


_correlation: Any = differentiable(
    "TallCorrelation", _forward, save=lambda inputs, output: inputs[:2], backward=_backward
)


def _smooth(least: int) -> int:
    """The next even length without prime factors above 5."""
    length = least + least % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2
