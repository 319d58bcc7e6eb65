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


def _uniform(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _cosines(components: int, taps: int, rows: int | None = None) -> Inputs:
    rows = components if rows is None else rows
    return lambda: (0.7 * _uniform(components), _normal(components), _normal(rows, taps))


def _self_cost(*shape: int) -> Inputs:
    """Square matrices that `_symmetrized` turns into costs with a zero diagonal."""
    return lambda: (_uniform(*shape),)


def _symmetrized(cost: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    size = cost.shape[-1]
    cost = (cost + cost.transpose(-2, -1)) * (1 - torch.eye(size).to(cost))
    return (cost, *rest)


def _converged(epsilon: float, **options: Any) -> dict[str, Any]:
    return {"epsilon": epsilon, "tolerance": 0, "max_iterations": 300, **options}


def _weighted(op: str, gradient: str | None = None) -> Callable[..., Any]:
    """Calls with marginals of mass 1 made from free logits, and one epsilon per item."""

    def call(module: Any, cost: Tensor, epsilon: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        options: dict[str, Any] = {"tolerance": 0, "max_iterations": 300}
        if gradient is not None:
            options.update(gradient=gradient, max_iterations=9)
        output: Tensor = getattr(module, op)(
            cost,
            epsilon,
            row_marginal=rows.softmax(-1),
            column_marginal=columns.softmax(-1),
            **options,
        )
        return output

    return call


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
    Case("sinkhorn_plan", "typical", lambda: (_uniform(3, 20, 33),), _converged(0.3)),
    Case("sinkhorn_plan", "small", lambda: (_uniform(2, 4, 6),), _converged(0.2), small=True),
    Case("sinkhorn_plan", "unbatched", lambda: (_uniform(5, 3),), _converged(0.5), small=True),
    Case("sinkhorn_plan", "one", lambda: (_uniform(2, 1, 1),), _converged(0.5), small=True),
    Case("sinkhorn_plan", "no-items", lambda: (_uniform(0, 3, 4),), _converged(0.5)),
    Case(
        "sinkhorn_plan",
        "symmetric",
        _self_cost(2, 6, 6),
        _converged(0.2, symmetric=True),
        view=_symmetrized,
        small=True,
    ),
    Case(
        "sinkhorn_plan",
        "strided",
        lambda: (_uniform(6, 8, 2),),
        _converged(0.4),
        view=lambda cost: (cost.permute(2, 0, 1)[:, ::2],),
        small=True,
    ),
    Case("sinkhorn_distance", "typical", lambda: (_uniform(3, 33, 20),), _converged(0.3)),
    Case("sinkhorn_distance", "small", lambda: (_uniform(2, 4, 6),), _converged(0.2), small=True),
    Case("sinkhorn_distance", "unbatched", lambda: (_uniform(5, 3),), _converged(0.5), small=True),
    Case(
        "sinkhorn_distance",
        "expanded",
        lambda: (_uniform(1, 5, 1),),
        _converged(0.5),
        view=lambda cost: (cost.expand(2, 5, 4),),
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "symmetric",
        _self_cost(2, 6, 6),
        _converged(0.2, symmetric=True),
        view=_symmetrized,
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "symmetric-typical",
        _self_cost(2, 60, 60),
        _converged(0.1, symmetric=True, max_iterations=60),
        view=_symmetrized,
    ),
    Case(
        "sinkhorn_distance",
        "unrolled",
        lambda: (_uniform(2, 5, 7),),
        {"epsilon": 0.1, "gradient": "unrolled", "max_iterations": 7},
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "unrolled-typical",
        lambda: (_uniform(2, 24, 35),),
        {"epsilon": 0.02, "gradient": "unrolled", "max_iterations": 40},
    ),
    Case(
        "sinkhorn_distance",
        "weights",
        lambda: (_uniform(3, 5, 4), 0.2 + _uniform(3), _normal(3, 5), _normal(4)),
        invoke=_weighted("sinkhorn_distance"),
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "weights-unrolled",
        lambda: (_uniform(3, 5, 4), 0.2 + _uniform(3), _normal(3, 5), _normal(4)),
        invoke=_weighted("sinkhorn_distance", "unrolled"),
        small=True,
    ),
    Case(
        "sinkhorn_plan",
        "weights",
        lambda: (_uniform(2, 5, 4), 0.3 + _uniform(2), _normal(5), _normal(2, 4)),
        invoke=_weighted("sinkhorn_plan"),
        small=True,
    ),
]
