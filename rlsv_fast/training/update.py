"""One update of the model; nothing in it makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rlsv_fast.nn import RepresentationModel
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.build import build_losses, build_model
from rlsv_fast.training.config import Config
from rlsv_fast.training.distributed import average, shared_objective
from rlsv_fast.training.precision import matrix_products
from rlsv_fast.training.step import Mark, StepLosses, training_losses


class Reading(NamedTuple):
    """What the host gets to know of one step."""

    total: float
    reconstruction: float
    representation: float
    gradient_norm: float


class Readings:
    """The latest steps' numbers, on the device until they are fetched together.

    Args:
        capacity: the most rows between two fetches.
        device: where the rows are written.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._rows = torch.zeros(capacity, len(Reading._fields), device=device)
        # on the device, so that a replayed graph finds the next row, too
        self._next = torch.zeros(1, dtype=torch.int64, device=device)

    def write(self, row: Tensor) -> None:
        """Append a row (4,), without waiting."""
        self._rows.index_copy_(0, self._next, row.unsqueeze(0))
        self._next.add_(1)

    def fetch(self, count: int) -> list[Reading]:
        """Take all rows, of which ``count`` have been written; waits for the device."""
        rows = self._rows[:count].tolist()
        self._next.zero_()
        return [Reading(*row) for row in rows]


class Update:
    """Model, optimiser and noise of a run, and the step that moves them.

    A step whose loss or gradient is not finite changes neither parameters nor moments: the
    optimiser decides that on the device, by its ``found_inf``. Several processes decide it from the
    same numbers, so that their models never part.

    Args:
        config: settings.
        device: where to compute.
        capacity: the most steps between two fetches of their readings.
        processes: those that share each batch.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        capacity: int,
        processes: Processes = ALONE,
    ) -> None:
        self.processes = processes
        self.config = config
        self.device = device
        self.model: RepresentationModel = build_model(config).to(device)
        self.losses = build_losses(config)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=config.training.learning_rate,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.noise = torch.Generator(device).manual_seed(config.training.seed)
        self.readings = Readings(capacity, device)
        self._compiled: Callable[..., StepLosses] | None = None
        if config.training.compile:
            self._compiled = torch.compile(training_losses, fullgraph=True)
        self._shared = shared_objective(self.model, config) if processes.several else None

    def __call__(self, voice: Tensor, accompaniment: Tensor, mark: Mark | None = None) -> None:
        """Make one step on a batch (B, N), (B, N), or on this process's rows of it.

        Args:
            voice: segments of the voice.
            accompaniment: segments to mix with it.
            mark: called with the name of each part of the step when it has ended. Compiled,
                encoder, decoder and losses are one part, "model".
        """
        with matrix_products(self.config, self.device):
            self.optimizer.zero_grad(set_to_none=True)
            losses, last = self._losses(voice, accompaniment, mark)
            losses.total.backward()  # type: ignore[no-untyped-call]
            if mark is not None:
                mark(last)
            self._apply(losses)
            if mark is not None:
                mark("optimiser")

    def _losses(
        self, voice: Tensor, accompaniment: Tensor, mark: Mark | None
    ) -> tuple[StepLosses, str]:
        """The losses, and the part of the step in which their derivation ends."""
        noise = self._noise(voice)
        if self._shared is not None:
            return self._shared(voice, accompaniment, noise, mark), "encoder"
        arguments = (self.model, self.losses, voice, accompaniment, noise, self.config)
        if self._compiled is None:
            return training_losses(*arguments, mark), "encoder"
        if mark is not None:
            mark("data")
        return self._compiled(*arguments), "model"

    def _noise(self, voice: Tensor) -> Tensor:
        """Noise for these rows.

        Each process draws that of the whole batch: a row's noise, and the generator that goes into
        the checkpoint, are then the same with any number of processes.
        """
        count = len(voice) * self.processes.size
        noise = torch.randn((count, *voice.shape[1:]), generator=self.noise, device=self.device)
        return noise[self.processes.rows(count)] if self.processes.several else noise

    @torch.no_grad()
    def _apply(self, losses: StepLosses) -> None:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        row = torch.stack([*losses, norm])
        if self.processes.several:
            row = average(row)  # the same bits everywhere, and not finite if any is not
        finite = row[0].isfinite() & row[3].isfinite()
        # what GradScaler sets: 1 makes the fused step leave everything as it is
        self.optimizer.found_inf = finite.logical_not().float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.readings.write(row)
