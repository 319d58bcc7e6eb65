"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from rlsv_fast import nn
from rlsv_fast.data import SegmentStore
from rlsv_fast.errors import InputError
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.arithmetic import arithmetic, differences
from rlsv_fast.training.checkpoint import (
    check_settings,
    load_model,
    load_optimizer,
    save_checkpoint,
)
from rlsv_fast.training.checkpoint_files import read_checkpoint, settle
from rlsv_fast.training.config import Config
from rlsv_fast.training.graph import GraphedStep, obstacle
from rlsv_fast.training.log import RunLog
from rlsv_fast.training.position import Position
from rlsv_fast.training.run_files import LOG
from rlsv_fast.training.settings import flatten
from rlsv_fast.training.signals import Interrupted, StopRequest
from rlsv_fast.training.throughput import Throughput
from rlsv_fast.training.update import Update

Record: TypeAlias = dict[str, Any]
Callback: TypeAlias = Callable[[Record], None]
Monitor: TypeAlias = Callable[[Record, nn.RepresentationModel], None]

_READ_EVERY = 50
"""Steps between two readings on a device that works while the host goes on."""

logger = logging.getLogger(__name__)


class Trainer:
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
        self.processes = processes
        self.config = config
        self.store = store
        self.run = run
        self.device = device
        self.position = Position()
        training = config.training
        self._read_every = training.read_every or (1 if device.type == "cpu" else _READ_EVERY)
        self._obstacle = obstacle(config, store, processes)
        self.update = Update(config, device, self._read_every, processes)
        self.model = self.update.model
        self._graphed = None if self._obstacle else GraphedStep(self.update, store)
        self.throughput = Throughput(
            training.batch_size, config.data.segment_length / config.data.sample_rate, device
        )
        self._pending: list[Record] = []
        self._failure: InputError | None = None
        self._last = time.perf_counter()
        self._batches = store.batches(training.batch_size)

    def restore(self, *, changeable: Collection[str] = ()) -> None:
        """Continue from the newest checkpoint of the run folder that is whole.

        Args:
            changeable: dotted keys of the settings that may differ from the checkpoint's.

        Raises:
            InputError: none is, it is of another model, or was made with other data or settings.
        """
        checkpoint = self.processes.from_first(lambda: read_checkpoint(self.run))
        load_model(self.model, checkpoint, self.config)
        check_settings(checkpoint, self.config, changeable)
        load_optimizer(self.update.optimizer, self.model, checkpoint)
        state = checkpoint.state
        try:
            segments = state["voice_segments"]
            self.position = Position.from_state(state)
            noise = checkpoint.tensors["rng.noise"]
        except KeyError as error:
            raise InputError(f"{checkpoint.path}: has no {error}; train anew") from error
        except InputError as error:
            raise InputError(f"{checkpoint.path}: {error}; train anew") from error
        if segments != self.store.voice_segments:
            raise InputError(
                f"{self.run}: was trained on {segments} voice segments, the data now has "
                f"{self.store.voice_segments}; give the same --root, or start a new run"
            )
        changed = differences(state) if self.device.type == "cpu" else ""
        if changed:
            logger.warning(
                "%s: resumed where %s: numbers may differ by rounding from those of a run that "
                "was not interrupted; training.threads fixes the threads",
                *(self.run, changed),
            )
        generator = self.update.noise
        if noise.shape == generator.get_state().shape:
            generator.set_state(noise)
        else:
            logger.warning("%s: resumed on another device, the noise is drawn anew", self.run)
            generator.manual_seed(self.config.training.seed + self.position.step)
        if self.processes.first:
            settle(checkpoint)

    def save(self) -> None:
        """Write a checkpoint; in process 0 alone, and every step must have been read."""
        state = {
            **asdict(self.position),
            "voice_segments": self.store.voice_segments,
            **arithmetic(),
            "config": flatten(self.config),
        }
        update = self.update
        save_checkpoint(self.run, self.model, update.optimizer, update.noise, state)

    @property
    def steps(self) -> int:
        """Steps that this run is to have, unless it stops early."""
        training = self.config.training
        steps = training.epochs * self._batches
        return min(steps, training.max_steps) if training.max_steps else steps

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        # resumed without early stopping, a run that had stopped goes on
        stopped = self.config.training.early_stopping and self.position.stopped_early
        return stopped or self.position.step >= self.steps

    def fit(
        self,
        *,
        progress: bool = False,
        callback: Callback | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        """Train until the end or a signal; see :func:`rlsv_fast.training.train`."""
        position, every = self.position, self.config.training.checkpoint_every
        resumed = position.step if position.step else None
        processes = self.processes
        with (
            StopRequest() as stop,
            RunLog(self.run / LOG, resumed) if processes.first else nullcontext() as log,
            tqdm(
                total=self.steps,
                initial=position.step,
                unit="step",
                # None: off unless on a terminal
                disable=None if progress and processes.first else True,
            ) as bar,
        ):

            def stopped() -> int:
                return processes.largest(stop.received or 0)

            def report(kind: str, values: Record) -> None:
                if log is None:
                    return
                log.write(kind, **values)
                if callback is not None:
                    callback({"kind": kind, **values})
                if monitor is not None:
                    monitor({"kind": kind, **values}, self.model)

            def show(records: list[Record]) -> None:
                for values in records:
                    report("step", values)
                    bar.set_postfix_str(f"loss {values['total']:.2f}", refresh=False)
                bar.update(len(records))
                if self._failure is not None:
                    raise self._failure

            def keep() -> None:
                if log is not None:
                    log.sync()
                    self.save()

            report("start", self._start_record())
            self.model.train()
            idle = self.finished
            self.throughput.restart()
            self._last = time.perf_counter()
            while not self.finished:
                for records in self.epoch_steps():
                    show(records)
                    if self.finished:
                        break
                    # several processes ask each other only where the host waits anyway
                    if (records or not processes.several) and stopped():
                        break
                    # after the last step of an epoch one is written below, epoch included
                    if position.step % every == 0 and position.batch < self._batches:
                        show(self.read())
                        keep()
                show(self.read())
                if position.batch == self._batches:
                    report("epoch", self._end_epoch())
                keep()
                if stopped():
                    break
            if not idle:
                report("end", {"step": position.step, "throughput": self.throughput.session()})
            signal = stopped()  # waits until process 0 has saved
            if signal:
                raise Interrupted(signal)

    def step(self, voice: Tensor, accompaniment: Tensor) -> list[Record]:
        """Make one step on a batch, move the position, and read if it is time to.

        Returns:
            What is logged of the steps that have been read: none, or all since the last reading.
        """
        self.update(voice, accompaniment, self.throughput.mark)
        return self._issued()

    def read(self) -> list[Record]:
        """Fetch the losses of the steps since the last reading, and account for them.

        Returns:
            What is logged of each.
        """
        position, allowed = self.position, self.config.training.max_skipped
        pending, self._pending = self._pending, []
        if not pending:
            return []
        readings = self.update.readings.fetch(len(pending))
        self.throughput.collect()
        for record, reading in zip(pending, readings, strict=True):
            position.account(reading)
            record.update(reading._asdict(), skipped=position.skipped)
            if position.skipped > allowed and self._failure is None:
                self._failure = self._too_many_skipped(record["step"], reading.total)
        return pending

    def _issued(self) -> list[Record]:
        position = self.position
        position.step += 1
        position.batch += 1
        self.throughput.end_step()
        self._count_time()
        self._pending.append(
            {
                "step": position.step,
                "epoch": position.epoch,
                "seconds": round(position.seconds, 3),
            }
        )
        return self.read() if len(self._pending) == self._read_every else []

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.position.seconds += now - self._last
        self._last = now

    def _too_many_skipped(self, step: int, total: float) -> InputError:
        what = "gradient" if math.isfinite(total) else "loss"
        return InputError(
            f"{self.run}: stopped at step {step}, the {what} was not finite and "
            f"{self.position.skipped} steps had to be skipped (training.max_skipped = "
            f"{self.config.training.max_skipped}); lower training.learning_rate; the last "
            "checkpoint is intact"
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
            yield self._issued()

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

    def _end_epoch(self) -> Record:
        self._count_time()
        early_stopping = self.config.training.early_stopping
        record = self.position.end_epoch(early_stopping=early_stopping)
        return {**record, "throughput": self.throughput.epoch()}

    def _start_record(self) -> Record:
        return {
            "step": self.position.step,
            "steps": self.steps,
            "device": str(self.device),
            "processes": self.processes.size,
            "torch": torch.__version__,
            **arithmetic(),
            "precision": self.config.training.precision,
            "cuda_graph": f"no: {self._obstacle}" if self._obstacle else "yes",
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "voice_segments": self.store.voice_segments,
            "silent_segments": self.store.silent_segments,
            "too_short_tracks": self.store.skipped,
        }
