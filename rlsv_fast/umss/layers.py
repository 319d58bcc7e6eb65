"""What the published networks are made of, and how they are run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from rlsv_fast.umss.tall_conv import SameConv2d

EPSILON = 1e-3
"""Of the batch normalisation, as in Keras."""


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with Keras' constants: its momentum of 0.99 is 0.01 here."""
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=0.01)


class ConvReluNorm(nn.Module):
    """Convolution, rectifier, batch normalisation, in this order.

    The normalisation follows the rectifier, so it cannot be folded into its own convolution; into
    the next one it can, but for the zeros beyond its borders, which the normalisation would move.
    It takes a hundredth of the time.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.conv = SameConv2d(in_channels, out_channels, kernel)
        self.norm = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, F, T) to (B, C', F, T)."""
        y: Tensor = self.norm(self.conv(x).relu_())
        return y


def stack(in_channels: int, layers: Sequence[tuple[int, tuple[int, int]]]) -> nn.Sequential:
    """A chain of layers given by output channels and kernel."""
    chain = []
    for out_channels, kernel in layers:
        chain.append(ConvReluNorm(in_channels, out_channels, kernel))
        in_channels = out_channels
    return nn.Sequential(*chain)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout and with the running statistics of norms; afterwards all is as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
