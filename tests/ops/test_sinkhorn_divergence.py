"""Sinkhorn divergence: what makes it a divergence, known answers, limits and agreement."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from sinkhorn_problems import Float, both_types, general_cost, quiet, self_cost, weights
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast.ops import _sinkhorn_problem

pytestmark = quiet

TIGHT = {"tolerance": 1e-13, "max_iterations": 20000}


def cloud(points: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(points, 3, generator=generator, dtype=torch.float64) + shift


def costs(x: Tensor, y: Tensor, p: int = 2) -> list[Tensor]:
    """Costs between and within two clouds: distances for p = 1, their squares for p = 2."""
    squares = [(one[:, None] - other).square().sum(2) for one, other in ((x, y), (x, x), (y, y))]
    return squares if p == 2 else [torch.where(s > 0, s, 1).sqrt() * (s > 0) for s in squares]


def transport(cost: Tensor, row: Tensor, column: Tensor, plan: Tensor, epsilon: float) -> Tensor:
    """The primal value of a plan."""
    product = row[:, None] * column
    information = torch.xlogy(plan, plan).sum() - torch.xlogy(plan, product).sum()
    return (plan * cost).sum() + epsilon * information


@both_types
@pytest.mark.parametrize("p", [1, 2])
def test_zero_for_equal_measures_and_positive_for_others(p: int, dtype: Float) -> None:
    x, y = cloud(12), cloud(12, seed=1)
    a, b = weights(12).to(dtype), weights(12, seed=2).to(dtype)
    for epsilon in (0.05, 0.3, 10.0, 1e4):
        options = {"row_marginal": a, "column_marginal": a, "max_iterations": 5000}
        same = ops.sinkhorn_divergence(*(c.to(dtype) for c in costs(x, x, p)), epsilon, **options)
        assert abs(float(same)) < 1e-8
        options["column_marginal"] = b
        other = ops.sinkhorn_divergence(*(c.to(dtype) for c in costs(x, y, p)), epsilon, **options)
        assert float(other) > 1e-3


def test_the_gradient_vanishes_at_equal_measures_where_the_distance_shrinks() -> None:
    x, y = cloud(9), cloud(9).requires_grad_()
    between, within, own = costs(x, y)
    ops.sinkhorn_divergence(between, within, own, 0.1, **TIGHT).backward()
    assert float(y.grad.abs().max()) < 1e-9
    y.grad = None
    ops.sinkhorn_distance(costs(x, y)[0], 0.1, **TIGHT).backward()
    assert float(y.grad.abs().max()) > 1e-3


@both_types
def test_exchange(dtype: Float) -> None:
    a, b = weights(8).to(dtype), weights(11, seed=2).to(dtype)
    between, rows, columns = (c.to(dtype) for c in costs(cloud(8), cloud(11, seed=1)))
    for epsilon in (0.05, 2.0):
        one = ops.sinkhorn_divergence(
            between, rows, columns, epsilon, row_marginal=a, column_marginal=b
        )
        other = ops.sinkhorn_divergence(
            between.T, columns, rows, epsilon, row_marginal=b, column_marginal=a
        )
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@both_types
def test_two_points(dtype: Float) -> None:
    zero = torch.zeros(1, 1, dtype=dtype)
    for epsilon in (1e-3, 1.0, 1e4):
        value = ops.sinkhorn_divergence(zero + 0.7, zero, zero, epsilon)
        torch.testing.assert_close(value, zero[0, 0] + 0.7)
    cost = torch.tensor([[0.0, 0.7], [0.7, 0.0]], dtype=dtype)  # the same, by weights of zero
    one = {"row_marginal": torch.tensor([1.0, 0.0], dtype=dtype)}
    one["column_marginal"] = one["row_marginal"].flip(0)
    torch.testing.assert_close(ops.sinkhorn_divergence(cost, cost, cost, 0.2, **one), cost[0, 1])


def test_two_points_with_weights() -> None:
    """OT_eps of (a, 1 - a) and itself: the plan's one free entry solves a quadratic equation."""
    distance, epsilon = 1.0, 0.7
    cost = torch.tensor([[0.0, distance], [distance, 0.0]], dtype=torch.float64)
    ratio = math.exp(-2 * distance / epsilon)  # P_01 P_10 / (P_00 P_11)

    def value(a: float, b: float) -> Tensor:
        # t = P_00:  (a - t)(b - t) = ratio t (1 - a - b + t)
        square, linear, constant = 1 - ratio, -(a + b) - ratio * (1 - a - b), a * b
        t = (-linear - math.sqrt(linear**2 - 4 * square * constant)) / (2 * square)
        plan = torch.tensor([[t, a - t], [b - t, 1 - a - b + t]], dtype=torch.float64)
        row, column = (torch.tensor([w, 1 - w], dtype=torch.float64) for w in (a, b))
        return transport(cost, row, column, plan, epsilon)

    for a, b in ((0.5, 0.5), (0.2, 0.7), (0.01, 0.9)):
        row, column = (torch.tensor([w, 1 - w], dtype=torch.float64) for w in (a, b))
        options = {"row_marginal": row, "column_marginal": column, **TIGHT}
        mine = ops.sinkhorn_divergence(cost, cost, cost, epsilon, **options)
        true = value(a, b) - (value(a, a) + value(b, b)) / 2
        torch.testing.assert_close(mine, true, rtol=1e-10, atol=1e-12)


def test_translated_gaussians() -> None:
    """For the squared distance, a translation adds its square and nothing else."""
    grid = torch.linspace(-5, 5, 120, dtype=torch.float64)
    normal = torch.exp(-grid.square() / 2)
    normal = normal / normal.sum()
    for shift, epsilon in ((0.5, 1.0), (2.0, 0.6)):
        between, rows, columns = costs(grid[:, None], grid[:, None] + shift)
        options = {"row_marginal": normal, "column_marginal": normal, **TIGHT}
        value = ops.sinkhorn_divergence(between, rows, columns, epsilon, **options)
        assert float(value) == pytest.approx(shift**2, rel=1e-9)


def test_limits() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    between, rows, columns = costs(cloud(10), cloud(10, seed=1))
    kernel = between.mean() - rows.mean() / 2 - columns.mean() / 2
    for dtype in (torch.float32, torch.float64):  # in float32, eps ulps are 1e-3 of the cost here
        single = [cost.to(dtype) for cost in (between, rows, columns)]
        large = ops.sinkhorn_divergence(*single, 1e4)
        assert float(large) == pytest.approx(float(kernel), rel=1e-3, abs=1e-5)
        true = ops.sinkhorn_divergence(*(cost.double() for cost in single), 1e4, **TIGHT)
        assert float(large) == pytest.approx(float(true), abs=1e-7)
    chosen = optimize.linear_sum_assignment(between.numpy())
    small = ops.sinkhorn_divergence(between, rows, columns, 1e-3, max_iterations=20000)
    assert float(small) == pytest.approx(float(between[chosen].mean()), abs=1e-3 * math.log(10))


def test_derivatives_by_epsilon_and_weights() -> None:
    between, rows, columns = costs(cloud(6), cloud(7, seed=1))
    a, b = weights(6), weights(7, seed=3)
    a[2] = 0  # its derivative is the one-sided one
    a = a / a.sum()
    leaves = [torch.tensor(0.3, dtype=torch.float64), a.clone(), b.clone()]
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def value(epsilon: Tensor, row: Tensor, column: Tensor) -> Tensor:
        options = {"row_marginal": row, "column_marginal": column, **TIGHT}
        return ops.sinkhorn_divergence(between, rows, columns, epsilon, **options)

    value(*leaves).backward()
    inflow = torch.zeros(6, dtype=torch.float64)
    inflow[2], inflow[4] = 1, -1
    outflow = torch.zeros(7, dtype=torch.float64)
    outflow[0], outflow[3] = 1, -1
    epsilon, row, column = (leaf.detach() for leaf in leaves)
    step = 1e-5
    difference = (value(epsilon + step, a, b) - value(epsilon - step, a, b)) / (2 * step)
    assert float(leaves[0].grad) == pytest.approx(float(difference), rel=1e-7)
    difference = (value(epsilon, a, b + step * outflow) - value(epsilon, a, b - step * outflow)) / 2
    assert float(leaves[2].grad @ outflow) == pytest.approx(float(difference) / step, rel=1e-7)
    ahead = [value(epsilon, a + k * step * inflow, b) for k in range(3)]
    one_sided = (4 * ahead[1] - 3 * ahead[0] - ahead[2]) / (2 * step)
    assert float(leaves[1].grad @ inflow) == pytest.approx(float(one_sided), rel=1e-3)
    scaled = row @ leaves[1].grad + column @ leaves[2].grad  # S is homogeneous in the masses
    assert float(scaled) == pytest.approx(float(value(epsilon, row, column)), rel=1e-9)


def test_an_unfinished_iteration_enters_by_its_square() -> None:
    problem = (general_cost(9, 12), self_cost(1, 9)[0], self_cost(1, 12)[0], 0.1)
    true = float(ops.sinkhorn_divergence(*problem, **TIGHT))
    for count in (2, 4, 8):
        error = float(ops.sinkhorn(problem[0], 0.1, max_iterations=count, tolerance=0).error)
        value = float(ops.sinkhorn_divergence(*problem, max_iterations=count, tolerance=0))
        assert 1e-4 < error and abs(value - true) < 0.2 * error**2


@both_types
def test_bits_do_not_depend_on_the_batch(dtype: Float) -> None:
    batch = [general_cost(4, 9, 12), self_cost(4, 9), self_cost(4, 12)]
    leaves = [cost.to(dtype).requires_grad_() for cost in batch]
    epsilon = torch.tensor([0.05, 0.2, 1.0, 30.0], dtype=dtype)
    value = ops.sinkhorn_divergence(*leaves, epsilon)
    slopes = torch.autograd.grad(value.sum(), leaves)
    for item in range(4):
        alone = [leaf[item].detach().requires_grad_() for leaf in leaves]
        one = ops.sinkhorn_divergence(*alone, float(epsilon[item]))
        assert torch.equal(one, value[item])
        for slope, its in zip(slopes, torch.autograd.grad(one, alone), strict=True):
            assert torch.equal(slope[item], its)


@pytest.mark.parametrize("place", range(3))
def test_poison_stays_in_its_item(place: int) -> None:
    batch = [general_cost(3, 5, 6), self_cost(3, 5), self_cost(3, 6)]
    batch[place][1, 2, 3] = math.nan
    assert ops.sinkhorn_divergence(*batch, 0.1).isnan().tolist() == [False, True, False]


def test_no_mass_at_all() -> None:
    options = {"row_marginal": torch.zeros(3), "column_marginal": torch.zeros(4)}
    leaves = [torch.rand(3, 4), torch.zeros(3, 3), torch.zeros(4, 4)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    value = ops.sinkhorn_divergence(*leaves, 0.1, **options)
    assert float(value.detach()) == 0
    assert all((slope == 0).all() for slope in torch.autograd.grad(value, leaves))


def test_agreement_with_pot() -> None:
    ot = pytest.importorskip("ot")
    x, y, a, b = cloud(9), cloud(12, seed=1), weights(9), weights(12, seed=2)
    between, rows, columns = costs(x, y)
    for epsilon in (0.05, 1.0):
        parts = []
        for cost, row, column in ((between, a, b), (rows, a, a), (columns, b, b)):
            numbers = (row.numpy(), column.numpy(), cost.numpy())
            plan = ot.bregman.sinkhorn_log(*numbers, epsilon, 20000, stopThr=1e-13)
            parts.append(transport(cost, row, column, torch.from_numpy(plan), epsilon))
        options = {"row_marginal": a, "column_marginal": b, **TIGHT}
        value = ops.sinkhorn_divergence(between, rows, columns, epsilon, **options)
        torch.testing.assert_close(value, parts[0] - (parts[1] + parts[2]) / 2)


def test_agreement_with_geomloss() -> None:
    geomloss = pytest.importorskip("geomloss")
    x, y, a, b = cloud(20), cloud(30, seed=1, shift=0.2), weights(20), weights(30, seed=2)
    for blur in (0.1, 0.5):
        loss = geomloss.SamplesLoss(
            "sinkhorn", p=2, blur=blur, debias=True, scaling=0.99, backend="tensorized"
        )
        halves = [cost / 2 for cost in costs(x, y)]
        options = {"row_marginal": a, "column_marginal": b, **TIGHT}
        mine = ops.sinkhorn_divergence(*halves, blur**2, **options)
        assert float(loss(a, x, b, y)) == pytest.approx(float(mine), rel=1e-3)


def test_messages() -> None:
    given = {"cost": torch.rand(2, 3, 4), "row_cost": torch.rand(2, 3, 3)}
    given |= {"column_cost": torch.rand(2, 4, 4), "epsilon": 0.1}
    cases = [
        ({"cost": torch.rand(3)}, ValueError, r"cost must have shape \(B, N, M\)"),
        ({"row_cost": torch.rand(2, 4, 4)}, ValueError, r"row_cost must have shape \(B, N, N\)"),
        ({"column_cost": torch.rand(4, 4)}, ValueError, r"column_cost must have shape \(B, M, M\)"),
        ({"row_cost": torch.rand(2, 3, 3).double()}, TypeError, "row_cost must have the dtype"),
        ({"column_cost": [[0.0]]}, TypeError, "column_cost must be a torch.Tensor"),
        ({"epsilon": 0.0}, ValueError, "epsilon must be positive"),
        ({"row_marginal": torch.ones(3)}, ValueError, "same mass"),
        ({"max_iterations": -1}, ValueError, "max_iterations must be at least 0"),
    ]
    for change, error, message in cases:
        with pytest.raises(error, match=f"^sinkhorn_divergence: .*{message}"):
            ops.sinkhorn_divergence(**{**given, **change})


def test_an_unfinished_self_problem_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sinkhorn_problem, "_warned", False)
    point = torch.zeros(1, 1, dtype=torch.float64)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        own = self_cost(1, 9)[0]
        ops.sinkhorn_divergence(general_cost(9, 1), own, point, 0.1, max_iterations=1)
    assert len(seen) == 1 and "sinkhorn_divergence: marginals met to" in str(seen[0].message)
