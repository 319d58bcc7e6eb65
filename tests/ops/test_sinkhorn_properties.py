"""Entropic optimal transport: laws that hold for any problem, on problems that are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from sinkhorn_problems import (
    Float,
    both_paths,
    both_types,
    gradient,
    off_diagonal,
    quiet,
    relative,
    violation,
)
from torch import Tensor

from rlsv_fast import ops

pytest.importorskip("hypothesis")
from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = quiet

drawn = settings(derandomize=True, deadline=None, max_examples=50)
TIGHT = {"tolerance": 1e-13, "max_iterations": 20000}

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**20)
# epsilon / mean(M) where any problem converges in reasonable time, and where all must stay finite.
moderate = st.floats(math.log(0.05), math.log(10)).map(math.exp)
extreme = st.floats(math.log(1e-4), math.log(1e4)).map(math.exp)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def marginal(seed: int, size: int) -> Tensor:
    return numbers(seed, size).mul(3).softmax(0)


def self_costs(seed: int, frames: int, p: int = 1) -> Tensor:
    """As the loss has them: distances between sparse frames, duplicates among them."""
    representation = torch.relu(numbers(seed, 1, 6, frames) - 0.4) ** 2
    source = torch.minimum(torch.arange(frames), torch.tensor(max(1, frames - 2)))
    return ops.frame_distance(representation[:, :, source], p=p)[0]


@st.composite
def problems(draw: st.DrawFn, square: bool = False, symmetric: bool = False):
    """A cost, epsilon, and options with uneven marginals."""
    rows, seed = draw(sizes), draw(seeds)
    columns = rows if square or symmetric else draw(sizes)
    if symmetric:
        cost, row = self_costs(seed, rows, draw(st.sampled_from([1, 2]))), marginal(seed + 1, rows)
        column = row
    else:
        cost = numbers(seed, rows, columns) ** draw(st.sampled_from([1, 4]))
        row, column = marginal(seed + 1, rows), marginal(seed + 2, columns)
    epsilon = draw(moderate) * max(float(cost.mean()), 0.01)
    options = {"row_marginal": row, "column_marginal": column, "symmetric": symmetric, **TIGHT}
    return cost, epsilon, options


either = st.booleans().flatmap(lambda symmetric: problems(symmetric=symmetric))


def cast(options: dict[str, object], dtype: Float) -> dict[str, object]:
    """The options in another precision; one tensor given as both marginals stays one."""
    made = {id(value): value.to(dtype) for value in options.values() if isinstance(value, Tensor)}
    return {name: made.get(id(value), value) for name, value in options.items()}


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
@given(problem=either, exponent=st.integers(-12, 12))
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


@pytest.mark.xfail(strict=True, reason="entries below 2^-100 vanish, however small the mass is")
def test_the_error_of_a_tiny_mass_is_that_of_its_plan() -> None:
    weights = torch.full((20,), 1e-30)
    options = {"row_marginal": weights, "column_marginal": weights}
    cost = numbers(0, 20, 20).float()
    result, plan = ops.sinkhorn(cost, 0.02, **options), ops.sinkhorn_plan(cost, 0.02, **options)
    true = float(violation(plan, weights.double(), weights.double()))
    assert float(result.error) == pytest.approx(true, abs=1e-5)


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


@drawn
@given(
    frames=st.integers(2, 40),
    seed=seeds,
    p=st.sampled_from([1, 2]),
    ratio=st.floats(math.log(0.02), math.log(10)).map(math.exp),
)
def test_float32_against_float64(frames: int, seed: int, p: int, ratio: float) -> None:
    """Losses within 5e-6, gradients within 2e-5 of their norm, off the diagonal, too."""
    cost = self_costs(seed, frames, p).float()
    assume(float(cost.sum()) > 0)
    epsilon = ratio * float(cost.mean())
    single, slope = gradient(cost, epsilon, symmetric=True)
    double, true = gradient(cost.double(), epsilon, symmetric=True, tolerance=1e-14)
    assert float(single) == pytest.approx(float(double), rel=5e-6, abs=1e-30)
    assert relative(slope, true) < 2e-5
    # Entries of the plan below 2^-100 are zero in float32.
    apart, lost = off_diagonal(true), 1e-28 * frames
    assert float((off_diagonal(slope) - apart).norm()) <= 2e-5 * float(apart.norm()) + lost


KINDS = {
    "silent": lambda frames: torch.zeros(1, 5, frames),
    "identical": lambda frames: numbers(0, 1, 5, 1).expand(1, 5, frames),
    "one loud": lambda frames: torch.eye(frames)[:1].expand(1, 5, frames) * 1e4,
    "random": lambda frames: numbers(0, 1, 5, frames),
}


@both_types
@both_paths
@pytest.mark.parametrize("kind", KINDS)
@drawn
@given(frames=st.sampled_from([1, 2, 3, 17]), ratio=extreme, p=st.sampled_from([1, 2]))
def test_nothing_overflows(
    kind: str, symmetric: bool, dtype: Float, frames: int, ratio: float, p: int
) -> None:
    cost = ops.frame_distance(KINDS[kind](frames).to(dtype), p=p)[0]
    epsilon = ratio * (float(cost.mean()) or 1.0)
    options = {"symmetric": symmetric, "max_iterations": 200}
    result = ops.sinkhorn(cost, epsilon, **options)
    plan = ops.sinkhorn_plan(cost, epsilon, **options)
    assert all(part.isfinite().all() for part in (*result, plan))
    assert float(plan.sum()) == pytest.approx(1, abs=1e-5)
    for way in ("implicit", "envelope", "unrolled"):
        value, slope = gradient(cost, epsilon, gradient=way, **options)
        assert value.isfinite() and slope.isfinite().all()
        assert -1e-12 <= float(value) <= float(cost.max()) * 1.00001
    if symmetric:
        assert float(result.error) <= 2e-6


@drawn
@given(size=st.integers(2, 7), seed=seeds)
def test_small_epsilon_gives_an_optimal_assignment(size: int, seed: int) -> None:
    """The plan's entropy is at most 2 log n, an assignment's is log n: the excess is eps log n."""
    optimize = pytest.importorskip("scipy.optimize")

    def best(matrix: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        chosen = optimize.linear_sum_assignment(matrix.numpy())
        return float(matrix[chosen].mean()), chosen

    cost = numbers(seed, size, size)
    least, chosen = best(cost)
    second = min(
        best(cost + size * torch.eye(size)[i][:, None] * torch.eye(size)[j])[0]
        for i, j in zip(*chosen, strict=True)
    )
    for epsilon in (0.05, 0.002):
        options = {"tolerance": 1e-7, "max_iterations": 20_000}
        error = float(ops.sinkhorn(cost, epsilon, **options).error) + 1e-12
        value = float(ops.sinkhorn_distance(cost, epsilon, **options))
        assert error < 1e-2
        assert least - 2 * error <= value <= least + epsilon * math.log(size) + 2 * error
        astray = 1 - float(ops.sinkhorn_plan(cost, epsilon, **options)[chosen].sum())
        assert astray * (second - least) <= epsilon * math.log(size) + 2 * error


@both_types
@drawn
@given(problem=either)
def test_large_epsilon_gives_the_product_plan(dtype: Float, problem) -> None:
    cost, _, options = problem
    product = options["row_marginal"][:, None] * options["column_marginal"]
    plan = ops.sinkhorn_plan(cost.to(dtype), 1e4, **cast(options, dtype)).double()
    spread = float(cost.max() - cost.min()) / 1e4
    assert float((plan / product - 1).abs().max()) <= 2 * spread + 5e-6 * (dtype == torch.float32)


@both_types
@drawn
@given(seed=seeds, columns=sizes, ratio=extreme)
def test_one_point_has_one_plan(dtype: Float, seed: int, columns: int, ratio: float) -> None:
    """From a Dirac every plan is the product, whatever epsilon."""
    cost, column = numbers(seed, 1, columns).to(dtype), marginal(seed, columns).to(dtype)
    loose = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {}
    for turn in (False, True):
        options = {"column_marginal": column, "row_marginal": column.sum()[None]}
        matrix = cost
        if turn:
            matrix = cost.T
            options = {"row_marginal": column, "column_marginal": column.sum()[None]}
        value, slope = gradient(matrix, ratio * float(cost.mean()), **options)
        weights = column[:, None] if turn else column[None]
        torch.testing.assert_close(value, (matrix * weights).sum(), **loose)
        torch.testing.assert_close(slope, weights.expand_as(slope), **loose)


@both_types
@drawn
@given(
    deviations=st.tuples(st.floats(0.6, 1.2), st.floats(0.6, 1.2)),
    apart=st.floats(0, 3),
    epsilon=st.floats(0.3, 8),
)
def test_gaussians(
    dtype: Float, deviations: tuple[float, float], apart: float, epsilon: float
) -> None:
    """For (x - y)^2 the plan is a Gaussian, too; translation only adds its square.

    The cross term of its exponent is 2 x y / eps, hence the off-diagonal entry of the inverse
    covariance is -2 / eps, and the covariance c solves c^2 + c eps / 2 = (s t)^2 (Janati et al.,
    NeurIPS 2020, with sigma^2 = eps / 2). Sums over a fine grid are integrals to all digits.
    """
    grid = torch.linspace(-9, 9, 115, dtype=torch.float64)
    row, column = (torch.softmax(-(grid**2) / (2 * s**2), 0).to(dtype) for s in deviations)
    x, y = grid[:, None], grid + apart
    cost = (x - y).square().to(dtype)
    strength = torch.tensor(epsilon, dtype=dtype).requires_grad_()
    exact = dtype == torch.float64
    options = {"row_marginal": row, "column_marginal": column, "max_iterations": 5000}
    options["tolerance"] = 1e-13 if exact else 1e-6
    plan = ops.sinkhorn_plan(cost, epsilon, **options).double()
    value = ops.sinkhorn_distance(cost, strength, **options)
    root = math.hypot(epsilon / 4, deviations[0] * deviations[1])
    covariance = root - epsilon / 4
    second_moments = deviations[0] ** 2 + deviations[1] ** 2
    assert float((plan * x * (y - apart)).sum()) == pytest.approx(
        covariance, rel=1e-8 if exact else 2e-5
    )
    assert float(value.detach()) == pytest.approx(
        apart**2 + second_moments - 2 * covariance, rel=1e-8 if exact else 2e-5
    )
    (slope,) = torch.autograd.grad(value, strength)
    assert float(slope) == pytest.approx(0.5 - epsilon / 8 / root, abs=1e-8 if exact else 1e-4)
