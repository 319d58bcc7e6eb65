import time
from pathlib import Path
from typing import Any

import pytest
import torch

from rlsv_fast.data import SegmentStore
from rlsv_fast.training import Trainer, describe_throughput, read_log, train
from rlsv_fast.training.throughput import Throughput
from training import tiny

PARTS = {"data", "encoder", "decoder", "losses", "optimiser"}


def _throughput() -> Throughput:
    return Throughput(4, 0.25, torch.device("cpu"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that stands still but for ``advance``."""

    class Clock:
        now = 100.0

        def advance(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def test_rates_waiting_and_parts(clock: Any) -> None:
    throughput = _throughput()

    def batches() -> Any:
        for _ in range(4):
            clock.advance(0.5)
            yield None

    for _ in throughput.waited(batches()):
        throughput.mark("data")
        clock.advance(1.0)
        throughput.mark("encoder")
        clock.advance(0.5)
        throughput.mark("losses")
        throughput.end_step()
        throughput.collect()
    clock.advance(2.0)
    record = throughput.epoch()
    assert record["steps_per_second"] == pytest.approx(4 / 10)
    assert record["segments_per_second"] == pytest.approx(16 / 10)
    assert record["audio_per_second"] == pytest.approx(4 / 10)
    assert record["data_wait"] == pytest.approx(2 / 10)
    assert record["parts"] == pytest.approx({"data": 0.25, "encoder": 0.5, "losses": 0.25})
    assert record["peak_memory"] > 50e6

    # the next epoch begins at zero, the session does not
    clock.advance(5.0)
    throughput.end_step()
    record = throughput.epoch()
    assert (record["steps_per_second"], record["data_wait"]) == (pytest.approx(1 / 5), 0)
    assert record["parts"] == {}
    assert throughput.session()["steps_per_second"] == pytest.approx(5 / 15)


def test_only_the_first_step_between_two_collections_is_taken_apart(clock: Any) -> None:
    throughput = _throughput()
    for part in ("data", "encoder", "losses"):
        throughput.begin_step()
        clock.advance(1.0)
        throughput.mark(part)
        throughput.end_step()
        throughput.mark("later")  # of a step that nobody began
    throughput.collect()
    throughput.begin_step()
    clock.advance(3.0)
    throughput.mark("decoder")
    throughput.end_step()
    clock.advance(1.0)
    throughput.collect()
    assert throughput.epoch()["parts"] == pytest.approx({"data": 0.25, "decoder": 0.75})


@pytest.mark.parametrize("slow", ["encoder", "decoder", "losses"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_time_goes_to_the_part_that_took_it(
    slow: str, direction: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tiny.config()
    store = SegmentStore([tiny.track()], 2000, 1000)
    trainer = Trainer(config, store, tmp_path, device=torch.device("cpu"))
    batches = list(trainer._epoch())
    trainer.step(*batches[0])
    trainer.throughput.restart()

    class Sleep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            if direction == "forward":
                time.sleep(0.2)
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            if direction == "backward":
                time.sleep(0.2)
            return gradient

    losses = trainer.update.losses
    assert losses.representation is not None
    owners: dict[str, torch.nn.Module] = {
        "encoder": trainer.model.encoder,
        "decoder": trainer.model.decoder,
        "losses": losses.representation,
    }
    forward = owners[slow].forward
    monkeypatch.setattr(owners[slow], "forward", lambda *inputs: Sleep.apply(forward(*inputs)))
    for batch in trainer.throughput.waited(batches[:1]):
        trainer.step(*batch)
    parts = trainer.throughput.epoch()["parts"]
    assert parts.keys() == PARTS
    assert max(parts, key=lambda part: parts[part]) == slow
    assert parts[slow] > 0.5


def test_epochs_and_the_end_are_logged(tmp_path: Path) -> None:
    config = tiny.config("training.epochs=2", "training.max_steps=7")
    train(config, [tiny.track(1.5)], tmp_path / "run")  # three steps make an epoch
    train(config, [tiny.track(1.5)], tmp_path / "run", resume=True)
    records = [r for r in read_log(tmp_path / "run" / "log.jsonl") if r["kind"] != "step"]
    # the second call had nothing to do
    assert [record["kind"] for record in records] == ["start", *["epoch"] * 2, "end", "start"]
    for record in records[1:4]:
        found = record["throughput"]
        assert found["parts"].keys() == PARTS
        assert sum(found["parts"].values()) == pytest.approx(1)
        assert 0 <= found["data_wait"] < 1
        assert found["segments_per_second"] == pytest.approx(4 * found["steps_per_second"])
        assert found["audio_per_second"] == pytest.approx(found["steps_per_second"])
    assert records[3]["step"] == 6


def test_a_compiled_objective_is_one_part(tmp_path: Path) -> None:
    config = tiny.config("training.compile=true", "training.max_steps=1")
    train(config, [tiny.track()], tmp_path / "run")
    (end,) = (r for r in read_log(tmp_path / "run" / "log.jsonl") if r["kind"] == "end")
    assert end["throughput"]["parts"].keys() == {"data", "model", "optimiser"}


def test_description() -> None:
    record = {
        "steps_per_second": 3.125,
        "segments_per_second": 25.0,
        "audio_per_second": 25.0,
        "data_wait": 0.004,
        "parts": {"data": 0.01, "encoder": 0.99},
        "peak_memory": 1_250_000_000,
    }
    assert describe_throughput(record) == (
        "3.12 steps/s, 25 segments/s, 25 s of audio per second; waited for data 0.4 % of the time; "
        "of a step data 1.0 %, encoder 99.0 %; peak memory 1.25 GB"
    )
