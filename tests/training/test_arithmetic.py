"""What the bits of a run depend on: repeated and resumed runs, and the number of threads."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from rlsv_fast.training import Interrupted, arithmetic, load_run, resolve, train
from rlsv_fast.training.log import read_log
from rlsv_fast.training.update import Update
from training import tiny

# Cut along the summed axis into as many parts as there are threads, at some sizes (docs page).
PRODUCTS = {"aten.bmm.out", "aten.bmm.default", "aten.mm.default"}


class ManyThreads(TorchDispatchMode):
    """Runs every operation with several numbers of threads, on copies of the same inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.differing: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # neither random numbers, which move on, nor memory that is not written yet
        if func.is_view or torch.Tag.nondeterministic_seeded in func.tags or "empty" in str(func):
            return func(*args, **kwargs)
        results = []
        for threads in (1, 2, 4):
            copies = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, (args, kwargs))
            with arithmetic.computing_threads(threads):
                output = func(*copies[0], **copies[1])
            everything = tree_flatten((output, copies))[0]
            results.append([x.nan_to_num() for x in everything if isinstance(x, Tensor)])
        self.names.add(str(func))
        if any(not x.equal(y) for other in results for x, y in zip(results[0], other, strict=True)):
            self.differing.add(str(func))
        return func(*args, **kwargs)


@pytest.mark.parametrize(
    ("convention", "loss"), [("paper", "sinkhorn"), ("code", "total-variation")]
)
def test_only_torchs_products_depend_on_the_number_of_threads(convention: str, loss: str) -> None:
    config = resolve(
        overrides=[f"loss.representation={loss}", f"convention={convention}"]
        + ["model.components=64", "model.kernel_size=384", "model.hop=96"]
        + ["data.sample_rate=8000", "data.segment_length=8000", "data.overlap=4000"]
    )
    update = Update(config, torch.device("cpu"), 1)
    signals = 0.1 * torch.randn(2, 5, 8000)  # enough for torch to share a sum among threads
    # backward on this thread, whose dispatch mode it is
    with torch.autograd.set_multithreading_enabled(False), ManyThreads() as mode:
        update(*signals)
    assert any(name.startswith("rlsv_fast.") for name in mode.names)
    assert {"aten.bmm.out", "aten._fused_adam_.default"} <= mode.names
    assert mode.differing <= PRODUCTS


@pytest.mark.parametrize("threads", [2, 4])
def test_repeated_and_resumed_runs_end_with_the_same_bits(threads: int, tmp_path: Path) -> None:
    config = tiny.config(f"training.threads={threads}", "loss.representation=sinkhorn")
    former = torch.get_num_threads()
    for name in ("first", "second"):
        train(config, [tiny.track()], tmp_path / name)
    with pytest.raises(Interrupted):
        train(config, [tiny.track()], tmp_path / "third", callback=_interrupt)
    # whatever this process computes with: the run has its own number
    with arithmetic.computing_threads(3):
        train(config, [tiny.track()], tmp_path / "third", resume=True)
    assert torch.get_num_threads() == former
    first, *others = (load_run(tmp_path / name)[1].state_dict() for name in _NAMES)
    for other in others:
        assert all(tensor.equal(other[name]) for name, tensor in first.items())
    for record in read_log(tmp_path / "third/log.jsonl"):
        if record["kind"] == "start":
            assert record["threads"] == threads and record["instructions"]


_NAMES = ("first", "second", "third")


def _interrupt(record: dict[str, Any]) -> None:
    if record["kind"] == "step" and record["step"] == 3:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("threads", "warned"), [(1, False), (2, True)])
def test_resuming_with_other_threads_warns(
    threads: int, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny.config()
    with arithmetic.computing_threads(1), pytest.raises(Interrupted):
        train(config, [tiny.track()], tmp_path / "run", callback=_interrupt)
    with arithmetic.computing_threads(threads):
        train(config, [tiny.track()], tmp_path / "run", resume=True)
    assert ("threads = 1 became 2" in caplog.text) == warned
    assert bool(caplog.records) == warned
