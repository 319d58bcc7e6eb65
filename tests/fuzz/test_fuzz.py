"""A short fuzz of every operator with fixed seeds; `python tests/fuzz` runs as many as wanted."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
import torch
from fuzz.calls import OPERATORS
from fuzz.drawn import draw_call
from fuzz.judge import judge
from fuzz.run import supervise

from rlsv_fast import ops

SEEDS = range(1_000_000, 1_000_060)


@pytest.mark.parametrize("op", OPERATORS)
def test_every_call_is_answered_as_documented_or_refused_by_name(op: str) -> None:
    verdicts = [(seed, call, judge(call, seed)) for seed in SEEDS for call in [draw_call(seed, op)]]
    wrong = [(seed, call.what, v.detail) for seed, call, v in verdicts if v.end == "WRONG"]
    assert not wrong
    assert {v.end for _, _, v in verdicts} >= {"answered", "refused"}


def test_all_operators_are_drawn() -> None:
    public = {name for name in ops.__all__ if name[0].islower()}
    assert public == set(OPERATORS)


def test_a_write_outside_of_a_result_is_noticed() -> None:
    call = draw_call(1_000_000, "neg_snr")
    call.watched[0].buffer[0] = 3
    verdict = judge(call, 0)
    assert verdict.end == "WRONG" and "written to" in verdict.detail


def test_the_supervisor_outlives_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies is blamed on the case it had noted, and the next one goes on behind."""
    first = []

    def died(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        first.append(command[command.index("--first") + 1])
        note = Path(command[command.index("--worker") + 1])
        note.write_bytes(struct.pack("<q", int(first[-1]) + 1))
        return subprocess.CompletedProcess(command, -11, stdout="")

    monkeypatch.setattr(subprocess, "run", died)
    found = supervise(5, 8, limited=True, seconds=20)
    assert first == ["5", "7"]
    assert [one["seed"] for one in found["wrong"]] == [6, 8]
    assert "signal 11" in found["wrong"][0]["why"]


def test_sparse_tensors_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="total_variation: representation must be a dense tensor"):
        ops.total_variation(torch.rand(2, 3, 4).to_sparse())


def test_lack_of_memory_is_told_by_name() -> None:
    with pytest.raises(RuntimeError, match="Frames: not enough memory"):
        ops.frames(torch.rand(1, 9), 1, kernel_size=2**40, count=2**40)
    with pytest.raises(RuntimeError, match="SinkhornUnrolled: not enough memory"):
        ops.sinkhorn_distance(torch.rand(2, 3), 1.0, gradient="unrolled", max_iterations=2**40)
