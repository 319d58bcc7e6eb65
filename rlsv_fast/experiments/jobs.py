"""A grid in several processes, each of which takes the next run that no other one has."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any


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
        RuntimeError: one of them failed.
    """
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(target=_child, args=(work, arguments), daemon=False) for _ in range(count)
    ]
    for child in children:
        child.start()
    interrupted = False
    for child in children:
        while child.is_alive():
            try:
                child.join()
            except KeyboardInterrupt:
                # from a terminal the children have it, too, and are saving
                if not interrupted:
                    for other in children:
                        if other.is_alive() and other.pid is not None:
                            os.kill(other.pid, signal.SIGTERM)
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    failed = [child.exitcode for child in children if child.exitcode]
    if failed:
        raise RuntimeError(f"{len(failed)} of {count} jobs failed, with status {failed[0]}")


def _child(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        work(*arguments)
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)


def _end_with(sentinel: int) -> None:
    """End at once when the parent has: nobody waits for the result, and resuming is cheap."""
    wait([sentinel])
    os._exit(1)
