"""The command line with something gone wrong inside: python fault_child.py FAULT ARGUMENTS...

FAULT is ``keep=FOLDER``, which copies every checkpoint to FOLDER/STEP and lets nothing go wrong;
``nan=STEP``: losses are NaN from this step on; ``explode=STEP``: they grow 1e6-fold with each step
from there, until float32 ends.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from rlsv_fast.cli import main
from rlsv_fast.training import StepLosses, Trainer, update


def keep(folder: Path) -> None:
    """Copy every checkpoint as soon as it is saved."""
    save = Trainer.save

    def saved(trainer: Trainer) -> None:
        save(trainer)
        target = folder / str(trainer.position.step)
        target.mkdir(parents=True, exist_ok=True)
        for name in ("checkpoint.safetensors", "state.json"):
            shutil.copy(trainer.run / name, target)

    Trainer.save = saved  # type: ignore[method-assign]


def scale(first: int, factor: float) -> None:
    """Multiply the loss by a factor from one step on, by its square at the next, and so on."""
    losses = update.training_losses
    step = 0

    def scaled(*arguments: Any) -> StepLosses:
        nonlocal step
        step += 1
        found = losses(*arguments)
        return StepLosses(found.total * factor ** max(0, step - first + 1), *found[1:])

    update.training_losses = scaled


if __name__ == "__main__":
    fault, _, value = sys.argv[1].partition("=")
    if fault == "keep":
        keep(Path(value))
    else:
        scale(int(value), {"nan": float("nan"), "explode": 1e6}[fault])
    sys.exit(main(sys.argv[2:]))
