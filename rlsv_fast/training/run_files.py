"""The files of a run folder: what they are called, and how one takes the place of its former self.

A file is written under ``.writing/``, forced to the disk and moved to its name, so that a kill or a
power cut leaves the former one or the new one. What a kill leaves in ``.writing/`` goes before the
next file is written, at the next start. It is a folder because safetensors writes to a temporary
file of its own beside its target, under a name that nobody else knows.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlsv_fast.errors import InputError

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"
STATE = "state.json"
CONFIG = "config.toml"
LOG = "log.jsonl"
WRITING = ".writing"


@contextmanager
def writing(run: Path) -> Iterator[Path]:
    """An empty folder for files in the making, on the file system of the run; gone at the end."""
    folder = run / WRITING
    shutil.rmtree(folder, ignore_errors=True)  # a kill's: on a full disk its room is needed
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def commit(temporary: Path, target: Path) -> None:
    """Move a written file to its name: once its content is on the disk, and the move, too."""
    flush(temporary)
    os.replace(temporary, target)
    flush(target.parent)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a small file of a run, whole or not at all.

    Raises:
        InputError: it cannot be written; what was there before is intact.
    """
    try:
        with writing(path.parent) as folder:
            temporary = folder / path.name
            temporary.write_text(text, encoding="utf-8")
            commit(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: Exception) -> InputError:
    """What to say where a disk is full or a folder gone; the last checkpoint is whole then."""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return InputError(
        f"{path}: cannot be written ({reason}); the last checkpoint is intact: make room and resume"
    )
