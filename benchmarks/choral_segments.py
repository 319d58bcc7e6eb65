"""Separate a real choir by a trained run, in segments that meet in several ways.

Usage: python benchmarks/choral_segments.py DATA RUN --out DIR [--singer N]

DATA holds a song of the Choral Singing Dataset with the tracks of its mixtures, RUN was trained on
other singers of it (benchmarks/results/ensembles).

"each by itself" is the published inference: a mask for each segment. All else is
`umss.separate_trained`. SI-SDR is that of every second and voice with an energy of 10, as
published; at a joint, of the 256 ms around it. A jump is the mean difference of a voice's spectra
(in dB, windows of 32 ms, 32 ms apart) with a joint between them, over that of the true voice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import choral_runs
import numpy as np
import torch
from gpu_tables import table
from torch import Tensor

from rlsv_fast import ops, umss

RATE, HOP = 16000, 256
AROUND = 2048
OVERLAPS = (0.0, 0.125, 0.25)


def mixture_of(song: umss.Song, singer: int) -> tuple[Tensor, umss.F0Tracks]:
    """The voices (V, N), their sum with a peak of 1, and the tracks of the mixture."""
    parts = [umss.read_singer(song.singer(voice, singer), RATE) for voice in song.voices]
    length = min(map(len, parts))
    voices = torch.from_numpy(np.stack([part[:length] for part in parts]))
    tracks = umss.read_mixture_f0(song, len(parts))
    singers = tuple((voice, singer) for voice in song.voices)
    return voices / voices.sum(0).abs().max(), tracks[singers]


def each_by_itself(model: umss.EnsembleModel, mixture: Tensor, f0: Tensor, length: int) -> Tensor:
    """A mask for each segment, up to the last whole one."""
    found = mixture.new_zeros(len(f0), len(mixture))
    for start in range(0, f0.shape[1] - length + 1, length):
        place = slice(start * HOP, (start + length) * HOP)
        found[:, place] = model.separate(mixture[None, place], f0[None, :, start : start + length])[
            0
        ]
    return found[:, : f0.shape[1] // length * length * HOP]


def at_joints(estimate: Tensor, voices: Tensor, joints: Sequence[int]) -> float:
    """Mean SI-SDR around joints, of voices that sound there."""
    found = []
    for joint in joints:
        place = slice(joint * HOP - AROUND, joint * HOP + AROUND)
        one, other = estimate[:, place].contiguous(), voices[:, place].contiguous()
        sounds = other.square().sum(1) > 10 * 2 * AROUND / RATE
        found.append(ops.si_sdr(one[sounds].contiguous(), other[sounds].contiguous()))
    return float(torch.cat(found).mean())


def change(signal: Tensor, joints: Sequence[int] | None = None) -> float:
    """Mean difference of spectra 32 ms apart, with joints between them or anywhere."""
    window = torch.hann_window(512)
    cells = torch.stft(signal, 512, 64, window=window, return_complex=True).abs()
    levels = 20 * cells.clamp_min(1e-4).log10()
    steps = (levels[..., 8:] - levels[..., :-8]).abs().mean(1)
    if joints is not None:
        step = HOP // 64
        steps = torch.cat([steps[:, joint * step - 8 : joint * step] for joint in joints], 1)
    return float(steps.mean())


def row(
    name: str, phases: str, estimate: Tensor, voices: Tensor, joints: Sequence[int]
) -> dict[str, Any]:
    """Measures of one way, as far as it goes."""
    voices = voices[:, : estimate.shape[1]]
    seconds = umss.si_sdr_frames(estimate, voices, RATE)
    seconds = seconds[~seconds.isnan()]
    return {
        "segments": name,
        "phases": phases,
        "mean": float(seconds.mean()),
        "median": float(seconds.median()),
        "at_joints": at_joints(estimate, voices, joints),
        "jump": change(estimate, joints) / change(voices, joints),
        "change": change(estimate) / change(voices),
    }


def markdown(report: dict[str, Any]) -> str:
    head = ["segments", "phases", "mean", "median", "at the joints", "jump", "anywhere"]
    keys = ("mean", "median", "at_joints", "jump", "change")
    lines = [
        [one["segments"], one["phases"], *(f"{one[key]:.2f}" for key in keys)]
        for one in report["rows"]
    ]
    facts = report["machine"]
    intro = (
        f"# Segments of a recording\n{report['song']}, singers {report['singer']}, SI-SDR in dB; "
        f"made by `python benchmarks/choral_segments.py` at commit {facts['commit']}. Joints lie "
        "elsewhere for each overlap: compare them within one.\n\n"
    )
    return intro + "\n".join(table(head, lines)).rstrip() + "\n"


def main() -> None:
    options = choral_runs.arguments(__doc__.splitlines()[0])
    (song,) = umss.find_songs(options.data)
    config, model = umss.load_separator(options.run)
    voices, tracks = mixture_of(song, options.singer)
    mixture = voices.sum(0)
    times, f0 = tracks.time, tracks.frequency.T
    frames, length = -(-len(mixture) // HOP), config.data.segment_length // HOP
    centres = (np.arange(frames) + 0.5) * HOP / RATE
    grid = torch.from_numpy(umss.on_grid(times, f0, centres)).float()
    torch.manual_seed(0)
    alone = each_by_itself(model, mixture, grid, length)
    marks = range(length, frames - length, length)
    rows = [row("each by itself, as published", "0", alone, voices, marks)]
    for overlap in OVERLAPS:
        shared = int(overlap * length)
        joints = [
            start + length - shared // 2 for start in range(0, frames - length, length - shared)
        ]
        name = f"{shared * HOP / RATE:.2f} s fade" if shared else "cut"
        for continuous in (False, True):
            parts = umss.separate_trained(
                *(model, mixture[None], RATE, times, f0),
                segment=length * HOP / RATE,
                overlap=overlap,
                continuous=continuous,
            )
            estimate = torch.cat(list(parts), 2)[:, 0]
            phases = "continuous" if continuous else "0"
            rows.append(row(name, phases, estimate, voices, joints))
    report = {**choral_runs.facts(song, options.singer), "rows": rows}
    choral_runs.write(options.out, "segments", report, markdown(report))


if __name__ == "__main__":
    main()
