"""One update of a representation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.build import build_losses, build_model
from rlsv_fast.training.config import Config
from rlsv_fast.training.distributed import shared_objective
from rlsv_fast.training.optimisation import Optimisation
from rlsv_fast.training.step import Mark, StepLosses, training_losses


class Update(Optimisation):
    """The step of a representation, on a batch of voices (B, N) and accompaniments (B, N).

    Compiled, encoder, decoder and losses are one part, "model".

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
        self.config = config
        self.model = build_model(config).to(device)
        self.losses = build_losses(config)
        training = config.training
        super().__init__(
            self.model,
            device,
            capacity,
            processes,
            learning_rate=training.learning_rate,
            seed=training.seed,
            precision=training.precision,
        )
        self._compiled: Callable[..., StepLosses] | None = None
        if training.compile:
            self._compiled = torch.compile(training_losses, fullgraph=True)
        self._shared = shared_objective(self.model, config) if processes.several else None

    def losses_of(self, batch: tuple[Any, ...], mark: Mark | None) -> tuple[StepLosses, str]:
        """The losses, and the part of the step in which their derivation ends."""
        voice, accompaniment = batch
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
