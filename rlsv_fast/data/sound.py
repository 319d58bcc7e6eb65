"""Decoding one wav or flac file, whatever it says about itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from rlsv_fast.errors import InputError
from rlsv_fast.files import opened

FloatArray: TypeAlias = npt.NDArray[np.float32]

RATES = (1000, 768_000)
"""Sample rates in Hz that audio has; others are damage, and resampling them would never end."""

LONGEST = 4 * 3600
"""Seconds that a file may last; what a header promises or a codec makes of zeros has no end."""

_BLOCK = 1 << 18  # frames decoded at a time


def read_audio(path: Path, *, mono: bool = False) -> tuple[FloatArray, int]:
    """Decode a wav or flac file.

    The memory is that of the samples that are there, not of those that the header promises.

    Args:
        path: a regular file, of any name.
        mono: down-mix by the mean of the channels.

    Returns:
        Samples (frames, channels), or (frames,) if mono, integers scaled to ±1; and the rate in Hz.

    Raises:
        InputError: empty, damaged, truncated or not audio, too large for the memory, longer than
            ``LONGEST``, or of a rate outside of ``RATES``.
    """
    remedy = "replace or remove it"
    with opened(path) as handle:
        if os.fstat(handle).st_size == 0:
            raise InputError(f"{path}: empty file (0 bytes); {remedy}")
        try:
            # by descriptor: a name need not be valid Unicode, nor tell the format
            with soundfile.SoundFile(handle, closefd=False) as file:
                rate, frames = int(file.samplerate), int(file.frames)
                check_rate(rate, path)
                if frames > LONGEST * rate:
                    raise InputError(
                        f"{path}: longer than {LONGEST // 3600} hours, or does not say how long; "
                        "cut it or export it anew"
                    )
                samples = _decoded(file, mono)
        except (OSError, soundfile.SoundFileError) as error:
            reason = getattr(error, "error_string", None) or error
            raise InputError(f"{path}: cannot be read as audio ({reason}); {remedy}") from error
        except MemoryError as error:
            raise InputError(f"{path}: too long to decode in memory; cut or remove it") from error
    if len(samples) != frames:
        raise InputError(
            f"{path}: truncated, {len(samples)} of {frames} samples are there; {remedy}"
        )
    return samples, rate


def check_rate(rate: int, path: Path) -> None:
    """Raise InputError for a sample rate that no audio has."""
    lowest, highest = RATES
    if not lowest <= rate <= highest:
        raise InputError(
            f"{path}: sample rate {rate} Hz, must be from {lowest} to {highest} Hz; export it anew"
        )


def check_samples(samples: FloatArray, source: str) -> None:
    """Raise InputError where decoded audio is empty or holds NaN or infinity."""
    if samples.size == 0:
        raise InputError(f"{source}: holds no samples; replace or remove it")
    # A sum is finite iff every sample is (float32 audio cannot overflow float64), and needs no
    # temporary of the size of the track.
    if not np.isfinite(samples.sum(dtype=np.float64)):
        position = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise InputError(
            f"{source}: sample {position} is {samples[position]}; repair the file or export it anew"
        )


def _decoded(file: soundfile.SoundFile, mono: bool) -> FloatArray:
    """The samples that are there; libsndfile ends at as many as the header promises."""
    blocks: list[FloatArray] = []
    while True:
        block = file.read(_BLOCK, dtype="float32", always_2d=True)
        if mono:
            block = block.mean(axis=1, dtype=np.float32)
        blocks.append(block)
        if len(block) < _BLOCK:
            return np.concatenate(blocks)
