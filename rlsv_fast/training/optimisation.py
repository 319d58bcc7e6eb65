"""Moving a model by the gradient of its objective; nothing in it makes the host wait."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.distributed import average
from rlsv_fast.training.precision import matrix_products
from rlsv_fast.training.step import Mark, StepLosses


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
        self.capacity = capacity
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


class Optimisation(ABC):
    """Model, optimiser and noise of a run, and the step that moves them.

    A step whose loss or gradient is not finite changes neither parameters nor moments: the
    optimiser decides that on the device, by its ``found_inf``. Several processes decide it from the
    same numbers, so that their models never part.

    Args:
        model: on its device.
        device: where to compute.
        capacity: the most steps between two fetches of their readings.
        processes: those that share each batch.
        learning_rate: of Adam.
        weight_decay: added to the gradient, times the weight.
        seed: of the noise.
        precision: of the settings; decides whether a GPU may compute in TF32.
        clip: the largest norm that a gradient keeps, 0 for any.
    """

    def __init__(
        self,
        model: Module,
        device: torch.device,
        capacity: int,
        processes: Processes = ALONE,
        *,
        learning_rate: float,
        weight_decay: float = 0.0,
        seed: int,
        precision: str,
        clip: float = 0.0,
    ) -> None:
        self.processes = processes
        self.device = device
        self.optimizer = torch.optim.Adam(
            model.parameters(),
            lr=learning_rate,
            weight_decay=weight_decay,
            fused=True,
            capturable=device.type == "cuda",
        )
        self.noise = torch.Generator(device).manual_seed(seed)
        self.readings = Readings(capacity, device)
        self._parameters = list(model.parameters())
        self._precision = precision
        self._clip = clip

    @abstractmethod
    def losses_of(self, batch: tuple[Any, ...], mark: Mark | None) -> tuple[StepLosses, str]:
        """The losses, and the part of the step in which their derivation ends."""

    def __call__(self, *batch: Any, mark: Mark | None = None) -> None:
        """Make one step on a batch, or on this process's rows of it.

        Args:
            batch: what the objective takes.
            mark: called with the name of each part of the step when it has ended.
        """
        with matrix_products(self._precision, self.device):
            self.optimizer.zero_grad(set_to_none=True)
            losses, last = self.losses_of(batch, mark)
            losses.total.backward()  # type: ignore[no-untyped-call]
            if mark is not None:
                mark(last)
            self._apply(losses)
            if mark is not None:
                mark("optimiser")

    @torch.no_grad()
    def _apply(self, losses: StepLosses) -> None:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        row = torch.stack([*losses, norm])
        if self.processes.several:
            row = average(row)  # the same bits everywhere, and not finite if any is not
        finite = row[0].isfinite() & row[3].isfinite()
        if self._clip:
            torch._foreach_mul_(gradients, (self._clip / norm).clamp(max=1))
        # what GradScaler sets: 1 makes the fused step leave everything as it is
        self.optimizer.found_inf = finite.logical_not().float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.readings.write(row)
