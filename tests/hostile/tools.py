"""Cases of command lines that need no file."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from hostile.cases import Call, Case, Place, train

LINES: dict[str, tuple[str, ...]] = {
    "seconds nan": ("--seconds=nan",),
    "seconds inf": ("--seconds=inf",),
    "seconds -1": ("--seconds=-1",),
    "seconds 1e300": ("--seconds=1e300",),
    "seconds 1e-300": ("--seconds=1e-300",),
    "rate 0": ("--sample-rate=0",),
    "rate -1": ("--sample-rate=-1",),
    "rate 2**70": ("--sample-rate=1180591620717411303424",),
    "tracks -1": ("--train-tracks=-1",),
    "no tracks": ("--train-tracks=0", "--test-tracks=0"),
    "seed -1": ("--seed=-1",),
    "seed of 5000 digits": ("--seed=" + "9" * 5000,),
    "seconds of text": ("--seconds=long",),
}
DEVICES = (
    "",
    "cuda:99",
    "meta",
    "cpu:-1",
    "cpu:" + "9" * 400,
    "tpu",
    "\x1b[31m",
    "cuda:x",
    "mkldnn",
)


def cases() -> Iterator[Case]:
    for name, line in LINES.items():
        yield Case("synthesize", name, functools.partial(_synthesize, line))
    for device in DEVICES:
        yield Case("--device", repr(device)[:20], functools.partial(_device, device))
    yield Case("--seed", "-1", lambda place: _seeded(place, "-1"))
    yield Case("--seed", "4000 digits", lambda place: _seeded(place, "9" * 4000))
    yield Case("--preset", "control", functools.partial(_preset, "\x1b[31m"))
    yield Case("--preset", "traversal", functools.partial(_preset, "../../etc/passwd"))


def _synthesize(line: tuple[str, ...], place: Place) -> Call:
    return ["synthesize", "-q", str(place.out / "music"), *line]


def _device(device: str, place: Place) -> Call:
    place.root()
    return train(place, None, f"--device={device}")


def _seeded(place: Place, seed: str) -> Call:
    place.root()
    return train(place, None, f"--seed={seed}")


def _preset(name: str, place: Place) -> Call:
    place.root()
    return train(place, None, f"--preset={name}")
