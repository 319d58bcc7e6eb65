"""Reading tracks through the ``musdb`` package, for those who already work with it.

Nothing else of the library needs musdb: :func:`rlsv_fast.data.find_tracks` reads the same folders
without ffmpeg.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlsv_fast.data.sound import FloatArray, check_samples
from rlsv_fast.data.tracks import (
    AccompanimentRule,
    Subset,
    TrackAudio,
    assemble,
    resample,
)
from rlsv_fast.errors import InputError, MissingPackage, require


def read_musdb(
    root: Path | None,
    subset: Subset,
    sample_rate: int,
    *,
    accompaniment: AccompanimentRule = "stems",
    is_wav: bool = False,
) -> Iterator[tuple[str, TrackAudio]]:
    """Decode the tracks of a MUSDB18 folder through ``musdb.DB``, one after the other.

    Args:
        root: the MUSDB18 folder; None means the environment variable ``MUSDB_PATH``.
        subset: ``"train"`` or ``"test"``.
        sample_rate: wanted rate in Hz.
        accompaniment: as in :func:`rlsv_fast.data.load_track`.
        is_wav: True for MUSDB18-HQ (wav folders), False for ``.stem.mp4``.

    Yields:
        Name and mono audio of each track.

    Raises:
        InputError: musdb finds no track, or a track holds no finite audio.
        MissingPackage: musdb, or the ffmpeg that it calls, is not installed.
    """
    musdb = _import_musdb()
    try:
        database = musdb.DB(
            root=None if root is None else str(root), subsets=[subset], is_wav=is_wav
        )
    except (RuntimeError, OSError) as error:
        raise InputError(f"musdb cannot open {root or 'MUSDB_PATH'}: {error}") from error
    if len(database) == 0:
        raise InputError(
            f"{database.root}: musdb finds no {'wav' if is_wav else '.stem.mp4'} tracks in "
            f"'{subset}'; check the folder, or is_wav={not is_wav}"
        )
    for track in database:
        stems = {
            "mixture": _mono(track.audio),
            "vocals": _mono(track.targets["vocals"].audio),
            "accompaniment": _mono(track.targets["accompaniment"].audio),
        }
        for name, samples in stems.items():
            check_samples(samples, f"musdb track '{track.name}' ({name})")
        audio = assemble(stems, f"musdb track '{track.name}'", accompaniment=accompaniment)
        yield track.name, resample(audio, int(track.rate), sample_rate, track.name)


def _import_musdb() -> Any:
    try:
        return require("musdb", extra="musdb", purpose="read tracks through musdb")
    except RuntimeError as error:  # its dependency stempeg wants ffmpeg and ffprobe at import
        raise MissingPackage(
            "the package 'musdb' needs the programs ffmpeg and ffprobe: install ffmpeg, or read "
            "the same folder without musdb (--root)"
        ) from error


def _mono(audio: Any) -> FloatArray:
    # musdb returns (N, channels), but (N,) for mono wav files
    samples = np.asarray(audio, dtype=np.float32)
    return samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
