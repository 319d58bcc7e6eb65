"""Entropic optimal transport: known answers, invariances, and agreement with others."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
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

from rlsv_fast import ops

pytestmark = quiet


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


def test_mass_scales_everything() -> None:
    cost = self_cost(1, 11)[0]
    whole = torch.ones(11, dtype=torch.float64)
    options = {"row_marginal": whole, "column_marginal": whole}
    for symmetric in (True, False):
        one = gradient(cost, 0.1, symmetric=symmetric, tolerance=1e-12)
        big = gradient(cost, 0.1, symmetric=symmetric, tolerance=1e-12, **options)
        torch.testing.assert_close(big[0], 11 * one[0])
        torch.testing.assert_close(big[1], 11 * one[1])


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
