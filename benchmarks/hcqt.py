"""HCQT beside the original's construction: five nnAudio CQT2010 built anew for every call.

Usage: python benchmarks/hcqt.py --out benchmarks/results/<machine>/umss [--audio FILE]

Needs nnAudio (pip install nnAudio). One item of 4 s at 22,050 Hz, noise or a recording, on pinned
threads (OMP_NUM_THREADS), the peers in turn in one process. Peers: nnAudio as the original uses it
(kernels built for every call, complex output, magnitude and phase through numpy), and the same with
kernels kept. Beside the times: how far the magnitudes are apart, over what lies within 40 dB.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch

from rlsv_fast.umss import HCQT
from rlsv_fast.umss.hcqt import HARMONICS, HOP, LOWEST, SAMPLE_RATE


def transforms() -> list[Any]:
    """The five constant-Q transforms as the original sets them up."""
    from nnAudio.features import CQT2010

    return [
        CQT2010(
            sr=SAMPLE_RATE,
            hop_length=HOP,
            fmin=LOWEST * harmonic,
            n_bins=360,
            bins_per_octave=60,
            output_format="Complex",
            verbose=False,
        )
        for harmonic in range(1, HARMONICS + 1)
    ]


def original(audio: torch.Tensor, modules: list[Any] | None = None) -> tuple[Any, Any]:
    """Magnitude in dB and phase differential as the original computes them."""
    magnitudes, phases = [], []
    for module in transforms() if modules is None else modules:
        both = module(audio)[..., : audio.shape[-1] // HOP, :].numpy()
        value = both[..., 1] + 1j * both[..., 0]
        level = 20 * np.log10(np.maximum(np.abs(value), 1e-10))
        magnitudes.append(np.maximum(level - level.max(), -80.0))
        phase = np.unwrap(np.angle(value), axis=-1)
        phases.append(np.concatenate((phase[..., :1], np.diff(phase, axis=-1)), -1))
    return np.stack(magnitudes, 1), np.stack(phases, 1)


def timed(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Wall and processor seconds of each call, taken in turn: medians."""
    for call in calls.values():
        call()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {
        name: {
            "wall": statistics.median(wall for wall, _ in pairs),
            "processor": statistics.median(processor for _, processor in pairs),
        }
        for name, pairs in seconds.items()
    }


def main() -> None:
    """Measure and write hcqt.json and hcqt.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--audio", type=Path, help="a recording at 22,050 Hz or more, mono")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    warnings.filterwarnings("ignore", module="nnAudio")
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(1, 4 * SAMPLE_RATE, generator=generator)
    if options.audio:
        import soundfile
        import soxr

        samples, rate = soundfile.read(options.audio, dtype="float32")
        at_rate = soxr.resample(samples[20 * rate : 24 * rate], rate, SAMPLE_RATE)
        audio = torch.from_numpy(at_rate)[None]
    transform, kept = HCQT(), transforms()
    with torch.inference_mode():
        calls: dict[str, Callable[[], Any]] = {
            "rlsv_fast": lambda: transform(audio),
            "nnAudio, built for every call": lambda: original(audio),
            "nnAudio, kernels kept": lambda: original(audio, kept),
        }
        found = timed(calls, options.rounds)
        ours, theirs = transform(audio), original(audio, kept)
    loud = theirs[0] > -40
    inner = slice(40, -40)  # at both ends the reflected octaves differ: they are halved differently
    ours = [x.numpy()[..., inner] for x in ours]
    loud, theirs = loud[..., inner], [x[..., inner] for x in theirs]
    level = np.abs(ours[0] - theirs[0])[loud]
    turn = ours[1] - theirs[1]
    turn = np.abs(turn - 2 * math.pi * np.round(turn / (2 * math.pi)))[loud]
    agreement = {
        "level_median_db": float(np.median(level)),
        "level_largest_db": float(level.max()),
        "phase_median": float(np.median(turn)),
        "phase_largest": float(turn.max()),
    }
    facts = machine.facts()
    threads = torch.get_num_threads()
    options.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": facts, "threads": threads, "seconds": found, "agreement": agreement}
    (options.out / "hcqt.json").write_text(json.dumps(report, indent=1) + "\n")
    best = found["rlsv_fast"]
    lines = [
        "# HCQT of 4 s",
        "",
        f"`python benchmarks/hcqt.py`, {facts['processor']}, {threads} thread(s), torch "
        f"{facts['torch']}, commit {facts['commit']}; medians of {options.rounds} rounds in turn.",
        "",
        "| | wall s | × | processor s | × |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {s['wall']:.4f} | {s['wall'] / best['wall']:.1f} | {s['processor']:.4f} "
        f"| {s['processor'] / best['processor']:.1f} |"
        for name, s in found.items()
    ]
    lines += [
        "",
        "Within 40 dB of the loudest bin of a harmonic, and half a second away from both ends, the "
        "two differ by "
        f"{agreement['level_median_db']:.4f} dB in the median, {agreement['level_largest_db']:.2f} "
        f"at most; phase differences by {agreement['phase_median']:.5f} rad in the median, "
        f"{agreement['phase_largest']:.2f} at most.",
        "",
    ]
    (options.out / "hcqt.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
