"""Transport between frames: the Sinkhorn operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cases.case import Case, Inputs, fractions, normal, uniform


def _self_cost(*shape: int) -> Inputs:
    """Square matrices that `_symmetrized` turns into costs with a zero diagonal."""
    return lambda: (uniform(*shape),)


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


def _started(op: str, **options: Any) -> Callable[..., Any]:
    """Calls from given potentials."""

    def call(module: Any, cost: Tensor, start: Tensor) -> Tensor:
        output: Tensor = getattr(module, op)(cost, initial_f=start, **options)
        return output

    return call


def _costs(*shape: int) -> Inputs:
    """A cost, and square matrices that `_selves` turns into self-costs of its rows and columns."""
    *batch, rows, columns = shape
    return lambda: (
        uniform(*shape),
        uniform(*batch, rows, rows),
        uniform(*batch, columns, columns),
    )


def _selves(cost: Tensor, *own: Tensor) -> tuple[Tensor, ...]:
    """Lower triangles mirrored: exact in half precision, too."""
    lower = [square.tril(-1) for square in own]
    return cost, *(square + square.transpose(-2, -1) for square in lower)


def _weighted_divergence(module: Any, *inputs: Tensor) -> Tensor:
    *costs, epsilon, rows, columns = inputs
    output: Tensor = module.sinkhorn_divergence(
        *_selves(*costs),
        epsilon,
        row_marginal=rows.softmax(-1),
        column_marginal=columns.softmax(-1),
        tolerance=0,
        max_iterations=300,
    )
    return output


CASES: list[Case] = [
    *(
        Case("sinkhorn_loss", name, make, {"epsilon": 0.3, "tolerance": 1e-14, **options}, **more)
        for name, make, options, more in (
            ("typical", fractions(3, 40, 21), {"epsilon": 0.1}, {}),
            ("per-item", fractions(2, 20, 18), {"reduce": "none"}, {}),
            ("small", fractions(2, 3, 4), {}, {"small": True}),
            ("small-l2", fractions(2, 3, 5), {"p": 2, "reduce": "none"}, {"small": True}),
            ("time", fractions(2, 7, 5), {"normalize": "time"}, {"small": True}),
            ("raw", fractions(1, 3, 5), {"normalize": None}, {"small": True}),
            ("one", fractions(1, 1, 1), {}, {}),
            ("no-items", fractions(0, 3, 4), {"reduce": "none"}, {}),
            (
                "strided",
                fractions(2, 6, 7),
                {},
                {"view": lambda leaf: (leaf.transpose(1, 2)[:, ::2],), "small": True},
            ),
        )
    ),
    Case("sinkhorn_plan", "typical", lambda: (uniform(3, 20, 33),), _converged(0.3)),
    Case("sinkhorn_plan", "small", lambda: (uniform(2, 4, 6),), _converged(0.2), small=True),
    Case("sinkhorn_plan", "unbatched", lambda: (uniform(5, 3),), _converged(0.5), small=True),
    Case("sinkhorn_plan", "one", lambda: (uniform(2, 1, 1),), _converged(0.5), small=True),
    Case("sinkhorn_plan", "no-items", lambda: (uniform(0, 3, 4),), _converged(0.5)),
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
        lambda: (uniform(6, 8, 2),),
        _converged(0.4),
        view=lambda cost: (cost.permute(2, 0, 1)[:, ::2],),
        small=True,
    ),
    Case("sinkhorn_distance", "typical", lambda: (uniform(3, 33, 20),), _converged(0.3)),
    Case("sinkhorn_distance", "small", lambda: (uniform(2, 4, 6),), _converged(0.2), small=True),
    Case("sinkhorn_distance", "unbatched", lambda: (uniform(5, 3),), _converged(0.5), small=True),
    Case(
        "sinkhorn_distance",
        "expanded",
        lambda: (uniform(1, 5, 1),),
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
        lambda: (uniform(2, 5, 7),),
        {"epsilon": 0.1, "gradient": "unrolled", "max_iterations": 7},
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "unrolled-steep",  # cost / epsilon = 1000: potentials whose rounding shows
        lambda: (10 * uniform(2, 8, 6),),
        {"epsilon": 0.01, "gradient": "unrolled", "max_iterations": 10},
    ),
    *(
        Case(op, "many", lambda: (uniform(64, 24, 24),), options)  # more than one thread's share
        for op, options in (
            ("sinkhorn_plan", _converged(0.3)),
            ("sinkhorn_distance", _converged(0.3)),
        )
    ),
    Case(
        "sinkhorn_distance",
        "unrolled-typical",
        lambda: (uniform(2, 24, 35),),
        {"epsilon": 0.02, "gradient": "unrolled", "max_iterations": 40},
    ),
    Case(
        "sinkhorn_distance",
        "weights",
        lambda: (uniform(3, 5, 4), 0.2 + uniform(3), normal(3, 5), normal(4)),
        invoke=_weighted("sinkhorn_distance"),
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "weights-unrolled",
        lambda: (uniform(3, 5, 4), 0.2 + uniform(3), normal(3, 5), normal(4)),
        invoke=_weighted("sinkhorn_distance", "unrolled"),
        small=True,
    ),
    Case(
        "sinkhorn_plan",
        "weights",
        lambda: (uniform(2, 5, 4), 0.3 + uniform(2), normal(5), normal(2, 4)),
        invoke=_weighted("sinkhorn_plan"),
        small=True,
    ),
    *(
        case
        for op in ("sinkhorn_plan", "sinkhorn_distance")
        for case in (
            Case(
                op,
                "shared",
                lambda: (uniform(4, 6), 0.2 + uniform(3)),
                {"tolerance": 0, "max_iterations": 300},
                small=True,
            ),
            Case(
                op,
                "started",
                lambda: (uniform(4, 6), 0.3 * normal(3, 4)),
                invoke=_started(op, **_converged(0.2)),
            ),
        )
    ),
    *(  # two iterations: value and gradient, the plan, depend on the start
        Case(
            "sinkhorn_distance",
            f"started{tag}",
            lambda: (uniform(2, 6, 6), 0.3 * normal(2, 6) - 0.2),
            invoke=_started(
                "sinkhorn_distance",
                gradient="envelope",
                **_converged(0.2, max_iterations=2, symmetric=symmetric),
            ),
            view=_symmetrized,
        )
        for tag, symmetric in (("-few", False), ("-symmetric", True))
    ),
    Case("sinkhorn_divergence", "typical", _costs(3, 20, 33), _converged(0.3), view=_selves),
    Case(
        "sinkhorn_divergence", "small", _costs(2, 4, 6), _converged(0.2), view=_selves, small=True
    ),
    Case(
        "sinkhorn_divergence", "unbatched", _costs(5, 3), _converged(0.5), view=_selves, small=True
    ),
    Case("sinkhorn_divergence", "one", _costs(2, 1, 1), _converged(0.5), view=_selves),
    Case("sinkhorn_divergence", "no-items", _costs(0, 3, 4), _converged(0.5), view=_selves),
    Case("sinkhorn_divergence", "many", _costs(64, 24, 20), _converged(0.3), view=_selves),
    Case(
        "sinkhorn_divergence",
        "strided",
        lambda: (uniform(5, 8, 2), uniform(4, 4, 2), uniform(5, 5, 2)),
        _converged(0.4),
        view=lambda *costs: _selves(
            *(cost.permute(2, 1, 0)[:, :: cost.shape[1] // 4] for cost in costs)
        ),
        small=True,
    ),
    Case(
        "sinkhorn_divergence",
        "weights",
        lambda: (*_costs(3, 5, 4)(), 0.2 + uniform(3), normal(3, 5), normal(4)),
        invoke=_weighted_divergence,
        small=True,
    ),
]
