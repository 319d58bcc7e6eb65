"""The two sides of the step's benchmark compute one thing, and it is told where time goes."""

from __future__ import annotations

from unittest.mock import patch

import original_bank
import original_umss
import pytest
import torch
import umss_step
import umss_step_tables
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast import reference

SHORT = {"separator": 2560, "full": 22528}  # the lowest octave of the CQT needs 1.33 s


def test_both_sides_compute_one_thing() -> None:
    apart = umss_step.agreement("separator", 2, SHORT["separator"], torch.float64)
    assert apart["loss_apart"] < 1e-7
    assert apart["gradient_apart"] < 1e-5


def test_both_sides_compute_one_thing_with_f0_networks() -> None:
    # in double the convolutions would take a minute; single sums of phases limit the gradient
    apart = umss_step.agreement("full", 1, SHORT["full"])
    assert apart["loss_apart"] < 1e-5
    assert apart["gradient_apart"] < 5e-2


def test_the_original_is_in_force_and_then_is_not() -> None:
    problem = umss_step.Problem.make("separator", 1, SHORT["separator"])
    update = problem.update

    def calls(computing: object) -> list[int]:
        bank = patch.object(original_bank, "harmonic_bank", wraps=original_bank.harmonic_bank)
        layer = patch.object(torch.nn.GRU, "forward", autospec=True, side_effect=gru)
        loss = patch.object(reference, "spectral_loss", wraps=reference.spectral_loss)
        with bank as a, layer as b, loss as c, computing:
            update.objective(*problem.plain_batch(), update.noise)
            return [a.call_count, b.call_count, c.call_count]

    gru = torch.nn.GRU.forward
    assert calls(original_umss.original(transform=False)) == [1, 5, 1]
    assert calls(original_umss.joined_recurrence()) == [0, 5, 0]
    assert calls(umss_step.around(umss_step_tables.OURS)) == [0, 0, 0]


def test_sides_learn_and_are_measured_and_told() -> None:
    sides = umss_step.RUNS[umss_step.MAIN[0]]
    found = umss_step.measure("separator", 1, sides, SHORT["separator"], budget=0.01)
    parts = found[umss_step_tables.OURS]["parts"]
    assert set(parts) == set(found[umss_step_tables.ORIGINAL]["parts"])
    assert {"encoder", "decoder", "synthesiser", "loss"} <= set(parts) and min(parts.values()) > 0
    for side in sides:
        one = found[side]
        assert set(one["stages"]) == set(umss_step_tables.STAGES)
        assert sum(one["stages"].values()) <= 1.5 * one["median"]
        one["peak_mib"] = 1.0
    row = {"model": "separator", "items": 1, "memory": "kept", "threads": 1, "commit": "C"}
    report = {
        "machine": {"processor": "P", "torch": "T"},
        "transform": "none",
        "agreement": {"separator": {"loss_apart": 1e-6, "gradient_apart": 1e-4}},
        "runs": [row | {"sides": found}],
    }
    told = umss_step_tables.text(report, 4)
    assert all(f"| {side} |" in told for side in sides) and "| synthesiser |" in told
    ratio = found[umss_step_tables.ORIGINAL]["median"] / found[umss_step_tables.OURS]["median"]
    assert f"| {ratio:.1f} | 1 | 1.0 |" in told


@pytest.mark.parametrize("side", umss_step.RUNS[umss_step.MAIN[0]])
def test_steps_of_every_side_move_the_model_alike(side: str) -> None:
    moved = []
    for name in (umss_step_tables.OURS, side):
        problem = umss_step.Problem.make("separator", 1, SHORT["separator"])
        run = umss_step.step(problem, name)
        run(lambda _: None)
        run(lambda _: None)
        moved.append(problem.update.model.separator.decoder.recurrent.bias_hh_l0.detach())
    # Adam moves by the rate whatever the gradient's size: two steps of 1e-4
    close = (moved[1] - moved[0]).abs() < 2e-5
    assert close.float().mean() > 0.98
