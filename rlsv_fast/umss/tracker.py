"""The f0 of every voice, found by the pretrained networks inside of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlsv_fast.nn import Convention
from rlsv_fast.ops import _check
from rlsv_fast.umss.assignment import VoasCNN
from rlsv_fast.umss.decode import THRESHOLDS, Method, band_masks, decode_f0
from rlsv_fast.umss.hcqt import BINS, HCQT, resample
from rlsv_fast.umss.multif0 import LateDeep


class TrackedVoices(NamedTuple):
    """What :class:`F0Tracker` finds in a mixture, T frames of 256 / 22,050 s."""

    f0: Tensor
    """(B, 4, T), in Hz, 0 where unvoiced"""
    salience: Tensor
    """(B, 1, 360, T), of all pitches"""
    assigned: Tensor
    """(B, 4, 360, T), of each voice"""


class F0Tracker(nn.Module):
    """From a mixture to the f0 of four voices, by the harmonic CQT and two networks.

    What is trained of it are the networks' weights; their normalisation keeps its statistics.

    Args:
        sample_rate: of the mixtures, in Hz.
        train_multif0: whether the multi-f0 network is trained.
        train_assignment: whether the voice assignment is.
        method: of :func:`~rlsv_fast.umss.decode_f0`, whose gradient reaches the networks.
        thresholds: of the voices.
        reference: of the input level: of each item, or as published one of the whole ``"batch"``
            (:class:`~rlsv_fast.umss.HCQT`).
        convention: of the decoding.

    Reference:
        Richard, Chouteau, Torres, "A fully differentiable model for unsupervised singing voice
        separation", ICASSP 2024.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        train_multif0: bool = False,
        train_assignment: bool = False,
        method: Method = "reconstruction",
        thresholds: Sequence[float] = THRESHOLDS,
        reference: Literal["item", "batch"] = "item",
        convention: Convention = "paper",
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.method = method
        self.thresholds = tuple(thresholds)
        self.convention = convention
        _check.choice("F0Tracker", "reference", reference, ("item", "batch"))
        self.transform = HCQT(convention="code" if reference == "batch" else "paper")
        self.multif0 = LateDeep().requires_grad_(train_multif0)
        self.assignment = VoasCNN().requires_grad_(train_assignment)
        self.eval()

    def train(self, mode: bool = True) -> F0Tracker:
        """Stay in evaluation mode, in which statistics do not move."""
        return super().train(False)

    def forward(self, mixture: Tensor) -> TrackedVoices:
        """Find the voices of mixtures (B, N)."""
        return self.assign(self.salience(mixture))

    def salience(self, mixture: Tensor) -> Tensor:
        """Salience of all pitches, (B, 1, 360, T), of mixtures (B, N)."""
        with torch.no_grad(), torch.autocast(mixture.device.type, enabled=False):
            features = self.transform(resample(mixture, self.sample_rate))
        found: Tensor = self.multif0(features.magnitude, features.phase)
        return found.to(mixture.dtype)

    def assign(self, salience: Tensor) -> TrackedVoices:
        """Share a salience among the voices and decode theirs."""
        assigned = self.assignment(salience).to(salience.dtype)
        f0 = decode_f0(assigned, self.thresholds, method=self.method, convention=self.convention)
        return TrackedVoices(f0, salience, assigned)


def consistency_loss(found: TrackedVoices) -> Tensor:
    """Mean squared distance between the sum of the voices' saliences and that of all pitches."""
    return (found.assigned.sum(1, keepdim=True) - found.salience.detach()).square().mean()


def band_loss(found: TrackedVoices) -> Tensor:
    """Mean squared salience of each voice outside of its range."""
    outside = 1 - band_masks().to(found.assigned)[:, :, None]
    return (found.assigned * outside).square().mean()


def commitment_loss(found: TrackedVoices) -> Tensor:
    """Mean squared distance of the voices' saliences from 1 at the decoded bins and 0 elsewhere."""
    # not by the f0, which some methods scale or put between two bins
    bins = found.assigned.argmax(2)
    wanted = nn.functional.one_hot(bins, BINS).transpose(2, 3) * (found.f0 > 0)[:, :, None]
    return (found.assigned - wanted.to(found.assigned)).square().mean()
