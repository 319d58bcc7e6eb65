"""Entropic optimal transport: known answers, invariances, hazards and the stopping rule."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast import ops, reference
from rlsv_fast.ops import _sinkhorn_problem

Float = torch.dtype
both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
both_paths = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "general"])
pytestmark = pytest.mark.filterwarnings("ignore:sinkhorn.*marginals met")


def self_cost(items: int, frames: int, features: int = 20, p: float = 1, seed: int = 0) -> Tensor:
    """Distances between random frames: symmetric, zero diagonal, of negative type."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(items, frames, features, generator=generator, dtype=torch.float64) ** 3
    distance = torch.stack([torch.cdist(item, item, p=p) for item in points]) / features
    return (distance + distance.transpose(1, 2)) / 2


def general_cost(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(*shape: int, seed: int = 1) -> Tensor:
    """Uneven marginals of mass 1: even ones hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).pow(3).softmax(-1)


def gradient(cost: Tensor, epsilon: float | Tensor, **options: object) -> tuple[Tensor, Tensor]:
    """The distance and its gradient (of the sum over items)."""
    leaf = cost.detach().clone().requires_grad_()
    value = ops.sinkhorn_distance(leaf, epsilon, **options)
    value.sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def relative(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other).norm() / other.norm())


def off_diagonal(matrix: Tensor) -> Tensor:
    return matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))


def violation(plan: Tensor, row: Tensor, column: Tensor) -> Tensor:
    rows = (plan.double().sum(-1) - row).abs().sum(-1)
    columns = (plan.double().sum(-2) - column).abs().sum(-1)
    return torch.maximum(rows, columns) / row.sum(-1)


GOLDEN = ("T12_self_p1", "T12_self_p2", "T64_self_paper_p1", "T64_self_code_p1")


@both_types
@pytest.mark.parametrize("name", [*GOLDEN, "T12x15_general_p1"])
def test_golden_vectors(name: str, dtype: Float, shared: Path) -> None:
    golden = np.load(shared / "golden" / "sinkhorn" / f"{name}.npz")
    cost, row, column, right = (
        torch.from_numpy(golden[key]).double() for key in ("M", "a", "b", "sk_right")
    )
    exact = dtype == torch.float64
    for index, lam in enumerate(golden["lam"]):
        true = {
            key: torch.from_numpy(golden[f"l{index}_{key}"])
            for key in ("loss", "f", "P_sk", "G_sk", "P_diag", "P", "G")
            if f"l{index}_{key}" in golden
        }
        paths = [True, False] if "self" in name and lam <= 1.5 and "code" not in name else []
        for symmetric in paths or ["self" in name]:
            a = row.to(dtype)
            options = {
                "row_marginal": a,
                "column_marginal": a if symmetric else column.to(dtype),
                "symmetric": symmetric,
                "tolerance": 1e-14 if exact else 1e-6,
            }
            value, slope = gradient(cost.to(dtype), float(1 / lam), **options)
            plan = ops.sinkhorn_plan(cost.to(dtype), float(1 / lam), **options).double()
            if true["loss"] < 1e-30:
                assert abs(float(value) - float(true["loss"])) < 1e-30
            else:
                torch.testing.assert_close(
                    value.double(), true["loss"], rtol=1e-10 if exact else 5e-6, atol=0
                )
            bound = 1e-8 if exact else 2e-5
            assert relative(slope.double() @ right, true["G_sk"]) < bound
            assert relative(plan @ right, true["P_sk"]) < (1e-10 if exact else 1e-5)
            if "G" in true:
                assert relative(slope, true["G"]) < bound
                if "self" in name and float(off_diagonal(true["G"]).norm()) > 1e-30:
                    assert relative(off_diagonal(slope), off_diagonal(true["G"])) < bound
            if lam <= 2 and exact:  # potentials in units of the cost, up to the gauge
                f = ops.sinkhorn(cost, float(1 / lam), **options).f * lam
                assert torch.allclose(f - f.mean(), true["f"] - true["f"].mean(), atol=1e-8)


@pytest.mark.parametrize("suffix", ["", "_nonsym"])
def test_unrolled_agrees_with_the_published_loop(suffix: str, shared: Path) -> None:
    golden = np.load(shared / "golden" / "rlsv" / "10_sinkhorn_iter_T12.npz")
    cost = torch.from_numpy(golden[f"M{suffix}"]).double()
    for index, epsilon in enumerate(golden["regs"]):
        options = {"gradient": "unrolled", "max_iterations": 1000}
        value, slope = gradient(cost, float(epsilon), **options)
        true = torch.from_numpy(golden[f"g64{suffix}"][index])
        torch.testing.assert_close(
            float(value), float(golden[f"loss64{suffix}"][index]), rtol=1e-9, atol=0
        )
        assert float((slope - true).abs().max() / true.abs().max()) < 1e-6
        value, slope = gradient(cost.float(), float(epsilon), **options)
        assert float((slope.double() - true).abs().max() / true.abs().max()) < 2.5e-5
        if not suffix:
            for count, loss in zip(golden["iters"], golden["loss_vs_iters"][index], strict=True):
                mine = ops.sinkhorn_distance(
                    cost, float(epsilon), gradient="unrolled", max_iterations=int(count)
                )
                assert abs(float(mine) - loss) < 2e-6 * abs(loss) + 1e-7


@both_paths
@both_types
def test_two_frames_have_a_closed_form(symmetric: bool, dtype: Float) -> None:
    for distance, epsilon in ((0.3, 0.1), (2.0, 1.0), (1.0, 0.05)):
        cost = torch.tensor([[0.0, distance], [distance, 0.0]], dtype=dtype)
        value, _ = gradient(cost, epsilon, symmetric=symmetric)
        true = distance / (1 + math.exp(distance / epsilon))
        assert float(value) == pytest.approx(true, rel=1e-5 if dtype == torch.float32 else 1e-12)


@both_types
def test_a_constant_cost_gives_the_product_plan(dtype: Float) -> None:
    row, column = weights(5).to(dtype), weights(7, seed=2).to(dtype)
    options = {"row_marginal": row, "column_marginal": column}
    cost = torch.full((5, 7), 3.0, dtype=dtype)
    product = row[:, None] * column
    value, slope = gradient(cost, 0.01, **options)
    torch.testing.assert_close(ops.sinkhorn_plan(cost, 0.01, **options), product)
    torch.testing.assert_close(float(value), 3.0, rtol=1e-6, atol=0)
    torch.testing.assert_close(slope, product, rtol=1e-3, atol=2e-5)
    uneven = general_cost(5, 7).to(dtype)
    torch.testing.assert_close(
        ops.sinkhorn_plan(uneven, 1e3, **options), product, rtol=2e-3, atol=0
    )


@both_paths
def test_circulant_costs_have_a_closed_form(symmetric: bool) -> None:
    size, epsilon = 9, 0.2
    steps = torch.arange(size)
    apart = (steps[:, None] - steps).abs()
    cost = torch.minimum(apart, size - apart).double() / size
    kernel = (-cost / epsilon).exp()
    plan = kernel / (size * kernel.sum(1, keepdim=True))
    loss = (plan * cost).sum()
    value, slope = gradient(cost, epsilon, symmetric=symmetric)
    torch.testing.assert_close(ops.sinkhorn_plan(cost, epsilon, symmetric=symmetric), plan)
    torch.testing.assert_close(value, loss)
    torch.testing.assert_close(slope, plan * (1 + (loss - cost) / epsilon))


def test_potentials_added_to_the_cost_change_no_plan() -> None:
    cost, row, column = general_cost(6, 9), weights(6), weights(9, seed=3)
    options = {"row_marginal": row, "column_marginal": column, "tolerance": 1e-14}
    shift, across = general_cost(6, seed=4), general_cost(9, seed=5)
    moved = cost + shift[:, None] + across
    plan = ops.sinkhorn_plan(cost, 0.05, **options)
    torch.testing.assert_close(ops.sinkhorn_plan(moved, 0.05, **options), plan)
    gap = ops.sinkhorn_distance(moved, 0.05, **options) - ops.sinkhorn_distance(
        cost, 0.05, **options
    )
    torch.testing.assert_close(gap, row @ shift + column @ across)


@both_paths
def test_invariances(symmetric: bool) -> None:
    cost = self_cost(1, 12)[0]
    options = {"symmetric": symmetric, "tolerance": 1e-14, "max_iterations": 5000}
    value, slope = gradient(cost, 0.03, **options)
    order = torch.randperm(12)
    permuted, permuted_slope = gradient(cost[order][:, order], 0.03, **options)
    torch.testing.assert_close(permuted, value)
    torch.testing.assert_close(permuted_slope, slope[order][:, order])
    for scale in (1e-3, 1e4):
        scaled, scaled_slope = gradient(scale * cost, scale * 0.03, **options)
        torch.testing.assert_close(scaled, scale * value)
        torch.testing.assert_close(scaled_slope, slope)
    assert float(slope.sum()) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(slope, slope.T, rtol=1e-6, atol=1e-8)


def test_transposition() -> None:
    cost, row, column = general_cost(6, 9), weights(6), weights(9, seed=3)
    options = {"tolerance": 1e-14, "max_iterations": 5000}
    value, slope = gradient(cost, 0.02, row_marginal=row, column_marginal=column, **options)
    other, turned = gradient(cost.T, 0.02, row_marginal=column, column_marginal=row, **options)
    torch.testing.assert_close(value, other)
    torch.testing.assert_close(slope, turned.T)


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


@both_types
def test_symmetric_and_general_paths_agree(dtype: Float) -> None:
    cost = self_cost(3, 40).to(dtype)
    marginal = weights(40).to(dtype)
    exact = dtype == torch.float64
    for epsilon in (0.05, 0.3, 100.0):
        options = {"row_marginal": marginal, "column_marginal": marginal, "max_iterations": 20000}
        options["tolerance"] = 1e-13 if exact else 5e-7
        one = gradient(cost, epsilon, symmetric=True, **options)
        other = gradient(cost, epsilon, symmetric=False, **options)
        torch.testing.assert_close(one[0], other[0], rtol=1e-9 if exact else 1e-5, atol=0)
        assert relative(one[1], other[1].double()) < (1e-9 if exact else 2e-5)


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


def test_no_mass_at_all() -> None:
    nothing = torch.zeros(4)
    options = {"row_marginal": nothing, "column_marginal": nothing}
    for symmetric in (True, False):
        plan = ops.sinkhorn_plan(torch.rand(4, 4), 0.1, symmetric=symmetric, **options)
        assert (plan == 0).all()
    for kind in ("implicit", "unrolled"):
        value, slope = gradient(torch.rand(4, 4), 0.1, gradient=kind, max_iterations=9, **options)
        assert float(value) == 0 and (slope == 0).all()


def test_tiny_losses_keep_their_gradient() -> None:
    """Losses below 1e-19: the squares of the right-hand side underflow in float32."""
    cost = self_cost(1, 24)[0]
    cost = cost / cost[cost > 0].min()
    single, slope = gradient(cost.float(), 1 / 50, symmetric=True)
    double, true = gradient(cost, 1 / 50, symmetric=True, tolerance=1e-15)
    assert 0 < float(double) < 1e-19
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0)
    assert relative(off_diagonal(slope), off_diagonal(true)) < 1e-4


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


def test_mass_scales_everything() -> None:
    cost = self_cost(1, 11)[0]
    whole = torch.ones(11, dtype=torch.float64)
    options = {"row_marginal": whole, "column_marginal": whole}
    for symmetric in (True, False):
        one = gradient(cost, 0.1, symmetric=symmetric, tolerance=1e-12)
        big = gradient(cost, 0.1, symmetric=symmetric, tolerance=1e-12, **options)
        torch.testing.assert_close(big[0], 11 * one[0])
        torch.testing.assert_close(big[1], 11 * one[1])


def test_agreement_with_pot() -> None:
    ot = pytest.importorskip("ot")
    cost, row, column = general_cost(3, 9, 12), weights(9), weights(12, seed=2)
    options = {"row_marginal": row, "column_marginal": column, "tolerance": 1e-13}
    for epsilon in (0.02, 0.5):
        mine = ops.sinkhorn_plan(cost, epsilon, max_iterations=20000, **options)
        for plan, item in zip(mine, cost, strict=True):
            theirs = ot.bregman.sinkhorn_log(
                row.numpy(), column.numpy(), item.numpy(), epsilon, 20000, stopThr=1e-13
            )
            np.testing.assert_allclose(plan.numpy(), theirs, rtol=1e-7, atol=1e-13)
        few = ops.sinkhorn(cost[0], epsilon, max_iterations=3, **{**options, "tolerance": 0})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = ot.bregman.sinkhorn_log(
                row.numpy(), column.numpy(), cost[0].numpy(), epsilon, 3, stopThr=0
            )
        mine_few = ((few.f[:, None] + few.g - cost[0]) / epsilon).exp()
        np.testing.assert_allclose(mine_few.numpy(), theirs, rtol=1e-9)


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
