"""A run from its folder's point of view: made once, never overwritten, continued on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from rlsv_fast import nn
from rlsv_fast.data import PreparedTrack, SegmentStore
from rlsv_fast.errors import InputError
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training.arithmetic import computing_threads
from rlsv_fast.training.checkpoint import load_run_settings
from rlsv_fast.training.checkpoint_files import has_checkpoint
from rlsv_fast.training.config import Config
from rlsv_fast.training.distributed import check_processes
from rlsv_fast.training.graph import check_device
from rlsv_fast.training.lock import LOCK, lock_run
from rlsv_fast.training.loop import Callback, Loop, Record
from rlsv_fast.training.run_files import CONFIG, WRITING, write_text
from rlsv_fast.training.settings import REPRESENTATION, Schema, flatten, to_toml
from rlsv_fast.training.trainer import Monitor, Trainer

_CHANGEABLE = (
    "checkpoint_every",
    "cuda_graph",
    "early_stopping",
    "epochs",
    "learning_rate",
    "max_skipped",
    "max_steps",
    "patience",
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
    monitor: Monitor | None = None,
    processes: Processes = ALONE,
) -> nn.RepresentationModel:
    """Train a representation; everything about the run lands in its folder.

    The first SIGINT or SIGTERM saves a checkpoint after the current step and raises
    :class:`Interrupted`; a second one interrupts at once. On the CPU a resumed run ends with the
    same bits as one that was never interrupted, for the same number of threads
    (``training.threads``) and the same kind of processor; where either has changed, a warning says.

    Several processes, each of which calls this, train one model as one process would: they share
    every batch of ``training.batch_size`` segments. Process 0 alone reads and writes the folder; a
    signal to any of them stops all. A run may be resumed with another number of processes.

    Args:
        config: settings.
        tracks: training tracks at ``config.data.sample_rate``.
        run: run folder, to be made; with ``resume`` an existing one.
        device: where to compute.
        resume: continue from the checkpoint of the folder, if it has one already.
        locked: the caller holds :func:`lock_run` on the folder.
        progress: show a bar on a terminal.
        callback: called with each record that is logged, in process 0.
        monitor: called likewise, with the model as well, which at the records of epochs and of the
            end is that of their step. Its time counts as the run's.
        processes: those that train together, from ``Processes.of_group()``.

    Returns:
        The trained model.

    Raises:
        InputError: settings, tracks and device cannot work together, the folder exists (or with
            ``resume`` holds something else), another process works in it, or too many steps were
            not finite.
        Interrupted: stopped by a signal.
    """
    check_device(config, device)
    check_processes(config, processes)
    entered = enter_run(run, config, resume=resume, locked=locked, processes=processes)
    with entered, computing_threads(config.training.threads):
        data = config.data
        with processes.together():
            store = SegmentStore(
                tracks,
                data.segment_length,
                data.overlap,
                device=device,
                concatenate=data.concatenate,
            )
        check_alike(config, (store.voice_segments, store.accompaniment_segments), processes)
        trainer = Trainer(config, store, run, device=torch.device(device), processes=processes)

        def watch(record: Record) -> None:
            if monitor is not None:
                monitor(record, trainer.model)

        fit(trainer, config, resume=resume, progress=progress, callback=callback, monitor=watch)
        return trainer.model


@contextmanager
def enter_run(
    run: Path,
    config: Any,
    schema: Schema[Any] = REPRESENTATION,
    *,
    resume: bool,
    locked: bool,
    processes: Processes = ALONE,
) -> Iterator[None]:
    """Hold the lock of a run folder that is new or, to resume, was made with these settings."""

    def enter() -> None:
        if resume:
            load_run_settings(run, schema)  # where there is no run, the lock would make a folder
        if not locked:
            stack.enter_context(lock_run(run))
        if resume:
            check_resumable(run, config, schema)
        else:
            check_new_run(run)

    with ExitStack() as stack:
        processes.from_first(enter)
        yield


def fit(
    loop: Loop,
    config: Any,
    *,
    resume: bool,
    progress: bool,
    callback: Callback | None,
    monitor: Callback | None,
) -> None:
    """Train from the beginning or from the checkpoint of the folder, if it has one already."""
    processes = loop.processes
    if resume and processes.from_first(lambda: has_checkpoint(loop.run)):
        loop.restore(changeable={f"training.{name}" for name in _CHANGEABLE})
    if processes.first:
        write_text(loop.run / CONFIG, to_toml(config))
    loop.fit(progress=progress, callback=callback, monitor=monitor)


def check_alike(config: Any, data: Any, processes: Processes) -> None:
    """Raise InputError where processes have other settings or data than the first one."""
    found = processes.gather((config, data))
    for rank, other in enumerate(found):
        if other != found[0]:
            what = "settings" if other[0] != found[0][0] else "training data"
            raise InputError(
                f"process {rank} has other {what} than process 0; give all of them the same"
            )


def check_new_run(run: Path) -> None:
    """Raise InputError where a new run would write into something that exists."""
    if (run / CONFIG).exists():
        raise InputError(
            f"{run}: a run is there already; continue it with --resume, or choose another --out"
        )
    ours = (LOCK, WRITING)  # what a kill leaves before there is a run
    if run.exists() and (not run.is_dir() or any(path.name not in ours for path in run.iterdir())):
        raise InputError(f"{run}: exists and is not a run folder; choose another --out")


def check_resumable(
    run: Path,
    config: Any,
    schema: Schema[Any] = REPRESENTATION,
) -> None:
    """Raise InputError where a run cannot be continued with these settings."""
    former, wanted = flatten(load_run_settings(run, schema)), flatten(config)
    allowed = {f"training.{name}" for name in _CHANGEABLE} & wanted.keys()
    for key, value in wanted.items():
        if former[key] != value and key not in allowed:
            raise InputError(
                f"{run / CONFIG}: the run was made with {key} = {former[key]!r}, not {value!r}; "
                f"when resuming only {', '.join(sorted(allowed))} may change"
            )
