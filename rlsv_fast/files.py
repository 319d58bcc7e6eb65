"""Opening what a user names: a pipe would wait for ever, a device never end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlsv_fast.errors import InputError


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Descriptor of a regular file, from which it can be read; closed at the end.

    Raises:
        InputError: it cannot be opened, or is a folder, a pipe, a device or a socket.
    """
    try:
        # without waiting: a pipe has no writer yet
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InputError(f"{path}: not a regular file; replace or remove it")
        yield handle
    finally:
        os.close(handle)


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file that is not larger than it should be.

    Raises:
        InputError: it cannot be read, is no regular file, or has more than ``most`` bytes.
    """
    with opened(path) as handle, os.fdopen(handle, "rb", closefd=False) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path}: larger than {most / 1000:g} kB; replace or remove it")
    return content
