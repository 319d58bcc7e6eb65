"""A run from its folder's point of view: made once, never overwritten, continued on request."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from rlsv_fast import nn
from rlsv_fast.data import PreparedTrack, SegmentStore
from rlsv_fast.errors import InputError
from rlsv_fast.training.arithmetic import computing_threads
from rlsv_fast.training.checkpoint import CHECKPOINT, CONFIG, load_run_config, write_text
from rlsv_fast.training.config import Config
from rlsv_fast.training.graph import check_device
from rlsv_fast.training.lock import LOCK, lock_run
from rlsv_fast.training.settings import flatten, to_toml
from rlsv_fast.training.trainer import Callback, Trainer

_CHANGEABLE = (
    "checkpoint_every",
    "cuda_graph",
    "early_stopping",
    "epochs",
    "learning_rate",
    "max_skipped",
    "max_steps",
    "read_every",
    "threads",
)


def train(
    config: Config,
    tracks: Sequence[PreparedTrack],
    run: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    locked: bool = False,
    progress: bool = False,
    callback: Callback | None = None,
) -> nn.RepresentationModel:
    """Train a representation; everything about the run lands in its folder.

    The first SIGINT or SIGTERM saves a checkpoint after the current step and raises
    :class:`Interrupted`; a second one interrupts at once. On the CPU a resumed run ends with the
    same bits as one that was never interrupted, for the same number of threads
    (``training.threads``) and the same kind of processor; where either has changed, a warning says.

    Args:
        config: settings.
        tracks: training tracks at ``config.data.sample_rate``.
        run: run folder, to be made; with ``resume`` an existing one.
        device: where to compute.
        resume: continue from the checkpoint of the folder, if it has one already.
        locked: the caller holds :func:`lock_run` on the folder.
        progress: show a bar on a terminal.
        callback: called with each record that is logged.

    Returns:
        The trained model.

    Raises:
        InputError: settings, tracks and device cannot work together, the folder exists (or with
            ``resume`` holds something else), another process works in it, or too many steps were
            not finite.
        Interrupted: stopped by a signal.
    """
    check_device(config, device)
    if resume:
        load_run_config(run)  # where there is no run, the lock would make a folder
    with nullcontext() if locked else lock_run(run), computing_threads(config.training.threads):
        if resume:
            check_resumable(run, config)
        else:
            check_new_run(run)
        data = config.data
        store = SegmentStore(
            tracks, data.segment_length, data.overlap, device=device, concatenate=data.concatenate
        )
        trainer = Trainer(config, store, run, device=torch.device(device))
        if resume and (run / CHECKPOINT).exists():
            trainer.restore()
        write_text(run / CONFIG, to_toml(config))
        trainer.fit(progress=progress, callback=callback)
        return trainer.model


def check_new_run(run: Path) -> None:
    """Raise InputError where a new run would write into something that exists."""
    if (run / CONFIG).exists():
        raise InputError(
            f"{run}: a run is there already; continue it with --resume, or choose another --out"
        )
    if run.exists() and (not run.is_dir() or any(path.name != LOCK for path in run.iterdir())):
        raise InputError(f"{run}: exists and is not a run folder; choose another --out")


def check_resumable(run: Path, config: Config) -> None:
    """Raise InputError where a run cannot be continued with these settings."""
    former, wanted = flatten(load_run_config(run)), flatten(config)
    allowed = {f"training.{name}" for name in _CHANGEABLE}
    for key, value in wanted.items():
        if former[key] != value and key not in allowed:
            raise InputError(
                f"{run / CONFIG}: the run was made with {key} = {former[key]!r}, not {value!r}; "
                f"when resuming only {', '.join(sorted(allowed))} may change"
            )
