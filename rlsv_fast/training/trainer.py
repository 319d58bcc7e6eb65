"""The training loop of a representation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from rlsv_fast import nn
from rlsv_fast.data import SegmentStore
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.config import Config
from rlsv_fast.training.graph import GraphedStep, obstacle
from rlsv_fast.training.loop import Loop, Record, reading_interval
from rlsv_fast.training.update import Update

Monitor: TypeAlias = Callable[[Record, nn.RepresentationModel], None]


class Trainer(Loop):
    """Model, optimiser and position of one run.

    Args:
        config: settings.
        store: training segments, on the device.
        run: run folder.
        device: where to compute.
        processes: those that train together; each has a trainer.

    Raises:
        InputError: the settings demand a CUDA graph, and there can be none.
    """

    def __init__(
        self,
        config: Config,
        store: SegmentStore,
        run: Path,
        *,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.config = config
        self.store = store
        training = config.training
        self._obstacle = obstacle(config, store, processes)
        self.update = Update(config, device, reading_interval(training, device), processes)
        self.model = self.update.model
        self._graphed = None if self._obstacle else GraphedStep(self.update, store)
        super().__init__(
            config,
            training,
            self.update,
            self.model,
            batches=store.batches(training.batch_size),
            examples=store.voice_segments,
            seconds=config.data.segment_length / config.data.sample_rate,
            run=run,
            processes=processes,
        )

    def epoch_steps(self) -> Iterator[list[Record]]:
        """Make the steps that are left of this epoch, and yield what each brought to be logged."""
        if self._graphed is None:
            for voice, accompaniment in self.throughput.waited(self._epoch()):
                yield self.step(voice, accompaniment)
            return
        position = self.position
        self._graphed.begin(self.store.order(**self._order()), position.batch)
        while position.batch < self._batches:
            self.throughput.begin_step()
            self._graphed(self.throughput.mark)
            yield self.issued()

    def stopped_early(self) -> bool:
        """Whether early stopping has ended it; resumed without, such a run goes on."""
        return self.config.training.early_stopping and self.position.stopped_early

    def end_epoch(self) -> Record:
        """Go to the next epoch; what is logged of this one."""
        return self.position.end_epoch(early_stopping=self.config.training.early_stopping)

    def start_record(self) -> Record:
        """What is logged of a representation's run alone."""
        return {
            "cuda_graph": f"no: {self._obstacle}" if self._obstacle else "yes",
            "silent_segments": self.store.silent_segments,
            "too_short_tracks": self.store.skipped,
        }

    def _epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = self.processes.rows(self.config.training.batch_size)
        return self.store.epoch(**self._order(), start_batch=self.position.batch, rows=rows)

    def _order(self) -> dict[str, Any]:
        training = self.config.training
        return {
            "batch_size": training.batch_size,
            "seed": training.seed,
            "epoch": self.position.epoch,
            "paired": not self.config.data.random_mixing,
        }
