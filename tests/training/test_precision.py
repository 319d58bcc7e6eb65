from pathlib import Path
from typing import Any

import pytest
import torch
from torch.backends import cuda, cudnn

from rlsv_fast.errors import InputError
from rlsv_fast.training import (
    build_losses,
    build_model,
    read_checkpoint,
    read_log,
    train,
    training_losses,
)
from rlsv_fast.training.precision import tf32
from training import tiny


def _flags() -> tuple[Any, ...]:
    newer = (cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)
    try:
        return (*newer, cuda.matmul.allow_tf32, cudnn.allow_tf32)
    except RuntimeError:
        return newer


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_set_and_put_back(newer: bool, allowed: bool) -> None:
    former = _flags()
    try:
        if newer:
            cuda.matmul.fp32_precision = "tf32"
            cudnn.conv.fp32_precision = "ieee"
        before = _flags()
        with pytest.raises(ZeroDivisionError), tf32(allowed):
            assert cuda.matmul.allow_tf32 == cudnn.allow_tf32 == allowed
            assert (cuda.matmul.fp32_precision == "tf32") == allowed
            assert (cudnn.conv.fp32_precision == "tf32") == allowed
            _ = 1 / 0
        assert _flags() == before
    finally:
        cuda.matmul.allow_tf32, cudnn.allow_tf32 = former[3:]
        cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = former[:3]
    assert _flags() == former


@pytest.mark.parametrize("loss", ["total-variation", "sinkhorn"])
def test_bfloat16_reaches_the_model_and_not_the_losses(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config("training.precision=bfloat16", f"loss.representation={loss}")
    model, losses = build_model(config), build_losses(config)
    assert losses.representation is not None
    types: dict[str, list[torch.dtype]] = {}

    def spy(owner: torch.nn.Module, name: str) -> None:
        forward = owner.forward

        def spied(*arguments: Any) -> Any:
            assert torch.is_autocast_enabled("cpu") == (name == "encoder")
            result = forward(*arguments)
            tensors = (*arguments, result)
            types[name] = [x.dtype for x in tensors if isinstance(x, torch.Tensor)]
            return result

        monkeypatch.setattr(owner, "forward", spied)

    spy(model.encoder, "encoder")
    spy(losses.reconstruction, "reconstruction")
    spy(losses.representation, "representation")
    voice, accompaniment, noise = torch.randn(3, 4, 2000)
    found = training_losses(model, losses, voice, accompaniment, noise, config)
    found.total.backward()
    assert types["encoder"] == [torch.float32, torch.bfloat16]
    assert types["reconstruction"] == [torch.float32] * 3
    assert set(types["representation"]) <= {torch.float32, torch.int64}
    assert all(value.dtype == torch.float32 for value in found)
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32


@pytest.mark.parametrize("seed", [1, 2])
def test_bfloat16_learns_what_float32_does(seed: int, tmp_path: Path) -> None:
    tracks = [tiny.track(), tiny.track(1.5, seed=1, name="other")]
    ends = []
    for precision in ("float32", "bfloat16"):
        config = tiny.config(
            *("model.components=32", "model.kernel_size=128", "model.hop=32"),
            *("loss.representation=sinkhorn", "training.epochs=25", "training.max_steps=200"),
            *("training.learning_rate=3e-4", f"training.seed={seed}"),
            f"training.precision={precision}",
        )
        run = tmp_path / precision
        train(config, tracks, run)
        epochs = [r["reconstruction"] for r in read_log(run / "log.jsonl") if r["kind"] == "epoch"]
        assert epochs[-1] < epochs[0] - 8
        ends.append(epochs[-1])
        dtypes = {name: t.dtype for name, t in read_checkpoint(run).tensors.items()}
        assert dtypes.pop("rng.noise") == torch.uint8
        assert set(dtypes.values()) == {torch.float32}
    assert ends[0] != ends[1]
    assert ends[1] == pytest.approx(ends[0], abs=0.3)


def test_tf32_changes_no_bit_on_the_cpu(tmp_path: Path) -> None:
    runs = []
    for precision in ("float32", "tf32"):
        config = tiny.config("training.max_steps=3", f"training.precision={precision}")
        train(config, [tiny.track()], tmp_path / precision)
        runs.append(read_checkpoint(tmp_path / precision).tensors)
    assert all(tensor.equal(runs[1][name]) for name, tensor in runs[0].items())


def test_a_resumed_run_keeps_its_precision_and_may_read_more_rarely(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny.config("training.max_steps=2"), [tiny.track()], run)
    with pytest.raises(InputError, match="made with training.precision = 'float32'"):
        train(tiny.config("training.precision=bfloat16"), [tiny.track()], run, resume=True)
    settings = ["training.max_steps=4", "training.read_every=7", "training.cuda_graph=off"]
    train(tiny.config(*settings), [tiny.track()], run, resume=True)
    assert read_checkpoint(run).state["step"] == 4
