"""The whole step as a CUDA graph: recorded once, replayed by one call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlsv_fast.data import SegmentStore
from rlsv_fast.errors import InputError
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.config import Config
from rlsv_fast.training.step import Mark
from rlsv_fast.training.update import Update

WARM_UP = 3
"""Steps before the recording: libraries choose algorithms and take their workspaces in them."""


def check_device(config: Config, device: torch.device | str) -> None:
    """Raise InputError where the settings ask for what a device cannot do."""
    if config.training.cuda_graph == "on" and torch.device(device).type != "cuda":
        raise InputError(
            f"training.cuda_graph = 'on' needs a CUDA device, this run is on {device}; choose "
            "'auto' or 'off'"
        )


def obstacle(config: Config, store: SegmentStore, processes: Processes = ALONE) -> str | None:
    """Why the steps of a run are not replayed from a graph; None if they are.

    Raises:
        InputError: they cannot be, although the settings demand it.
    """
    check_device(config, store.device)
    if config.training.cuda_graph == "off":
        return "switched off"
    if store.device.type != "cuda":
        return "not on CUDA"
    if processes.several:
        return "several processes share a step"
    if config.training.compile:
        return "the objective is compiled"
    if not store.resident:
        if config.training.cuda_graph == "on":
            raise InputError(
                "training.cuda_graph = 'on' needs the training set in the device's memory, and it "
                "leaves too little for the model there; choose 'auto' or 'off'"
            )
        return "the training set does not fit into the device's memory"
    return None


class GraphedStep:
    """A step that finds its batch by itself, on the device.

    The first steps run eagerly, on a stream beside the current one as recording requires, and
    count like all others; the recording itself executes nothing. So the path of the training is
    the eager one.

    Args:
        update: the step on a given batch.
        store: training segments, resident on the device.
    """

    def __init__(self, update: Update, store: SegmentStore) -> None:
        self._update = update
        self._store = store
        size = update.config.training.batch_size
        shape = (store.batches(size), size)
        self._voice = torch.zeros(shape, dtype=torch.int64, device=store.device)
        self._accompaniment = torch.zeros_like(self._voice)
        self._batch = torch.zeros(1, dtype=torch.int64, device=store.device)
        self._runner = Recorder(self._body, update.noise)

    def begin(self, order: tuple[Tensor, Tensor], batch: int) -> None:
        """Go on with an epoch at a batch.

        Args:
            order: from :meth:`SegmentStore.order`.
            batch: first batch to come.
        """
        self._voice.copy_(order[0])
        self._accompaniment.copy_(order[1])
        self._batch.fill_(batch)

    def __call__(self, mark: Mark) -> None:
        """Make the next step."""
        self._runner(mark)

    def _body(self, mark: Mark | None) -> None:
        voice, accompaniment = self._store.gather(
            self._voice.index_select(0, self._batch)[0],
            self._accompaniment.index_select(0, self._batch)[0],
        )
        self._update(voice, accompaniment, mark=mark)
        self._batch.add_(1)


class Recorder:
    """Calls a function a few times, then records what it does on the device and replays that.

    Args:
        body: takes a mark, or None while it is recorded; touches the same memory at each call.
        generator: of its random numbers, which go on from replay to replay.
    """

    def __init__(self, body: Callable[[Mark | None], None], generator: torch.Generator) -> None:
        self._body = body
        self._generator = generator
        self._stream = torch.cuda.Stream(generator.device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self, mark: Mark) -> None:
        """Run the function once, in whichever way it is time for."""
        self._calls += 1
        if self._calls <= WARM_UP:
            self._beside(mark)
            return
        if self._graph is None:
            self._graph = self._record()
        self._graph.replay()

    def _beside(self, mark: Mark) -> None:
        current = torch.cuda.current_stream(self._generator.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._body(mark)
        current.wait_stream(self._stream)

    def _record(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._body(None)
        except RuntimeError as error:
            raise InputError(
                f"the step cannot be recorded as a CUDA graph ({error}); set "
                "training.cuda_graph = 'off'"
            ) from error
        return graph
