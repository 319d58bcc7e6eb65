"""Decoding once: tracks as memory-mapped mono float32 files.

An entry is one ``<key>.npy`` with the rows mixture, voice, accompaniment. The key hashes what the
audio depends on (path, size and time of every source file, rate, accompaniment rule), so a changed
source makes a new entry; stale ones can be deleted at any time, as can the whole folder. Entries
appear by an atomic rename: concurrent processes and kills leave a whole entry or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from rlsv_fast.data.sound import FloatArray
from rlsv_fast.data.tracks import AccompanimentRule, Track, load_track
from rlsv_fast.errors import InputError

FORMAT_VERSION = 1
"""Part of every key; raise it whenever the same source would decode to other samples."""

_WORKERS = 4
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True, eq=False)
class PreparedTrack:
    """A track ready for use: three arrays (N,) float32, read-only memory maps from the cache.

    Attributes:
        name: name of the track.
        sample_rate: in Hz.
        mixture: the mixture.
        voice: the singing voice.
        accompaniment: everything else.
    """

    name: str
    sample_rate: int
    mixture: FloatArray
    voice: FloatArray
    accompaniment: FloatArray

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.voice)


def default_cache() -> Path:
    """The cache folder: ``RLSV_FAST_CACHE``, else ``rlsv_fast`` in the user's cache folder."""
    chosen = os.environ.get("RLSV_FAST_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rlsv_fast"


def prepare_tracks(
    tracks: Sequence[Track],
    sample_rate: int,
    cache: Path | None = None,
    *,
    accompaniment: AccompanimentRule = "stems",
    progress: Callable[[int, int, str], None] | None = None,
) -> list[PreparedTrack]:
    """Decode tracks into the cache, where they are not there yet, and map them into memory.

    Args:
        tracks: from :func:`rlsv_fast.data.find_tracks`.
        sample_rate: wanted rate in Hz.
        cache: folder of the entries; None means :func:`default_cache`.
        accompaniment: as in :func:`rlsv_fast.data.load_track`.
        progress: called after each track with (tracks done, tracks in all, name).

    Returns:
        The prepared tracks in the order given.

    Raises:
        InputError: a track cannot be used, or the cache folder cannot be written.
        MissingPackage: a decoder that a track needs is not installed.
    """
    folder = Path(cache) if cache is not None else default_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cache_error(folder, error) from error
    _remove_stale(folder)
    prepared: list[PreparedTrack] = []
    pool = ThreadPoolExecutor(max_workers=min(_WORKERS, os.cpu_count() or 1))
    try:
        jobs = [
            pool.submit(_prepare, track, sample_rate, folder, accompaniment) for track in tracks
        ]
        for track, job in zip(tracks, jobs, strict=True):
            prepared.append(job.result())
            if progress is not None:
                progress(len(prepared), len(tracks), track.name)
    finally:
        # after a bad track or Ctrl-C the waiting ones are not decoded any more
        pool.shutdown(cancel_futures=True)
    return prepared


def _prepare(
    track: Track, sample_rate: int, folder: Path, accompaniment: AccompanimentRule
) -> PreparedTrack:
    path = folder / f"{_key(track, sample_rate, accompaniment)}.npy"
    rows = _open(path)
    if rows is None:
        audio = load_track(track, sample_rate, accompaniment=accompaniment)
        _write(path, np.stack([audio.mixture, audio.voice, audio.accompaniment]))
        rows = _open(path)
        if rows is None:
            raise InputError(f"{path}: written but not readable; check the disk of the cache")
    return PreparedTrack(track.name, sample_rate, rows[0], rows[1], rows[2])


def _key(track: Track, sample_rate: int, accompaniment: AccompanimentRule) -> str:
    files = []
    for path in track.files:
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        files.append((os.path.abspath(path), status.st_size, status.st_mtime_ns))
    described = [FORMAT_VERSION, track.kind, files, sample_rate, accompaniment]
    # surrogateescape: file names need not be valid Unicode
    text = json.dumps(described, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:32]


def _open(path: Path) -> npt.NDArray[np.float32] | None:
    """The rows of an entry, or None where it is missing or torn (too short, or not ours)."""
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    whole = isinstance(rows, np.memmap) and rows.dtype == np.float32 and rows.ndim == 2
    return rows if whole and rows.shape[0] == 3 and rows.shape[1] > 0 else None


def _write(path: Path, rows: npt.NDArray[np.float32]) -> None:
    temporary = path.with_name(f"{path.stem}.{uuid4().hex}.tmp")
    try:
        # not mkstemp, whose 0o600 would keep a shared cache from the others
        with temporary.open("xb") as file:
            np.save(file, rows)
            file.flush()
            os.fsync(file.fileno())  # content before name, or a power cut leaves zeros
        os.replace(temporary, path)
    except OSError as error:
        raise _cache_error(path.parent, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _remove_stale(folder: Path) -> None:
    """Remove what killed processes left half-written, once it is too old to be in the making."""
    for path in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def _cache_error(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{folder}: cannot write the cache of decoded tracks ({error.strerror}); make room or set "
        "RLSV_FAST_CACHE to another folder"
    )
