"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from rlsv_fast.data import SegmentStore
from rlsv_fast.errors import InputError
from rlsv_fast.training.build import build_losses, build_model
from rlsv_fast.training.checkpoint import (
    LOG,
    load_model,
    load_optimizer,
    read_checkpoint,
    save_checkpoint,
)
from rlsv_fast.training.config import Config
from rlsv_fast.training.log import RunLog
from rlsv_fast.training.settings import flatten
from rlsv_fast.training.signals import Interrupted, StopRequest
from rlsv_fast.training.step import training_losses

Callback: TypeAlias = Callable[[dict[str, Any]], None]

logger = logging.getLogger(__name__)


@dataclass
class Position:
    """Where training is; saved with every checkpoint.

    Attributes:
        step: steps done, skipped ones included.
        epoch: epochs done.
        batch: batches done in this epoch.
        skipped: steps skipped because their loss or gradient was not finite.
        seconds: wall time of the loop, waiting for data and saving included, all sessions together.
        reconstruction: sum over the counted steps of this epoch.
        representation: likewise.
        counted: steps of this epoch that were not skipped.
        former: mean reconstruction loss of the former epoch, None before there was one.
        stopped_early: early stopping has ended the training.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    skipped: int = 0
    seconds: float = 0.0
    reconstruction: float = 0.0
    representation: float = 0.0
    counted: int = 0
    former: float | None = None
    stopped_early: bool = False


class Trainer:
    """Model, optimiser and position of one run.

    Args:
        config: settings.
        store: training segments, on the device.
        run: run folder.
        device: where to compute.
    """

    def __init__(
        self, config: Config, store: SegmentStore, run: Path, *, device: torch.device
    ) -> None:
        self.config = config
        self.store = store
        self.run = run
        self.device = device
        self.position = Position()
        self.losses = build_losses(config)
        self.model = build_model(config).to(device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.training.learning_rate, fused=True
        )
        self.noise = torch.Generator(device).manual_seed(config.training.seed)
        self._batches = store.batches(config.training.batch_size)

    def restore(self) -> None:
        """Continue from the checkpoint of the run folder.

        Raises:
            InputError: it is damaged, of another model, or was made with other data.
        """
        checkpoint = read_checkpoint(self.run)
        load_model(self.model, checkpoint, self.config)
        load_optimizer(self.optimizer, self.model, checkpoint)
        state = checkpoint.state
        try:
            segments = state["voice_segments"]
            self.position = Position(**{f.name: state[f.name] for f in fields(Position)})
            noise = checkpoint.tensors["rng.noise"]
        except KeyError as error:
            raise InputError(f"{checkpoint.path}: has no {error}; train anew") from error
        if segments != self.store.voice_segments:
            raise InputError(
                f"{self.run}: was trained on {segments} voice segments, the data now has "
                f"{self.store.voice_segments}; give the same --root, or start a new run"
            )
        if noise.shape == self.noise.get_state().shape:
            self.noise.set_state(noise)
        else:
            logger.warning("%s: resumed on another device, the noise is drawn anew", self.run)
            self.noise.manual_seed(self.config.training.seed + self.position.step)

    def save(self) -> None:
        """Write a checkpoint."""
        state = {
            **asdict(self.position),
            "voice_segments": self.store.voice_segments,
            "config": flatten(self.config),
        }
        save_checkpoint(self.run, self.model, self.optimizer, self.noise, state)

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

    def fit(self, *, progress: bool = False, callback: Callback | None = None) -> None:
        """Train until the end or a signal; see :func:`rlsv_fast.training.train`."""
        position, every = self.position, self.config.training.checkpoint_every
        resumed = position.step if position.step else None
        with (
            StopRequest() as stop,
            RunLog(self.run / LOG, after_step=resumed) as log,
            tqdm(
                total=self.steps,
                initial=position.step,
                unit="step",
                disable=None if progress else True,  # None: off unless on a terminal
            ) as bar,
        ):

            def report(kind: str, values: dict[str, Any]) -> None:
                log.write(kind, **values)
                if callback is not None:
                    callback({"kind": kind, **values})

            report("start", self._start_record())
            self.model.train()
            last = time.perf_counter()
            while not self.finished:
                for voice, accompaniment in self._epoch():
                    values = self.step(voice, accompaniment)
                    now = time.perf_counter()
                    position.seconds += now - last
                    last = now
                    report("step", {**values, "seconds": round(position.seconds, 3)})
                    bar.set_postfix_str(f"loss {values['total']:.2f}", refresh=False)
                    bar.update()
                    if stop.received is not None:
                        self.save()
                        raise Interrupted(stop.received)
                    if self.finished:
                        break
                    if position.step % every == 0:
                        self.save()
                if position.batch == self._batches:
                    report("epoch", self._end_epoch())
                self.save()
            if stop.received is not None:
                raise Interrupted(stop.received)

    def step(self, voice: Tensor, accompaniment: Tensor) -> dict[str, float]:
        """One step on one batch; moves the position and returns what is logged."""
        position = self.position
        self.optimizer.zero_grad(set_to_none=True)
        losses = training_losses(
            self.model, self.losses, voice, accompaniment, self.noise, self.config
        )
        losses.total.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # one transfer from the device for all that the host wants to know
        total, reconstruction, representation, size = (
            torch.stack([*(loss.detach() for loss in losses), norm]).double().tolist()
        )
        position.step += 1
        position.batch += 1
        if math.isfinite(total) and math.isfinite(size):
            self.optimizer.step()
            position.reconstruction += reconstruction
            position.representation += representation
            position.counted += 1
        else:
            self._skip(total)
        return {
            "step": position.step,
            "epoch": position.epoch,
            "total": total,
            "reconstruction": reconstruction,
            "representation": representation,
            "gradient_norm": size,
            "skipped": position.skipped,
        }

    def _skip(self, total: float) -> None:
        position, allowed = self.position, self.config.training.max_skipped
        position.skipped += 1
        if position.skipped > allowed:
            what = "gradient" if math.isfinite(total) else "loss"
            raise InputError(
                f"{self.run}: stopped at step {position.step}, the {what} was not finite and "
                f"{position.skipped} steps had to be skipped (training.max_skipped = {allowed}); "
                "lower training.learning_rate; the last checkpoint is intact"
            )

    def _epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        training = self.config.training
        return self.store.epoch(
            training.batch_size,
            seed=training.seed,
            epoch=self.position.epoch,
            start_batch=self.position.batch,
            paired=not self.config.data.random_mixing,
        )

    def _end_epoch(self) -> dict[str, Any]:
        position = self.position
        count = max(position.counted, 1)
        mean = position.reconstruction / count
        record = {
            "step": position.step,
            "epoch": position.epoch,
            "reconstruction": mean,
            "representation": position.representation / count,
            "skipped": position.skipped,
            "seconds": round(position.seconds, 3),
        }
        former, position.former = position.former, mean
        early_stopping = self.config.training.early_stopping
        position.stopped_early = early_stopping and former is not None and mean >= former
        position.reconstruction = position.representation = 0.0
        position.epoch += 1
        position.batch = position.counted = 0
        return record

    def _start_record(self) -> dict[str, Any]:
        return {
            "step": self.position.step,
            "steps": self.steps,
            "device": str(self.device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "voice_segments": self.store.voice_segments,
            "silent_segments": self.store.silent_segments,
            "too_short_tracks": self.store.skipped,
        }
