"""Entropic optimal transport: implicit, unrolled and envelope gradients."""

from __future__ import annotations

import pytest
import torch
from sinkhorn_problems import (
    Float,
    both_paths,
    both_types,
    general_cost,
    gradient,
    off_diagonal,
    quiet,
    relative,
    self_cost,
    weights,
)

from rlsv_fast import ops, reference

pytestmark = quiet


@both_paths
def test_gradient_against_differences_in_any_direction(symmetric: bool) -> None:
    """The implicit gradient holds for changes that are not symmetric, too."""
    cost, marginal = self_cost(1, 10)[0], weights(10)
    options = {"row_marginal": marginal, "column_marginal": marginal, "tolerance": 1e-14}
    options["max_iterations"] = 20000
    for epsilon in (0.03, 0.2):
        _, slope = gradient(cost, epsilon, symmetric=symmetric, **options)
        for seed in range(3):
            direction = torch.randn(10, 10, dtype=torch.float64)
            direction = direction + direction.T if seed == 0 else direction
            ahead, behind = (
                ops.sinkhorn_distance(cost + step * direction, epsilon, **options)
                for step in (1e-5, -1e-5)
            )
            true = float(ahead - behind) / 2e-5
            assert float((slope * direction).sum()) == pytest.approx(true, rel=1e-6, abs=1e-8)


@both_paths
def test_plan_gradient_with_any_upstream(symmetric: bool) -> None:
    cost = self_cost(2, 9)
    options = {"tolerance": 1e-14, "max_iterations": 20000}
    for turn in (False, True):
        upstream = torch.randn(2, 9, 9, dtype=torch.float64)
        upstream = upstream + upstream.transpose(1, 2) if turn else upstream
        leaf = cost.clone().requires_grad_()
        (ops.sinkhorn_plan(leaf, 0.1, symmetric=symmetric, **options) * upstream).sum().backward()
        direction = torch.randn(2, 9, 9, dtype=torch.float64)
        direction = direction + direction.transpose(1, 2)
        ahead, behind = (
            (ops.sinkhorn_plan(cost + step * direction, 0.1, **options) * upstream).sum()
            for step in (1e-5, -1e-5)
        )
        assert float((leaf.grad * direction).sum()) == pytest.approx(
            float(ahead - behind) / 2e-5, rel=1e-6, abs=1e-8
        )


@both_types
def test_plan_gradient_of_nearly_separate_blocks(dtype: Float) -> None:
    """Entries around 1e-20 join the blocks: only elimination solves this, and the gradient off the
    diagonal is theirs. The symmetric path, always well conditioned, knows the answer."""
    cost, marginal = self_cost(1, 12)[0].to(dtype), weights(12).to(dtype)
    upstream = general_cost(12, 12).to(dtype)
    upstream = upstream + upstream.T
    slopes = []
    for symmetric in (True, False):
        leaf, side = cost.clone().requires_grad_(), marginal.clone().requires_grad_()
        options = {"row_marginal": marginal, "column_marginal": marginal, "symmetric": True}
        if not symmetric:
            options = {"row_marginal": marginal, "column_marginal": side}
        plan = ops.sinkhorn_plan(leaf, 0.004, **options)
        (plan * upstream).sum().backward()
        slopes.append(off_diagonal(leaf.grad))
    # No digit of the solution is at stake here, but how far the general path brought the plan is.
    assert relative(slopes[1], slopes[0].double()) < 1e-2
    assert 0.1 < float(side.grad.abs().max()) < 1  # q: by differences of the upstream, below 2


def test_unrolled_tends_to_implicit_and_envelope_is_the_plan() -> None:
    cost, row, column = general_cost(8, 11), weights(8), weights(11, seed=4)
    options = {"row_marginal": row, "column_marginal": column}
    value, slope = gradient(cost, 0.05, tolerance=1e-15, **options)
    gaps = []
    for count in (2, 20, 400):
        _, unrolled = gradient(cost, 0.05, gradient="unrolled", max_iterations=count, **options)
        gaps.append(relative(unrolled, slope))
    assert gaps[0] > 10 * gaps[1] and gaps[1] > 10 * gaps[2] and gaps[2] < 1e-10
    same, envelope = gradient(cost, 0.05, gradient="envelope", tolerance=1e-15, **options)
    assert torch.equal(same, value)
    plan = ops.sinkhorn_plan(cost, 0.05, tolerance=1e-15, **options)
    assert torch.equal(envelope, plan)
    assert relative(envelope, slope) > 0.01


def test_unrolled_matches_autograd_at_small_epsilon() -> None:
    """Scalings leave every range here, and one row weighs nothing."""
    row = weights(7)
    row[2] = 0
    row /= row.sum()
    for epsilon in (0.004, 0.05):
        leaves = [general_cost(2, 7, 6).requires_grad_() for _ in range(2)]
        for leaf, wing in zip(leaves, (ops, reference), strict=True):
            wing.sinkhorn_distance(
                leaf, epsilon, gradient="unrolled", max_iterations=25, row_marginal=row
            ).sum().backward()
        assert relative(leaves[0].grad, torch.nan_to_num(leaves[1].grad)) < 1e-9


@both_types
def test_zero_weights_get_no_gradient(dtype: Float) -> None:
    """By elimination (a plan of nearly separate blocks) and by conjugate gradients."""
    marginal = weights(12)
    marginal[[0, 5]] = 0
    marginal /= marginal.sum()
    cost = self_cost(1, 12)[0].to(dtype)
    for epsilon in (0.004, 0.05):
        row, column = (marginal.clone().to(dtype).requires_grad_() for _ in range(2))
        options = {"row_marginal": row, "column_marginal": column}
        value = ops.sinkhorn_distance(cost, epsilon, **options)
        plan = ops.sinkhorn_plan(cost, epsilon, **options)
        for result in (value, (plan * general_cost(12, 12).to(dtype)).sum()):
            for slope in torch.autograd.grad(result, (row, column)):
                assert ((slope == 0) == (marginal == 0)).all()
                assert slope.isfinite().all()


def test_tiny_losses_keep_their_gradient() -> None:
    """Losses below 1e-19: the squares of the right-hand side underflow in float32."""
    cost = self_cost(1, 24)[0]
    cost = cost / cost[cost > 0].min()
    single, slope = gradient(cost.float(), 1 / 50, symmetric=True)
    double, true = gradient(cost, 1 / 50, symmetric=True, tolerance=1e-15)
    assert 0 < float(double) < 1e-19
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0)
    assert relative(off_diagonal(slope), off_diagonal(true)) < 1e-4


@both_types
@both_paths
def test_the_value_is_the_same_with_and_without_its_gradient(symmetric: bool, dtype: Float) -> None:
    for size in (5, 33):
        cost = self_cost(2, size).to(dtype)
        alone = ops.sinkhorn_distance(cost, 0.1, symmetric=symmetric)
        assert torch.equal(alone, gradient(cost, 0.1, symmetric=symmetric)[0])
