import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rlsv_fast import nn
from rlsv_fast.errors import InputError
from rlsv_fast.training import (
    Interrupted,
    StepLosses,
    build_losses,
    build_model,
    load_run,
    read_checkpoint,
    read_log,
    train,
    update,
)
from training import tiny


def interrupt_at(step: int, number: int = signal.SIGINT) -> Any:
    def callback(record: dict[str, Any]) -> None:
        if record["kind"] == "step" and record["step"] == step:
            os.kill(os.getpid(), number)

    return callback


def _tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint.safetensors")


def _kinds(run: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in read_log(run / "log.jsonl") if record["kind"] == kind]


def test_training_lowers_the_loss_and_fills_the_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    records: list[dict[str, Any]] = []
    train(tiny.config("training.epochs=6"), [tiny.track()], run, callback=records.append)
    names = {path.name for path in run.iterdir()}
    assert names == {"config.toml", "log.jsonl", "state.json"} | {
        f"checkpoint{which}.safetensors" for which in ("", ".previous")
    }
    epochs = _kinds(run, "epoch")
    assert [record["epoch"] for record in epochs] == list(range(6))
    assert epochs[-1]["reconstruction"] < epochs[0]["reconstruction"] - 1
    steps = _kinds(run, "step")
    assert [record["step"] for record in steps] == list(range(1, len(steps) + 1))
    assert {"total", "reconstruction", "representation", "seconds"} <= steps[0].keys()
    assert list(read_log(run / "log.jsonl")) == json.loads(json.dumps(records))
    assert json.loads((run / "state.json").read_text())["step"] == len(steps)


@pytest.mark.parametrize("loss", ["total-variation", "sinkhorn"])
@pytest.mark.parametrize("stop", [1, 8, 9])  # 8 steps make an epoch
def test_a_resumed_run_ends_with_the_same_bits(loss: str, stop: int, tmp_path: Path) -> None:
    config = tiny.config(
        f"loss.representation={loss}", "training.epochs=2", "training.learning_rate=0.01"
    )
    tracks = [tiny.track(), tiny.track(1.5, seed=1, name="other")]
    train(config, tracks, tmp_path / "whole")
    with pytest.raises(Interrupted) as caught:
        train(config, tracks, tmp_path / "parts", callback=interrupt_at(stop))
    assert caught.value.signal_number == signal.SIGINT
    assert read_checkpoint(tmp_path / "parts").state["step"] == stop
    train(config, tracks, tmp_path / "parts", resume=True)
    whole, parts = _tensors(tmp_path / "whole"), _tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert tensor.equal(parts[name]), name
    for kind in ("step", "epoch"):
        first, second = (_kinds(tmp_path / run, kind) for run in ("whole", "parts"))
        for record in first + second:
            del record["seconds"]
            record.pop("throughput", None)
        assert first == second


def test_a_signal_before_the_first_step_waits_for_it(tmp_path: Path) -> None:
    def callback(record: dict[str, Any]) -> None:
        if record["kind"] == "start":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(tiny.config(), [tiny.track()], tmp_path / "run", callback=callback)
    assert read_checkpoint(tmp_path / "run").state["step"] == 1
    assert [record["step"] for record in _kinds(tmp_path / "run", "end")] == [1]


def test_sigterm_saves_as_well(tmp_path: Path) -> None:
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        train(
            *(tiny.config(), [tiny.track()], tmp_path / "run"),
            callback=interrupt_at(2, signal.SIGTERM),
        )
    assert caught.value.signal_number == signal.SIGTERM
    assert read_checkpoint(tmp_path / "run").state["step"] == 2
    assert signal.getsignal(signal.SIGTERM) is former


def test_total_variation_follows_the_carriers_or_the_numbers() -> None:
    model = build_model(tiny.config())
    with torch.no_grad():
        model.decoder.frequency.copy_(model.decoder.frequency.flip(0).roll(2))
    representation = torch.rand(2, model.components, 5)
    by_carrier = build_losses(tiny.config("training.sort=update")).represent(representation, model)
    by_number = build_losses(tiny.config("training.sort=none")).represent(representation, model)
    variation = nn.TotalVariationLoss()
    assert by_number == variation(representation)
    assert by_carrier == variation(representation[:, model.order()])
    assert by_carrier != by_number


def test_early_stopping_ends_a_run_that_gets_worse(tmp_path: Path) -> None:
    settings = ["training.learning_rate=1", "training.epochs=50"]
    run = tmp_path / "run"
    train(tiny.config(*settings, "training.early_stopping=true"), [tiny.track()], run)
    epochs = _kinds(run, "epoch")
    assert len(epochs) < 50
    assert epochs[-1]["reconstruction"] >= epochs[-2]["reconstruction"]
    assert all(
        later["reconstruction"] < earlier["reconstruction"]
        for earlier, later in zip(epochs[:-2], epochs[1:-1], strict=True)
    )
    assert read_checkpoint(run).state["stopped_early"] is True


def test_a_run_that_stopped_early_goes_on_without_early_stopping(tmp_path: Path) -> None:
    settings = ["training.learning_rate=1", "training.epochs=50"]
    run = tmp_path / "run"
    train(tiny.config(*settings, "training.early_stopping=true"), [tiny.track()], run)
    stopped = len(_kinds(run, "epoch"))
    settings[1] = f"training.epochs={stopped + 2}"
    train(tiny.config(*settings), [tiny.track()], run, resume=True)
    assert [record["epoch"] for record in _kinds(run, "epoch")] == list(range(stopped + 2))
    assert read_checkpoint(run).state["stopped_early"] is False


def test_a_resumed_run_takes_the_new_learning_rate(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny.config("training.max_steps=2"), [tiny.track()], run)
    before = read_checkpoint(run).group("model")
    lower = tiny.config("training.max_steps=4", "training.learning_rate=1e-12")
    train(lower, [tiny.track()], run, resume=True)
    after = read_checkpoint(run)
    assert after.state["step"] == 4
    for name, tensor in after.group("model").items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-10)
    assert load_run(run)[0].training.learning_rate == 1e-12


def bad_steps(monkeypatch: pytest.MonkeyPatch, bad: set[int], value: float) -> None:
    whole = update.training_losses
    calls = iter(range(1, 1000))

    def losses(*arguments: Any) -> StepLosses:
        found = whole(*arguments)
        return StepLosses(found.total * value, *found[1:]) if next(calls) in bad else found

    monkeypatch.setattr(update, "training_losses", losses)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_skipped_and_counted(
    value: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad_steps(monkeypatch, {2, 3}, value)
    config = tiny.config("training.max_steps=4", "training.max_skipped=2")
    model = train(config, [tiny.track()], tmp_path / "run")
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert [record["skipped"] for record in _kinds(tmp_path / "run", "step")] == [0, 1, 2, 2]
    assert _kinds(tmp_path / "run", "step")[1]["total"] is None


def test_too_many_of_them_stop_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad_steps(monkeypatch, {2, 3, 4}, float("nan"))
    config = tiny.config("training.max_skipped=2", "training.checkpoint_every=2")
    with pytest.raises(InputError, match=r"stopped at step 4, the loss was not finite.*3 steps"):
        train(config, [tiny.track()], tmp_path / "run")
    assert read_checkpoint(tmp_path / "run").state["step"] == 2


def test_a_finished_run_can_be_extended_but_not_changed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny.config("training.max_steps=2"), [tiny.track()], run)
    train(tiny.config("training.max_steps=2"), [tiny.track()], run, resume=True)
    assert read_checkpoint(run).state["step"] == 2
    train(tiny.config("training.max_steps=5"), [tiny.track()], run, resume=True)
    assert read_checkpoint(run).state["step"] == 5
    assert load_run(run)[0].training.max_steps == 5
    before = (run / "checkpoint.safetensors").read_bytes()
    with pytest.raises(InputError, match="made with model.hop = 16, not 32"):
        train(tiny.config("model.hop=32"), [tiny.track()], run, resume=True)
    with pytest.raises(InputError, match="voice segments"):
        train(tiny.config("training.max_steps=5"), [tiny.track(5)], run, resume=True)
    with pytest.raises(InputError, match="--resume"):
        train(tiny.config(), [tiny.track()], run)
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path: Path) -> None:
    config = tiny.config("training.max_steps=2")
    train(config, [tiny.track()], tmp_path / "whole")
    train(config, [tiny.track()], tmp_path / "killed")
    (tmp_path / "killed" / "checkpoint.safetensors").unlink()
    (tmp_path / "killed" / "state.json").unlink()
    train(config, [tiny.track()], tmp_path / "killed", resume=True)
    whole, killed = _tensors(tmp_path / "whole"), _tensors(tmp_path / "killed")
    assert all(tensor.equal(killed[name]) for name, tensor in whole.items())
    assert len(_kinds(tmp_path / "killed", "step")) == 2


def test_bad_data_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="longer than"):
        train(tiny.config("data.segment_length=100000"), [tiny.track()], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear reader")
    with pytest.raises(InputError, match="not a run folder"):
        train(tiny.config(), [tiny.track()], tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_line_that_a_kill_has_cut_is_dropped(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny.config("training.max_steps=2"), [tiny.track()], run)
    with (run / "log.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 3}\n{"kind": "st')
    train(tiny.config("training.max_steps=3"), [tiny.track()], run, resume=True)
    steps = _kinds(run, "step")
    assert [record["step"] for record in steps] == [1, 2, 3] and "total" in steps[2]


def test_settings_that_are_not_the_runs_any_more_are_refused_or_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    train(tiny.config("training.max_steps=2"), [tiny.track()], run)
    before = read_checkpoint(run)
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("noise = 0.001", "noise = 0.009"))
    damaged = tiny.config("training.max_steps=3", "training.noise=0.009")
    with pytest.raises(InputError, match=r"config\.toml: says training\.noise = 0\.009.*0\.001"):
        train(damaged, [tiny.track()], run, resume=True)
    assert read_checkpoint(run).state == before.state
    (run / "config.toml").write_text(text.replace("overlap = 1000", "overlap = 2000"))
    with pytest.raises(InputError, match=r"config\.toml: data\.overlap = 2000 must be less than"):
        load_run(run)
    (run / "config.toml").write_text(text)
    train(tiny.config("training.max_steps=3"), [tiny.track()], run, resume=True)
    assert "training.max_steps = 3 from here on, until now 2" in caplog.text
