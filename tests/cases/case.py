"""What a case is, and tensors that several operators are given."""

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
    invoke: Callable[..., Tensor] | None = None  # where tensors are not the leading arguments
    small: bool = False  # small enough, and smooth enough, for finite differences

    def call(self, module: Any, *inputs: Tensor) -> Tensor:
        """Call the operator of `rlsv_fast.ops` or `.reference`; its first differentiable output."""
        if self.invoke is not None:
            return self.invoke(module, *self.view(*inputs))
        output = getattr(module, self.op)(*self.view(*inputs), **self.options)
        return output if isinstance(output, Tensor) else output[0]

    def inputs(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> list[Tensor]:
        """Leaf tensors that require gradients."""
        torch.manual_seed(7)
        return [leaf.to(device, dtype).detach().requires_grad_() for leaf in self.make()]

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"


def uniform(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def normals(*shapes: tuple[int, ...]) -> Inputs:
    return lambda: tuple(normal(*shape) for shape in shapes)


def fractions(*shape: int) -> Inputs:
    """One tensor between 0 and 1."""
    return lambda: (uniform(*shape),)


def pair(batch: int, samples: int) -> Inputs:
    """An estimate that resembles its target."""

    def make() -> tuple[Tensor, ...]:
        target = normal(batch, samples)
        return target + 0.1 * normal(batch, samples), target

    return make
