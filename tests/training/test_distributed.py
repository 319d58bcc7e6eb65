"""Several processes train as one would: the same data, noise, losses, gradients and decisions."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import evaluate, write_json
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training import (
    Config,
    Interrupted,
    StepLosses,
    build_model,
    check_processes,
    read_checkpoint,
    read_log,
    train,
    update,
)
from training import tiny, workers

CPU = torch.device("cpu")
STEPS = 4

OBJECTIVES = [
    (f"convention={convention}", f"loss.representation={loss}", f"loss.computed_on={place}")
    for convention, loss, place in itertools.product(
        ("paper", "code"), ("total-variation", "sinkhorn"), ("mixture", "voice")
    )
]
OBJECTIVES += [
    (*OBJECTIVES[0], "loss.representation=none"),
    (*OBJECTIVES[1], "model.encoder=cosine", "training.sort=update"),
    (*OBJECTIVES[2], "loss.marginals=unit", "loss.p=2"),
    (*OBJECTIVES[6], "training.sort=update", "model.encoder=sinc", "model.decoder=conv"),
    (*OBJECTIVES[4], "training.sort=update"),
]


def _config(objective: tuple[str, ...]) -> Config:
    return tiny.config(*objective, "training.batch_size=4", "training.learning_rate=0.01")


def _batches() -> torch.Tensor:
    """Of voice and accompaniment, with unlike rows: loud ones, an offset, a silent one."""
    batches = torch.randn(STEPS, 2, 4, 600, generator=torch.Generator().manual_seed(7))
    batches *= torch.tensor([0.1, 1.0, 0.02, 0.3]).view(4, 1)
    batches += torch.tensor([0.0, 0.3, -0.1, 0.0]).view(4, 1)
    batches[1, 0, 0] = 0
    return batches


def _steps(objective: tuple[str, ...], processes: Processes) -> list[torch.Tensor]:
    """Readings, then parameters and moments, after some steps in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        step = update.Update(_config(objective), CPU, STEPS, processes)
        rows = processes.rows(4)
        for voice, accompaniment in _batches():
            step(voice[rows], accompaniment[rows])
        readings = torch.tensor(step.readings.fetch(STEPS))
        moments = [m for p in step.model.parameters() for m in step.optimizer.state[p].values()]
        return [readings, *(p.detach() for p in step.model.parameters()), *moments]
    finally:
        torch.set_default_dtype(torch.float32)


def _all_objectives(processes: Processes, folder: Path) -> None:
    found = [_steps(objective, processes) for objective in OBJECTIVES]
    torch.save(found, folder / f"{processes.size}-{processes.rank}.pt")


@pytest.fixture(scope="module", params=[2, 4])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("shared")
    workers.run(request.param, folder, _all_objectives, folder)
    return [torch.load(folder / f"{request.param}-{r}.pt") for r in range(request.param)]


@pytest.mark.parametrize("number", range(len(OBJECTIVES)), ids=lambda n: " ".join(OBJECTIVES[n]))
def test_steps_are_those_of_one_process(
    number: int,
    shared: list[list[list[torch.Tensor]]],
    record_property: Callable[[str, object], None],
) -> None:
    alone = _steps(OBJECTIVES[number], ALONE)
    pairs = [pair for found in shared for pair in zip(alone, found[number], strict=True)]
    deviation = max(float((one - other).abs().max()) for one, other in pairs)
    record_property("deviation", f"{deviation:.1e}")
    for found in shared:
        for one, other in zip(alone, found[number], strict=True):
            torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)
        for first, other in zip(shared[0][number], found[number], strict=True):
            assert other.equal(first)


def _spoilt_steps(processes: Processes, where: str) -> None:
    """A step that is not finite in the last process alone is skipped in all, and changes no bit."""
    step = update.Update(_config(OBJECTIVES[4]), CPU, 3, processes)
    rows, last = processes.rows(4), processes.rank == processes.size - 1
    voice, accompaniment = _batches()[0]
    found = []
    for number in range(3):
        mine = voice[rows].clone()
        if number == 1 and last and where == "loss":
            mine[-1, 5] = torch.nan
        if number == 1 and last and where == "gradient":
            parameter = step.model.decoder.phase
            handle = parameter.register_hook(lambda gradient: gradient * torch.inf)
        step(mine, accompaniment[rows])
        if number == 1 and last and where == "gradient":
            handle.remove()
        state = [p.detach().clone() for p in step.model.parameters()]
        found.append(state + [m.clone() for s in step.optimizer.state.values() for m in s.values()])
    readings = torch.tensor(step.readings.fetch(3))
    assert readings.isfinite().all(1).tolist() == [True, False, True]
    assert all(one.equal(other) for one, other in zip(found[0], found[1], strict=True))
    assert not all(one.equal(other) for one, other in zip(found[1], found[2], strict=True))
    for other in processes.gather((found, readings)):
        assert other[1].nan_to_num(7).equal(readings.nan_to_num(7))
        for mine_, theirs in zip(found, other[0], strict=True):
            assert all(one.equal(two) for one, two in zip(mine_, theirs, strict=True))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_all_skip_what_is_not_finite_in_one(where: str, tmp_path: Path) -> None:
    workers.run(2, tmp_path, _spoilt_steps, where)


RUN = (
    *("loss.representation=sinkhorn", "training.learning_rate=0.003"),
    *("training.epochs=2", "training.checkpoint_every=5"),
)
TRACKS = [tiny.track(), tiny.track(1.5, seed=1, name="other")]


def _train(processes: Processes, run: Path, resume: bool, *settings: str) -> None:
    train(tiny.config(*RUN, *settings), TRACKS, run, resume=resume, processes=processes)


def _at_step(number: int, action: Callable[[], None]) -> None:
    """Do something in the midst of a step, in this process."""
    apply, steps = update.Update._apply, itertools.count(1)

    def applied(self: update.Update, losses: StepLosses) -> None:
        if next(steps) == number:
            action()
        apply(self, losses)

    update.Update._apply = applied  # type: ignore[method-assign]


def _stopped(processes: Processes, run: Path, read_every: int, last: int) -> None:
    if processes.rank == 1:
        _at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as caught:
        _train(processes, run, False, f"training.read_every={read_every}")
    assert caught.value.signal_number == signal.SIGTERM
    assert read_checkpoint(run).state["step"] == last  # process 0 has saved when any goes on


def _killed(processes: Processes, run: Path) -> None:
    if processes.rank == 1:
        _at_step(8, lambda: os.kill(os.getpid(), signal.SIGKILL))
    _train(processes, run, False)


def _records(run: Path) -> list[dict[str, Any]]:
    kinds = ("step", "epoch")
    found = [record for record in read_log(run / "log.jsonl") if record["kind"] in kinds]
    for record in found:
        del record["seconds"]
        record.pop("throughput", None)
    return found


def _close(run: Path, other: Path) -> None:
    """Float32 sums in another order; Adam divides gradients by their size, small ones too."""
    first, second = read_checkpoint(run), read_checkpoint(other)
    assert first.tensors["rng.noise"].equal(second.tensors["rng.noise"])
    for name, tensor in first.group("model").items():
        torch.testing.assert_close(second.group("model")[name], tensor, rtol=1e-3, atol=2e-4)
    for key in ("step", "epoch", "batch", "skipped", "counted", "voice_segments"):
        assert first.state[key] == second.state[key]
    for one, another in zip(_records(run), _records(other), strict=True):
        assert one.pop("kind") == another.pop("kind")
        assert one == pytest.approx(another, rel=1e-3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    _train(ALONE, run, False)
    return run


def test_a_run_goes_on_with_another_number_of_processes(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    workers.run(2, tmp_path, _train, run, False, "training.max_steps=7")
    workers.run(4, tmp_path, _train, run, True, "training.max_steps=18")
    _train(ALONE, run, True)
    _close(whole, run)
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
    counts = [r["processes"] for r in read_log(run / "log.jsonl") if r["kind"] == "start"]
    assert counts == [2, 4, 1]


def test_a_signal_to_one_stops_all_and_loses_no_bit(tmp_path: Path) -> None:
    workers.run(2, tmp_path, _train, tmp_path / "whole", False)
    workers.run(2, tmp_path, _stopped, tmp_path / "parts", 1, 3)
    workers.run(2, tmp_path, _train, tmp_path / "parts", True)
    first, second = (read_checkpoint(tmp_path / name).tensors for name in ("whole", "parts"))
    assert all(tensor.equal(second[name]) for name, tensor in first.items())
    assert _records(tmp_path / "whole") == _records(tmp_path / "parts")


def test_a_signal_is_seen_where_losses_are_read(tmp_path: Path) -> None:
    workers.run(2, tmp_path, _stopped, tmp_path / "run", 4, 4)
    assert [r["step"] for r in _records(tmp_path / "run")] == [1, 2, 3, 4]


def test_the_others_notice_that_one_was_killed(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert workers.end(workers.start(2, tmp_path, _killed, run), seconds=30) == [1, -signal.SIGKILL]
    assert read_checkpoint(run).state["step"] == 5
    _train(ALONE, run, True)
    _close(whole, run)


def _refusals(processes: Processes, run: Path) -> None:
    def fail(rank: int) -> None:
        if processes.rank == rank:
            raise InputError("no such file")

    with pytest.raises(InputError, match="^process 1: no such file"), processes.together():
        fail(1)
    with pytest.raises(InputError, match="^no such file"):
        processes.from_first(lambda: fail(0))
    with pytest.raises(InputError, match="process 1 has other training data than process 0"):
        train(tiny.config(), TRACKS[processes.rank :], run, processes=processes)
    with pytest.raises(InputError, match="process 1 has other settings than process 0"):
        train(tiny.config(f"training.seed={processes.rank}"), TRACKS, run, processes=processes)
    with pytest.raises(InputError, match="no such run folder"):
        train(tiny.config(), TRACKS, run, resume=True, processes=processes)
    processes.wait()
    assert not run.exists()


def test_what_one_cannot_do_all_refuse(tmp_path: Path) -> None:
    workers.run(2, tmp_path, _refusals, tmp_path / "run")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.batch_size=8", "batch_size = 8 .* 3 processes cannot share it .* multiple of 3"),
        ("training.compile=true", "compile = true does not go with several processes"),
        ("training.cuda_graph=on", "cuda_graph = 'on' does not go with several processes"),
    ],
)
def test_settings_that_several_processes_cannot_have(setting: str, message: str) -> None:
    config = tiny.config("training.batch_size=6", setting)
    with pytest.raises(InputError, match=message):
        check_processes(config, Processes(size=3))
    check_processes(config, ALONE)


def _evaluate(processes: Processes, folder: Path) -> None:
    tracks = [tiny.track(seconds, index, str(index)) for index, seconds in enumerate(SECONDS)]
    tracks[2].voice[2000:6000] = 0
    model = build_model(tiny.config())
    found = evaluate(model, tracks, segment_length=2000, processes=processes)
    write_json(found, folder / f"{processes.size}-{processes.rank}.json")


SECONDS = [2.6, 0.1, 1.5, 1.0, 0.6]


def test_shared_evaluation_is_that_of_one_process(tmp_path: Path) -> None:
    _evaluate(ALONE, tmp_path)
    workers.run(2, tmp_path, _evaluate, tmp_path)
    alone = (tmp_path / "1-0.json").read_bytes()
    assert all((tmp_path / f"2-{rank}.json").read_bytes() == alone for rank in range(2))
