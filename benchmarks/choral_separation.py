"""Separate real four-part singing with the untrained comb, and score it as published.

Usage: python benchmarks/choral_separation.py DATA --out DIR [--estimated F0.csv ...]

DATA holds audio_16kHz (one wav for each singer and part of a song of the Choral Singing Dataset)
and the supplied tracks, `*_4sources.npz`. A mixture is the sum of one singer for each part. As in
the published evaluation, excerpts of 4 s are taken from the second one on, scaled to a peak of 1
with their sources, and separated one by one; seconds in which a source's energy is below 10 do not
count. --estimated names tracks of the same mixtures, by `rlsv-fast umss f0`, one file for each
singer number, in order. Levels are those of `umss.separate_comb`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import numpy as np
import numpy.typing as npt
import soundfile
import torch
from gpu_tables import table

from rlsv_fast.umss import (
    mel_cepstral_distance_frames,
    read_csv,
    separate_comb,
    si_sdr_frames,
    spectral_snr_frames,
)

PARTS = {"S": "nino_Soprano_{}05", "A": "nino_ContraAlt_{}07", "T": "nino_tenor{}-06-2"}
PARTS["B"] = "nino_Bajos_{}04"
SUPPLIED = "nino_dios_Sno_{0}05_Alt_{0}07_t{0}-06-2_Bos_{0}04"
SINGERS = (1, 2, 3)
RATE, EXCERPT, HOP_SECONDS = 16000, 64000, 0.016

MEASURES = {
    "si_sdr": si_sdr_frames,
    "spectral_snr": spectral_snr_frames,
    "mel_cepstral_distance": mel_cepstral_distance_frames,
}

Tracks = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def voices(data: Path, singer: int) -> torch.Tensor:
    """One singer of each part, shape (4, N)."""
    names = [pattern.format(singer) for pattern in PARTS.values()]
    signals = [
        soundfile.read(data / "audio_16kHz" / f"{name}.wav", dtype="float32")[0] for name in names
    ]
    length = min(map(len, signals))
    return torch.from_numpy(np.stack([signal[:length] for signal in signals]))


def supplied(data: Path, singer: int) -> Tracks:
    """The published tracks of a mixture: frame i is used at the centre of its hop."""
    (path,) = data.glob("*_4sources.npz")
    with np.load(path) as tracks:
        f0 = np.asarray(tracks[SUPPLIED.format(singer)], np.float64).T
    return HOP_SECONDS * (np.arange(f0.shape[1]) + 0.5), f0


Scores = dict[str, npt.NDArray[np.float64]]
"""Of each measure, shape (4, seconds); NaN where the part is silent."""


def excerpts(sources: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Where each begins, in samples, and its sources."""
    for start in range(EXCERPT, sources.shape[1] - EXCERPT + 1, EXCERPT):
        excerpt = sources[:, start : start + EXCERPT]
        yield start, excerpt / excerpt.sum(0).abs().max()


def score(sources: torch.Tensor, tracks: Tracks | None, levels: str = "fitted") -> Scores:
    """Scores of every excerpt of one mixture; without tracks, those of the mixture itself."""
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in MEASURES}
    for start, targets in excerpts(sources):
        estimates = mixture = targets.sum(0, keepdim=True)
        if tracks is not None:
            times, f0 = tracks
            parts = separate_comb(mixture, RATE, times - start / RATE, f0, levels=levels)
            estimates = torch.cat(list(parts), 2)[:, 0]
        for name, measure in MEASURES.items():
            rows[name].append(measure(estimates.expand_as(targets), targets, RATE))
    return {name: torch.cat(values, 1).numpy() for name, values in rows.items()}


def entry(tracks: str, levels: str, singer: int, scores: Scores) -> dict[str, Any]:
    """One row of the table."""
    si_sdr = scores["si_sdr"]
    return {
        "tracks": tracks,
        "levels": levels,
        "singers": singer,
        "seconds": int(np.isfinite(si_sdr).sum()),
        "si_sdr": {
            "mean": float(np.nanmean(si_sdr)),
            "median": float(np.nanmedian(si_sdr)),
            "std": float(np.nanstd(si_sdr)),
        },
        "by_part": dict(zip(PARTS, np.nanmean(si_sdr, 1).tolist(), strict=True)),
        **{name: float(np.nanmean(scores[name])) for name in MEASURES if name != "si_sdr"},
    }


def overall(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the singers of the rows that are alike."""
    kinds = sorted({(row["tracks"], row["levels"]) for row in rows})
    found = []
    for kind in kinds:
        alike = [row for row in rows if (row["tracks"], row["levels"]) == kind]

        def mean(take: Callable[[dict[str, Any]], float], alike: Any = alike) -> float:
            return float(np.mean([take(row) for row in alike]))

        names = ("spectral_snr", "mel_cepstral_distance")
        found.append(
            {
                "tracks": kind[0],
                "levels": kind[1],
                "singers": "mean",
                "seconds": sum(row["seconds"] for row in alike),
                "si_sdr": {
                    name: mean(lambda row, name=name: row["si_sdr"][name])
                    for name in ("mean", "median", "std")
                },
                "by_part": {
                    part: mean(lambda row, part=part: row["by_part"][part]) for part in PARTS
                },
                **{name: mean(lambda row, name=name: row[name]) for name in names},
            }
        )
    return found


def markdown(report: dict[str, Any]) -> str:
    """The table."""
    head = [
        "tracks",
        "levels",
        "singers",
        "seconds",
        "mean",
        "median",
        "std",
        *PARTS,
        "spectral SNR",
        "MCD",
    ]
    lines = [
        [
            row["tracks"],
            row["levels"],
            str(row["singers"]),
            str(row["seconds"]),
            *(f"{row['si_sdr'][name]:.2f}" for name in ("mean", "median", "std")),
            *(f"{row['by_part'][part]:.2f}" for part in PARTS),
            f"{row['spectral_snr']:.2f}",
            f"{row['mel_cepstral_distance']:.2f}",
        ]
        for row in report["rows"]
    ]
    facts = report["machine"]
    intro = (
        "# Separation of a choir by the untrained comb\nSI-SDR in dB over seconds of one voice; "
        f"made by `python benchmarks/choral_separation.py` at commit {facts['commit']}.\n\n"
    )
    return intro + "\n".join(table(head, lines)).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--estimated", type=Path, nargs="*", default=[], metavar="F0.csv")
    options = parser.parse_args()
    rows = []
    for singer in SINGERS:
        sources = voices(options.data, singer)
        rows.append(entry("none: the mixture", "", singer, score(sources, None)))
        kinds = {"supplied": supplied(options.data, singer)}
        if singer <= len(options.estimated):
            found = read_csv(options.estimated[singer - 1])
            kinds["estimated"] = found.time, found.frequency.T
        for kind, tracks in kinds.items():
            for levels in ("constant", "fitted"):
                rows.append(entry(kind, levels, singer, score(sources, tracks, levels)))
        print(markdown({"rows": rows, "machine": machine.facts()}), flush=True)
    rows += overall(rows)
    report = {"machine": machine.facts(), "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "separation.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "separation.md").write_text(markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
