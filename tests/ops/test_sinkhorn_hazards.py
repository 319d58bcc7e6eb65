"""Entropic optimal transport: small and large epsilon, degenerate frames, zeros and poison."""

from __future__ import annotations

import math

import pytest
import torch
from sinkhorn_problems import (
    Float,
    both_paths,
    both_types,
    general_cost,
    gradient,
    quiet,
    relative,
    self_cost,
    violation,
    weights,
)

from rlsv_fast import ops

pytestmark = quiet


@both_types
def test_epsilon_from_small_to_large(dtype: Float) -> None:
    """No NaN and met marginals on self-distances, with any kind of frame, for any epsilon."""
    kinds = {
        "random": self_cost(1, 33)[0],
        "silent": torch.zeros(17, 17, dtype=torch.float64),
        "duplicates": self_cost(1, 12)[0].repeat(2, 2),
        "one loud": torch.nn.functional.pad(torch.zeros(9, 9), (1, 0, 1, 0), value=50.0).double(),
        "single": torch.zeros(1, 1, dtype=torch.float64),
        "three": self_cost(1, 3)[0],
    }
    for kind, cost in kinds.items():
        cost = cost.clone().fill_diagonal_(0).to(dtype)
        size = cost.shape[0]
        even = torch.full((size,), 1 / size, dtype=torch.float64)
        for exponent in range(-4, 4):
            result = ops.sinkhorn(cost, 10.0**exponent, symmetric=True, tolerance=2e-6)
            value, slope = gradient(cost, 10.0**exponent, symmetric=True, tolerance=2e-6)
            plan = ops.sinkhorn_plan(cost, 10.0**exponent, symmetric=True, tolerance=2e-6)
            assert int(result.iterations) <= 12, (kind, exponent)
            assert float(violation(plan, even, even)) < 3e-6
            assert slope.isfinite().all() and value.isfinite()
            assert float(slope.double().sum()) == pytest.approx(1, abs=1e-3)


@both_types
def test_general_costs_at_small_epsilon(dtype: Float) -> None:
    """M / eps = 1000: the kernel underflows everywhere but at a few entries."""
    cost, row, column = general_cost(2, 20, 24), weights(20), weights(24, seed=2)
    options = {
        "row_marginal": row.to(dtype),
        "column_marginal": column.to(dtype),
        "max_iterations": 20000,
        "tolerance": 1e-5,
    }
    for epsilon in (1e-3, 4e-3, 1e3):
        result = ops.sinkhorn(cost.to(dtype), epsilon, **options)
        plan = ops.sinkhorn_plan(cost.to(dtype), epsilon, **options)
        assert float(violation(plan, row, column).max()) < 3e-5
        assert float(result.error.max()) <= 1e-5
        value, slope = gradient(cost.to(dtype), epsilon, **options)
        assert slope.isfinite().all()
        truth = {"row_marginal": row, "column_marginal": column, "max_iterations": 20000}
        true, true_slope = gradient(cost, epsilon, gradient="unrolled", **truth)
        torch.testing.assert_close(value.double(), true, rtol=1e-4, atol=0)
        assert relative(slope, true_slope) < 1e-3


def test_large_sizes_meet_their_marginals() -> None:
    for size in (173, 512):
        cost = self_cost(1, size, features=6)[0].float()
        even = torch.full((size,), 1 / size, dtype=torch.float64)
        for symmetric in (True, False):
            plan = ops.sinkhorn_plan(cost, 0.1, symmetric=symmetric)
            assert float(violation(plan, even, even)) < 2e-6


@both_types
def test_zero_weights(dtype: Float) -> None:
    row, column = weights(7).to(dtype), weights(9, seed=2).to(dtype)
    row[[0, 3]] = 0
    column[8] = 0
    row, column = row / row.sum(), column / column.sum()
    cost = general_cost(2, 7, 9).to(dtype)
    options = {"row_marginal": row, "column_marginal": column, "max_iterations": 5000}
    for epsilon in (1e-3, 0.05, 10.0):
        result = ops.sinkhorn(cost, epsilon, **options)
        plan = ops.sinkhorn_plan(cost, epsilon, **options)
        assert (result.f[:, [0, 3]] == -math.inf).all() and (result.g[:, 8] == -math.inf).all()
        assert (plan[:, [0, 3]] == 0).all() and (plan[:, :, 8] == 0).all()
        assert plan.isfinite().all() and result.error.isfinite().all()
        _, slope = gradient(cost, epsilon, **options)
        assert slope.isfinite().all() and (slope[:, 0] == 0).all()
    square = self_cost(1, 7)[0].to(dtype)
    options = {"row_marginal": row, "column_marginal": row, "symmetric": True}
    plan = ops.sinkhorn_plan(square, 0.05, **options)
    assert (plan[0] == 0).all() and (plan[:, 3] == 0).all()
    assert float(violation(plan, row.double(), row.double())) < 2e-6
    assert gradient(square, 0.05, **options)[1].isfinite().all()


def test_no_mass_at_all() -> None:
    nothing = torch.zeros(4)
    options = {"row_marginal": nothing, "column_marginal": nothing}
    for symmetric in (True, False):
        plan = ops.sinkhorn_plan(torch.rand(4, 4), 0.1, symmetric=symmetric, **options)
        assert (plan == 0).all()
    for kind in ("implicit", "unrolled"):
        value, slope = gradient(torch.rand(4, 4), 0.1, gradient=kind, max_iterations=9, **options)
        assert float(value) == 0 and (slope == 0).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@both_paths
def test_poison_stays_in_its_item(symmetric: bool, poison: float) -> None:
    cost = self_cost(3, 8)
    cost[1, 2, 5] = poison
    for kind in ("implicit", "unrolled", "envelope"):
        value, slope = gradient(cost, 0.1, symmetric=symmetric, gradient=kind, max_iterations=50)
        assert value.isnan().tolist() == [False, True, False]
        assert slope.isnan().all((1, 2)).tolist() == [False, True, False]
        assert slope[[0, 2]].isfinite().all()
    result = ops.sinkhorn(cost, 0.1, symmetric=symmetric)
    assert result.error.isnan().tolist() == [False, True, False]
    assert result.f[1].isnan().all() and result.f[[0, 2]].isfinite().all()


def test_symmetric_falls_back_where_it_does_not_apply() -> None:
    """A diagonal above its row, and a kernel that is far from positive semidefinite."""
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(2, 15, 15, generator=generator, dtype=torch.float64)
    cost = cost + cost.transpose(1, 2)
    options = {"max_iterations": 5000, "tolerance": 1e-12}
    value, slope = gradient(cost, 0.05, symmetric=True, **options)
    true, true_slope = gradient(cost, 0.05, **options)
    torch.testing.assert_close(value, true)
    torch.testing.assert_close(slope, true_slope, rtol=1e-6, atol=1e-9)
    raised = cost * 0.1 + torch.diag_embed(torch.full((2, 15), -0.4))  # a diagonal other than 0
    result = ops.sinkhorn(raised, 0.05, symmetric=True)
    assert torch.equal(result.f, result.g) and float(result.error.max()) < 1e-6
