"""The voice-assignment network of Cuesta and Gómez."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsv_fast.umss.layers import ConvReluNorm, norm, stack
from rlsv_fast.umss.multif0 import check_map
from rlsv_fast.umss.tall_conv import SameConv2d

VOICES: tuple[str, ...] = ("soprano", "alto", "tenor", "bass")

_TRUNK = [(32, (3, 3)), (32, (3, 3)), (16, (70, 3)), (16, (70, 3))]


class VoiceBranch(nn.Module):
    """The layers of one voice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvReluNorm(16, 16, (3, 3))
        self.second = SameConv2d(16, 16, (3, 3))
        self.out = SameConv2d(16, 1, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 16, 360, T) to the voice's salience (B, 1, 360, T)."""
        salience: Tensor = self.out(self.second(self.first(x)).relu_()).sigmoid()
        return salience


class VoasCNN(nn.Module):
    """VoasCNN: from the salience of all pitches to one salience for each of four voices.

    189,830 parameters. A frame of the output depends on ``CONTEXT`` frames of the input on each
    side.

    Reference:
        Cuesta, Gómez, "Voice Assignment in Vocal Quartets Using Deep Learning Models Based on
        Pitch Salience", TISMIR 5(1), 2022.
    """

    CONTEXT = 4 + 2

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(norm(1), *stack(1, _TRUNK))
        self.voices = nn.ModuleList(VoiceBranch() for _ in VOICES)

    def forward(self, salience: Tensor) -> Tensor:
        """Salience of each voice.

        Args:
            salience: shape (B, 1, 360, T), from 0 to 1, from :class:`~rlsv_fast.umss.LateDeep`.

        Returns:
            Shape (B, 4, 360, T), from 0 to 1: soprano, alto, tenor, bass.

        Raises:
            ValueError: another shape.
        """
        check_map("VoasCNN", "salience", salience, 1)
        shared = self.trunk(salience)
        return torch.cat([voice(shared) for voice in self.voices], 1)
