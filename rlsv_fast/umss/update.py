"""One update of a separator of ensembles, by itself or as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rlsv_fast.errors import InputError
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.graph import Recorder
from rlsv_fast.training.optimisation import Optimisation
from rlsv_fast.training.step import Mark, StepLosses
from rlsv_fast.umss.model import EnsembleObjective, Known, build_model
from rlsv_fast.umss.runs import start_from
from rlsv_fast.umss.settings import EnsembleConfig
from rlsv_fast.umss.unet import F0UNet


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
