"""Convolutions over (frequency, time) whose kernels are tall: multiplied in a transform domain."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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

    One small matrix product for each frequency of the transform. Its length need only keep apart
    what the output keeps: F + ⌈(K - 1) / 2⌉, not F + K - 1.

    Args:
        x: shape (B, C, F, T), float32 or float64.
        weight: shape (C', C, K, J), J odd.
        bias: shape (C') or None.

    Returns:
        Shape (B, C', F, T).
    """
    batch, channels, height, frames = x.shape
    outputs, _, taps, width = weight.shape
    above = (taps - 1) // 2
    wrapped = min(above, height)
    length = _smooth(height + taps - 1 - above)
    spectrum = torch.fft.rfft(weight, n=length, dim=2).conj()
    matrices = spectrum.permute(2, 0, 3, 1).reshape(-1, outputs, width * channels).resolve_conj()
    x = functional.pad(x, (width // 2, width // 2))
    y = x.new_empty(batch, outputs, height, frames)
    for item in range(batch):
        for start in range(0, frames, _FRAMES):
            count = min(_FRAMES, frames - start)
            part = x[item, :, :, start : start + count + width - 1]
            shifted = torch.fft.rfft(part, n=length, dim=1).transpose(0, 1)
            columns = torch.cat([shifted[..., j : j + count] for j in range(width)], 1)
            product = torch.bmm(matrices, columns).transpose(0, 1)
            turned = torch.fft.irfft(product, n=length, dim=1)
            out = y[item, :, :, start : start + count]
            # the first outputs lie at the end of the circle
            out[:, :wrapped] = turned[:, length - above : length - above + wrapped]
            out[:, wrapped:] = turned[:, : height - wrapped]
    return y if bias is None else y + bias[:, None, None]


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
