"""The log of a run: one JSON object per line, of the kinds start, step, epoch and end."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from rlsv_fast.errors import InputError
from rlsv_fast.training.run_files import commit, unwritable, writing

logger = logging.getLogger(__name__)


class RunLog:
    """Appends records to ``log.jsonl``.

    Args:
        path: of the file.
        after_step: keep the records up to this step and drop later ones, which a resumed run
            repeats, and a line that a kill has cut; None keeps nothing.

    Raises:
        InputError: the file cannot be read or written.
    """

    def __init__(self, path: Path, after_step: int | None = None) -> None:
        self._path = path
        kept = []
        if after_step is not None:
            kept = _up_to(after_step, path) if path.exists() else []
            _tell_gaps(path, kept, after_step)
        try:
            with writing(path.parent) as folder:
                temporary = folder / path.name
                with _opened(temporary, "w") as file:
                    file.writelines(_line(record) for record in kept)
                commit(temporary, path)
            self._file = _opened(path, "a")
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, kind: str, **values: Any) -> None:
        """Append one record; what is not finite becomes null."""
        try:
            self._file.write(_line({"kind": kind, **values}))
            self._file.flush()
        except OSError as error:
            raise unwritable(self._path, error) from error

    def sync(self) -> None:
        """Wait until all records are on the disk, so that no checkpoint is ahead of its log."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self._path, error) from error

    def __enter__(self) -> RunLog:
        """Use as a context that closes the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        # every record was flushed, or its failure reported: closing would only try it again
        with suppress(OSError):
            self._file.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a log; a last line that a kill has cut is left out.

    Damaged lines before it are left out as well, with a warning.

    Raises:
        InputError: the file cannot be read.
    """
    damaged: list[int] = []
    number, cut = 0, False
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                cut = not line.endswith("\n")
                record = _record(line)
                if record is None:
                    damaged.append(number)
                else:
                    yield record
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if damaged and damaged[-1] == number and cut:
        damaged.pop()
    if damaged:
        logger.warning("%s: damaged, left out are lines %s", path, _listed(damaged))


def _opened(path: Path, mode: Literal["w", "a"]) -> TextIO:
    # half a surrogate, which a JSON string may hold, is written as the escape that it came from
    return open(path, mode, encoding="utf-8", errors="backslashreplace")


def _listed(numbers: Sequence[int]) -> str:
    rest = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + rest


def _record(line: str) -> dict[str, Any] | None:
    """The record of a line; None where it is not one that was written here."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and isinstance(record.get("kind"), str)
    return record if whole and isinstance(record.get("step"), int) else None


def _up_to(step: int, path: Path) -> list[dict[str, Any]]:
    return [record for record in read_log(path) if record["step"] <= step]


def _tell_gaps(path: Path, kept: Sequence[dict[str, Any]], last: int) -> None:
    """Say where the log of a resumed run is not whole; training does not depend on it."""
    steps = [record["step"] for record in kept if record["kind"] == "step"]
    if steps != list(range(1, last + 1)):
        logger.warning(
            "%s: damaged, it does not hold each of the steps 1 to %d once; training goes on from "
            "its checkpoint, which is whole",
            *(path, last),
        )


def _line(record: dict[str, Any]) -> str:
    values = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
    return json.dumps(values, ensure_ascii=False) + "\n"
