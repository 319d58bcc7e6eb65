"""The multi-f0 network of Cuesta, McFee and Gómez."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsv_fast.umss.hcqt import BINS, HARMONICS
from rlsv_fast.umss.layers import norm, stack
from rlsv_fast.umss.tall_conv import SameConv2d

_BRANCH = [(16, (5, 5)), (32, (5, 5)), (32, (5, 5)), (32, (5, 5)), (32, (70, 3)), (32, (70, 3))]
_HEAD = [(64, (3, 3)), (64, (3, 3)), (8, (BINS, 1))]


class LateDeep(nn.Module):
    """Late/Deep: from the harmonic CQT to the salience of every pitch, for any number of voices.

    Two branches of convolutions read magnitudes and phase differences; a head on both sees all 360
    bins at once. 1,251,701 parameters. A frame of the output depends on ``CONTEXT`` frames of the
    input on each side.

    Reference:
        Cuesta, McFee, Gómez, "Multiple F0 Estimation in Vocal Ensembles using Convolutional Neural
        Networks", ISMIR 2020, model 3.
    """

    CONTEXT = 4 * 2 + 2 + 2

    def __init__(self) -> None:
        super().__init__()
        self.magnitude = nn.Sequential(norm(HARMONICS), *stack(HARMONICS, _BRANCH))
        self.phase = nn.Sequential(norm(HARMONICS), *stack(HARMONICS, _BRANCH))
        self.head = nn.Sequential(*stack(2 * 32, _HEAD), SameConv2d(8, 1, (1, 1)))

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """Salience of every pitch.

        Args:
            magnitude: shape (B, 5, 360, T), dB, from :class:`~rlsv_fast.umss.HCQT`.
            phase: same shape, radians.

        Returns:
            Shape (B, 1, 360, T), from 0 to 1.

        Raises:
            ValueError: another shape.
        """
        for name, x in (("magnitude", magnitude), ("phase", phase)):
            check_map("LateDeep", name, x, HARMONICS)
        if magnitude.shape != phase.shape:
            raise ValueError(
                "LateDeep: magnitude and phase must share one shape, got "
                f"{tuple(magnitude.shape)} and {tuple(phase.shape)}"
            )
        both = torch.cat((self.magnitude(magnitude), self.phase(phase)), 1)
        salience: Tensor = self.head(both).sigmoid()
        return salience


def check_map(module: str, name: str, x: Tensor, channels: int) -> None:
    """Raise ValueError unless the shape is (B, channels, 360, T)."""
    if x.dim() != 4 or x.shape[1:3] != (channels, BINS):
        raise ValueError(
            f"{module}: {name} must have shape (B, {channels}, {BINS}, T), got {tuple(x.shape)}"
        )
