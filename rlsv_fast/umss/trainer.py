"""Training of a separator of ensembles, on the loop of all models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rlsv_fast.errors import InputError
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.arithmetic import computing_threads
from rlsv_fast.training.checkpoint_files import has_checkpoint
from rlsv_fast.training.graph import Recorder
from rlsv_fast.training.loop import Callback, Loop, Record, reading_interval
from rlsv_fast.training.optimisation import Optimisation
from rlsv_fast.training.position import Position
from rlsv_fast.training.precision import autocast, matrix_products
from rlsv_fast.training.run import check_alike, enter_run, fit
from rlsv_fast.training.step import Mark, StepLosses
from rlsv_fast.umss.choirs import Song, split_songs
from rlsv_fast.umss.excerpts import ChoirBatch, ExcerptStore, Place
from rlsv_fast.umss.layers import evaluating
from rlsv_fast.umss.model import EnsembleModel, EnsembleObjective, Known, build_model
from rlsv_fast.umss.runs import start_from, write_best
from rlsv_fast.umss.settings import SCHEMA, EnsembleConfig
from rlsv_fast.umss.unet import F0UNet

_CACHE_BYTES = 4 << 30
"""Of the saliences kept in the host's memory."""


@dataclass
class EnsemblePosition(Position):
    """Where training is; of the validation losses the best.

    Attributes:
        best: least validation loss, None before there was one.
        best_epoch: epochs done by then.
    """

    best: float | None = None
    best_epoch: int = 0


class EnsembleUpdate(Optimisation):
    """The step on a batch of mixtures (B, N), sources (B, V, N) and what is known of their f0.

    Args:
        config: settings.
        device: where to compute.
        capacity: the most steps between two fetches of their readings.
        processes: those that share each batch.
        continued: the weights will come from a checkpoint; no others are looked for.
    """

    def __init__(
        self,
        config: EnsembleConfig,
        device: torch.device,
        capacity: int,
        processes: Processes = ALONE,
        *,
        continued: bool = False,
    ) -> None:
        training = config.training
        with processes.together():
            self.model = build_model(config, device, imported=not continued)
            # the others get them when they are joined below
            if training.start_from and processes.first and not continued:
                start_from(self.model, Path(training.start_from))
        super().__init__(
            self.model,
            device,
            capacity,
            processes,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            seed=training.seed,
            precision=training.precision,
            clip=training.clip,
        )
        self.seed = training.seed
        self.steps = 0
        """Made so far; the trainer says where it begins."""
        if device.type == "cuda":  # a replayed graph finds it there
            for group in self.optimizer.param_groups:
                group["lr"] = torch.tensor(training.learning_rate, device=device)
        self.objective = EnsembleObjective(self.model, config)
        self._shared: torch.nn.Module = self.objective
        if processes.several:
            # normalisations of the U-Net see a process's own rows, as those of torch do
            self._shared = DistributedDataParallel(self.objective, gradient_as_bucket_view=True)

    def set_learning_rate(self, rate: float) -> None:
        """From the next step on."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def losses_of(self, batch: tuple[Any, ...], mark: Mark | None) -> tuple[StepLosses, str]:
        """The losses, and the part of the step in which their derivation ends."""
        mixture, sources, known = batch
        if mark is not None:
            mark("data")
        self.steps += 1
        if self.processes.several:  # the state of one generator alone is saved
            self.noise.manual_seed(self.step_seed)
        with _dropping(self) if self.drops else nullcontext():
            losses: StepLosses = self._shared(mixture, sources, known, self.noise)
        if mark is not None:
            mark("forward")
        return losses, "backward"

    @property
    def step_seed(self) -> int:
        """Of what is random in this step and process alone."""
        return self.seed + self.steps * self.processes.size + self.processes.rank

    @property
    def drops(self) -> bool:
        """Whether parts of the model are dropped at random."""
        return isinstance(self.model.separator, F0UNet)


@contextmanager
def _dropping(update: EnsembleUpdate) -> Iterator[None]:
    """Give dropout, which knows no generator, random numbers of this step alone."""
    device = update.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(update.step_seed)
        yield


class GraphedUpdate:
    """The step as a CUDA graph, on batches that are copied to where it looks for them.

    Args:
        update: the step.
    """

    def __init__(self, update: EnsembleUpdate) -> None:
        self._update = update
        self._slots: tuple[Tensor, Tensor, Known] | None = None
        self._runner = Recorder(self._body, update.noise)

    def __call__(self, mixture: Tensor, sources: Tensor, known: Known, mark: Mark) -> None:
        """Make the next step."""
        if self._slots is None:
            kept = Known(*(None if x is None else x.clone() for x in known))
            self._slots = (mixture.clone(), sources.clone(), kept)
        else:
            slots = (self._slots[0], self._slots[1], *self._slots[2])
            for slot, new in zip(slots, (mixture, sources, *known), strict=True):
                if slot is not None and new is not None:
                    slot.copy_(new)
        self._runner(mark)

    def _body(self, mark: Mark | None) -> None:
        assert self._slots is not None
        self._update(*self._slots, mark=mark)


def graph_obstacle(
    config: EnsembleConfig, device: torch.device, processes: Processes = ALONE
) -> str | None:
    """Why the steps of a run are not replayed from a graph; None if they are.

    Raises:
        InputError: they cannot be, although the settings demand it.
    """
    model, asked = config.model, config.training.cuda_graph
    if asked == "off":
        return "switched off"
    reason = None
    if device.type != "cuda":
        reason = f"this run is on {device}, not on CUDA"
    elif processes.several:
        reason = "several processes share a step"
    elif model.kind == "u-net":
        reason = "the U-Net drops parts at random"
    elif "trained" in (model.multif0, model.assignment):
        reason = "the f0 networks are trained"
    elif model.f0 == "estimated" and model.reference == "batch":
        reason = "the f0 networks see whole batches"
    if reason and asked == "on":
        raise InputError(f"training.cuda_graph = 'on' cannot be: {reason}; choose 'auto' or 'off'")
    return reason


class KnownF0:
    """What frozen networks find in an excerpt, found once.

    Where both are frozen their f0 is kept, where only the first is, its salience, in half
    precision and as long as there is room. An input level of the whole batch makes what is found
    depend on the batch: then nothing is kept.

    Args:
        model: with its networks.
        config: settings.
        room: bytes of the host's memory.
    """

    def __init__(
        self, model: EnsembleModel, config: EnsembleConfig, room: int = _CACHE_BYTES
    ) -> None:
        self._model = model
        self._precision = config.training.precision
        settings = config.model
        self._external = model.tracker is None
        frozen = settings.multif0 == "frozen" and settings.reference == "item"
        self._of_salience = frozen and settings.assignment == "trained"
        self._of_f0 = frozen and settings.assignment == "frozen"
        self._kept: dict[Place, Tensor] = {}
        self._room = room

    def __call__(self, places: Sequence[Place], batch: ChoirBatch) -> Known:
        """What is known of the excerpts at some places."""
        if self._external:
            return Known(f0=batch.f0)
        if not (self._of_f0 or self._of_salience):
            return Known()
        device, dtype = batch.mixture.device, batch.mixture.dtype
        found = torch.stack(
            [
                self._of(place, mixture).to(device, dtype)
                for place, mixture in zip(places, batch.mixture, strict=True)
            ]
        )
        return Known(f0=found) if self._of_f0 else Known(salience=found)

    def _of(self, place: Place, mixture: Tensor) -> Tensor:
        """What is kept of an excerpt; the same bits where there is no room to keep it."""
        kept = self._kept.get(place)
        if kept is None:
            # alone: what is found must not depend on what else is missing
            found = self._find(mixture[None])[0]
            # a track cannot be rounded, and takes nothing; a salience is between 0 and 1
            kept = found.cpu() if self._of_f0 else found.half().cpu()
            size = kept.numel() * kept.element_size()
            if size <= self._room:
                self._room -= size
                self._kept[place] = kept
        return kept

    @torch.no_grad()
    def _find(self, mixture: Tensor) -> Tensor:
        tracker = self._model.tracker
        assert tracker is not None
        with matrix_products(self._precision, mixture.device):
            salience = tracker.salience(mixture)
            return tracker.assign(salience).f0 if self._of_f0 else salience


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
