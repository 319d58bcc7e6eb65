"""Sinkhorn's peers: every one that is installed computes what is compared, and tables say so."""

from __future__ import annotations

import functools
import time

import bench_peers
import peer_clock
import peer_limits
import peer_tables
import pytest
import torch
from catalogue import DIRECTIONS
from peer_problems import KINDS, errors, exact, make_problem, marginal_error
from peers import EAGER, EXACT, OURS_SYMMETRIC, PEERS, TWIN, Peer, as_tensor
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast import reference

CASES = [(peer, kind) for peer in PEERS for kind in peer.kinds]


@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_solution_agrees_with_the_reference(kind: str) -> None:
    problem = make_problem(kind, 2, 9)
    cost = problem.cost.double().requires_grad_()
    marginals = {}
    if kind == "general":
        row, column = problem.row.double(), problem.column.double()
        marginals = {"row_marginal": row, "column_marginal": column * row.sum() / column.sum()}
        assert not torch.equal(cost, cost.mT) and float(row.max() / row.min()) > 2
    loss = reference.sinkhorn_distance(
        cost, 1.0, tolerance=1e-12, max_iterations=5000, symmetric=kind == "self", **marginals
    )
    (gradient,) = torch.autograd.grad(loss.sum(), cost)
    true = exact(kind, 9)
    torch.testing.assert_close(true.loss[:2], loss.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(true.gradient[:2], gradient, rtol=1e-4, atol=1e-7)


def test_self_costs_are_as_hard_as_real_ones() -> None:
    solved = exact("self", 173, 3)
    assert float(make_problem("self", 3, 173).cost.mean()) == pytest.approx(6.7, rel=1e-5)
    assert all(0.95 < float(value) < 0.97 for value in solved.second_eigenvalue)
    assert all(85 < int(count) < 140 for count in solved.iterations)


def _check(peer: Peer, kind: str, device: str) -> None:
    if peer.missing(device):
        pytest.skip(f"{peer.name}: {peer.missing(device)}")
    # Self-costs of fewer frames are harder: OTT's linear solver gives up below some 30.
    problem = make_problem(kind, 2, {"self": 33, "general": 9}[kind], device)
    run = peer.prepare(problem, None if peer.stops else 400)
    loose = peer.name.startswith("geomloss")  # anneals: epsilon itself for the last iteration only
    assert marginal_error(run.plan(), problem) < (0.1 if loose else 3e-6)
    results = [(run.forward(), None)] + ([] if peer.gradient == "none" else [run.both()])
    for loss, gradient in results:
        found = errors(problem, as_tensor(loss), None if gradient is None else as_tensor(gradient))
        assert found["loss_error"] < (5e-2 if loose else 5e-5)
        if gradient is not None and peer.gradient in EXACT:
            assert found["gradient_error"] < 2e-3
        elif gradient is not None:
            assert found["gradient_error"] > 1e-2  # as its name in the table says


@pytest.mark.parametrize(
    ("peer", "kind"),
    [case for case in CASES if case[0].device != "cuda"],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_peer_finds_loss_and_gradient(
    peer: Peer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The compiled peer captures its step, but needs no C++ compiler and no seconds for it.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    _check(peer, kind, "cpu")


@pytest.mark.parametrize(("peer", "kind"), [case for case in CASES if case[0].device == "cuda"])
def test_a_peer_of_the_gpu_finds_the_loss(peer: Peer, kind: str, cuda: str) -> None:
    _check(peer, kind, cuda)


def _quick(monkeypatch: pytest.MonkeyPatch, **limits: float) -> list[bench_peers.Row]:
    monkeypatch.setattr(peer_clock, "LEAST", 0.0)
    monkeypatch.setattr(peer_clock, "REPEATS", 3)
    chosen = [peer for peer in PEERS if peer.requires is None and not peer.compiles]
    given = {"budget": 1.0, "end": time.monotonic() + 60, "full": False, **limits}
    comparison = bench_peers.Comparison(
        make_problem("general", 2, 9), chosen, peer_limits.Limits(**given)
    )
    return [row for what in DIRECTIONS for row in comparison.cell("1e-6", what)]


def test_every_result_is_complete_or_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _quick(monkeypatch)
    measured = [row for row in rows if "median" in row]
    assert {"ours, general", EAGER} <= {row["peer"] for row in measured}
    for row in rows:
        if row not in measured:
            assert row["skipped"], row
            continue
        assert 0 < row["min"] <= row["median"] and row["samples"] >= row["clean"] >= 0
        assert row["iterations"] > 0 and row["loss_error"] < 1e-4 and row["marginal_error"] <= 1e-6
        assert ("gradient_error" in row) == (row["pass"] == peer_limits.BOTH)


def test_what_there_is_no_time_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _quick(monkeypatch, end=0.0)
    assert {row["skipped"] for row in rows} <= {"no time left; --full", "no gradient"}
    monkeypatch.setattr(peer_limits, "_memory", lambda device: 1e4)
    kept = {peer.name for peer in PEERS if peer.kept}
    heavy = [row for row in _quick(monkeypatch) if row["peer"] in kept and row["pass"] != "forward"]
    assert heavy and all("autograd would keep" in row["skipped"] for row in heavy)


def test_samples_beside_other_load_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    order: list[str] = []

    class Noisy:
        def share(self) -> float:
            return 0.5 if clock[0] > 100 else 0.0

    def call(name: str, seconds: float) -> None:
        order.append(name)
        clock[0] += seconds * (3 if 100 < clock[0] < 130 else 1)  # a load that slows all down

    monkeypatch.setattr(peer_clock, "Load", Noisy)
    monkeypatch.setattr(peer_clock, "synced_clock", lambda: clock[0])
    names = {"quick": 1.0, "slow": 20.0, "once": 90.0}
    calls = {name: (functools.partial(call, name, s), s) for name, s in names.items()}
    found = peer_clock.interleaved(calls, budget=100.0)
    assert order[:5] == ["quick", "slow", "once", "quick", "slow"]
    assert found["quick"]["samples"] == 10 and found["quick"]["clean"] == 1
    assert found["slow"]["samples"] == 2 and found["once"]["samples"] == 1
    clock[0] = -1000.0
    calm = peer_clock.interleaved(calls, budget=100.0)
    assert calm["quick"]["samples"] == calm["quick"]["clean"] == peer_clock.REPEATS
    assert calm["slow"]["median"] == calm["slow"]["min"] == 20.0
    assert peer_clock._summary([(1.0, True), (2.0, True), (9.0, False), (3.0, True)], 1) == {
        **{"median": 2.0, "min": 1.0, "quartiles_apart": 2.0},
        **{"samples": 4, "clean": 3, "calls_per_sample": 1},
    }


def _row(peer: str, gradient: str, median: float, error: float) -> bench_peers.Row:
    where = {"problem": "self", "items": 8, "frames": 173, "setting": "1e-6"}
    who = {"pass": "forward+backward", "peer": peer, "gradient": gradient}
    times = {"median": median, "clean": 7, "iterations": 9}
    found = dict.fromkeys(("loss_error", "gradient_error", "off_diagonal_error"), error)
    return {**where, **who, **times, **found}


@pytest.mark.parametrize("needed", [10, 140, 155, 1000, 1001])
def test_the_least_number_of_iterations_is_found(
    needed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem("self", 1, 9)
    monkeypatch.setattr(peer_limits, "marginal_error", lambda plan, problem: float(plan < needed))

    class Counting:
        def __init__(self, count: int) -> None:
            self.plan = lambda: count

    peer = Peer("counting", "none", lambda problem, count: Counting(count))
    for start in (1, 100, 150, 2000):
        if needed > 1000:
            with pytest.raises(peer_limits.NotReached, match="not reached within 1000"):
                peer_limits.iterations_to_tolerance(peer, problem, start, lambda count: None)
        else:
            found = peer_limits.iterations_to_tolerance(peer, problem, start, lambda count: None)
            assert found == next(count for count in peer_limits.LADDER if count >= needed)


def test_targets_take_the_best_peer_of_equal_accuracy() -> None:
    rows = [
        _row(OURS_SYMMETRIC, "implicit", 1.0, 1e-7),
        _row("wrong", "of its value", 10.0, 1e-7),
        _row("coarse", "unrolled", 20.0, 1e-4),
        _row(TWIN, "implicit", 19.0, 1e-7),
        _row("fair", "unrolled", 160.0, 4e-6),
        _row(EAGER, "unrolled", 399.0, 1e-7),
    ]
    cells = peer_tables.cells_of({"results": rows})
    cell = cells["self", 8, 173, "1e-6", "forward+backward"]
    assert cell.best() == "fair" and cell.best(any_accuracy=True) == "coarse"
    said = {row[1]: row[2:] for row in peer_tables.target_rows(cells) if row[0].startswith("self")}
    assert said["150 x the best peer of equal accuracy"][0] == "160 x (fair)"
    assert [one[1].split(",")[0] for one in said.values()] == ["met", "**missed**", "**missed**"]
    problem = {
        **{key: rows[0][key] for key in ("problem", "items", "frames")},
        **{"mean_cost": 6.7, "largest_cost": 12.0},
        **{"second_eigenvalue": [0.96], "alternating_iterations": [100]},
    }
    report = {"facts": {"commit": "x"}, "date": "today", "missing": {"OTT": "not installed"}}
    text = peer_tables.markdown({**report, "problems": [problem], "results": rows})
    assert "| fair | unrolled |" in text and "OTT: not installed." in text
