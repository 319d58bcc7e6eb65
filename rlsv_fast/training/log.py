"""The log of a run: one JSON object per line, of the kinds start, step, epoch and end."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rlsv_fast.errors import InputError


class RunLog:
    """Appends records to ``log.jsonl``.

    Args:
        path: of the file.
        after_step: keep the records up to this step and drop later ones, which a resumed run
            repeats, and a line that a kill has cut; None keeps nothing.
    """

    def __init__(self, path: Path, after_step: int | None = None) -> None:
        kept = []
        if after_step is not None and path.exists():
            kept = [record for record in read_log(path) if record.get("step", 0) <= after_step]
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(_line(record) for record in kept)
        os.replace(temporary, path)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, kind: str, **values: Any) -> None:
        """Append one record; what is not finite becomes null."""
        self._file.write(_line({"kind": kind, **values}))
        self._file.flush()

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
        self._file.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a log; a last line that a kill has cut is left out.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict):
                    yield record
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _line(record: dict[str, Any]) -> str:
    values = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }
    return json.dumps(values, ensure_ascii=False) + "\n"
