"""Entropic optimal transport: precision, limits and closed forms, on problems that are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from sinkhorn_problems import Float, both_paths, both_types, gradient, off_diagonal, quiet, relative
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
    marginal,
    numbers,
    seeds,
    self_costs,
    sizes,
)

pytestmark = quiet


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
