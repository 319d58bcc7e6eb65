"""Which frames a pitch reference needs, told without any reference: a table in Markdown.

Usage: python benchmarks/choral_reference.py --data DIR --weights DIR --out FILE [--references DIR]

The depth that pYIN shows of a synthetic vibrato of 100 cents at 5.5 Hz; and SI-SDR of the untrained
comb (levels fitted) in a mixture of choral_f0.py, with pYIN's tracks of the isolated voices and
with those of the mixture: the closer a track follows the voice, the better its comb separates.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import choral_f0
import librosa
import machine
import numpy as np
import soundfile
import torch

from rlsv_fast import umss
from rlsv_fast.ops import si_sdr

RATE, HOP = choral_f0.RATE, choral_f0.HOP
START, SECONDS = 20, 40
WINDOWS = (1, 9, choral_f0.AVERAGED)
PITCHES = {"bass": 110, "tenor": 200, "soprano": 400}
DEPTH, RHYTHM = 100, 5.5


def depth(part: str, frame: int) -> float:
    """Cents of a vibrato that pYIN sees."""
    time = np.arange(4 * RATE) / RATE
    cents = DEPTH * np.sin(2 * np.pi * RHYTHM * time)
    phase = 2 * np.pi * np.cumsum(PITCHES[part] * 2 ** (cents / 1200)) / RATE
    audio = np.sum([np.sin(n * phase) / n for n in range(1, 12)], 0)
    low, high = choral_f0.RANGES[part]
    found, voiced, _ = librosa.pyin(
        audio, fmin=low, fmax=high, sr=RATE, frame_length=frame, hop_length=HOP
    )
    at = np.arange(len(found)) * HOP / RATE
    kept = voiced & (at > 0.5) & (at < 3.5)
    angle = 2 * np.pi * RHYTHM * at[kept]
    basis = np.stack((np.sin(angle), np.cos(angle), np.ones_like(angle)), 1)
    fitted = np.linalg.lstsq(basis, 1200 * np.log2(found[kept] / PITCHES[part]), rcond=None)[0]
    return float(np.hypot(fitted[0], fitted[1]))


def separated(voices: Any, times: Any, f0: Any) -> list[float]:
    """SI-SDR of each voice in dB."""
    mixture = torch.from_numpy(voices.sum(0))[None].float()
    parts = torch.cat(list(umss.separate_comb(mixture, RATE, times, f0)), -1)
    values: list[float] = si_sdr(parts[:, 0], torch.from_numpy(voices).float()).tolist()
    return values


def rows(singer: int, options: argparse.Namespace, networks: umss.F0Networks) -> list[str]:
    """Lines of one mixture."""
    names = {part: pattern.format(singer) for part, pattern in choral_f0.PARTS.items()}
    stems = {p: soundfile.read(next(options.data.rglob(f"{n}.wav")))[0] for p, n in names.items()}
    length = min(map(len, stems.values()))
    cut = slice(START * RATE, (START + SECONDS) * RATE)
    voices = np.stack([stem[cut] for stem in stems.values()])
    grid = np.arange(SECONDS * RATE // HOP) * HOP / RATE
    tracks: dict[str, tuple[Any, Any]] = {}
    for frame in choral_f0.FRAMES:
        f0 = [
            choral_f0.reference(names[p], p, stems[p][:length], frame, options.references)
            for p in names
        ]
        first = START * RATE // HOP
        tracks[f"pYIN, isolated, {frame}"] = grid, np.stack(f0)[:, first : first + len(grid)]
    found = umss.estimate_f0(voices.sum(0), RATE, networks, keep_salience=True)
    salience = torch.from_numpy(found.salience)
    for window in WINDOWS:
        tracked, _ = umss.track_voices(salience, window=window)
        tracks[f"tracking, window={window}"] = found.time, tracked.T
    lines = []
    for name, (times, f0) in tracks.items():
        values = separated(voices, times, f0)
        cells = " | ".join(f"{v:.2f}" for v in [*values, float(np.mean(values))])
        lines.append(f"| {singer} | {name} | {cells} |")
    return lines


def main() -> None:
    """Write the table, after each mixture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--references", type=Path)
    parser.add_argument("--singers", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    networks = umss.load_networks(options.weights)
    facts = machine.facts()
    lines = [
        "# Frames of the f0 references",
        "",
        f"`python benchmarks/choral_reference.py`, torch {facts['torch']}, commit "
        f"{facts['commit']}. What pYIN shows of a vibrato of {DEPTH} cents at {RHYTHM} Hz:",
        "",
        f"| samples of a frame | {' | '.join(f'{p}, {hz} Hz' for p, hz in PITCHES.items())} |",
        "|---|---|---|---|",
    ]
    for frame in choral_f0.FRAMES:
        cells = " | ".join(f"{depth(part, frame):.0f}" for part in PITCHES)
        lines.append(f"| {frame} | {cells} |")
    lines += [
        "",
        f"SI-SDR in dB of the untrained comb, {SECONDS} s from {START} s on, by its tracks:",
        "",
        f"| singers | tracks | {' | '.join(choral_f0.PARTS)} | mean |",
        "|---|---|---|---|---|---|---|",
    ]
    for singer in options.singers:
        lines += rows(singer, options, networks)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())


if __name__ == "__main__":
    main()
