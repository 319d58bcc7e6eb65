"""One process at a time in a run folder."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlsv_fast.errors import InputError

LOCK = ".lock"


class RunIsBusy(InputError):
    """Another process works in the run folder."""


logger = logging.getLogger(__name__)


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Keep other processes from training in a folder, which is made if need be.

    The lock is the kernel's, on a file in the folder: it ends with the process, however that ends.
    The file goes at the end, and so does a folder made here into which nothing was written.

    Args:
        run: run folder.

    Raises:
        RunIsBusy: another process holds the lock.
        InputError: the path is not a folder.
    """
    if run.exists() and not run.is_dir():
        raise InputError(f"{run}: exists and is not a run folder; choose another --out")
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    handle = _acquire(run)
    try:
        yield
    finally:
        # before the lock ends: another's new file must not be the one that goes
        with suppress(OSError):
            (run / LOCK).unlink()
        os.close(handle)
        with suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()


def _acquire(run: Path) -> int:
    """Descriptor of the lock file, locked."""
    while True:
        run.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # its last holder has just removed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise RunIsBusy(
                f"another process is working in {run}; wait for its end, or choose another --out"
            ) from error
        except OSError as error:  # some network file systems have no locks
            logger.warning("%s cannot be locked (%s): run one process at a time", run, error)
            return handle
        # its last holder may have removed the file between our opening and locking it
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(run / LOCK)):
                return handle
        os.close(handle)
