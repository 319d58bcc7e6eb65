"""Finding multitrack recordings and decoding one of them to mono voice and accompaniment.

Three layouts live side by side under ``root/train`` and ``root/test``:

* a folder per track with ``mixture``, ``vocals``, ``drums``, ``bass``, ``other``, ``accompaniment``
  as ``.wav`` or ``.flac`` (the layout of MUSDB18-HQ; any part may be missing but the voice);
* a ``.stem.mp4`` per track (MUSDB18);
* a two-channel ``.wav`` or ``.flac`` per track, left accompaniment and right voice (MIR-1K).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from rlsv_fast.data.sound import FloatArray, check_samples, read_audio
from rlsv_fast.data.stems import read_stem_file
from rlsv_fast.errors import InputError, require

AccompanimentRule: TypeAlias = Literal["stems", "difference"]
Subset: TypeAlias = Literal["train", "test"]

STEM_NAMES = ("mixture", "vocals", "drums", "bass", "other", "accompaniment")
AUDIO_SUFFIXES = (".wav", ".flac")
LENGTH_TOLERANCE = 64
"""Stems of one track may differ by so many samples (rounding when a bounce or a codec cuts the
end, 1.5 ms at 44.1 kHz) and are then cropped to the shortest; more is taken for a wrong file."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Track:
    """Where one recording lies.

    Attributes:
        name: folder name, or file name without its suffix, as text (bytes that are not UTF-8 as
            escapes); unique within a subset.
        path: the folder or the file.
        kind: ``"folder"``, ``"stem"`` (.stem.mp4) or ``"two-channel"``.
        files: the files that are decoded, sorted.
    """

    name: str
    path: Path
    kind: Literal["folder", "stem", "two-channel"]
    files: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class TrackAudio:
    """One decoded track: mono float32 arrays of equal shape (N,), full scale at ±1."""

    mixture: FloatArray
    voice: FloatArray
    accompaniment: FloatArray


def find_tracks(root: Path | None, subset: Subset) -> list[Track]:
    """List the tracks of one subset.

    Args:
        root: data folder that holds ``train`` and ``test``; None means the environment variable
            ``MUSDB_PATH``.
        subset: ``"train"`` or ``"test"``.

    Returns:
        The tracks sorted by name. Hidden entries and files of other types are passed over.

    Raises:
        InputError: the folder is missing, holds no track, or a track folder holds no stem.
    """
    folder = _subset_folder(root, subset)
    found: dict[str, Track] = {}
    for entry in _entries(folder):
        track = _as_track(entry)
        if track is None:
            continue
        if track.name in found:
            other = found[track.name].path
            raise InputError(f"{entry} and {other} are both track '{track.name}': rename one")
        found[track.name] = track
    if not found:
        raise InputError(
            f"{folder}: no tracks found; expected folders with vocals.wav and mixture.wav or other "
            "stems, *.stem.mp4 files, or two-channel wav or flac files"
        )
    return [found[name] for name in sorted(found)]


def load_track(
    track: Track, sample_rate: int, *, accompaniment: AccompanimentRule = "stems"
) -> TrackAudio:
    """Decode a track, down-mix it by the mean of its channels and bring it to a sample rate.

    A missing mixture is the sum of voice and accompaniment. The accompaniment is, with ``"stems"``
    (the papers), the file of that name, else the sum of the drums, bass and other that exist, else
    mixture − vocals; with ``"difference"`` (the published code) always mixture − vocals where a
    mixture exists. The two differ for recordings whose mixture is not the plain sum of its stems.

    Args:
        track: from :func:`find_tracks`.
        sample_rate: wanted rate in Hz; other rates are resampled with soxr.
        accompaniment: the rule above.

    Returns:
        Mixture, voice and accompaniment of equal length.

    Raises:
        InputError: a file is empty, unreadable or not finite, stems disagree in rate or length,
            the voice is missing, or nothing tells the accompaniment.
        MissingPackage: PyAV (for .stem.mp4) or soxr (for other rates) is not installed.
    """
    if track.kind == "folder":
        stems, rate = _read_folder(track)
    elif track.kind == "stem":
        stems, rate = read_stem_file(track.path)
        for name, samples in stems.items():
            check_samples(samples, f"{track.path} (stream '{name}')")
    else:
        stems, rate = _read_two_channel(track.path)
    audio = assemble(stems, str(track.path), accompaniment=accompaniment)
    return resample(audio, rate, sample_rate, str(track.path))


def assemble(
    stems: Mapping[str, FloatArray], source: str, *, accompaniment: AccompanimentRule = "stems"
) -> TrackAudio:
    """Build mixture, voice and accompaniment from the stems that exist (see :func:`load_track`).

    Args:
        stems: mono arrays (N,) under names out of ``STEM_NAMES``.
        source: path of the track, for messages.
        accompaniment: ``"stems"`` or ``"difference"``.
    """
    if accompaniment not in ("stems", "difference"):
        raise InputError(f"accompaniment must be 'stems' or 'difference', got '{accompaniment}'")
    if "vocals" not in stems:
        raise InputError(
            f"{source}: no vocals among {', '.join(sorted(stems))}; add vocals.wav or remove it"
        )
    stems = _equal_lengths(stems, source)
    voice, mixture = stems["vocals"], stems.get("mixture")
    parts = [stems[name] for name in ("drums", "bass", "other") if name in stems]
    if accompaniment == "difference" and mixture is not None:
        background = mixture - voice
    elif "accompaniment" in stems:
        background = stems["accompaniment"]
    elif parts:
        background = np.sum(parts, axis=0, dtype=np.float32)
    elif mixture is not None:
        background = mixture - voice
    else:
        raise InputError(
            f"{source}: vocals alone; add mixture.wav, accompaniment.wav or further stems"
        )
    return TrackAudio(
        mixture=voice + background if mixture is None else mixture,
        voice=voice,
        accompaniment=background,
    )


def resample(audio: TrackAudio, rate: int, sample_rate: int, source: str) -> TrackAudio:
    """Convert a track from `rate` to `sample_rate` (both in Hz), unchanged where they agree."""
    if sample_rate < 1:
        raise InputError(f"sample rate must be positive, got {sample_rate}")
    if rate == sample_rate:
        return audio
    soxr = require(
        "soxr", extra="resample", purpose=f"resample {source} from {rate} to {sample_rate} Hz"
    )
    voice, background, mixture = (
        soxr.resample(samples, rate, sample_rate)
        for samples in (audio.voice, audio.accompaniment, audio.mixture)
    )
    return TrackAudio(mixture=mixture, voice=voice, accompaniment=background)


def _subset_folder(root: Path | None, subset: Subset) -> Path:
    if subset not in ("train", "test"):
        raise InputError(f"subset must be 'train' or 'test', got '{subset}'")
    if root is None:
        variable = os.environ.get("MUSDB_PATH")
        if not variable:
            raise InputError("no data folder: give --root DIR or set MUSDB_PATH")
        root = Path(variable)
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds train and test")
    folder = root / subset
    if not folder.is_dir():
        raise InputError(f"{root}: has no folder '{subset}'; expected {folder}/<track>")
    return folder


def _entries(folder: Path) -> list[Path]:
    """Entries in the order of their names, hidden ones left out."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from error


def _as_track(entry: Path) -> Track | None:
    lower = entry.name.lower()
    if entry.is_dir():
        files = tuple(_stem_files(entry).values())
        return Track(_as_text(entry.name), entry, "folder", files)
    if lower.endswith(".stem.mp4"):
        return Track(_as_text(entry.name[: -len(".stem.mp4")]), entry, "stem", (entry,))
    if entry.suffix.lower() in AUDIO_SUFFIXES:
        return Track(_as_text(entry.stem), entry, "two-channel", (entry,))
    return None


def _as_text(name: str) -> str:
    """A file's name as text that can be stored, drawn and printed: names are bytes on a disk."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _stem_files(folder: Path) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in _entries(folder):
        name = path.stem.lower()
        if path.suffix.lower() not in AUDIO_SUFFIXES or name not in STEM_NAMES:
            continue
        if name in stems:
            raise InputError(f"{path} and {stems[name].name} are the same stem: remove one")
        stems[name] = path
    if not stems:
        raise InputError(
            f"{folder}: empty track folder, none of {', '.join(STEM_NAMES)} as .wav or .flac; "
            "add them or remove the folder"
        )
    return stems


def _read_folder(track: Track) -> tuple[dict[str, FloatArray], int]:
    stems: dict[str, FloatArray] = {}
    rate = 0
    for path in track.files:
        mono, file_rate = read_audio(path, mono=True)
        if stems and file_rate != rate:
            raise InputError(
                f"{path}: {file_rate} Hz, but {track.files[0].name} of the same track has {rate} "
                "Hz; bring all stems to one rate"
            )
        rate = file_rate
        check_samples(mono, str(path))
        stems[path.stem.lower()] = mono
    return stems, rate


def _read_two_channel(path: Path) -> tuple[dict[str, FloatArray], int]:
    samples, rate = read_audio(path)
    if samples.shape[1] != 2:
        raise InputError(
            f"{path}: {samples.shape[1]} channel(s); a track that is one file has two, left "
            "accompaniment and right voice; put stems into a folder of their own"
        )
    stems = {
        "accompaniment": np.ascontiguousarray(samples[:, 0]),
        "vocals": np.ascontiguousarray(samples[:, 1]),
    }
    for name, channel in stems.items():
        check_samples(channel, f"{path} ({name})")
    return stems, rate


def _equal_lengths(stems: Mapping[str, FloatArray], source: str) -> dict[str, FloatArray]:
    shortest = min(stems, key=lambda name: len(stems[name]))
    longest = max(stems, key=lambda name: len(stems[name]))
    length, excess = len(stems[shortest]), len(stems[longest]) - len(stems[shortest])
    if excess > LENGTH_TOLERANCE:
        raise InputError(
            f"{source}: stems differ in length, {shortest} has {length} samples and {longest} "
            f"{length + excess}; export them over the same range"
        )
    if excess:
        logger.warning(
            "%s: cropped to the %d samples of %s (%s is %d longer)",
            *(source, length, shortest, longest, excess),
        )
    return {name: samples[:length] for name, samples in stems.items()}
