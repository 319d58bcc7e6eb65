"""Recordings of ensembles, one file for each singer: which there are, and the f0 of each.

Layouts that are recognised by the names of their files:

* Choral Singing Dataset (``"csd"``): ``<song>/audio_16kHz/<title>_Soprano_105.wav``, with
  ``Soprano``, ``ContraAlt``, ``Tenor`` or ``Bajos``; the first digit behind that is the singer;
* Bach chorales and barbershop quartets (``"bcbq"``): ``<song>_part<k>_{s,a,t,b}_1ch.wav``, each
  part a song of its own;
* Cantoría (``"cantoria"``): ``Cantoria_<SONG>_{s,a,t,b}.wav``;
* any folder of stems (``"folder"``): a folder for each song. Voices are told by ``soprano``,
  ``alto``, ``tenor``, ``bass`` or single letters in the names, and by the order of the names where
  these do not say it of all. ``mixture`` and ``mix`` are no stems.

The f0 of a singer lies in ``crepe_f0_center`` beside the folder of the audio, or in it, as
``<name>_time.npy``, ``<name>_frequency.npy`` and ``<name>_confidence.npy``; or beside the audio as
``<name>_f0.csv`` (as ``rlsv-fast umss f0`` writes them), ``<name>.f0.csv`` or ``<name>.csv`` (a
header, then time and Hz), ``<name>.npy`` or ``<name>.npz`` (one array of Hz every 16 ms).

Tracks of a mixture lie in ``*_<n>sources.npz``, one array (frames, n) every 16 ms for each
combination of singers, beside the audio or a folder above it; or, where each voice has one singer,
in ``<song>_f0.csv``. Nothing is unpickled.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from rlsv_fast.data.sound import FloatArray, check_samples, read_audio
from rlsv_fast.errors import InputError, require
from rlsv_fast.files import opened
from rlsv_fast.ops._check import choice
from rlsv_fast.umss.assignment import VOICES
from rlsv_fast.umss.tracks import F0Tracks, read_csv

Layout: TypeAlias = Literal["auto", "csd", "bcbq", "cantoria", "folder"]
LAYOUTS = ("auto", "csd", "bcbq", "cantoria", "folder")

Combination: TypeAlias = tuple[tuple[str, int], ...]
"""Voice and number of each singer of a mixture."""

GRID = 256 / 16000
"""Seconds from one f0 to the next in arrays that do not tell the time."""

CONFIDENCE = 0.4
"""Below this a frame of CREPE counts as unvoiced, as published."""

_SATB = "satb"
_SUFFIXES = (".wav", ".flac")
_CREPE = "crepe_f0_center"
_NOT_SONGS = ("audio_16khz", "audio", "wav", "stems")
_MIXTURES = ("mixture", "mix")

_NAMES: dict[str, re.Pattern[str]] = {
    "cantoria": re.compile(r"(?P<song>cantoria_.+)_(?P<voice>[satb])", re.IGNORECASE),
    "bcbq": re.compile(r"(?P<song>.+_part\d+)_(?P<voice>[satb])_1ch", re.IGNORECASE),
    "csd": re.compile(
        r"(?P<song>.*?)_?(?P<voice>soprano|(?:contra?)?alto?|tenor|bajos|bass)[^0-9]*"
        r"(?P<number>\d).*",
        re.IGNORECASE,
    ),
}
_SPOKEN = re.compile(r"soprano|alt|tenor|bass|bajo", re.IGNORECASE)
_LETTER = re.compile(r"(?:^|[^a-z])([satb])(?:[^a-z]|$)", re.IGNORECASE)
# the published names of combinations: a voice's first letter, perhaps more, then the singer's file
_COMBINED = re.compile(r"(?:^|_)([SATtB])[A-Za-z]*_?(\d)")


@dataclass(frozen=True)
class Singer:
    """One singer of a voice.

    Attributes:
        name: of the file, without its suffix.
        audio: the recording.
        f0: where the tracks of f0 lie, or None; of CREPE's files the one of the frequencies.
        number: which one of its voice, from the name or counted from 1.
    """

    name: str
    audio: Path
    f0: Path | None
    number: int = 1


@dataclass(frozen=True)
class Song:
    """A song and who sings it.

    Attributes:
        name: of the song, unique within a set.
        sample_rate: in Hz, as the header of its first file says.
        singers: for each voice, highest first, a letter of ``"satb"``, its singers by number.
        mixture_f0: files with tracks of mixtures.
    """

    name: str
    sample_rate: int
    singers: Mapping[str, tuple[Singer, ...]]
    mixture_f0: tuple[Path, ...] = ()

    @property
    def voices(self) -> str:
        """The letters of its voices, highest first."""
        return "".join(self.singers)

    def singer(self, voice: str, number: int) -> Singer:
        """One of them.

        Raises:
            InputError: there is none of that number.
        """
        for singer in self.singers.get(voice, ()):
            if singer.number == number:
                return singer
        there = [f"{singer.number}" for singer in self.singers.get(voice, ())]
        raise InputError(
            f"song '{self.name}': no singer {number} of voice '{voice}', there "
            f"{'are' if len(there) > 1 else 'is'} {', '.join(there) or 'none'}; choose with "
            "singers="
        )


def find_songs(root: Path | str, layout: Layout = "auto") -> list[Song]:
    """List the songs below a folder.

    Args:
        root: folder of a data set, or of several.
        layout: one of those that the module describes; ``"auto"`` takes for each folder the first
            one that fits all of its audio.

    Returns:
        The songs, sorted by name with numbers in their order.

    Raises:
        InputError: no folder, no songs there, or the files of a folder do not fit each other.
        ValueError: no such layout.
    """
    choice("find_songs", "layout", layout, LAYOUTS)
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds the songs")
    songs: list[Song] = []
    for folder, files in _folders(root).items():
        kind = _layout_of(files) if layout == "auto" else layout
        songs += _songs(folder, files, kind, root)
    if not songs:
        raise InputError(
            f"{root}: no songs found for layout '{layout}'; expected wav or flac files, one for "
            "each singer"
        )
    seen: dict[str, Song] = {}
    for song in songs:
        if song.name in seen:
            here, there = (
                next(iter(s.singers.values()))[0].audio.parent for s in (song, seen[song.name])
            )
            raise InputError(f"{here} and {there} both hold song '{song.name}': rename one")
        seen[song.name] = song
    return sorted(songs, key=lambda song: _natural(song.name))


def split_songs(songs: Iterable[Song], *, one_song: bool = False) -> tuple[list[Song], list[Song]]:
    """The published division of the Bach chorales and barbershop quartets.

    Args:
        songs: parts, from :func:`find_songs`.
        one_song: train on the first chorale alone (2 min 40 s, "BC1song") and validate on the
            second.

    Returns:
        Parts to train on, and parts to validate on: those of songs 8 and 9. The first lack
        17_BC021_part11, which is empty.
    """
    training, validation = [], []
    for song in songs:
        if one_song:
            if song.name.startswith("1_BC001_"):
                training.append(song)
            elif song.name.startswith("2_BC002_"):
                validation.append(song)
        elif song.name.startswith(("8_", "9_")):
            validation.append(song)
        elif song.name != "17_BC021_part11":
            training.append(song)
    return training, validation


def read_singer(singer: Singer, sample_rate: int) -> FloatArray:
    """A singer's samples, mono, at a sample rate.

    Returns:
        Shape (N,), float32.

    Raises:
        InputError: the file is damaged, empty or not finite.
        MissingPackage: it has another rate, and soxr is not installed.
    """
    samples, rate = read_audio(singer.audio, mono=True)
    check_samples(samples, str(singer.audio))
    if rate != sample_rate:
        soxr = require(
            "soxr",
            extra="umss",
            purpose=f"resample {singer.audio} from {rate} to {sample_rate} Hz",
        )
        samples = np.asarray(soxr.resample(samples, rate, sample_rate), np.float32)
    return samples


def read_f0(singer: Singer) -> F0Tracks:
    """A singer's f0. Frames of arrays without times lie on the centres of their 16 ms.

    So do those of CREPE, if it went by 16 ms: as published, frame i is that of hop i.

    Returns:
        Tracks of one voice, 0 Hz where unvoiced.

    Raises:
        InputError: there is no file, or it is damaged.
    """
    if singer.f0 is None:
        name = singer.name
        raise InputError(
            f"{singer.audio}: has no f0; expected {_CREPE}/{name}_frequency.npy, {name}_f0.csv "
            f"(time and Hz) or {name}.npy (Hz every 16 ms). `rlsv-fast umss f0 {singer.audio.name} "
            "--voices 1` makes one, as does any tracker of single voices"
        )
    path = singer.f0
    if path.name.endswith("_frequency.npy"):
        return _crepe(path)
    if path.suffix == ".csv":
        table = read_csv(path)
        columns = [name.lower() for name in table.voices]
        column = columns.index("frequency") if "frequency" in columns else 0
        frequency: npt.NDArray[Any] = table.frequency[:, column]
        if "confidence" in columns:
            confidence = table.frequency[:, columns.index("confidence")]
            frequency = np.where(confidence < CONFIDENCE, 0.0, frequency)
        if not len(frequency):
            raise InputError(f"{path}: holds no frames")
        return F0Tracks(table.time, frequency[:, None], (singer.name,))
    arrays = _arrays(path)
    if len(arrays) != 1:
        raise InputError(f"{path}: holds {len(arrays)} arrays, expected one of Hz every 16 ms")
    (values,) = arrays.values()
    return _on_centres(_frequencies(values, path, 1), (singer.name,))


def read_mixture_f0(song: Song, voices: int) -> dict[Combination, F0Tracks]:
    """Tracks that were estimated from mixtures of some of a song's singers.

    Args:
        song: from :func:`find_songs`.
        voices: how many singers a mixture has, each of another voice.

    Returns:
        For each combination, highest voice first, its tracks, in this order; those of singers that
        have no audio left out.

    Raises:
        InputError: a file is damaged, or there are no such tracks.
    """
    found: dict[Combination, F0Tracks] = {}
    there = {(voice, singer.number) for voice, all_ in song.singers.items() for singer in all_}
    for path in song.mixture_f0:
        if path.suffix == ".csv":
            table = read_csv(path)
            if len(table.voices) == voices == len(song.voices):
                alone = tuple((voice, all_[0].number) for voice, all_ in song.singers.items())
                found[alone] = _ordered(table, song.voices)
        elif path.stem.endswith(f"_{voices}sources"):
            for name, values in _arrays(path).items():
                combination = tuple(
                    (letter.lower(), int(number)) for letter, number in _COMBINED.findall(name)
                )
                if len({voice for voice, _ in combination}) != voices:
                    raise InputError(
                        f"{path}: array '{name}' does not name {voices} singers, as in "
                        "'…_Sno_105_Alt_107_t1-06-2_Bos_104'"
                    )
                if there.issuperset(combination):
                    order = sorted(range(voices), key=lambda i: _SATB.index(combination[i][0]))
                    frequency = _frequencies(values, path, voices)[:, order]
                    named = tuple(combination[i] for i in order)
                    found[named] = _on_centres(frequency, tuple(voice for voice, _ in named))
    if not found:
        raise InputError(
            f"song '{song.name}': no f0 of mixtures of {voices} of its singers; expected "
            f"*_{voices}sources.npz or {song.name}_f0.csv beside its audio (rlsv-fast umss f0 "
            "makes one of a mixture)"
        )
    return found


def _folders(root: Path) -> dict[Path, list[Path]]:
    """Folders with audio in them, and the audio; hidden ones and those of mixtures left out."""
    found: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).parts
        if any(part.startswith((".", "mixtures_")) for part in inside):
            continue
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            if path.stem.lower() not in _MIXTURES:
                found.setdefault(path.parent, []).append(path)
    return found


def _layout_of(files: Sequence[Path]) -> str:
    for layout, pattern in _NAMES.items():
        others = [path for path in files if not pattern.fullmatch(path.stem)]
        if not others:
            return layout
        # names of stems may look like the first layout by chance, but hardly like these
        if layout != "csd" and len(others) < len(files):
            raise InputError(
                f"{others[0]}: not a name of layout '{layout}', as others beside it are; move, "
                "rename or remove it"
            )
    return "folder"


def _songs(folder: Path, files: Sequence[Path], layout: str, root: Path) -> list[Song]:
    """The songs in one folder."""
    own = folder
    while own.name.lower() in _NOT_SONGS and own != root:
        own = own.parent
    if own.name.lower() in _NOT_SONGS:
        own = own.absolute().parent
    own_name = own.absolute().name
    if layout == "folder":
        voices = _stem_voices(folder, files)
        return [_song(own_name, [(v, None, p) for v, p in zip(voices, files, strict=True)])]
    groups: dict[str, list[tuple[str, int | None, Path]]] = {}
    for path in files:
        match = _NAMES[layout].fullmatch(path.stem)
        if match is None:
            raise InputError(
                f"{path}: not a name of layout '{layout}'; choose another one, or rename the file"
            )
        voice = match["voice"][0].lower().replace("c", "a")
        number = int(match["number"]) if layout == "csd" else None
        groups.setdefault(match["song"].lower(), []).append((voice, number, path))
    if layout == "csd":
        # one title a song, or files of several songs side by side, which then have several voices
        if len(groups) == 1 or any(len({v for v, *_ in g}) < 2 for g in groups.values()):
            return [_song(own_name, [entry for group in groups.values() for entry in group])]
        return [_song(title, group) for title, group in groups.items()]
    songs = []
    for group in groups.values():
        match = _NAMES[layout].fullmatch(group[0][2].stem)
        assert match is not None  # it was above
        songs.append(_song(re.sub("^cantoria_", "", match["song"], flags=re.IGNORECASE), group))
    return songs


def _stem_voices(folder: Path, files: Sequence[Path]) -> list[str]:
    """The voice of every stem, by its name or by the order of the names."""
    voices = []
    for path in files:
        spoken = _SPOKEN.findall(path.stem)
        letters = _LETTER.findall(path.stem)
        voices.append((spoken or letters or [""])[-1][:1].lower())
    if "" not in voices and (len(set(voices)) > 1 or len(files) == 1):
        return voices
    if len(files) > len(_SATB):
        raise InputError(
            f"{folder}: {len(files)} stems whose names do not tell the voices; name each by "
            "soprano, alto, tenor or bass"
        )
    return list(_SATB[: len(files)])


def _song(name: str, entries: Sequence[tuple[str, int | None, Path]]) -> Song:
    singers: dict[str, list[Singer]] = {}
    for voice, number, path in entries:
        group = singers.setdefault(voice, [])
        known = len(group) + 1 if number is None else number
        for other in group:
            if other.number == known:
                raise InputError(
                    f"{path} and {other.audio.name} are both singer {known} of voice '{voice}' of "
                    f"song '{name}': rename or remove one"
                )
        group.append(Singer(path.stem, path, _f0_of(path), known))
    ordered = {
        voice: tuple(sorted(singers[voice], key=lambda singer: singer.number))
        for voice in _SATB
        if voice in singers
    }
    audio = entries[0][2]
    return Song(name, _rate_of(audio), ordered, _mixture_f0_of(name, audio))


def _f0_of(audio: Path) -> Path | None:
    for folder in (audio.parent.parent / _CREPE, audio.parent / _CREPE):
        path = folder / f"{audio.stem}_frequency.npy"
        if path.is_file():
            return path
    for ending in ("_f0.csv", ".f0.csv", ".csv", ".npy", ".npz"):
        path = audio.with_name(audio.stem + ending)
        if path.is_file():
            return path
    return None


def _mixture_f0_of(song: str, audio: Path) -> tuple[Path, ...]:
    folders = [audio.parent]
    if audio.parent.name.lower() in _NOT_SONGS:
        folders.append(audio.parent.parent)
    found = [path for folder in folders for path in sorted(folder.glob("*_[1-4]sources.npz"))]
    tables = [folder / f"{song}_f0.csv" for folder in folders]
    return (*found, *(path for path in tables if path.is_file()))


def _rate_of(path: Path) -> int:
    try:
        with opened(path) as handle, soundfile.SoundFile(handle, closefd=False) as file:
            return int(file.samplerate)
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(
            f"{path}: cannot be read as audio ({error}); replace or remove it"
        ) from error


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file of NumPy's, by their names; never by way of a pickle."""
    try:
        with opened(path) as handle, open(handle, "rb", closefd=False) as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {path.stem: loaded}
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read as NumPy's arrays ({error}); replace it"
        ) from error


def _frequencies(values: npt.NDArray[Any], path: Path, columns: int) -> npt.NDArray[np.float64]:
    """Hz, shape (T, columns), T > 0."""
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != columns or not len(values):
        raise InputError(
            f"{path}: an array of shape {values.shape}, expected (frames, {columns}) of Hz"
        )
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: an array of {values.dtype}, expected numbers")
    found = values.astype(np.float64)
    if not (np.isfinite(found) & (found >= 0)).all():
        raise InputError(f"{path}: holds a frequency that is negative or not finite")
    return found


def _on_centres(frequency: npt.NDArray[np.float64], voices: tuple[str, ...]) -> F0Tracks:
    return F0Tracks(GRID * (np.arange(len(frequency), dtype=np.float64) + 0.5), frequency, voices)


def _crepe(path: Path) -> F0Tracks:
    """CREPE's frequencies, unvoiced where it had no confidence in them."""
    name = path.name[: -len("_frequency.npy")]
    columns = {}
    for kind in ("frequency", "time", "confidence"):
        file = path.with_name(f"{name}_{kind}.npy")
        (values,) = _arrays(file).values()
        columns[kind] = _frequencies(values, file, 1)[:, 0]
    lengths = {kind: len(values) for kind, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"{path}: its files differ in length: {lengths}")
    frequency: npt.NDArray[Any] = np.where(
        columns["confidence"] < CONFIDENCE, 0.0, columns["frequency"]
    )
    steps = np.diff(columns["time"])
    if (steps <= 0).any():
        raise InputError(f"{path.with_name(f'{name}_time.npy')}: times must ascend")
    if np.allclose(steps, GRID, rtol=0, atol=1e-4):
        return _on_centres(frequency[:, None], (name,))
    return F0Tracks(columns["time"], frequency[:, None], (name,))


def _ordered(table: F0Tracks, voices: str) -> F0Tracks:
    """Columns in the order of the voices, where their names are those of the voices."""
    letters = [name.lower()[:1] for name in table.voices]
    if all(name.lower() in VOICES for name in table.voices) and sorted(letters) == sorted(voices):
        order = [letters.index(voice) for voice in voices]
        return F0Tracks(table.time, table.frequency[:, order], tuple(voices))
    return F0Tracks(table.time, table.frequency, tuple(voices))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key by which part 10 comes after part 9."""
    return [
        (int(piece), "") if piece.isdigit() else (-1, piece)
        for piece in re.split(r"(\d+)", name.lower())
    ]
