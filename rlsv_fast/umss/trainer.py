"""Training of a separator of ensembles, on the loop of all models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.arithmetic import computing_threads
from rlsv_fast.training.checkpoint_files import has_checkpoint
from rlsv_fast.training.loop import Callback, Loop, Record, reading_interval
from rlsv_fast.training.position import Position
from rlsv_fast.training.precision import autocast, matrix_products
from rlsv_fast.training.run import check_alike, enter_run, fit
from rlsv_fast.umss.choirs import Song, split_songs
from rlsv_fast.umss.excerpts import ExcerptStore
from rlsv_fast.umss.known_f0 import KnownF0
from rlsv_fast.umss.layers import evaluating
from rlsv_fast.umss.model import EnsembleModel, Known
from rlsv_fast.umss.runs import write_best
from rlsv_fast.umss.settings import SCHEMA, EnsembleConfig
from rlsv_fast.umss.update import EnsembleUpdate, GraphedUpdate, graph_obstacle


@dataclass
class EnsemblePosition(Position):
    """Where training is; of the validation losses the best.

    Attributes:
        best: least validation loss, None before there was one.
        best_epoch: epochs done by then.
    """

    best: float | None = None
    best_epoch: int = 0


class EnsembleTrainer(Loop):
    """Model, optimiser and position of one run.

    Args:
        config: settings.
        store: training excerpts.
        validation: excerpts to validate on.
        run: run folder.
        device: where to compute.
        processes: those that train together; each has a trainer.
        continued: :meth:`restore` will be called.
    """

    position: EnsemblePosition

    def __init__(
        self,
        config: EnsembleConfig,
        store: ExcerptStore,
        validation: ExcerptStore,
        run: Path,
        *,
        device: torch.device,
        processes: Processes = ALONE,
        continued: bool = False,
    ) -> None:
        self.config = config
        self.store = store
        self.validation = validation
        training = config.training
        self._obstacle = graph_obstacle(config, device, processes)
        interval = reading_interval(training, device)
        self.update = EnsembleUpdate(config, device, interval, processes, continued=continued)
        self.model = self.update.model
        self._graphed = None if self._obstacle else GraphedUpdate(self.update)
        self._known = KnownF0(self.model, config)
        self._known_of_validation = KnownF0(self.model, config)
        super().__init__(
            config,
            training,
            self.update,
            self.model,
            batches=store.batches(training.batch_size),
            examples=len(store),
            seconds=config.data.segment_length / config.data.sample_rate,
            run=run,
            processes=processes,
            position=EnsemblePosition(),
        )

    def epoch_steps(self) -> Iterator[list[Record]]:
        """Make the steps that are left of this epoch, and yield what each brought to be logged."""
        training = self.config.training
        decays = self.position.epoch // training.decay_every
        self.update.set_learning_rate(training.learning_rate * training.decay**decays)
        self.update.steps = self.position.step
        for batch in self.throughput.waited(self._epoch()):
            if self._graphed is None:
                yield self.step(*batch)
            else:
                self._graphed(*batch, self.throughput.mark)
                yield self.issued()

    def stopped_early(self) -> bool:
        """Whether the validation loss has not become better for so long."""
        patience = self.config.training.patience
        best = self.position.best
        return bool(
            patience
            and best is not None
            and self.position.epoch - self.position.best_epoch >= patience
        )

    def start_record(self) -> Record:
        """What is logged of such a run alone."""
        return {
            "cuda_graph": f"no: {self._obstacle}" if self._obstacle else "yes",
            "songs": [song.name for song in self.store.songs],
            "skipped_songs": self.store.skipped,
            "validation_excerpts": len(self.validation),
        }

    def end_epoch(self) -> Record:
        """Validate, and keep the weights if they are the best so far."""
        position = self.position
        record = position.end_epoch()
        if position.epoch % self.config.training.validate_every == 0:
            loss = self.processes.from_first(self._validation_loss)
            record["validation"] = loss
            if math.isfinite(loss) and (position.best is None or loss < position.best):
                position.best, position.best_epoch = loss, position.epoch
                if self.processes.first:
                    write_best(self.run, self.model, loss, position.epoch)
            record["best"] = position.best
        return record

    def _epoch(self) -> Iterator[tuple[Tensor, Tensor, Known]]:
        training = self.config.training
        order = self.store.order(
            training.batch_size,
            seed=training.seed,
            epoch=self.position.epoch,
            start_batch=self.position.batch,
            rows=self.processes.rows(training.batch_size),
        )
        for places in order:
            batch = self.store.gather(places)
            yield batch.mixture, batch.sources, self._known(places, batch)

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Mean over the excerpts of the validation's first epoch, always the same."""
        training = self.config.training
        only_f0 = self.config.loss.reconstruction == 0
        sums, count = torch.zeros((), device=self.device), 0
        generator = torch.Generator(self.device).manual_seed(0)
        with evaluating(self.model), matrix_products(training.precision, self.device):
            for places in self.validation.order(training.batch_size, seed=0, epoch=0):
                batch = self.validation.gather(places)
                known = self._known_of_validation(places, batch)
                if only_f0:
                    losses = self.update.objective(batch.mixture, batch.sources, known, generator)
                    sums += losses.representation
                else:
                    with autocast(training.precision, self.device):
                        f0, _ = self.model.track(batch.mixture, known)
                    sums += self.update.objective.reconstruct(
                        batch.mixture, batch.sources, f0, generator
                    )
                count += 1
        return float(sums) / count


def choose_songs(found: Sequence[Song], config: EnsembleConfig) -> tuple[list[Song], list[Song]]:
    """The songs to train and to validate on, by their names or by the published split.

    Raises:
        InputError: a name that is not among those found, or no song is left.
    """
    by_name = {song.name: song for song in found}

    def named(key: str, names: str) -> list[Song]:
        chosen = [name.strip() for name in names.split(",") if name.strip()]
        for name in chosen:
            if name not in by_name:
                listed = ", ".join(sorted(by_name)) or "none"
                raise InputError(f"data.{key}: no song '{name}'; there are {listed}")
        return [by_name[name] for name in chosen]

    training = named("songs", config.data.songs)
    validation = named("validation", config.data.validation)
    split = split_songs(found)
    if not training:
        training = [song for song in split[0] or list(found) if song not in validation]
    if not validation:
        validation = [song for song in split[1] if song not in training]
    if not training:
        raise InputError("data.songs: no song is left to train on")
    if not validation:
        raise InputError(
            "data.validation names no song, and the published split leaves none; name one"
        )
    return training, validation


def train_separator(
    config: EnsembleConfig,
    songs: Sequence[Song],
    run: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    locked: bool = False,
    progress: bool = False,
    callback: Callback | None = None,
    monitor: Callback | None = None,
    processes: Processes = ALONE,
) -> EnsembleModel:
    """Train a separator of ensembles; everything about the run lands in its folder.

    Signals, resuming and several processes are as for :func:`rlsv_fast.training.train`.
    ``best.safetensors`` holds the weights of the least validation loss.

    Args:
        config: settings.
        songs: from :func:`~rlsv_fast.umss.find_songs`; the settings choose among them.
        run: run folder, to be made; with ``resume`` an existing one.
        device: where to compute.
        resume: continue from the checkpoint of the folder, if it has one already.
        locked: the caller holds the lock of the folder.
        progress: show a bar on a terminal.
        callback: called with each record that is logged, in process 0.
        monitor: called likewise, after it.
        processes: those that train together.

    Returns:
        The model as it is after the last step.

    Raises:
        InputError: settings, songs and device cannot work together, weights of the f0 networks are
            missing, the folder exists (or with ``resume`` holds something else), another process
            works in it, or too many steps were not finite.
        Interrupted: stopped by a signal.
    """
    device = torch.device(device)
    if config.training.batch_size % processes.size:
        raise InputError(
            f"training.batch_size = {config.training.batch_size} is that of all processes "
            f"together, and {processes.size} cannot share it equally"
        )
    entered = enter_run(run, config, SCHEMA, resume=resume, locked=locked, processes=processes)
    with entered, computing_threads(config.training.threads):
        data = config.data
        with processes.together():
            training, validation = choose_songs(songs, config)
            store = _excerpts(config, training, "singers", device, data.passes)
            other = _excerpts(config, validation, "validation_singers", device)
        check_alike(config, [[song.name for song in s.songs] for s in (store, other)], processes)
        trainer = EnsembleTrainer(
            config,
            store,
            other,
            run,
            device=device,
            processes=processes,
            continued=resume and processes.from_first(lambda: has_checkpoint(run)),
        )
        fit(trainer, config, resume=resume, progress=progress, callback=callback, monitor=monitor)
        return trainer.model


def _excerpts(
    config: EnsembleConfig,
    songs: Sequence[Song],
    key: Literal["singers", "validation_singers"],
    device: torch.device,
    passes: int = 0,
) -> ExcerptStore:
    """Excerpts of some singers, given as numbers or "all"."""
    data, singers = config.data, str(getattr(config.data, key))
    numbers: Literal["all"] | tuple[int, ...] = "all"
    if singers.strip() != "all":
        try:
            numbers = tuple(int(part) for part in singers.split(","))
        except ValueError as error:
            raise InputError(
                f"data.{key} must be 'all' or numbers, as in '1,2', got {singers!r}"
            ) from error
    return ExcerptStore(
        songs,
        voices=data.voices,
        length=data.segment_length,
        sample_rate=data.sample_rate,
        singers=numbers,
        passes=passes or None,
        f0=data.f0,
        device=device,
    )
