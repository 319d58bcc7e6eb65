"""Tracks of several voices, and their CSV files."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlsv_fast.errors import InputError
from rlsv_fast.files import read_bytes

FloatArray = npt.NDArray[np.float64]

_MOST_BYTES = 256_000_000


@dataclass(frozen=True)
class F0Tracks:
    """The f0 of every voice on one grid of time.

    Args:
        time: seconds, shape (T,), ascending.
        frequency: Hz, shape (T, V), 0 where unvoiced.
        voices: names, one for each column.
        confidence: salience of each voice, shape (T, V): under its pitch, or the largest of its own
            map; None where that is not known.
        salience: of all pitches, shape (360, T), where it was estimated and asked for.
        seconds: what each stage of the estimation took.
    """

    time: FloatArray
    frequency: FloatArray
    voices: tuple[str, ...]
    confidence: npt.NDArray[np.float32] | None = None
    salience: npt.NDArray[np.float32] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ValueError: they do not fit.
        """
        expected = (len(self.time), len(self.voices))
        if self.time.ndim != 1 or self.frequency.shape != expected:
            raise ValueError(
                f"F0Tracks: frequency must have shape {expected} for {expected[0]} times and "
                f"{expected[1]} voices, got {self.frequency.shape}"
            )


def write_csv(tracks: F0Tracks, path: Path) -> None:
    """Write a header (time and the voices' names) and a row for each frame; Hz, 0 where unvoiced.

    Times are rounded to microseconds, frequencies to a ten-thousandth of a hertz. An older file is
    replaced once the new one is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["time", *tracks.voices])
            for time, row in zip(tracks.time, tracks.frequency, strict=True):
                writer.writerow([f"{time:.6f}", *(f"{value:.4f}" for value in row)])
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_csv(path: Path) -> F0Tracks:
    """Read tracks back from :func:`write_csv`, or from any table of that form.

    Raises:
        InputError: not such a table; the message names the line.
    """
    try:
        text = read_bytes(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text ({error.reason}); expected a CSV file") from error
    try:
        rows = [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV file ({error})") from error
    if not rows or len(rows[0]) < 2 or rows[0][0].strip().lower() != "time":
        raise InputError(f"{path}: line 1 must be 'time' and the names of the voices")
    values = np.empty((len(rows) - 1, len(rows[0])))
    for number, row in enumerate(rows[1:], 2):
        try:
            numbers = [float(cell) for cell in row]
        except ValueError as error:
            raise InputError(f"{path}: row {number} is not made of numbers ({error})") from error
        if len(numbers) != len(rows[0]):
            raise InputError(
                f"{path}: row {number} has {len(numbers)} values, expected {len(rows[0])}"
            )
        if not all(math.isfinite(value) and value >= 0 for value in numbers):
            raise InputError(f"{path}: row {number} holds a value that is negative or not finite")
        values[number - 2] = numbers
    if (np.diff(values[:, 0]) <= 0).any():
        raise InputError(f"{path}: times must ascend")
    return F0Tracks(values[:, 0].copy(), values[:, 1:].copy(), tuple(map(str.strip, rows[0][1:])))
