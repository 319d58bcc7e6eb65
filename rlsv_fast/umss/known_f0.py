"""What frozen f0 networks find in the excerpts of a training, found once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlsv_fast.training.precision import matrix_products
from rlsv_fast.umss.excerpts import ChoirBatch, Place
from rlsv_fast.umss.model import EnsembleModel, Known
from rlsv_fast.umss.settings import EnsembleConfig

_CACHE_BYTES = 4 << 30
"""Of the saliences kept in the host's memory."""


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
