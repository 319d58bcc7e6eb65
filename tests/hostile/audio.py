"""Cases of audio files: as a stem of a track, as a mixture, as .stem.mp4, on odd paths."""

from __future__ import annotations

import functools
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from hostile.cases import Call, Case, Place, separate, train
from hostile.sounds import FIXED, FRAMES, RATE, changed, encoded, flac, tone, wav

GOOD = "a valid format, scaled to floats"
RANDOM = 30


def cases() -> Iterator[Case]:
    for name, make, ends in FIXED:
        yield Case("stem", name, functools.partial(_as_stem, make), ends, GOOD)
        yield Case("mixture", name, functools.partial(_as_mixture, make), ends, GOOD)
    for number in range(RANDOM):
        for form, good in (("wav", wav), ("flac", flac)):
            make_case = functools.partial(_changed_stem, good, form)
            yield Case("stem", f"{form} with random bytes, {number}", make_case, "either")
        yield Case("stem.mp4", f"random bytes, {number}", _changed_mp4, "either")
    for part in (0, 0.01, 0.3, 0.7, 0.99):
        make_case = functools.partial(_cut_mp4, part)
        yield Case(
            "stem.mp4", f"cut at {part:.0%}", make_case, "either" if part > 0.9 else "refused"
        )
    yield Case("stem.mp4", "a wav of that name", _wav_as_mp4)
    for name, make_file in FILES.items():
        yield Case("path", f"stem is {name}", functools.partial(_odd_stem, make_file))
        yield Case("path", f"mixture is {name}", functools.partial(_odd_mixture, make_file))
    yield Case(
        "path", "stem is a link out of the root", _linked_stem, "accepted", "links are files"
    )
    yield Case("path", "a folder that links to itself", _looping_folder, "either", "passed over")
    yield Case("path", "train is a file", _train_is_a_file)
    yield Case("path", "train is a loop", _train_is_a_loop)
    yield Case("path", "root is a device", lambda p: train(p, Path("/dev/null")))
    yield Case("path", "a raw file as mixture", _raw_mixture)
    yield Case("path", "3000 tracks with nothing in them", _many_tracks)
    yield Case("path", "a sparse wav of 4 GB", _sparse)
    yield Case("path", "a sparse wav of 4 GB as mixture", _sparse_mixture)
    for name, text in NAMES.items():
        make_case = functools.partial(_named_track, text)
        yield Case("name", f"{name}, trained", make_case, "accepted", "any file name is one")
        make_case = functools.partial(_named_mixture, text)
        # what is added to a name of 240 bytes makes it longer than a file system allows
        ends = "accepted" if len(text) < 200 else "refused"
        yield Case("name", f"{name}, separated", make_case, ends, "any file name is one")
        drawn = name in ("not UTF-8", "mathematics", "terminal control", "script")
        for verb in ("evaluate", "report")[: 1 + drawn]:  # a report takes seconds
            make_case = functools.partial(_named_test, text, verb)
            yield Case("name", f"{name}, {verb}", make_case, "accepted", "any file name is one")
        yield Case("name", f"{name}, refused", functools.partial(_named_bad_track, text))


NAMES = {
    "not UTF-8": b"caf\xe9 \xff\xfe",
    "line breaks": b"two\nlines\rand\ttabs",
    "terminal control": b"\x1b[31mred\x1b]0;title\x07 \xc2\x9b2J \x08\x7f",
    "script": b"<script>alert(1)<&sol;script>&\"'",
    "mathematics": rb"$\frac{1}{$ $\nonsense$ ^_{}",
    "percent": b"%s%n%d{0}{name}",
    "traversal": b"a\\..\\..%2f..%2fetc",
    "dots": b"a...",
    "option": b"--out=x",
    "blanks": b"  a  ",
    "250 bytes": b"x" * 240,
    "right to left": "\u202egnp.exe\u202c \u200b\ufeff".encode(),
    "surrogate": b"\xed\xa0\x80",
}


def _as_stem(make: Callable[[], bytes], place: Place) -> Call:
    (place.track() / "vocals.wav").write_bytes(make())
    return train(place)


def _as_mixture(make: Callable[[], bytes], place: Place) -> Call:
    path = place.given / "mixture.wav"
    path.write_bytes(make())
    return separate(place, path, f"--vocals={path}")


def _changed_stem(good: Callable[[], bytes], form: str, place: Place) -> Call:
    track = place.track()
    (track / "vocals.wav").unlink()
    made = changed(place.random, good(), int(place.random.integers(1, 12)))
    (track / f"vocals.{form}").write_bytes(made)
    for name in ("mixture", "drums", "bass", "other"):
        (track / f"{name}.wav").unlink(missing_ok=True)
    (track / "accompaniment.wav").write_bytes(encoded(tone()))
    return train(place)


@functools.cache
def _mp4() -> bytes:
    """A good stem file."""
    import io

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        streams = [container.add_stream("alac", rate=RATE, layout="stereo") for _ in range(5)]
        samples = (tone() * 32767).astype(np.int16).T
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples), format="s16p", layout="stereo"
            )
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return file.getvalue()


def _stem_file(place: Place, made: bytes) -> Call:
    folder = place.given / "music/train"
    folder.mkdir(parents=True)
    (folder / "song.stem.mp4").write_bytes(made)
    return train(place)


def _changed_mp4(place: Place) -> Call:
    made = bytearray(_mp4())
    for _ in range(int(place.random.integers(1, 12))):
        # the index lies at the end, and is what a reader trusts
        start = 0 if place.random.random() < 0.5 else int(len(made) * 0.9)
        made[int(place.random.integers(start, len(made)))] = int(place.random.integers(256))
    return _stem_file(place, bytes(made))


def _cut_mp4(part: float, place: Place) -> Call:
    return _stem_file(place, _mp4()[: int(len(_mp4()) * part)])


def _wav_as_mp4(place: Place) -> Call:
    return _stem_file(place, wav())


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _socket(path: Path) -> None:
    held = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_RDONLY)
    held.bind(f"/proc/self/fd/{folder}/{path.name}")  # the path itself may be too long
    os.close(folder)
    held.close()
    assert stat.S_ISSOCK(path.stat().st_mode)


FILES: dict[str, Callable[[Path], None]] = {
    "a folder": lambda path: path.mkdir(),
    "a fifo": _fifo,
    "a socket": _socket,
    "a link to itself": _loop,
    "a link to nothing": lambda path: path.symlink_to("nowhere.wav"),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /dev/tty": lambda path: path.symlink_to("/dev/tty"),
    "a link to /proc/self/mem": lambda path: path.symlink_to("/proc/self/mem"),
}


def _odd_stem(make: Callable[[Path], None], place: Place) -> Call:
    path = place.track() / "vocals.wav"
    path.unlink()
    make(path)
    return train(place)


def _odd_mixture(make: Callable[[Path], None], place: Place) -> Call:
    path = place.given / "mixture.wav"
    make(path)
    return separate(place, path, f"--vocals={path}")


def _linked_stem(place: Place) -> Call:
    path = place.track() / "vocals.wav"
    path.unlink()
    path.symlink_to(next((place.model / "music/train").glob("*/vocals.wav")))
    return train(place)


def _looping_folder(place: Place) -> Call:
    (place.root() / "train" / "again").symlink_to(place.given / "music/train")
    return train(place)


def _train_is_a_file(place: Place) -> Call:
    (place.given / "music").mkdir()
    (place.given / "music/train").write_text("")
    return train(place)


def _train_is_a_loop(place: Place) -> Call:
    (place.given / "music").mkdir()
    _loop(place.given / "music/train")
    return train(place)


def _raw_mixture(place: Place) -> Call:
    path = place.given / "mixture.raw"
    path.write_bytes(bytes(4000))
    return separate(place, path, f"--vocals={path}")


def _many_tracks(place: Place) -> Call:
    for number in range(3000):
        (place.given / f"music/train/{number}").mkdir(parents=True)
    return train(place)


def _write_sparse(path: Path) -> Path:
    path.write_bytes(wav(data=b"", data_size=2**32 - 4096, riff_size=2**32 - 4060))
    os.truncate(path, 2**32 - 4000)
    return path


def _sparse(place: Place) -> Call:
    _write_sparse(place.track() / "vocals.wav")
    return train(place)


def _sparse_mixture(place: Place) -> Call:
    path = _write_sparse(place.given / "mixture.wav")
    return separate(place, path, f"--vocals={path}")


def _named_track(name: bytes, place: Place) -> Call:
    track = place.track()
    track.rename(track.parent / os.fsdecode(name))
    return train(place)


def _named_test(name: bytes, verb: str, place: Place) -> Call:
    track = place.track("test")
    track.rename(track.parent / os.fsdecode(name))
    out = place.out / ("e.json" if verb == "evaluate" else "figures")
    run = str(place.model / "run")
    return [verb, "-q", run, f"--root={place.given / 'music'}", f"--out={out}"]


def _named_bad_track(name: bytes, place: Place) -> Call:
    track = place.track()
    (track / "vocals.wav").write_bytes(b"")
    track.rename(track.parent / os.fsdecode(name))
    return train(place)


def _named_mixture(name: bytes, place: Place) -> Call:
    path = place.given / os.fsdecode(name + b".wav")
    path.write_bytes(encoded(tone(frames=FRAMES)))
    other = place.given / "vocals.wav"
    other.write_bytes(encoded(tone() * 0.5))
    return separate(place, path, f"--vocals={other}")
