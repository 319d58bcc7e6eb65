"""Hostile audio files, as bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
FRAMES = 8000


def tone(channels: int = 2, frames: int = FRAMES) -> np.ndarray:
    """Some audible sound, (frames, channels)."""
    time = np.arange(frames) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 220 * time)
    return np.stack([sound * (0.9**channel) for channel in range(channels)], axis=1)


def encoded(samples: np.ndarray, rate: int = RATE, **form: str) -> bytes:
    """Samples as a file of some format."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **form})
    return file.getvalue()


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk that may lie about its size."""
    return name + struct.pack("<I", len(body) if size is None else size) + body


def wav(
    *,
    tag: int = 1,
    channels: int = 2,
    rate: int = RATE,
    bits: int = 16,
    align: int | None = None,
    data: bytes | None = None,
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
    form: bytes | None = None,
) -> bytes:
    """A WAV file, every field of whose header can be chosen."""
    data = (tone() * 32767).astype("<i2").tobytes() if data is None else data
    align = channels * bits // 8 if align is None else align
    fields = (tag, channels, rate, (rate * align) & 0xFFFFFFFF, align & 0xFFFF, bits)
    form = chunk(b"fmt ", struct.pack("<HHIIHH", *fields)) if form is None else form
    body = b"WAVE" + before + form + chunk(b"data", data, data_size)
    return chunk(b"RIFF", body, riff_size)


def flac(total: int | None = None, rate: int | None = None) -> bytes:
    """A FLAC file whose first block may lie about the number of samples and the rate."""
    made = bytearray(encoded(tone(), format="FLAC"))
    packed = int.from_bytes(made[18:26], "big")  # rate 20, channels 3, bits 5, samples 36 bits
    if total is not None:
        packed = (packed >> 36 << 36) | total
    if rate is not None:
        packed = (packed & ((1 << 44) - 1)) | (rate << 44)
    made[18:26] = packed.to_bytes(8, "big")
    return bytes(made)


def rf64(data_size: int, samples: int) -> bytes:
    """RF64, whose sizes have 64 bits and may lie."""
    data = (tone() * 32767).astype("<i2").tobytes()
    sizes = struct.pack("<QQQI", min(data_size + 72, 2**64 - 1), data_size, samples, 0)
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, RATE, RATE * 4, 4, 16))
    body = b"WAVE" + chunk(b"ds64", sizes) + form + chunk(b"data", data, 0xFFFFFFFF)
    return chunk(b"RF64", body, 0xFFFFFFFF)


def special(value: float, *, form: str = "FLOAT") -> bytes:
    """Float samples, one of which is not finite or absurd."""
    samples = tone()
    samples[777, 1] = value
    return encoded(samples, subtype=form)


def _au(size: int, rate: int = RATE, channels: int = 2) -> bytes:
    data = (tone() * 32767).astype(">i2").tobytes()
    return b".snd" + struct.pack(">IIIII", 24, size, 3, rate, channels) + data


def _fixed() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    """(name, bytes, how it must end) of single files."""
    good = wav()
    refused: dict[str, Callable[[], bytes]] = {
        "0 bytes": lambda: b"",
        "one byte": lambda: b"R",
        "RIFF and no more": lambda: b"RIFF",
        "header cut": lambda: good[:20],
        "header without data": lambda: good[:44],
        "header without fmt": lambda: wav(form=b""),
        "fmt of 2**31 bytes": lambda: wav(form=chunk(b"fmt ", b"\1\0\2\0", 2**31)),
        "no channels": lambda: wav(channels=0),
        "65535 channels": lambda: wav(channels=65535, align=2),
        "rate 0": lambda: wav(rate=0),
        "rate 2**32 - 1": lambda: wav(rate=2**32 - 1),
        "rate 1 Hz": lambda: wav(rate=1),
        "rate 2**31 - 1": lambda: wav(rate=2**31 - 1),
        "0 bits": lambda: wav(bits=0, align=4),
        "65535 bits": lambda: wav(bits=65535, align=4),
        "unknown format": lambda: wav(tag=0xFFFE),
        "private format": lambda: wav(tag=0x1234),
        "text": lambda: b"this is no sound at all\n" * 100,
        "html": lambda: b"<html><script>alert(1)</script></html>",
        "zeros": lambda: bytes(100_000),
        "0xff": lambda: b"\xff" * 100_000,
        "zip": lambda: b"PK\x03\x04" + bytes(1000),
        "elf": lambda: Path("/proc/self/exe").read_bytes()[:4096],
        "nan": lambda: special(np.nan),
        "inf": lambda: special(np.inf),
        "-inf as float64": lambda: special(-np.inf, form="DOUBLE"),
        "1e300 as float64": lambda: special(1e300, form="DOUBLE"),
        "flac cut in the header": lambda: flac()[:30],
        "flac of 2**36 samples": lambda: flac(total=2**36 - 1),
        "au of 2 GB": lambda: _au(2**31 - 1),
        "au, no channels": lambda: _au(100, channels=0),
        "au, rate 0": lambda: _au(0xFFFFFFFF, rate=0),
    }
    either: dict[str, Callable[[], bytes]] = {
        "data cut": lambda: good[: len(good) // 2],
        "data cut within a sample": lambda: good[:-3],
        "data of 2**32 - 1": lambda: wav(data_size=0xFFFFFFFF),
        "data of 2**31": lambda: wav(data_size=2**31),
        "data of 0": lambda: wav(data_size=0),
        "data a little too long": lambda: wav(data_size=FRAMES * 4 + 1001),
        "riff of 0": lambda: wav(riff_size=0),
        "riff of 2**32 - 1": lambda: wav(riff_size=0xFFFFFFFF),
        "align 0": lambda: wav(align=0),
        "align 65535": lambda: wav(align=65535),
        "7 bits": lambda: wav(bits=7, align=4),
        "adpcm": lambda: wav(tag=2, bits=4, align=256),
        "mu-law": lambda: wav(tag=7, bits=8, align=2),
        "list of 2**31 bytes": lambda: wav(before=chunk(b"LIST", b"INFO", 2**31)),
        "100000 chunks": lambda: wav(before=chunk(b"junk", b"") * 100_000),
        "8 MB of a cue": lambda: wav(before=chunk(b"cue ", b"\xff" * (8 << 20))),
        "flac of 0 samples": lambda: flac(total=0),
        "flac, too few": lambda: flac(total=4000),
        "flac, too many": lambda: flac(total=9000),
        "flac, rate 0": lambda: flac(rate=0),
        "flac, rate 2**20 - 1": lambda: flac(rate=2**20 - 1),
        "flac cut": lambda: flac()[: len(flac()) // 2],
        "1e38 as float": lambda: special(1e38),
        "rf64 of 2**60 bytes": lambda: rf64(2**60, 2**58),
        "rf64 of 2**64 - 1": lambda: rf64(2**64 - 1, 2**63),
        "rf64 in order": lambda: rf64(FRAMES * 4, FRAMES),
        "8 channels": lambda: encoded(tone(8)),
        "mono": lambda: encoded(tone(1)),
        "24 bits": lambda: encoded(tone(), subtype="PCM_24"),
        "32 bits": lambda: encoded(tone(), subtype="PCM_32"),
        "8 bits": lambda: encoded(tone(), subtype="PCM_U8"),
        "float32": lambda: encoded(tone(), subtype="FLOAT"),
        "float64": lambda: encoded(tone(), subtype="DOUBLE"),
        "flac in a wav": lambda: flac(),
        "aiff in a wav": lambda: encoded(tone(), format="AIFF"),
        "w64 in a wav": lambda: encoded(tone(), format="W64"),
        "ogg in a wav": lambda: encoded(tone(), format="OGG"),
        "caf in a wav": lambda: encoded(tone(), format="CAF"),
        "192 kHz": lambda: encoded(tone(frames=192_000), 192_000),
        "denormals": lambda: encoded(tone() * 1e-40, subtype="FLOAT"),
        "silence": lambda: encoded(tone() * 0),
        "one sample": lambda: encoded(tone(frames=1)),
    }
    for ends, files in (("refused", refused), ("either", either)):
        for name, make in files.items():
            yield name, make, ends


FIXED = tuple(_fixed())


def changed(random: np.random.Generator, data: bytes, changes: int) -> bytes:
    """Random bytes overwritten, half of them in the first 100, where headers are."""
    made = bytearray(data)
    for _ in range(changes):
        end = 100 if random.random() < 0.5 else len(made)
        made[int(random.integers(min(end, len(made))))] = int(random.integers(256))
    if random.random() < 0.2:
        del made[int(random.integers(len(made))) :]
    return bytes(made)
