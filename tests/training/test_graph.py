"""The replayed step, as far as the CPU can show it; tests/gpu has the rest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlsv_fast.data import SegmentStore, audio, segments
from rlsv_fast.errors import InputError
from rlsv_fast.processes import Processes
from rlsv_fast.training import Interrupted, graph, read_checkpoint, read_log, train, trainer
from training import tiny
from training.test_trainer import interrupt_at

CUDA = torch.device("cuda")


class EagerRecorder:
    """Calls the body each time."""

    def __init__(self, body: Callable[[Any], None], generator: torch.Generator) -> None:
        self.body = body

    def __call__(self, mark: Any) -> None:
        self.body(mark)


@pytest.fixture
def by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train as with a graph: audio in one tensor, batches found by a counter on the device."""
    monkeypatch.setattr(
        segments,
        "place",
        lambda sources, device: [audio.DeviceAudio(parts, device) for parts in sources],
    )
    monkeypatch.setattr(trainer, "obstacle", lambda *arguments: None)
    monkeypatch.setattr(graph, "Recorder", EagerRecorder)


@pytest.mark.parametrize("mixing", ["true", "false"])
def test_batches_found_on_the_device_are_those_of_the_host(
    mixing: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tracks = [tiny.track(), tiny.track(1.5, seed=1, name="other")]
    config = tiny.config(f"data.random_mixing={mixing}", "training.epochs=2")
    train(config, tracks, tmp_path / "host")
    request.getfixturevalue("by_index")
    with pytest.raises(Interrupted):
        train(config, tracks, tmp_path / "device", callback=interrupt_at(3))
    train(config, tracks, tmp_path / "device", resume=True)
    start = next(read_log(tmp_path / "device" / "log.jsonl"))
    assert start["cuda_graph"] == "yes"
    host, device = (read_checkpoint(tmp_path / name) for name in ("host", "device"))
    assert host.state["step"] == device.state["step"] == 16
    assert all(tensor.equal(device.tensors[name]) for name, tensor in host.tensors.items())


def _store(kind: str, resident: bool = True) -> SegmentStore:
    store: Any = SimpleNamespace(device=torch.device(kind), resident=resident)
    return store


def test_when_a_graph_is_used() -> None:
    plain, on = tiny.config(), tiny.config("training.cuda_graph=on")
    assert graph.obstacle(plain, _store("cuda")) is None
    assert graph.obstacle(on, _store("cuda")) is None
    assert graph.obstacle(plain, _store("cpu")) == "not on CUDA"
    shared = graph.obstacle(plain, _store("cuda"), Processes(size=2))
    assert shared == "several processes share a step"
    assert graph.obstacle(tiny.config("training.cuda_graph=off"), _store("cuda")) == "switched off"
    compiled = tiny.config("training.compile=true")
    assert graph.obstacle(compiled, _store("cuda")) == "the objective is compiled"
    assert "does not fit" in str(graph.obstacle(plain, _store("cuda", resident=False)))
    with pytest.raises(InputError, match=r"training\.cuda_graph = 'on' needs the training set"):
        graph.obstacle(on, _store("cuda", resident=False))


def test_a_graph_on_the_cpu_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    # without tracks: the refusal comes before they are looked at
    with pytest.raises(InputError, match=r"training\.cuda_graph = 'on' needs a CUDA device"):
        train(tiny.config("training.cuda_graph=on"), [], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(tiny.config("training.max_steps=1"), [tiny.track()], tmp_path / "run")
    assert next(read_log(tmp_path / "run" / "log.jsonl"))["cuda_graph"] == "no: not on CUDA"


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the recorder asks of CUDA, in order."""
    calls: list[str] = []

    class Stream:
        def __init__(self, name: Any) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            calls.append(f"{self.name} waits for {other.name}")

    class Graph:
        def register_generator_state(self, generator: Any) -> None:
            calls.append("register")

        def replay(self) -> None:
            calls.append("replay")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(
        torch.cuda,
        "graph",
        lambda graph, stream: calls.append(f"record on {stream.name}") or nullcontext(),
    )
    return calls


def test_the_first_steps_are_eager_then_one_is_recorded(fake_cuda: list[str]) -> None:
    marks: list[Any] = []

    def body(mark: Any) -> None:
        marks.append(mark)
        fake_cuda.append("body")

    recorder = graph.Recorder(body, torch.Generator())
    for _ in range(graph.WARM_UP):
        recorder(print)
    assert fake_cuda == ["side waits for main", "body", "main waits for side"] * graph.WARM_UP
    fake_cuda.clear()
    for _ in range(3):
        recorder(print)
    assert fake_cuda == ["register", "record on side", "body", "replay", "replay", "replay"]
    # events of a timer cannot be read out of a graph
    assert marks == [print] * graph.WARM_UP + [None]


def test_what_cannot_be_recorded_names_the_remedy(fake_cuda: list[str]) -> None:
    def body(mark: Any) -> None:
        if mark is None:
            raise RuntimeError("operation not permitted when stream is capturing")

    recorder = graph.Recorder(body, torch.Generator())
    with pytest.raises(InputError, match=r"not permitted.*set training\.cuda_graph = 'off'"):
        for _ in range(graph.WARM_UP + 1):
            recorder(print)
