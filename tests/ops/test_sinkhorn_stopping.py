"""Entropic optimal transport: when iterations end, what is reported, and what is refused."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from sinkhorn_problems import (
    Float,
    both_paths,
    both_types,
    general_cost,
    gradient,
    quiet,
    self_cost,
    violation,
)

from rlsv_fast import ops, reference
from rlsv_fast.ops import _sinkhorn_problem

pytestmark = quiet


@both_types
@both_paths
def test_bits_do_not_depend_on_the_batch(symmetric: bool, dtype: Float) -> None:
    cost = torch.cat([self_cost(3, 21), self_cost(2, 21, seed=5) * 1e4]).to(dtype)
    epsilon = torch.tensor([0.02, 1.0, 0.1, 5.0, 0.3], dtype=dtype)
    whole = ops.sinkhorn(cost, epsilon, symmetric=symmetric)
    value, slope = gradient(cost, epsilon, symmetric=symmetric)
    for item in range(5):
        alone = ops.sinkhorn(cost[item], float(epsilon[item]), symmetric=symmetric)
        assert all(torch.equal(one[item], other) for one, other in zip(whole, alone, strict=True))
        one, its_slope = gradient(cost[item], float(epsilon[item]), symmetric=symmetric)
        assert torch.equal(one, value[item]) and torch.equal(its_slope, slope[item])


def test_max_iterations_is_respected() -> None:
    cost = general_cost(2, 6, 8)
    for count in (0, 1, 7):
        result = ops.sinkhorn(cost, 0.01, max_iterations=count, tolerance=0)
        assert result.iterations.tolist() == [count, count]
        truth = reference.sinkhorn(cost, 0.01, max_iterations=count, tolerance=0)
        torch.testing.assert_close(result.f, truth.f)
        torch.testing.assert_close(result.g, truth.g)
        torch.testing.assert_close(result.error, truth.error, rtol=1e-9, atol=1e-14)
        square = ops.sinkhorn(self_cost(2, 9), 0.1, max_iterations=count, symmetric=True)
        assert (square.iterations <= count).all()
    value, slope = gradient(cost, 0.5, gradient="unrolled", max_iterations=0)
    plan = (-cost / 0.5).exp()
    torch.testing.assert_close(value, (plan * cost).sum((1, 2)))
    torch.testing.assert_close(slope, plan * (1 - cost / 0.5))


@both_types
@both_paths
def test_the_reported_error_is_that_of_the_plan(symmetric: bool, dtype: Float) -> None:
    cost = self_cost(2, 30).to(dtype)
    even = torch.full((30,), 1 / 30, dtype=torch.float64)
    for count in (0, 1, 3, 10):
        options = {"max_iterations": count, "tolerance": 0, "symmetric": symmetric}
        result = ops.sinkhorn(cost, 0.1, **options)
        plan = ops.sinkhorn_plan(cost, 0.1, **options)
        slack = 1e-6 if dtype == torch.float32 else 1e-13
        torch.testing.assert_close(
            result.error.double(), violation(plan, even, even), rtol=1e-4, atol=slack
        )
        recomputed = ((result.f[:, :, None] + result.g[:, None] - cost) / 0.1).exp()
        torch.testing.assert_close(recomputed, plan, rtol=1e-4, atol=0)


def test_the_stopping_rule() -> None:
    easy, hard = self_cost(1, 20)[0], self_cost(1, 20, seed=3)[0]
    cost = torch.stack([easy * 0.1, hard])
    pair = ops.sinkhorn(cost, 0.02, tolerance=1e-9, max_iterations=3000)
    alone = ops.sinkhorn(cost[:1], 0.02, tolerance=1e-9, max_iterations=3000)
    assert int(pair.iterations[0]) == int(alone.iterations[0]) < int(pair.iterations[1])
    assert int(pair.iterations[0]) < 60
    for symmetric in (True, False):  # a tolerance out of reach ends by stagnation
        result = ops.sinkhorn(
            easy.float(), 0.3, tolerance=0, max_iterations=100_000, symmetric=symmetric
        )
        assert int(result.iterations) < 300
        assert float(result.error) < 1e-6
    for symmetric in (True, False):  # no later than the reference, which tests every iterate
        options = {"tolerance": 1e-8, "symmetric": symmetric}
        mine, theirs = ops.sinkhorn(cost, 0.1, **options), reference.sinkhorn(cost, 0.1, **options)
        assert mine.iterations.tolist() == theirs.iterations.tolist()
        torch.testing.assert_close(mine.error, theirs.error, rtol=1e-4, atol=1e-14)
    loose = ops.sinkhorn(hard, 0.1, tolerance=1e-2).iterations
    assert int(loose) < int(ops.sinkhorn(hard, 0.1, tolerance=1e-6).iterations)


def test_messages() -> None:
    cost = torch.rand(2, 3, 4)
    square = torch.rand(3, 3)
    cases = [
        ({"cost": torch.rand(2, 3, 4, 5)}, ValueError, r"cost must have shape \(B, N, M\)"),
        ({"cost": torch.rand(2, 0, 4)}, ValueError, "at least one row"),
        ({"cost": torch.ones(2, 2, dtype=torch.int64)}, TypeError, "cost .*floating"),
        ({"epsilon": 0.0}, ValueError, "epsilon must be positive"),
        ({"epsilon": math.nan}, ValueError, "epsilon must be positive"),
        ({"epsilon": "1"}, TypeError, "epsilon must be a number"),
        ({"epsilon": torch.tensor([0.1, -0.1])}, ValueError, "epsilon must be positive"),
        ({"epsilon": torch.ones(3)}, ValueError, r"epsilon must have shape \(B,\)"),
        ({"epsilon": torch.ones(2).double()}, TypeError, "epsilon must have the dtype"),
        ({"row_marginal": torch.ones(4)}, ValueError, "row_marginal must have shape"),
        ({"row_marginal": -torch.ones(3)}, ValueError, "row_marginal must be non-negative"),
        ({"row_marginal": torch.ones(3)}, ValueError, "same mass"),
        ({"max_iterations": -1}, ValueError, "max_iterations must be at least 0"),
        ({"tolerance": -1.0}, ValueError, "tolerance must be at least 0"),
        ({"symmetric": True}, ValueError, "square"),
        ({"cost": square, "symmetric": True, "row_marginal": torch.ones(3) / 3}, ValueError, "one"),
    ]
    for name in ("sinkhorn", "sinkhorn_plan", "sinkhorn_distance"):
        for change, error, message in cases:
            arguments = {"cost": cost, "epsilon": 0.1, **change}
            with pytest.raises(error, match=f"^{name}: .*{message}"):
                getattr(ops, name)(arguments.pop("cost"), arguments.pop("epsilon"), **arguments)
    with pytest.raises(ValueError, match="gradient must be one of"):
        ops.sinkhorn_distance(cost, 0.1, gradient="exact")


def test_the_warning_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sinkhorn_problem, "_warned", False)
    cost = general_cost(6, 6)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ops.sinkhorn(cost, 0.001, max_iterations=2, tolerance=0)
        assert not seen
        for _ in range(2):
            ops.sinkhorn_distance(cost, 0.001, max_iterations=2)
    assert len(seen) == 1 and "marginals met to" in str(seen[0].message)
