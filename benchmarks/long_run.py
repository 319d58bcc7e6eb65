"""Train for long on a set of MUSDB18's dimensions: do memory and open files stay, does data wait?

Usage: python benchmarks/long_run.py --out FILE.json [--steps 3000] [--preset p2] [--set KEY=VALUE]

100 tracks of 4 minutes are overlapping views of five synthetic ones, so that the set has the
segments, the index and the epochs of MUSDB18 without its gigabytes. The run is an ordinary one, in
a temporary folder, checkpoints and log included. On the CPU the five minutes soon lie in the page
cache: the waiting is that of a set that fits into memory, not of a cold disk.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch

from rlsv_fast.data import PreparedTrack, find_tracks, prepare_tracks, synthesize
from rlsv_fast.training import (
    describe_throughput,
    flatten,
    keep_freed_memory,
    resolve,
    train,
)

TRACKS, SECONDS = 100, 240
SOURCE_SECONDS = 300
WARM_UP = 0.2
"""Share of the run after which memory should not grow any more."""


def musdb_like(folder: Path, sample_rate: int) -> list[PreparedTrack]:
    """Tracks that are views, a little further on each time, of one synthetic track."""
    synthesize(
        folder, train_tracks=1, test_tracks=1, seconds=SOURCE_SECONDS, sample_rate=sample_rate
    )
    found = find_tracks(folder, "train")
    (source,) = prepare_tracks(found, sample_rate, folder / "cache")
    length = SECONDS * sample_rate
    starts = np.linspace(0, len(source) - length, TRACKS).astype(int)
    return [
        PreparedTrack(
            f"view {number}",
            sample_rate,
            *(
                samples[start : start + length]
                for samples in (source.mixture, source.voice, source.accompaniment)
            ),
        )
        for number, start in enumerate(starts)
    ]


def resident() -> dict[str, float]:
    """MB that the process holds: in all, and without the pages of mapped files.

    The kernel takes those back when it wants, and they grow until every segment has been used.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = dict(line.split(":") for line in lines if line.startswith(("VmRSS", "RssAnon")))
    names = {"VmRSS": "resident", "RssAnon": "resident, not of files"}
    return {names[key]: int(value.split()[0]) * 1024 / 1e6 for key, value in sizes.items()}


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")
        + ("uordblks", "fordblks", "keepcost")
    ]


def allocated() -> dict[str, float]:
    """MB that the process has allocated and not freed.

    What it holds cannot show a leak here: the decoding needs more than the training, and what it
    has freed stays with the process, to be filled silently. Only glibc can tell.
    """
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return {}
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return {"allocated": (found.uordblks + found.hblkhd) / 1e6}


def descriptors() -> int:
    """File descriptors that the process has open."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1  # one is of this very look


class Memory:
    """Samples of the memory and the open files, as a callback of the training."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self._every = -(-steps // 300)
        self._cuda = device if device.type == "cuda" else None
        self._begin = time.perf_counter()
        self.samples: list[dict[str, float]] = []
        self.records: list[dict[str, Any]] = []

    def __call__(self, record: dict[str, Any]) -> None:
        """Take a sample at every so many steps; keep what says how fast the run is."""
        if record["kind"] != "step":
            self.records.append(record)
        elif record["step"] % self._every == 0:
            sample = {
                "step": record["step"],
                "seconds": time.perf_counter() - self._begin,
                **resident(),
                **allocated(),
                "descriptors": descriptors(),
            }
            if self._cuda is not None:
                sample["device"] = torch.cuda.memory_reserved(self._cuda) / 1e6
            self.samples.append(sample)

    def trend(self, kind: str) -> dict[str, float]:
        """Line through the samples of a kind after the warm-up, in the unit of the kind."""
        late = self.samples[int(WARM_UP * len(self.samples)) :]
        steps = np.array([sample["step"] for sample in late])
        values = np.array([sample[kind] for sample in late])
        slope = float(np.polyfit(steps, values, 1)[0]) if len(late) > 1 else 0.0
        return {
            "per_1000_steps": 1000 * slope,
            "first": float(values[0]),
            "last": float(values[-1]),
            "most": float(values.max()),
        }


def report(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the run and describe it."""
    settings = [*arguments.set, f"training.max_steps={arguments.steps}", "training.epochs=1000"]
    config = resolve(arguments.preset, overrides=settings)
    device = torch.device(arguments.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tracks = musdb_like(folder / "music", config.data.sample_rate)
        memory = Memory(arguments.steps, device)
        if device.type == "cpu":
            keep_freed_memory()  # as the command line does
        train(config, tracks, folder / "run", device=device, progress=True, callback=memory)
    start, *epochs, end = memory.records
    return {
        "machine": {**machine.facts(), **machine.gpu_facts(), "threads": torch.get_num_threads()},
        "settings": flatten(config),
        "start": start,
        "epochs": epochs,
        "throughput": end["throughput"],
        "descriptors": memory.trend("descriptors"),
        "memory": {
            kind: memory.trend(kind)
            for kind in memory.samples[0]
            if kind not in ("step", "seconds", "descriptors")
        },
        "samples": memory.samples,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, write the JSON and print what matters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--preset", default="p2")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    found = report(options)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{found['start']['voice_segments']} voice segments, {options.steps} steps")
    print(describe_throughput(found["throughput"]))
    for kind, trend in found["memory"].items():
        print(
            f"memory, {kind}: {trend['first']:.0f} MB after {WARM_UP:.0%} of the run, "
            f"{trend['last']:.0f} MB at its end, at most {trend['most']:.0f} MB; slope "
            f"{trend['per_1000_steps']:+.2f} MB per 1000 steps"
        )
    files = found["descriptors"]
    print(f"open files: {files['first']:.0f} and {files['last']:.0f}, at most {files['most']:.0f}")


if __name__ == "__main__":
    main()
