"""The step on the device: it never waits, and skips by itself what is not finite."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlsv_fast.errors import InputError
from rlsv_fast.training import (
    Interrupted,
    StepLosses,
    build_losses,
    build_model,
    optimisation,
    read_checkpoint,
    read_log,
    train,
    training_losses,
    update,
)
from training import tiny
from training.test_trainer import bad_steps, interrupt_at

CPU = torch.device("cpu")
WAITING = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select"}


def _update(*settings: str, capacity: int = 10) -> update.Update:
    return update.Update(tiny.config(*settings), CPU, capacity)


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    voice, accompaniment = torch.randn(2, 4, 2000) * 0.1
    return voice, accompaniment


def _state(found: update.Update) -> list[torch.Tensor]:
    moments = [
        value for p in found.model.parameters() for value in found.optimizer.state[p].values()
    ]
    return [tensor.detach().clone() for tensor in (*found.model.parameters(), *moments)]


class _Names(TorchDispatchMode):
    """Operators called, those that bring a value to the host among them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func._schema.name.split("::")[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", ["total-variation", "sinkhorn"])
@pytest.mark.parametrize("convention", ["paper", "code"])
def test_no_operator_of_a_step_brings_a_value_to_the_host(loss: str, convention: str) -> None:
    step = _update(f"loss.representation={loss}", f"convention={convention}")
    with _Names() as called:
        step(*_batch())
    assert {"_fused_adam_", "index_copy_"} <= called.names
    assert not called.names & WAITING
    with _Names() as called:
        torch.ones(()).item()
    assert called.names & WAITING


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_skipped_step_leaves_every_bit(
    value: float, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = _update()
    for _ in range(2):
        step(*_batch())
    before = _state(step)

    def spoilt(*arguments: Any) -> StepLosses:
        found = training_losses(*arguments)
        if where == "loss":
            return StepLosses(found.total * value, *found[1:])
        found.total.register_hook(lambda gradient: gradient * value)
        return found

    monkeypatch.setattr(update, "training_losses", spoilt)
    step(*_batch())
    assert all(torch.equal(one, other) for one, other in zip(before, _state(step), strict=True))
    monkeypatch.setattr(update, "training_losses", training_losses)
    step(*_batch())
    assert not all(torch.equal(one, other) for one, other in zip(before, _state(step), strict=True))
    readings = step.readings.fetch(4)
    finite = [torch.tensor([r.total, r.gradient_norm]).isfinite().all() for r in readings]
    assert finite == [True, True, False, True]


def test_a_first_step_that_is_skipped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [_batch() for _ in range(2)]
    plain, spoilt = _update(), _update()
    losses = training_losses
    monkeypatch.setattr(
        update,
        "training_losses",
        lambda *arguments: StepLosses(torch.nan * (f := losses(*arguments)).total, *f[1:]),
    )
    spoilt(*batches[0])
    monkeypatch.undo()
    noise = spoilt.noise.get_state()
    plain.noise.set_state(noise)
    for step in (plain, spoilt):
        step(*batches[1])
    assert all(
        torch.equal(one, other) for one, other in zip(_state(plain), _state(spoilt), strict=True)
    )


def test_readings_come_in_the_order_of_the_steps() -> None:
    readings = optimisation.Readings(3, CPU)
    for first in (0.0, 10.0):
        for step in range(2):
            readings.write(torch.arange(4.0) + first + step)
        assert readings.fetch(2) == [
            optimisation.Reading(*(first + step + torch.arange(4.0)).tolist()) for step in range(2)
        ]


def _records(run: Path) -> list[dict[str, Any]]:
    found = [
        record for record in read_log(run / "log.jsonl") if record["kind"] in ("step", "epoch")
    ]
    for record in found:
        del record["seconds"]
        record.pop("throughput", None)
    return found


SOME = ["training.epochs=2", "training.learning_rate=0.01", "training.checkpoint_every=5"]


@pytest.mark.parametrize("every", [2, 3, 100])
def test_reading_in_groups_changes_nothing(
    every: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for run, read_every in (("each", 1), ("groups", every)):
        bad_steps(monkeypatch, {2, 3, 7}, float("nan"))
        config = tiny.config(*SOME, f"training.read_every={read_every}")
        train(config, [tiny.track()], tmp_path / run)
        monkeypatch.undo()
    each, groups = tmp_path / "each", tmp_path / "groups"
    assert _records(each) == _records(groups)
    assert [record["skipped"] for record in _records(groups)][-1] == 3
    first, second = read_checkpoint(each), read_checkpoint(groups)
    assert all(tensor.equal(second.tensors[name]) for name, tensor in first.tensors.items())
    for key in ("step", "epoch", "batch", "skipped", "former", "reconstruction", "counted"):
        assert first.state[key] == second.state[key], key


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_signal_loses_no_step_of_a_group(stop: int, tmp_path: Path) -> None:
    config = tiny.config(*SOME, "training.read_every=3")
    train(config, [tiny.track()], tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, [tiny.track()], tmp_path / "parts", callback=interrupt_at(stop))
    steps = [record["step"] for record in _records(tmp_path / "parts") if record["kind"] == "step"]
    assert steps == list(range(1, read_checkpoint(tmp_path / "parts").state["step"] + 1))
    train(config, [tiny.track()], tmp_path / "parts", resume=True)
    assert _records(tmp_path / "whole") == _records(tmp_path / "parts")


def test_checkpoints_hold_the_sums_of_all_their_steps(tmp_path: Path) -> None:
    states = []

    def callback(record: dict[str, Any]) -> None:
        if record["kind"] == "step" and record["step"] == 3:
            states.append(json.loads((tmp_path / "run" / "state.json").read_text()))

    config = tiny.config(
        "training.checkpoint_every=2", "training.read_every=3", "training.epochs=1"
    )
    train(config, [tiny.track(5)], tmp_path / "run", callback=callback)
    assert [(state["step"], state["counted"]) for state in states] == [(2, 2)]


@pytest.mark.parametrize("every", [1, 4, 50])
def test_too_many_skipped_steps_are_noticed_at_the_next_reading(
    every: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad_steps(monkeypatch, {2, 3, 4}, float("nan"))
    config = tiny.config(
        "training.max_skipped=2", "training.checkpoint_every=2", f"training.read_every={every}"
    )
    with pytest.raises(InputError, match=r"stopped at step 4, the loss was not finite.*3 steps"):
        train(config, [tiny.track(6)], tmp_path / "run")
    assert read_checkpoint(tmp_path / "run").state["step"] == 2
    assert [record["step"] for record in _records(tmp_path / "run")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (["loss.representation=sinkhorn"], 1e-4),
        (["convention=code", "model.encoder=sinc", "model.decoder=conv"], 1e-4),
        (["training.precision=bfloat16", "model.encoder=cosine"], 3e-2),
    ],
    ids=str,
)
def test_the_objective_is_one_graph_to_the_compiler(settings: list[str], tolerance: float) -> None:
    config = tiny.config(*settings)
    voice, accompaniment = _batch()
    noise = torch.randn_like(voice)
    compiled = torch.compile(training_losses, fullgraph=True, backend="aot_eager")
    results = []
    for function in (training_losses, compiled):
        model = build_model(config)
        losses = function(model, build_losses(config), voice, accompaniment, noise, config)
        losses.total.backward()
        results.append([*losses, *(parameter.grad for parameter in model.parameters())])
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager, rtol=tolerance, atol=1e-2 * tolerance)


def test_a_compiled_run_follows_the_eager_one(tmp_path: Path) -> None:
    torch._dynamo.reset()  # other tests compile the same function for other settings
    for name, compile_ in (("eager", "false"), ("compiled", "true")):
        config = tiny.config("training.max_steps=3", f"training.compile={compile_}")
        with torch._dynamo.config.patch(error_on_recompile=True):
            train(config, [tiny.track()], tmp_path / name)
    first, second = (
        [r["total"] for r in _records(tmp_path / name) if r["kind"] == "step"]
        for name in ("eager", "compiled")
    )
    assert first == pytest.approx(second, rel=1e-4)
    with pytest.raises(InputError, match="made with training.compile = True"):
        train(tiny.config(), [tiny.track()], tmp_path / "compiled", resume=True)
