"""Entropic optimal transport: laws that hold for any problem, on problems that are drawn."""

from __future__ import annotations

import pytest
import torch
from sinkhorn_problems import Float, both_paths, both_types, gradient, quiet, relative, violation
from torch import Tensor

from rlsv_fast import ops

pytest.importorskip("hypothesis")
from hypothesis import assume, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from sinkhorn_strategies import (  # noqa: E402
    cast,
    drawn,
    either,
    extreme,
    numbers,
    problems,
    seeds,
    self_costs,
    sizes,
)

pytestmark = quiet


@both_types
@drawn
@given(problem=either, scale=extreme)
def test_marginals(dtype: Float, problem, scale: float) -> None:
    """They are met where the iteration ended, and off by the reported error where it did not."""
    cost, epsilon, options = problem
    exact = dtype == torch.float64
    small = {**cast(options, dtype), "max_iterations": 100, "tolerance": 1e-12 if exact else 1e-6}
    for strength in (epsilon, epsilon * scale):
        result = ops.sinkhorn(cost.to(dtype), strength, **small)
        plan = ops.sinkhorn_plan(cost.to(dtype), strength, **small)
        assert (plan >= 0).all()
        true = float(violation(plan, options["row_marginal"], options["column_marginal"]))
        assert true == pytest.approx(float(result.error), rel=1e-2, abs=1e-13 if exact else 2e-6)
        if options["symmetric"]:
            assert true < (2e-12 if exact else 3e-6)
            assert int(result.iterations) <= 30


@both_types
@drawn
@given(problem=problems(symmetric=True))
def test_symmetry(dtype: Float, problem) -> None:
    cost, epsilon, options = problem
    result = ops.sinkhorn(cost.to(dtype), epsilon, **cast(options, dtype))
    plan = ops.sinkhorn_plan(cost.to(dtype), epsilon, **cast(options, dtype))
    _, slope = gradient(cost.to(dtype), epsilon, **cast(options, dtype))
    assert torch.equal(result.f, result.g)
    slack = {"rtol": 1e-5, "atol": 1e-7} if dtype == torch.float32 else {}
    torch.testing.assert_close(plan, plan.T, **slack)
    torch.testing.assert_close(slope, slope.T, **slack)


@drawn
@given(problem=either, seed=seeds)
def test_permutation(problem, seed: int) -> None:
    cost, epsilon, options = problem
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(cost.shape[0], generator=generator)
    columns = rows if options["symmetric"] else torch.randperm(cost.shape[1], generator=generator)
    row = options["row_marginal"][rows]
    column = row if options["symmetric"] else options["column_marginal"][columns]
    moved = {**options, "row_marginal": row, "column_marginal": column}
    value, slope = gradient(cost, epsilon, **options)
    other, its_slope = gradient(cost[rows][:, columns], epsilon, **moved)
    plan = ops.sinkhorn_plan(cost, epsilon, **options)
    torch.testing.assert_close(
        ops.sinkhorn_plan(cost[rows][:, columns], epsilon, **moved),
        plan[rows][:, columns],
        rtol=1e-8,
        atol=1e-12,
    )
    torch.testing.assert_close(other, value, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(its_slope, slope[rows][:, columns], rtol=1e-7, atol=1e-9)


@drawn
@given(problem=either, shift=st.floats(0.0, 100.0))
def test_a_constant_added_to_the_cost(problem, shift: float) -> None:
    cost, epsilon, options = problem
    plan = ops.sinkhorn_plan(cost, epsilon, **options)
    value, slope = gradient(cost, epsilon, **options)
    moved, its_slope = gradient(cost + shift, epsilon, **options)
    torch.testing.assert_close(
        ops.sinkhorn_plan(cost + shift, epsilon, **options), plan, rtol=1e-8, atol=1e-11
    )
    torch.testing.assert_close(moved, value + shift, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(its_slope, slope, rtol=1e-6, atol=1e-8)


@drawn
@given(problem=problems())
def test_transposition(problem) -> None:
    cost, epsilon, options = problem
    turned = {**options, "row_marginal": options["column_marginal"]}
    turned["column_marginal"] = options["row_marginal"]
    value, slope = gradient(cost, epsilon, **options)
    other, its_slope = gradient(cost.T, epsilon, **turned)
    torch.testing.assert_close(other, value, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(its_slope, slope.T, rtol=1e-7, atol=1e-9)


@both_types
@drawn
@given(problem=either, exponent=st.integers(-20, 20))
def test_units_do_not_matter(dtype: Float, problem, exponent: int) -> None:
    """Exactly so for powers of two; to rounding for others."""
    cost, epsilon, options = problem
    cost, options = cost.to(dtype), {**cast(options, dtype), "max_iterations": 500}
    value, slope = gradient(cost, epsilon, **options)
    scale = 2.0**exponent
    other, its_slope = gradient(scale * cost, scale * epsilon, **options)
    torch.testing.assert_close(other, scale * value, rtol=0, atol=0)
    torch.testing.assert_close(its_slope, slope, rtol=0, atol=0)


@both_types
@drawn
@given(problem=either, exponent=st.integers(-12, 11))
def test_mass_is_a_unit_too(dtype: Float, problem, exponent: int) -> None:
    cost, epsilon, options = problem
    mass = 10.0**exponent
    options = cast({**options, "tolerance": 1e-13 if dtype == torch.float64 else 1e-6}, dtype)
    scaled = {name: mass * v if isinstance(v, Tensor) else v for name, v in options.items()}
    if options["symmetric"]:
        scaled["column_marginal"] = scaled["row_marginal"]
    value, slope = gradient(cost.to(dtype), epsilon, **options)
    other, its_slope = gradient(cost.to(dtype), epsilon, **scaled)
    close = (
        {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 2e-5}
    )
    torch.testing.assert_close(other / mass, value, **close)
    torch.testing.assert_close(its_slope / mass, slope, **{**close, "rtol": 1e-4})


@both_types
def test_masses_out_of_range_are_refused(dtype: Float) -> None:
    """Entries below 2^-100 (float32) count as nothing: the plan of a tiny mass would be none."""
    exponents = (-31, 31) if dtype == torch.float32 else (-200, 200)
    for exponent in exponents:
        weights = torch.full((20,), 10.0**exponent / 20, dtype=dtype)
        options = {"row_marginal": weights, "column_marginal": weights}
        with pytest.raises(ValueError, match="mass of the marginals must be 0 or from 1e-"):
            ops.sinkhorn(numbers(0, 20, 20).to(dtype), 0.02, **options)


@drawn
@given(problem=either)
def test_euler(problem) -> None:
    """A value of degree 1 in (M, epsilon) is the sum of both times their derivatives."""
    cost, epsilon, options = problem
    leaf, strength = cost.clone(), torch.tensor(epsilon, dtype=torch.float64)
    value = ops.sinkhorn_distance(leaf.requires_grad_(), strength.requires_grad_(), **options)
    slope, slope_strength = torch.autograd.grad(value, (leaf, strength))
    total = float((slope * cost).sum() + slope_strength * epsilon)
    assert total == pytest.approx(float(value.detach()), rel=1e-7, abs=1e-10)
    assert float(slope.sum()) == pytest.approx(1, abs=1e-9)


@both_types
@both_paths
@drawn
@given(data=st.data(), items=st.integers(1, 5), size=sizes, seed=seeds)
def test_the_batch_is_nothing_but_its_items(
    symmetric: bool, dtype: Float, data: st.DataObject, items: int, size: int, seed: int
) -> None:
    """Bit for bit, each item with its own epsilon and cost scale."""
    epsilon = torch.tensor([data.draw(extreme) for _ in range(items)], dtype=dtype)
    cost = torch.stack(
        [self_costs(seed + item, size) * 10.0 ** (item - 2) for item in range(items)]
    )
    cost, options = cost.to(dtype), {"symmetric": symmetric, "max_iterations": 60}
    whole, plan = (op(cost, epsilon, **options) for op in (ops.sinkhorn, ops.sinkhorn_plan))
    value, slope = gradient(cost, epsilon, **options)
    for item in range(items):
        strength = float(epsilon[item])
        alone = ops.sinkhorn(cost[item], strength, **options)
        assert all(torch.equal(one[item], two) for one, two in zip(whole, alone, strict=True))
        assert torch.equal(plan[item], ops.sinkhorn_plan(cost[item], strength, **options))
        one, its_slope = gradient(cost[item], strength, **options)
        assert torch.equal(value[item], one) and torch.equal(slope[item], its_slope)


@both_types
@drawn
@given(problem=either, seed=seeds, more=st.integers(1, 3))
def test_zero_weights_are_padding(dtype: Float, problem, seed: int, more: int) -> None:
    cost, epsilon, options = problem
    rows, columns = cost.shape
    generator = torch.Generator().manual_seed(seed)
    to_rows = torch.randperm(rows + more, generator=generator)[:rows]
    to_columns = torch.randperm(columns + more, generator=generator)[:columns]
    wide = 5 * numbers(seed, rows + more, columns + more)
    if options["symmetric"]:
        to_columns, wide = to_rows, (wide + wide.T).fill_diagonal_(0)
    wide[to_rows[:, None], to_columns] = cost
    row = torch.zeros(rows + more, dtype=torch.float64)
    row[to_rows] = options["row_marginal"]
    column = row
    if not options["symmetric"]:
        column = torch.zeros(columns + more, dtype=torch.float64)
        column[to_columns] = options["column_marginal"]
    padded = cast({**options, "row_marginal": row, "column_marginal": column}, dtype)
    options, cost, wide = cast(options, dtype), cost.to(dtype), wide.to(dtype)

    def spread(matrix: Tensor) -> Tensor:
        whole = torch.zeros_like(wide)
        whole[to_rows[:, None], to_columns] = matrix
        return whole

    exact = dtype == torch.float64
    value, slope = gradient(cost, epsilon, **options)
    other, its_slope = gradient(wide, epsilon, **padded)
    close = {"rtol": 1e-8, "atol": 1e-10} if exact else {"rtol": 1e-4, "atol": 2e-6}
    plan = ops.sinkhorn_plan(cost, epsilon, **options)
    torch.testing.assert_close(ops.sinkhorn_plan(wide, epsilon, **padded), spread(plan), **close)
    torch.testing.assert_close(other, value, **close)
    assert (its_slope[spread(torch.ones_like(cost)) == 0] == 0).all()
    bound = 1e-7 if exact else 1e-4
    torch.testing.assert_close(its_slope, spread(slope), rtol=bound, atol=bound)


@drawn
@given(problem=either, seed=seeds)
def test_gradient_against_differences(problem, seed: int) -> None:
    cost, epsilon, options = problem
    direction = 2 * numbers(seed, *cost.shape) - 1
    if options["symmetric"]:  # the direction need not be, the problems that are solved must
        options = {**options, "symmetric": False}
        _, slope = gradient(cost, epsilon, **{**options, "symmetric": True})
    else:
        _, slope = gradient(cost, epsilon, **options)
    step = 1e-4 * epsilon
    ahead, behind, far, back = (
        ops.sinkhorn_distance(cost + count * step * direction, epsilon, **options)
        for count in (1, -1, 2, -2)
    )
    assume(float(ops.sinkhorn(cost, epsilon, **options).error) < 1e-12)
    true = float(8 * (ahead - behind) - (far - back)) / (12 * step)
    assert float((slope * direction).sum()) == pytest.approx(true, rel=1e-6, abs=1e-7)


@drawn
@given(problem=problems())
def test_unrolled_tends_to_implicit(problem) -> None:
    cost, epsilon, options = problem
    _, slope = gradient(cost, epsilon, **options)
    gaps = []
    for count in (16, 4096):
        steps = {**options, "gradient": "unrolled", "max_iterations": count}
        gaps.append(relative(gradient(cost, epsilon, **steps)[1], slope))
    assert gaps[1] < 1e-8 and gaps[1] <= gaps[0] + 1e-8
