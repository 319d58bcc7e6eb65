"""The encoder of the trainable separator: what a mixture sounds like, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsv_fast.ops import _check
from rlsv_fast.umss.recurrence import recurrent


class ItemNorm(nn.Module):
    """Layer normalisation with the statistics of an item, and scale and shift of each bin.

    Args:
        bins: F.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(bins))
        self.bias = nn.Parameter(torch.zeros(bins))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every item of (B, T, F) by its mean and variance over T and F."""
        return functional.layer_norm(x, x.shape[1:]) * self.weight + self.bias


class MixtureEncoder(nn.Module):
    """From the samples of a mixture to an embedding of each frame.

    Logarithmic magnitudes of windowed frames, normalised an item at a time, through three
    unidirectional recurrent layers, the last of which adds to the one before. Frame i begins at
    sample i hop; zeros follow the signal until every frame that begins in it is full. 1,218,434
    parameters.

    Args:
        frame: samples of a frame.
        hop: samples from one frame to the next.
        hidden: units of each recurrent layer.
        embedding: E, values of a frame.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", TASLP 2023, section III.
    """

    def __init__(
        self, *, frame: int = 512, hop: int = 256, hidden: int = 256, embedding: int = 128
    ) -> None:
        super().__init__()
        name = "MixtureEncoder"
        _check.integer(name, "frame", frame, 2)
        _check.integer(name, "hop", hop, 1)
        _check.integer(name, "hidden", hidden, 1)
        _check.integer(name, "embedding", embedding, 1)
        if hop > frame:
            raise ValueError(f"{name}: hop must be at most frame ({frame}), got {hop}")
        self.frame = frame
        self.hop = hop
        bins = frame // 2 + 1
        self.norm = ItemNorm(bins)
        self.first = nn.GRU(bins, hidden, batch_first=True)
        self.second = nn.GRU(hidden, hidden, batch_first=True)
        self.third = nn.GRU(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, embedding)

    def features(self, mixture: Tensor) -> Tensor:
        """Logarithms of the magnitudes; a bin of nothing counts as 1e-5.

        Args:
            mixture: shape (B, N), N > 0.

        Returns:
            Shape (B, T, F): T = ceil(N / hop) frames of frame // 2 + 1 bins.

        Raises:
            TypeError: the mixture is not a floating tensor.
            ValueError: another shape, or no samples.
        """
        op = "MixtureEncoder"
        mixture = _check.floating(op, "mixture", mixture)
        _check.shape(op, "mixture", mixture, "(B, N)", None, None)
        length = mixture.shape[1]
        if not length:
            raise ValueError(f"{op}: mixture must have samples, got {tuple(mixture.shape)}")
        count = -(-length // self.hop)
        padded = functional.pad(mixture, (0, (count - 1) * self.hop + self.frame - length))
        window = torch.hann_window(self.frame, dtype=mixture.dtype, device=mixture.device)
        frames = padded.unfold(1, self.frame, self.hop) * window
        magnitudes = torch.fft.rfft(frames).abs()
        return torch.where(magnitudes > 0, magnitudes, 1e-5).log()

    def forward(self, mixture: Tensor) -> Tensor:
        """Embed the frames of a mixture.

        Args:
            mixture: shape (B, N), N > 0.

        Returns:
            Shape (B, T, E), T = ceil(N / hop).

        Raises:
            TypeError: the mixture is not a floating tensor.
            ValueError: another shape, or no samples.
        """
        features = self.norm(self.features(mixture))
        second = recurrent(self.second, recurrent(self.first, features))
        embedding: Tensor = self.out(second + recurrent(self.third, second))
        return embedding
