"""Where training is, and what it has seen of the epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from rlsv_fast.errors import InputError
from rlsv_fast.training.optimisation import Reading


@dataclass
class Position:
    """Where training is; saved with every checkpoint.

    Steps and batches count when they are given to the device, all else when the step is read.

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

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Position:
        """The position of a checkpoint.

        Raises:
            KeyError: the state lacks one of its fields.
            InputError: a field is not of its type, or a count that cannot be.
        """
        values = {}
        for name, kind in get_type_hints(cls).items():
            value = state[name]
            fits = type(value) in ((int, float) if kind is float else get_args(kind) or (kind,))
            if not fits or (kind is int and not 0 <= value < 2**63):
                raise InputError(f"{name} = {value!r:.60} is not what a position holds")
            values[name] = value
        return cls(**values)

    def account(self, reading: Reading) -> None:
        """Add a step to the sums, or count it as skipped, by the rule of the update."""
        if math.isfinite(reading.total) and math.isfinite(reading.gradient_norm):
            self.reconstruction += reading.reconstruction
            self.representation += reading.representation
            self.counted += 1
        else:
            self.skipped += 1

    def end_epoch(self, *, early_stopping: bool = False) -> dict[str, Any]:
        """Go to the next epoch; what is logged of this one."""
        count = max(self.counted, 1)
        mean = self.reconstruction / count
        record = {
            "step": self.step,
            "epoch": self.epoch,
            "reconstruction": mean,
            "representation": self.representation / count,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
        }
        self.stopped_early = early_stopping and self.former is not None and mean >= self.former
        self.former = mean
        self.reconstruction = self.representation = 0.0
        self.epoch += 1
        self.batch = self.counted = 0
        return record
