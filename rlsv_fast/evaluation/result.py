"""The outcome of an evaluation: segments, summary, JSON and the table people read.

``evaluation.json`` holds one object:

- ``schema_version``: 1;
- ``commit``: of the code that made it, or null;
- ``settings``: convention, sample rate, sizes, STFT, names of the tracks, and what the caller adds;
- ``silent_segments``: how many were left out for silence;
- ``notes``: list of sentences on anything left out;
- ``summary``: method → quantity → ``mean``, ``median``, ``std`` (of the population), ``count``, and
  ``excluded``, how many values were not finite. The methods are ``learned``, ``stft_hamming`` and
  ``stft_hann`` with the quantities ``reconstruction_si_sdr`` (dB), ``mask_si_sdr`` (dB) and
  ``additivity``, and ``mixture`` with ``si_sdr`` (dB);
- ``segments``: list of ``track``, ``start`` (seconds) and ``values``, method → quantity → value.

A value that is not finite is null.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from rlsv_fast.errors import InputError
from rlsv_fast.files import read_bytes

SCHEMA_VERSION = 1

_MAX_BYTES = 256 << 20  # some hundred times what MUSDB18's 50 test tracks make

Values: TypeAlias = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Statistics:
    """Statistics of one quantity over the segments; NaN where no value is finite."""

    mean: float
    median: float
    std: float
    count: int
    excluded: int


@dataclass(frozen=True)
class Segment:
    """Values of one segment: its track, its start in seconds, method → quantity → value."""

    track: str
    start: float
    values: Values


@dataclass(frozen=True)
class Evaluation:
    """Result of :func:`rlsv_fast.evaluation.evaluate`; the fields are those of the JSON file."""

    settings: dict[str, Any]
    summary: dict[str, dict[str, Statistics]]
    segments: list[Segment]
    silent_segments: int
    notes: list[str] = field(default_factory=list)

    @property
    def stft(self) -> Literal["stft_hamming", "stft_hann"]:
        """The STFT to compare with: the one that those who set the convention compared with."""
        return "stft_hann" if self.settings.get("convention") == "code" else "stft_hamming"

    def values(self, method: str, quantity: str) -> list[float]:
        """The finite values of one quantity, in the order of the segments."""
        found = (segment.values.get(method, {}).get(quantity) for segment in self.segments)
        return [value for value in found if value is not None and math.isfinite(value)]


def summarize(segments: Sequence[Segment]) -> dict[str, dict[str, Statistics]]:
    """Statistics of every method and quantity over the segments."""
    columns: dict[str, dict[str, list[float]]] = {}
    for segment in segments:
        for method, quantities in segment.values.items():
            for quantity, value in quantities.items():
                columns.setdefault(method, {}).setdefault(quantity, []).append(value)
    return {
        method: {quantity: statistics(values) for quantity, values in quantities.items()}
        for method, quantities in columns.items()
    }


def statistics(values: Sequence[float]) -> Statistics:
    """Statistics of values, those that are not finite left out."""
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    if not len(finite):
        return Statistics(math.nan, math.nan, math.nan, 0, len(array))
    return Statistics(
        mean=float(finite.mean()),
        median=float(np.median(finite)),
        std=float(finite.std()),
        count=len(finite),
        excluded=len(array) - len(finite),
    )


def write_json(
    evaluation: Evaluation,
    path: Path,
    *,
    commit: str | None = None,
    settings: Mapping[str, Any] | None = None,
    segments: bool = True,
) -> None:
    """Write an evaluation, replacing the file only once the new one is whole.

    Args:
        evaluation: the result.
        path: file to write; its folder is made if need be.
        commit: of the code that computed it.
        settings: to be added to those of the evaluation, for example the run's.
        segments: leave out the rows of single segments if False.
    """
    head = {
        "schema_version": SCHEMA_VERSION,
        "commit": commit,
        "settings": {**evaluation.settings, **(settings or {})},
        "silent_segments": evaluation.silent_segments,
        "notes": evaluation.notes,
        "summary": {
            method: {quantity: asdict(values) for quantity, values in quantities.items()}
            for method, quantities in evaluation.summary.items()
        },
    }
    text = json.dumps(plain(head), indent=2, allow_nan=False, ensure_ascii=False)
    rows = [
        json.dumps(plain(asdict(segment)), allow_nan=False, ensure_ascii=False)
        for segment in (evaluation.segments if segments else ())
    ]
    # One line per segment: json.dumps would give each single value its own.
    text = text.removesuffix("\n}") + ',\n  "segments": [' + ",".join(f"\n    {r}" for r in rows)
    write_atomically(path, text + ("\n  ]\n}\n" if rows else "]\n}\n"))


def read_json(path: Path) -> Evaluation:
    """Read what :func:`write_json` wrote; null becomes NaN.

    Raises:
        InputError: the file cannot be read or is no evaluation of this schema.
    """
    try:
        data = json.loads(read_bytes(path, _MAX_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:  # InputError is a ValueError, too
        raise InputError(f"cannot read the evaluation '{path}': {error}; evaluate again") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"'{path}' has the schema version {version}, expected {SCHEMA_VERSION}; evaluate again"
        )
    try:
        return _evaluation(data)
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"'{path}' is no whole evaluation ({error}); evaluate again") from error


def _evaluation(data: dict[str, Any]) -> Evaluation:
    """The object of a file, every part of which is looked at: it may come from anywhere."""
    summary = {
        str(method): {quantity: _statistics_of(values) for quantity, values in found.items()}
        for method, found in data["summary"].items()
    }
    segments = [
        Segment(
            str(row["track"]),
            _number(row["start"]),
            {
                method: {quantity: _number(value) for quantity, value in values.items()}
                for method, values in row["values"].items()
            },
        )
        for row in data["segments"]
    ]
    notes = [str(note) for note in data["notes"]]
    settings = {str(key): value for key, value in data["settings"].items()}
    return Evaluation(settings, summary, segments, int(data["silent_segments"]), notes)


def _statistics_of(values: Mapping[str, Any]) -> Statistics:
    mean, median, std = (_number(values[name]) for name in ("mean", "median", "std"))
    return Statistics(mean, median, std, int(values["count"]), int(values["excluded"]))


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:40]!r} where a number belongs")
    return float(value)


def plain(value: Any) -> Any:
    """Dictionaries, lists and numbers that JSON can hold, to seven significant digits."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def write_atomically(path: Path, text: str) -> None:
    """Write a file, replacing an older one only once the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)  # mkstemp's 0o600 would keep the file from the user's group
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
