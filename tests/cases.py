"""Named sample inputs of every operator, shared by all tests of values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Inputs = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """One call of an operator: `make()` returns its tensor arguments in float64."""

    op: str
    name: str
    make: Inputs
    options: dict[str, Any] = field(default_factory=dict)
    view: Callable[..., tuple[Tensor, ...]] = lambda *leaves: leaves  # e.g. non-contiguous ones
    small: bool = False  # small enough, and smooth enough, for finite differences

    def call(self, module: Any, *inputs: Tensor) -> Tensor:
        """Call the operator of `rlsv_fast.ops` or `.reference`; its first differentiable output."""
        output = getattr(module, self.op)(*self.view(*inputs), **self.options)
        return output if isinstance(output, Tensor) else output[0]

    def inputs(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> list[Tensor]:
        """Leaf tensors that require gradients."""
        torch.manual_seed(7)
        return [leaf.to(device, dtype).detach().requires_grad_() for leaf in self.make()]

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"


def _uniform(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _cosines(components: int, taps: int, rows: int | None = None) -> Inputs:
    rows = components if rows is None else rows
    return lambda: (0.7 * _uniform(components), _normal(components), _normal(rows, taps))


def _representation(batch: int, components: int, frames: int) -> Inputs:
    return lambda: (_uniform(batch, components, frames),)


CASES: list[Case] = [
    Case("modulated_cosines", "typical", _cosines(40, 512)),
    Case("modulated_cosines", "paper", _cosines(64, 2048)),
    Case("modulated_cosines", "small", _cosines(5, 7), small=True),
    Case("modulated_cosines", "linear", _cosines(6, 33), {"power": 1}, small=True),
    Case("modulated_cosines", "unsorted", _cosines(6, 9), {"sort": False}, small=True),
    Case("modulated_cosines", "shared", _cosines(6, 17, 1), small=True),
    Case("modulated_cosines", "one", _cosines(1, 1), small=True),
    Case("modulated_cosines", "no-components", _cosines(0, 5)),
    Case("modulated_cosines", "no-taps", _cosines(3, 0)),
    Case(
        "modulated_cosines",
        "strided",
        lambda: (0.7 * _uniform(12), _normal(12), _normal(9, 6)),
        view=lambda frequency, phase, modulator: (frequency[::2], phase[::2], modulator.t()),
        small=True,
    ),
    Case(
        "modulated_cosines",
        "expanded",
        lambda: (0.3 * _uniform(1), _normal(4), _normal(1, 8)),
        view=lambda frequency, phase, modulator: (
            frequency.expand(4),
            phase,
            modulator.expand(4, 8),
        ),
        small=True,
    ),
    Case("frame_distance", "typical", _representation(2, 40, 50)),
    Case("frame_distance", "long", _representation(1, 200, 33), {"reduce": "mean"}),
    Case("frame_distance", "l2", _representation(2, 70, 37), {"p": 2}),
    Case("frame_distance", "small", _representation(2, 3, 4), small=True),
    Case("frame_distance", "small-l2", _representation(2, 3, 5), {"p": 2}, small=True),
    Case("frame_distance", "time", _representation(2, 7, 5), {"normalize": "time"}, small=True),
    Case("frame_distance", "raw", _representation(1, 3, 5), {"normalize": None}, small=True),
    Case("frame_distance", "mean", _representation(3, 4, 5), {"reduce": "mean"}, small=True),
    Case("frame_distance", "one", _representation(1, 1, 1)),
    Case("frame_distance", "no-items", _representation(0, 3, 4)),
    Case("frame_distance", "no-frames", _representation(2, 3, 0)),
    Case(
        "frame_distance",
        "silent",  # many ties, as after a ReLU
        lambda: (torch.relu(_normal(2, 5, 20)),),
    ),
    Case(
        "frame_distance",
        "strided",
        _representation(2, 6, 7),
        view=lambda leaf: (leaf.transpose(1, 2)[:, ::2],),
        small=True,
    ),
    Case(
        "frame_distance",
        "expanded",
        _representation(1, 4, 5),
        {"p": 2},
        view=lambda leaf: (leaf.expand(3, 4, 5),),
        small=True,
    ),
]
