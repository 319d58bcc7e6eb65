"""Training on a GPU: graph against eager steps, no waiting, batches from host memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.backends import cuda as cuda_flags
from torch.backends import cudnn

for package in ("numpy", "soundfile", "safetensors", "tqdm"):
    pytest.importorskip(package)  # a machine that came for the kernels alone may lack them

from training import tiny  # noqa: E402
from training.test_trainer import interrupt_at  # noqa: E402

from rlsv_fast.data import SegmentStore, audio  # noqa: E402
from rlsv_fast.training import (  # noqa: E402
    Interrupted,
    StepLosses,
    Trainer,
    read_checkpoint,
    read_log,
    train,
    training_losses,
    update,
)

TRACKS = [tiny.track(), tiny.track(1.5, seed=1, name="other")]
SOME = ["training.epochs=3", "training.read_every=7", "training.checkpoint_every=10"]
variants = pytest.mark.parametrize(
    "settings",
    [
        [],
        ["loss.representation=sinkhorn"],
        ["convention=code"],
        ["training.precision=bfloat16"],
        ["training.precision=tf32", "model.encoder=sinc"],
    ],
    ids=" ".join,
)


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in read_log(run / "log.jsonl") if record["kind"] == kind]


def assert_same_path(one: Path, other: Path) -> None:
    """The noise to the bit; losses and weights up to what another choice of kernels may do."""
    first, second = ([record["total"] for record in records(run, "step")] for run in (one, other))
    assert len(first) == len(second) == 24
    assert first == pytest.approx(second, rel=1e-3, abs=1e-3)
    found = read_checkpoint(one), read_checkpoint(other)
    assert found[0].tensors["rng.noise"].equal(found[1].tensors["rng.noise"])
    for name, tensor in found[0].group("model").items():
        torch.testing.assert_close(found[1].group("model")[name], tensor, rtol=1e-2, atol=1e-4)


@variants
def test_replayed_steps_follow_the_eager_path(
    settings: list[str], cuda: str, tmp_path: Path
) -> None:
    for graph in ("on", "off"):
        config = tiny.config(*SOME, *settings, f"training.cuda_graph={graph}")
        train(config, TRACKS, tmp_path / graph, device=cuda)
    assert records(tmp_path / "on", "start")[0]["cuda_graph"] == "yes"
    assert_same_path(tmp_path / "on", tmp_path / "off")


def test_auto_takes_a_graph_and_a_resumed_run_goes_on_with_one(cuda: str, tmp_path: Path) -> None:
    config = tiny.config(*SOME)
    train(config, TRACKS, tmp_path / "whole", device=cuda)
    with pytest.raises(Interrupted):
        train(config, TRACKS, tmp_path / "parts", device=cuda, callback=interrupt_at(10))
    train(config, TRACKS, tmp_path / "parts", device=cuda, resume=True)
    assert {r["cuda_graph"] for r in records(tmp_path / "parts", "start")} == {"yes"}
    assert_same_path(tmp_path / "whole", tmp_path / "parts")


def test_audio_that_stays_on_the_host_gives_the_same_bits(
    cuda: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tiny.config(*SOME, "training.cuda_graph=off")
    train(config, TRACKS, tmp_path / "there", device=cuda)
    monkeypatch.setattr(audio, "fits", lambda needed, free, total: False)
    train(config, TRACKS, tmp_path / "here", device=cuda)
    there, here = (read_checkpoint(tmp_path / name).tensors for name in ("there", "here"))
    assert all(tensor.equal(here[name]) for name, tensor in there.items())


@pytest.mark.parametrize("graph", ["on", "off"])
def test_nothing_waits_for_the_device_between_readings(
    graph: str, cuda: str, tmp_path: Path
) -> None:
    config = tiny.config("training.read_every=50", f"training.cuda_graph={graph}")
    store = SegmentStore(TRACKS, 2000, 1000, device=cuda)
    trainer = Trainer(config, store, tmp_path, device=torch.device(cuda))
    steps = trainer.epoch_steps()
    for _ in range(5):  # the warm-up and the recording, which does wait
        next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            assert next(steps) == []
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [record["step"] for record in trainer.read()] == list(range(1, 9))


@pytest.mark.parametrize("bad", [2, 6])  # before and after the recording
def test_a_replayed_step_skips_by_itself(
    bad: int, cuda: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil = torch.ones((), device=cuda)

    def losses(*arguments: Any) -> StepLosses:
        found = training_losses(*arguments)
        return StepLosses(found.total * spoil, *found[1:])

    monkeypatch.setattr(update, "training_losses", losses)
    config = tiny.config("training.read_every=50", "training.cuda_graph=on")
    store = SegmentStore(TRACKS, 2000, 1000, device=cuda)
    trainer = Trainer(config, store, tmp_path, device=torch.device(cuda))
    steps = trainer.epoch_steps()
    for _ in range(bad - 1):
        next(steps)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    spoil.fill_(float("nan"))
    next(steps)
    for parameter, former in zip(trainer.model.parameters(), before, strict=True):
        assert torch.equal(parameter, former)
    spoil.fill_(1.0)
    next(steps)
    assert [record["skipped"] for record in trainer.read()] == [0] * (bad - 1) + [1, 1]
    changed = zip(trainer.model.parameters(), before, strict=True)
    assert not all(torch.equal(parameter, former) for parameter, former in changed)


def test_tf32_is_the_settings_and_not_the_process(cuda: str, tmp_path: Path) -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("TF32 needs compute capability 8.0")
    former = cuda_flags.matmul.allow_tf32, cudnn.allow_tf32
    losses = {}
    try:
        for around in (False, True):
            cuda_flags.matmul.allow_tf32 = cudnn.allow_tf32 = around
            for precision in ("float32", "tf32"):
                run = tmp_path / f"{precision}-{around}"
                config = tiny.config(
                    *("model.components=64", "model.kernel_size=256", "model.hop=64"),
                    *("training.max_steps=2", f"training.precision={precision}"),
                )
                train(config, TRACKS, run, device=cuda)
                losses[precision, around] = [r["total"] for r in records(run, "step")]
                assert cuda_flags.matmul.allow_tf32 == cudnn.allow_tf32 == around
    finally:
        cuda_flags.matmul.allow_tf32, cudnn.allow_tf32 = former
    assert losses["float32", False] == losses["float32", True]
    assert losses["tf32", False] == losses["tf32", True]
    assert losses["float32", False] != losses["tf32", False]
