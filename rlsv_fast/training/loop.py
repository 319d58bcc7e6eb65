"""The training loop of any model: a step at a time, logged, saved, resumed, stopped by a signal."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch.nn import Module
from tqdm import tqdm

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
from rlsv_fast.training.log import RunLog
from rlsv_fast.training.optimisation import Optimisation
from rlsv_fast.training.position import Position
from rlsv_fast.training.run_files import LOG
from rlsv_fast.training.settings import flatten
from rlsv_fast.training.signals import Interrupted, StopRequest
from rlsv_fast.training.throughput import Throughput

Record: TypeAlias = dict[str, Any]
Callback: TypeAlias = Callable[[Record], None]

_READ_EVERY = 50
"""Steps between two readings on a device that works while the host goes on."""

logger = logging.getLogger(__name__)


class LoopSettings(Protocol):
    """What the loop itself asks of the ``training`` section."""

    @property
    def batch_size(self) -> int:
        """Examples of a step, of all processes together."""

    @property
    def epochs(self) -> int:
        """At most."""

    @property
    def max_steps(self) -> int:
        """At most; 0 means no limit."""

    @property
    def seed(self) -> int:
        """Of the weights, the order and the noise."""

    @property
    def checkpoint_every(self) -> int:
        """Steps."""

    @property
    def max_skipped(self) -> int:
        """Steps that may not be finite."""

    @property
    def precision(self) -> str:
        """Of the model."""

    @property
    def read_every(self) -> int:
        """Steps between two readings of the losses, or 0."""


class Loop(ABC):
    """Model, optimiser and position of one run.

    Args:
        settings: the whole tree of settings, a dataclass.
        training: its section for the loop.
        update: optimiser and step.
        model: what is trained and saved.
        batches: of an epoch.
        examples: distinct training examples; a resumed run must have as many.
        seconds: audio in one example.
        run: run folder.
        processes: those that train together; each has a trainer.
        position: where to begin.
    """

    def __init__(
        self,
        settings: Any,
        training: LoopSettings,
        update: Optimisation,
        model: Module,
        *,
        batches: int,
        examples: int,
        seconds: float,
        run: Path,
        processes: Processes = ALONE,
        position: Position | None = None,
    ) -> None:
        self.processes = processes
        self.run = run
        self.device = update.device
        self.position = Position() if position is None else position
        self._settings = settings
        self._training = training
        self._optimisation = update
        self._model = model
        self._examples = examples
        self._read_every = update.readings.capacity
        self.throughput = Throughput(training.batch_size, seconds, self.device)
        self._pending: list[Record] = []
        self._failure: InputError | None = None
        self._last = time.perf_counter()
        self._batches = batches

    @abstractmethod
    def epoch_steps(self) -> Iterator[list[Record]]:
        """Make the steps that are left of this epoch, and yield what each brought to be logged."""

    def start_record(self) -> Record:
        """What is logged of a run's beginning besides what all runs have."""
        return {}

    def stopped_early(self) -> bool:
        """Whether nothing is left to do although there are steps."""
        return False

    def end_epoch(self) -> Record:
        """Go to the next epoch; what is logged of this one."""
        return self.position.end_epoch()

    def restore(self, *, changeable: Collection[str] = ()) -> None:
        """Continue from the newest checkpoint of the run folder that is whole.

        Args:
            changeable: dotted keys of the settings that may differ from the checkpoint's.

        Raises:
            InputError: none is, it is of another model, or was made with other data or settings.
        """
        checkpoint = self.processes.from_first(lambda: read_checkpoint(self.run))
        load_model(self._model, checkpoint, self._settings)
        check_settings(checkpoint, self._settings, changeable)
        load_optimizer(self._optimisation.optimizer, self._model, checkpoint)
        state = checkpoint.state
        try:
            examples = state["voice_segments"]
            self.position = type(self.position).from_state(state)
            noise = checkpoint.tensors["rng.noise"]
        except KeyError as error:
            raise InputError(f"{checkpoint.path}: has no {error}; train anew") from error
        except InputError as error:
            raise InputError(f"{checkpoint.path}: {error}; train anew") from error
        if examples != self._examples:
            raise InputError(
                f"{self.run}: was trained on {examples} voice segments, the data now has "
                f"{self._examples}; give the same --root, or start a new run"
            )
        changed = differences(state) if self.device.type == "cpu" else ""
        if changed:
            logger.warning(
                "%s: resumed where %s: numbers may differ by rounding from those of a run that "
                "was not interrupted; training.threads fixes the threads",
                *(self.run, changed),
            )
        generator = self._optimisation.noise
        if noise.shape == generator.get_state().shape:
            generator.set_state(noise)
        else:
            logger.warning("%s: resumed on another device, the noise is drawn anew", self.run)
            generator.manual_seed(self._training.seed + self.position.step)
        if self.processes.first:
            settle(checkpoint)

    def save(self) -> None:
        """Write a checkpoint; in process 0 alone, and every step must have been read."""
        state = {
            **asdict(self.position),
            "voice_segments": self._examples,
            **arithmetic(),
            "config": flatten(self._settings),
        }
        update = self._optimisation
        save_checkpoint(self.run, self._model, update.optimizer, update.noise, state)

    @property
    def steps(self) -> int:
        """Steps that this run is to have, unless it stops early."""
        training = self._training
        steps = training.epochs * self._batches
        return min(steps, training.max_steps) if training.max_steps else steps

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.stopped_early() or self.position.step >= self.steps

    def fit(
        self,
        *,
        progress: bool = False,
        callback: Callback | None = None,
        monitor: Callable[[Record], None] | None = None,
    ) -> None:
        """Train until the end or a signal; see :func:`rlsv_fast.training.train`.

        ``monitor`` comes after ``callback``; at the records of epochs and of the end the model is
        that of their step.
        """
        position, every = self.position, self._training.checkpoint_every
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
                    monitor({"kind": kind, **values})

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
            self._model.train()
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
                    report("epoch", self._ended_epoch())
                keep()
                if stopped():
                    break
            if not idle:
                report("end", {"step": position.step, "throughput": self.throughput.session()})
            signal = stopped()  # waits until process 0 has saved
            if signal:
                raise Interrupted(signal)

    def step(self, *batch: Any) -> list[Record]:
        """Make one step on a batch, move the position, and read if it is time to.

        Returns:
            What is logged of the steps that have been read: none, or all since the last reading.
        """
        self._optimisation(*batch, mark=self.throughput.mark)
        return self.issued()

    def read(self) -> list[Record]:
        """Fetch the losses of the steps since the last reading, and account for them.

        Returns:
            What is logged of each.
        """
        position, allowed = self.position, self._training.max_skipped
        pending, self._pending = self._pending, []
        if not pending:
            return []
        readings = self._optimisation.readings.fetch(len(pending))
        self.throughput.collect()
        for record, reading in zip(pending, readings, strict=True):
            position.account(reading)
            record.update(reading._asdict(), skipped=position.skipped)
            if position.skipped > allowed and self._failure is None:
                self._failure = self._too_many_skipped(record["step"], reading.total)
        return pending

    def issued(self) -> list[Record]:
        """Account for a step that has been given to the device; see :meth:`step`."""
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
            f"{self._training.max_skipped}); lower training.learning_rate; the last "
            "checkpoint is intact"
        )

    def _ended_epoch(self) -> Record:
        self._count_time()
        record = self.end_epoch()
        return {**record, "throughput": self.throughput.epoch()}

    def _start_record(self) -> Record:
        return {
            "step": self.position.step,
            "steps": self.steps,
            "device": str(self.device),
            "processes": self.processes.size,
            "torch": torch.__version__,
            **arithmetic(),
            "precision": self._training.precision,
            "parameters": sum(p.numel() for p in self._model.parameters()),
            "voice_segments": self._examples,
            **self.start_record(),
        }


def reading_interval(settings: LoopSettings, device: torch.device) -> int:
    """Steps between two readings of the losses."""
    return settings.read_every or (1 if device.type == "cpu" else _READ_EVERY)
