"""Sinkhorn from potentials that are given, and one cost for many problems."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sinkhorn_problems import Float, both_paths, both_types, general_cost, quiet, self_cost, weights
from torch import Tensor

from rlsv_fast import ops

pytestmark = quiet

EPSILON = 0.1


def problem(symmetric: bool, dtype: Float, device: str) -> tuple[Tensor, dict[str, Any]]:
    """A cost (2, N, M), and marginals and path as arguments."""
    if symmetric:
        cost, row = self_cost(2, 11), weights(11).to(device, dtype)
        column = row
    else:
        cost = general_cost(2, 11, 7)
        row, column = weights(11).to(device, dtype), weights(7, seed=2).to(device, dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    options = {"row_marginal": row, "column_marginal": column, "tolerance": tolerance}
    return cost.to(device, dtype), {**options, "symmetric": symmetric, "max_iterations": 5000}


def gradients(
    op: Callable[..., Tensor], leaves: tuple[Tensor, ...], *arguments: Any, **options: Any
) -> tuple[Tensor, ...]:
    """The output for leaves[0] as cost, and the gradients of its weighted sum."""
    output = op(*leaves, *arguments, **options)
    weight = general_cost(*output.shape, seed=9).to(output)
    return output.detach(), *torch.autograd.grad((output * weight).sum(), leaves)


@both_types
@both_paths
def test_the_solution_is_a_start_that_ends_at_once(
    symmetric: bool, dtype: Float, device: str
) -> None:
    cost, options = problem(symmetric, dtype, device)
    cold = ops.sinkhorn(cost, EPSILON, **options)
    warm = ops.sinkhorn(cost, EPSILON, initial_f=cold.f, **options)
    assert int(cold.iterations.min()) > 3 and int(warm.iterations.max()) <= 1
    plan = ops.sinkhorn_plan(cost, EPSILON, **options)
    again = ops.sinkhorn_plan(cost, EPSILON, initial_f=cold.f, **options)
    slack = 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(again, plan, rtol=slack, atol=slack / 100)
    for gradient in ("implicit", "envelope"):
        kind = {"gradient": gradient, **options}
        one = gradients(ops.sinkhorn_distance, (cost.requires_grad_(),), EPSILON, **kind)
        other = gradients(ops.sinkhorn_distance, (cost,), EPSILON, initial_f=cold.f, **kind)
        torch.testing.assert_close(one, other, rtol=10 * slack, atol=slack)


@both_types
@both_paths
def test_a_near_start_saves_iterations(symmetric: bool, dtype: Float, device: str) -> None:
    cost, options = problem(symmetric, dtype, device)
    before = ops.sinkhorn(cost, EPSILON, **options)
    change = 1e-3 * general_cost(*cost.shape, seed=4).to(cost)
    moved = cost + (change + change.mT if symmetric else change) * (cost > 0)
    cold = ops.sinkhorn(moved, EPSILON, **options)
    warm = ops.sinkhorn(moved, EPSILON, initial_f=before.f, **options)
    assert (warm.iterations < cold.iterations).all()
    assert float(warm.error.max()) <= options["tolerance"]


@both_types
@both_paths
def test_a_poor_start_still_arrives(symmetric: bool, dtype: Float, device: str) -> None:
    cost, options = problem(symmetric, dtype, device)
    plan = ops.sinkhorn_plan(cost, EPSILON, **options)
    far = torch.tensor([1e3, -1e3, -math.inf, 0.0], dtype=dtype, device=device)
    generator = torch.Generator().manual_seed(5)
    mixed = far[torch.randint(4, (2, 11), generator=generator).to(device)]
    rise = torch.linspace(-1e3, 1e3, 11, dtype=dtype, device=device)
    for start in (mixed, rise, far[:1].expand(11), far[1:2].expand(11), far[2:3].expand(11)):
        options["initial_f"] = start
        result = ops.sinkhorn(cost, EPSILON, **options)
        assert float(result.error.max()) <= options["tolerance"]
        assert not symmetric or torch.equal(result.f, result.g)  # the general path was not needed
        # Potentials of 1e4 epsilon, which a constant start leaves in place, leave three digits.
        slack = 1e-3 if dtype == torch.float32 else 1e-9
        again = ops.sinkhorn_plan(cost, EPSILON, **options)
        torch.testing.assert_close(again, plan, rtol=slack, atol=slack / 100)


@both_paths
def test_nothing_known_is_a_cold_start(symmetric: bool, device: str) -> None:
    cost, options = problem(symmetric, torch.float32, device)
    unknown = torch.full((11,), -math.inf, device=device)
    results = [ops.sinkhorn(cost, EPSILON, initial_f=f, **options) for f in (None, unknown)]
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@both_types
@both_paths
def test_potentials_of_a_padded_problem_can_be_fed_back(
    symmetric: bool, dtype: Float, device: str
) -> None:
    cost, options = problem(symmetric, dtype, device)
    for name in ("row_marginal", "column_marginal"):
        padded = options[name].clone()
        padded[-2:] = 0
        options[name] = padded / padded.sum()
    if symmetric:
        options["column_marginal"] = options["row_marginal"]
    cold = ops.sinkhorn(cost, EPSILON, **options)
    assert (cold.f[:, -2:] == -math.inf).all()
    warm = ops.sinkhorn(cost, EPSILON, initial_f=cold.f, **options)
    assert int(warm.iterations.max()) <= 1
    assert (warm.f[:, -2:] == -math.inf).all()
    plan = ops.sinkhorn_plan(cost, EPSILON, initial_f=cold.f, **options)
    assert (plan[:, -2:] == 0).all() and (plan[:, :, -2:] == 0).all() and plan.isfinite().all()


@both_types
def test_no_iteration_gives_the_plan_of_the_start(dtype: Float, device: str) -> None:
    cost, f = general_cost(2, 6, 9).to(device, dtype), general_cost(6, seed=3).to(device, dtype) - 1
    plan = ops.sinkhorn_plan(cost, EPSILON, initial_f=f, max_iterations=0)
    slack = 2e-6 if dtype == torch.float32 else 1e-13
    true = ((f[:, None] - cost).double() / EPSILON).exp().to(dtype)
    torch.testing.assert_close(plan, true, rtol=10 * slack, atol=0)
    result = ops.sinkhorn(cost, EPSILON, initial_f=f, max_iterations=0)
    torch.testing.assert_close(result.f, f.expand(2, 6), rtol=slack, atol=slack)
    assert (result.g == 0).all() and (result.iterations == 0).all()
    gaps = [(true.sum(axis) - 1 / true.shape[3 - axis]).abs().sum(1) for axis in (1, 2)]
    torch.testing.assert_close(result.error, torch.maximum(*gaps), rtol=10 * slack, atol=0)


def test_no_gradient_flows_to_the_start(device: str) -> None:
    cost = general_cost(5, 6).to(device).requires_grad_()
    start = torch.zeros(5, dtype=torch.float64, device=device, requires_grad=True)
    for op in (ops.sinkhorn_plan, ops.sinkhorn_distance):
        output = op(cost, EPSILON, initial_f=start).square().sum()
        by_cost, by_start = torch.autograd.grad(output, (cost, start), allow_unused=True)
        assert by_cost.abs().max() > 0 and by_start is None
        assert not op(cost.detach(), EPSILON, initial_f=start).requires_grad


@both_paths
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_start_that_is_no_number_is_refused(symmetric: bool, poison: float) -> None:
    cost, options = problem(symmetric, torch.float64, "cpu")
    start = torch.zeros(2, 11, dtype=torch.float64)
    start[1, 3] = poison
    for name in ("sinkhorn", "sinkhorn_plan", "sinkhorn_distance"):
        with pytest.raises(ValueError, match=f"^{name}: initial_f must be finite"):
            getattr(ops, name)(cost, EPSILON, initial_f=start, **options)


@both_types
@both_paths
def test_a_raw_start_that_is_no_number_has_no_plan(
    symmetric: bool, dtype: Float, device: str
) -> None:
    """Where the Python checks cannot read: NaN, and in its item alone."""
    cost, options = problem(symmetric, dtype, device)
    start = torch.zeros(2, 11, dtype=dtype, device=device)
    start[1, 3] = math.nan
    epsilon = torch.full((2,), EPSILON, dtype=dtype, device=device)
    sides = (
        options[name].expand(2, -1).contiguous() for name in ("row_marginal", "column_marginal")
    )
    problems = (cost, epsilon, *sides, start, 50, 1e-6, symmetric)
    solved = torch.ops.rlsv_fast._sinkhorn_forward(*problems, True)
    arguments = (torch.rand_like(cost), cost, *solved[1:4], epsilon, symmetric)
    results = [
        torch.ops.rlsv_fast._sinkhorn_distance(*problems),
        solved,
        torch.ops.rlsv_fast._sinkhorn_backward(*arguments),
    ]
    for outputs in results:
        for output in outputs:
            if output.is_floating_point():
                assert output[0].isfinite().all() and output[1].isnan().all()


def test_messages() -> None:
    cost = general_cost(2, 3, 4)
    cases = [
        (torch.zeros(4), TypeError, "initial_f must have the dtype"),
        (torch.zeros(4).double(), ValueError, r"initial_f must have shape \(B, N\) or \(N,\)"),
        (torch.zeros(3, 3).double(), ValueError, r"initial_f must have shape \(B, N\) or \(N,\)"),
    ]
    for name in ("sinkhorn", "sinkhorn_plan", "sinkhorn_distance"):
        for start, error, message in cases:
            with pytest.raises(error, match=f"^{name}: {message}"):
                getattr(ops, name)(cost, EPSILON, initial_f=start)
    with pytest.raises(ValueError, match="^sinkhorn_distance: .*'unrolled'.* initial_f must be"):
        start = torch.zeros(3, dtype=torch.float64)
        ops.sinkhorn_distance(cost, EPSILON, gradient="unrolled", initial_f=start)


@both_types
@both_paths
def test_a_shared_cost_is_the_same_cost_for_each(
    symmetric: bool, dtype: Float, device: str
) -> None:
    """Bit for bit, and its gradient the sum over the items'."""
    whole, options = problem(symmetric, dtype, device)
    cost = whole[0]
    options["max_iterations"] = 100
    epsilon = torch.tensor([0.02, 0.3, 1.0], dtype=dtype, device=device)
    kinds: list[tuple[Callable[..., Tensor], dict[str, Any]]] = [
        (ops.sinkhorn_plan, {}),
        (ops.sinkhorn_distance, {}),
        (ops.sinkhorn_distance, {"gradient": "envelope"}),
        (ops.sinkhorn_distance, {"gradient": "unrolled", "max_iterations": 5}),
    ]
    for op, kind in kinds:
        settings = {**options, **kind}
        expanded = cost.expand(3, *cost.shape).clone().requires_grad_()
        output, each = gradients(op, (expanded,), epsilon, **settings)
        for shape in (cost.shape, (1, *cost.shape)):
            shared = cost.reshape(shape).clone().requires_grad_()
            same, summed = gradients(op, (shared,), epsilon, **settings)
            assert torch.equal(same, output)
            assert torch.equal(summed, each.sum_to_size(shape))
    results = [ops.sinkhorn(given, epsilon, **options) for given in (cost, cost.expand(3, -1, -1))]
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_each_argument_makes_a_batch(device: str) -> None:
    cost = general_cost(4, 5).to(device)
    row, column = weights(3, 4).to(device), weights(3, 5, seed=2).to(device)
    epsilon = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64, device=device)
    start = general_cost(3, 4, seed=6).to(device)
    batches: list[tuple[Any, dict[str, Tensor]]] = [
        (epsilon, {}),
        (0.2, {"row_marginal": row}),
        (0.2, {"column_marginal": column}),
        (0.2, {"initial_f": start}),
    ]
    for strength, options in batches:
        for shared in (cost, cost[None]):
            plan = ops.sinkhorn_plan(shared, strength, **options)
            assert plan.shape == (3, 4, 5)
            assert ops.sinkhorn_distance(shared, strength, **options).shape == (3,)
            assert ops.sinkhorn(shared, strength, **options).g.shape == (3, 5)
        for item in range(3):
            single = {name: value[item] for name, value in options.items()}
            own = strength if isinstance(strength, float) else float(strength[item])
            assert torch.equal(ops.sinkhorn_plan(cost, own, **single), plan[item])
    assert ops.sinkhorn_distance(cost, 0.2).shape == ()
    assert ops.sinkhorn_distance(cost[None], 0.2).shape == (1,)
    with pytest.raises(ValueError, match=r"row_marginal must have shape \(B, N\)"):
        ops.sinkhorn_plan(cost, epsilon, row_marginal=row[:2])
