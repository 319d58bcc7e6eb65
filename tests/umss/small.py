"""Separators, f0 networks and songs small enough to train in a test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlsv_fast.training import read_log
from rlsv_fast.umss import EnsembleConfig, F0UNet, Song, SourceFilterSeparator, find_songs, model
from rlsv_fast.umss import tracker as trackers
from rlsv_fast.umss.layers import norm
from rlsv_fast.umss.settings import SCHEMA
from rlsv_fast.umss.weights import F0Networks
from umss.choir_files import quartet

SETTINGS = (
    "data.segment_length=4096",
    "data.validation=two",
    "data.passes=4",
    "training.batch_size=2",
    "training.learning_rate=1e-3",
    "training.epochs=3",
)
"""Two steps an epoch."""

LONG = "data.segment_length=22400"
"""Excerpts long enough for the f0 networks."""


class SmallSeparator(SourceFilterSeparator):
    """A source-filter model of some hundred parameters."""

    def __init__(self, **settings: Any) -> None:
        small = dict(encoder_hidden=6, embedding=4, decoder_hidden=8, order=4, noise_bins=5)
        super().__init__(harmonics=20, **{**small, **settings})


class SmallUNet(F0UNet):
    """A U-Net of two layers, the first with dropout."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(n_fft=512, channels=(2, 3), **settings)


class SmallMultiF0(nn.Module):
    """In place of Late/Deep: one convolution, and a normalisation whose statistics could move."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = norm(10)
        self.conv = nn.Conv2d(10, 1, 3, padding=1)

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """Map (B, 5, 360, T) twice to (B, 1, 360, T)."""
        both = torch.cat((magnitude / 80, phase / 3), 1)
        salience: Tensor = self.conv(self.norm(both)).sigmoid()
        return salience


class SmallAssignment(nn.Module):
    """In place of VoasCNN."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = norm(1)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, salience: Tensor) -> Tensor:
        """Map (B, 1, 360, T) to (B, 4, 360, T)."""
        assigned: Tensor = self.conv(self.norm(salience)).sigmoid()
        return assigned


def networks() -> F0Networks:
    """What would have been imported."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = F0Networks(SmallMultiF0(), SmallAssignment())  # type: ignore[arg-type]
    for network in (made.multif0, made.assignment):
        network.eval().requires_grad_(False)
    return made


def shrink(patch: Callable[[Any, str, Any], None]) -> None:
    """Make everything that is trained small; ``patch`` sets an attribute."""
    patch(model, "SourceFilterSeparator", SmallSeparator)
    patch(model, "F0UNet", SmallUNet)
    patch(model, "load_networks", networks)
    patch(trackers, "LateDeep", SmallMultiF0)
    patch(trackers, "VoasCNN", SmallAssignment)


def make_songs(folder: Path, seconds: float = 2.0) -> list[Song]:
    """One song to train on, one to validate on."""
    for name in ("one", "two"):
        quartet(folder / name, seconds=seconds)
    return find_songs(folder)


def config(*overrides: str, preset: str | None = None) -> EnsembleConfig:
    """Settings of a preset, small, and some of one's own."""
    return SCHEMA.resolve(preset, overrides=[*SETTINGS, *overrides])


def interrupt_at(step: int) -> Callable[[dict[str, Any]], None]:
    """A callback that interrupts the run when a step is logged."""

    def callback(record: dict[str, Any]) -> None:
        if record["kind"] == "step" and record["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """What was logged of one kind, but for times."""
    found = [record for record in read_log(run / "log.jsonl") if record["kind"] == kind]
    for record in found:
        record.pop("seconds", None)
        record.pop("throughput", None)
    return found


def assert_slope_is_that_of_differences(
    value: Callable[[], Tensor], inputs: list[Tensor], step: float
) -> None:
    """Every input has a gradient; along a random direction it is what central differences give."""
    gradients = torch.autograd.grad(value(), inputs)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    generator = torch.Generator().manual_seed(3)
    ways = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in inputs]
    slope = sum((a * b).sum() for a, b in zip(gradients, ways, strict=True))
    ends = []
    with torch.no_grad():
        for sign in (1, -1):
            for x, way in zip(inputs, ways, strict=True):
                x.add_(way, alpha=sign * step)
            ends.append(value())
            for x, way in zip(inputs, ways, strict=True):
                x.sub_(way, alpha=sign * step)
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-4, atol=1e-7)
