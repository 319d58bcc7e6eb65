"""A grid in several processes, each of which takes the next run that no other one has."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from rlsv_fast.errors import LostProcess


def run_jobs(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in so many processes and wait for all of them.

    They share nothing but the run folders, whose locks keep two from one run. They end with this
    process, however it ends; a first Ctrl-C makes each save a checkpoint.

    Args:
        count: number of processes.
        work: importable by its name; what it prints goes to this process's streams.
        arguments: what can be pickled.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        LostProcess: one of them failed.
    """
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(target=_child, args=(work, arguments), daemon=False) for _ in range(count)
    ]
    for child in children:
        child.start()
    signals = [signal.SIGTERM]  # to be sent at the next Ctrl-C: save and end; after that, end
    for child in children:
        while child.is_alive():
            try:
                child.join()
            except KeyboardInterrupt:
                for other in children:
                    if other.is_alive() and other.pid is not None:
                        os.kill(other.pid, signals[-1])
                signals.append(signal.SIGKILL)
    if len(signals) > 1:
        raise KeyboardInterrupt
    failed = [child.exitcode for child in children if child.exitcode]
    if failed:
        raise LostProcess(
            f"{len(failed)} of {count} jobs ended with status {failed[0]}; the same command "
            "continues"
        )


def _child(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # away from the terminal: its Ctrl-C reaches the parent, and each child once from there
    os.setsid()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        work(*arguments)
    except KeyboardInterrupt as stop:
        raise SystemExit(128 + signal.SIGINT) from stop


def _end_with(sentinel: int) -> None:
    """End at once when the parent has: nobody waits for the result, and resuming is cheap."""
    wait([sentinel])
    os._exit(1)
