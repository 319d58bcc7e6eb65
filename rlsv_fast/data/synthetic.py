"""A synthetic multitrack set in MUSDB layout, for demos, tests and benchmarks without real data.

It is made with numpy alone: sung lines (``synthetic_voice``) over drums, bass and chords
(``synthetic_band``) that share tempo and key. The training and the test part draw from different
singers, keys, tempos, timbres and patterns. It exercises everything that real multitracks do and
shows harmonics, glides, vibrato and consonants to a representation, but results on it say nothing
about real music.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from rlsv_fast.data.sound import RATES
from rlsv_fast.data.synthetic_band import Timbre, Tone, drum, play
from rlsv_fast.data.synthetic_voice import CONSONANTS, VOWELS, Array, Note, Singer, sing
from rlsv_fast.errors import InputError

README_NAME = "README.txt"
_TITLE = "Synthetic multitracks made by rlsv_fast"
_PEAK = 0.85
_NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}


@dataclass(frozen=True)
class _Style:
    """What the tracks of one subset draw from."""

    singers: tuple[Singer, ...]
    keys: tuple[int, ...]
    tempos: tuple[int, int]
    progressions: tuple[tuple[int, ...], ...]
    chords: tuple[Timbre, ...]
    bass: tuple[Timbre, ...]
    drums: tuple[dict[str, str], ...]
    chord_rhythms: tuple[tuple[tuple[float, float], ...], ...]  # (beat, beats long) in a bar
    bass_rhythm: tuple[tuple[float, float, int], ...]  # (beat, beats long, scale steps up)


def _falling(count: int, power: float, even: float = 1.0) -> tuple[float, ...]:
    """Harmonic amplitudes k^−power, the even ones weakened by a factor."""
    return tuple(k**-power * (1.0 if k % 2 else even) for k in range(1, count + 1))


_STYLES = {
    "train": _Style(
        singers=(
            Singer("soprano", 62, 77, 1.18, 5.8, 0.40, 900.0, 0.04),
            Singer("tenor", 50, 65, 1.02, 5.3, 0.30, 700.0, 0.03),
            Singer("alto", 56, 71, 1.12, 5.5, 0.25, 600.0, 0.06),
            Singer("bass", 43, 58, 0.92, 5.0, 0.35, 800.0, 0.03),
        ),
        keys=(0, 2, 4, 7, 9, 11),
        tempos=(84, 112),
        progressions=((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4)),
        chords=(
            Timbre("pad", _falling(14, 1.2), 0.15, np.inf),
            Timbre("organ", (1.0, 0.8, 0.5, 0.4, 0.0, 0.3, 0.0, 0.2), 0.01, np.inf),
            Timbre("guitar", _falling(16, 1.0), 0.003, 0.5),
        ),
        bass=(Timbre("plucked", _falling(8, 1.3), 0.005, 0.6),),
        drums=(
            {"kick": "x.......x.......", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
            {"kick": "x.....x.x.......", "snare": "....x.......x..o", "hat": "x...x...x...x..."},
        ),
        chord_rhythms=(((0.0, 4.0),), ((0.0, 2.0), (2.0, 1.5), (3.5, 0.5))),
        bass_rhythm=((0.0, 1.0, 0), (1.5, 0.5, 0), (2.0, 1.0, 4), (3.0, 1.0, 0)),
    ),
    "test": _Style(
        singers=(
            Singer("mezzo", 58, 74, 1.08, 6.2, 0.30, 800.0, 0.05),
            Singer("baritone", 46, 61, 0.97, 5.7, 0.45, 750.0, 0.04),
        ),
        keys=(1, 3, 5, 6, 8, 10),
        tempos=(118, 138),
        progressions=((0, 3, 0, 4), (5, 3, 0, 4)),
        chords=(
            Timbre("reed", _falling(15, 0.9, even=0.15), 0.04, np.inf),
            Timbre("piano", _falling(12, 1.5), 0.004, 0.9),
        ),
        bass=(Timbre("bowed", _falling(10, 1.0, even=0.5), 0.05, np.inf),),
        drums=(
            {"kick": "x..o..x...x.....", "snare": "....x..o.o..x...", "hat": "xoxoxoxoxoxoxoxo"},
            {"kick": "x...x...x...x...", "snare": "....x.......x...", "hat": "..x...x...x...x."},
        ),
        chord_rhythms=(((0.5, 0.5), (1.5, 0.5), (2.5, 0.5), (3.5, 0.5)), ((0.0, 1.5), (1.5, 2.5))),
        bass_rhythm=((0.0, 2.0, 0), (2.0, 1.0, 2), (3.0, 1.0, 4)),
    ),
}


def synthesize(
    directory: Path,
    seed: int = 0,
    train_tracks: int = 6,
    test_tracks: int = 3,
    seconds: float = 12.0,
    sample_rate: int = 44100,
    channels: int = 2,
) -> list[Path]:
    """Write a deterministic multitrack set ``directory/{train,test}/<track>/<stem>.wav``.

    Each track has vocals, drums, bass, other and mixture, 16 bit; the mixture is the exact sum of
    the written stems and peaks below 0.9. Voice and accompaniment have the same energy within 2 dB.
    The same arguments give the same bytes. A folder that already holds a set made with the same
    arguments is written anew.

    Args:
        directory: created if missing.
        seed: at least 0.
        train_tracks: number of training tracks.
        test_tracks: number of test tracks.
        seconds: length of each track, at least 1.
        sample_rate: in Hz, from 8000 to 768000.
        channels: 1, or 2 for simply panned stereo with the voice in the middle.

    Returns:
        The track folders, training tracks first.

    Raises:
        InputError: an argument cannot work, or the folder holds something else.
    """
    directory = Path(directory)
    _check_arguments(seed, train_tracks, test_tracks, seconds, sample_rate, channels)
    readme = _readme(
        f"seed {seed}, {train_tracks} training and {test_tracks} test tracks of {seconds:g} s, "
        f"{sample_rate} Hz, {channels} channel(s)"
    )
    counts = {"train": train_tracks, "test": test_tracks}
    folders: list[Path] = []
    try:
        _claim(directory, readme)
        for part, (subset, count) in enumerate(counts.items()):
            for index in range(count):
                # a generator per track: asking for more tracks leaves the first ones as they are
                rng = np.random.default_rng((seed, part, index))
                title, stems = _compose(_STYLES[subset], index, seconds, sample_rate, rng)
                folder = directory / subset / f"Synthetic {index + 1:02d} - {title}"
                folder.mkdir(parents=True, exist_ok=True)
                _write_track(folder, stems, sample_rate, channels)
                folders.append(folder)
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror})") from error
    return folders


def _compose(
    style: _Style, index: int, seconds: float, sample_rate: int, rng: np.random.Generator
) -> tuple[str, dict[str, Array]]:
    """Title and mono stems of one track."""
    singer = style.singers[index % len(style.singers)]
    timbre = style.chords[index % len(style.chords)]
    key = int(rng.choice(style.keys))
    mode = str(rng.choice(list(_SCALES)))
    tempo = int(rng.integers(style.tempos[0], style.tempos[1] + 1))
    progression = style.progressions[rng.integers(len(style.progressions))]
    samples = round(seconds * sample_rate)
    beat = 60.0 / tempo
    bars = [progression[bar % len(progression)] for bar in range(int(seconds / beat / 4) + 1)]

    scale = _SCALES[mode]
    vocals = sing(_melody(singer, key, scale, bars, beat, rng), singer, samples, sample_rate, rng)
    rhythm = style.chord_rhythms[rng.integers(len(style.chord_rhythms))]
    chords = [
        Tone((4 * bar + at) * beat, long * beat, _pitch(48 + key, scale, root + step))
        for bar, root in enumerate(bars)
        for at, long in rhythm
        for step in (0, 2, 4)
    ]
    bass = [
        Tone((4 * bar + at) * beat, 0.95 * long * beat, _pitch(28 + key % 8, scale, root + step))
        for bar, root in enumerate(bars)
        for at, long, step in style.bass_rhythm
    ]
    kit = {
        "kick": rng.uniform(45.0, 60.0),
        "snare": rng.uniform(170.0, 230.0),
        "hat": rng.uniform(0.02, 0.06),
    }
    pattern = style.drums[rng.integers(len(style.drums))]
    stems = {
        "drums": _leveled(drum(pattern, beat / 4, kit, samples, sample_rate, rng), 0.0),
        "bass": _leveled(play(bass, style.bass[0], samples, sample_rate), -1.0),
        "other": _leveled(play(chords, timbre, samples, sample_rate), -1.0),
    }
    energy = float(np.mean(np.sum(list(stems.values()), axis=0) ** 2))
    stems["vocals"] = _leveled(vocals, 10.0 * np.log10(energy) + rng.uniform(-2.0, 2.0))
    return f"{singer.name}, {timbre.name}, {_NAMES[key]} {mode}, {tempo} bpm", stems


def _melody(
    singer: Singer,
    key: int,
    scale: tuple[int, ...],
    bars: list[int],
    beat: float,
    rng: np.random.Generator,
) -> list[Note]:
    """Phrases of four to seven notes with rests between; chord tones on the beats."""
    steps = [step for step in range(70) if singer.low <= _pitch(key, scale, step) <= singer.high]
    place = len(steps) // 2
    notes: list[Note] = []
    at = 0.5  # in beats
    while at < 4 * len(bars):
        for left in range(int(rng.integers(4, 8)), 0, -1):
            long = float(rng.choice((0.5, 0.5, 1.0, 1.0, 1.5))) if left > 1 else 2.0
            place = int(np.clip(place + rng.integers(-2, 3), 2, len(steps) - 3))
            root = bars[min(int(at / 4), len(bars) - 1)]
            if at % 1.0 == 0.0:  # the nearest note of the chord, at most one scale step away
                nearest = (place + shift for shift in (0, 1, -1))
                place = next(p for p in nearest if (steps[p] - root) % 7 in (0, 2, 4))
            notes.append(
                Note(
                    start=at * beat,
                    duration=long * beat,
                    pitch=_pitch(key, scale, steps[place]),
                    vowel=str(rng.choice(list(VOWELS))),
                    consonant=str(rng.choice(list(CONSONANTS))),
                )
            )
            at += long
        at += float(rng.choice((1.0, 1.5, 2.0)))
    return notes


def _pitch(base: int, scale: tuple[int, ...], step: int) -> int:
    return base + scale[step % 7] + 12 * (step // 7)


def _leveled(samples: Array, decibels: float) -> Array:
    """Scale to a mean square given in dB."""
    return np.asarray(samples * (10 ** (decibels / 20) / np.sqrt(np.mean(samples**2) + 1e-20)))


def _write_track(folder: Path, stems: dict[str, Array], sample_rate: int, channels: int) -> None:
    # Opposite pans cancel in the mean of the channels, so the down-mix has the levels composed.
    pan = {"vocals": 0.0, "drums": 0.1, "bass": 0.0, "other": -0.3}
    sides = (1.0, -1.0) if channels == 2 else (0.0,)
    panned = {
        name: np.stack([samples * (1.0 + side * pan[name]) for side in sides], axis=1)
        for name, samples in stems.items()
    }
    loudest = max(np.abs(samples).max() for samples in [*panned.values(), sum(panned.values())])
    scale = _PEAK * 32768.0 / loudest
    written = {name: np.rint(samples * scale).astype(np.int16) for name, samples in panned.items()}
    written["mixture"] = np.sum(list(written.values()), axis=0, dtype=np.int16)
    for name, samples in written.items():
        with (folder / f"{name}.wav").open("wb") as file:  # soundfile cannot take every name
            soundfile.write(file, samples, sample_rate, subtype="PCM_16", format="WAV")


def _claim(directory: Path, readme: str) -> None:
    """Mark the folder as ours before the first track, so that an interrupted run can be redone."""
    path = directory / README_NAME
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file; give a folder")
    if directory.is_dir() and any(directory.iterdir()):
        there = path.read_bytes() if path.is_file() else b""
        if not there.startswith(_TITLE.encode()):
            raise InputError(f"{directory}: not empty, not made by synthesize; give a new folder")
        if there != readme.encode():
            raise InputError(
                f"{directory}: holds a synthetic set of other settings (see its {README_NAME}); "
                "remove it or give a new folder"
            )
    directory.mkdir(parents=True, exist_ok=True)
    path.write_bytes(readme.encode())


def _readme(settings: str) -> str:
    return f"""{_TITLE}

{settings}.

This is not music and not a recording: every sample was computed by a program (rlsv-fast
synthesize). Voices are pulse trains with gliding and vibrating pitch through vowel formants, with
noise for consonants; drums, bass and chords are noise bursts and sums of sinusoids over random
patterns that share tempo and key. Training and test tracks differ in singers, keys, tempos,
timbres and patterns.

It serves to try, test and time the library without real data. Figures obtained on it cannot be
compared with figures on MUSDB18 or any other recorded music. It is free of rights: do with it what
you like.
"""


def _check_arguments(
    seed: int,
    train_tracks: int,
    test_tracks: int,
    seconds: float,
    sample_rate: int,
    channels: int,
) -> None:
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
    if min(train_tracks, test_tracks) < 0 or train_tracks + test_tracks == 0:
        raise InputError(f"numbers of tracks cannot work: {train_tracks} train, {test_tracks} test")
    if not 1.0 <= seconds <= 3600.0:
        raise InputError(f"seconds must lie between 1 and 3600, got {seconds}")
    if not 8000 <= sample_rate <= RATES[1]:
        raise InputError(f"sample rate must lie between 8000 and {RATES[1]} Hz, got {sample_rate}")
    if channels not in (1, 2):
        raise InputError(f"channels must be 1 or 2, got {channels}")
