"""Separate real four-part singing with the untrained comb, and score it as published.

Usage: python benchmarks/choral_separation.py DATA --out DIR [--estimated F0.csv ...]

DATA holds audio_16kHz (one wav for each singer and part of a song of the Choral Singing Dataset)
and the supplied tracks, `*_4sources.npz`. A mixture is the sum of one singer for each part. The
protocol is that of `umss.evaluate_separator`, and the excerpts are separated one by one.
--estimated names tracks of the same mixtures, by `rlsv-fast umss f0`, one file for each singer
number, in order. Levels are those of `umss.separate_comb`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import machine
import numpy as np
import torch
from gpu_tables import table

from rlsv_fast import umss

PARTS = ("S", "A", "T", "B")
SINGERS = (1, 2, 3)
COMPUTE = ("SI-SDR_mask", "sp_SNR_mask", "mel_cep_dist_mask")


def unseparated(mixture: torch.Tensor, f0: torch.Tensor) -> torch.Tensor:
    """The mixture for every voice."""
    return mixture[:, None].expand(-1, f0.shape[1], -1)


def entry(
    song: umss.Song,
    singer: int,
    tracks: str,
    f0: Literal["mixture"] | dict[str, umss.F0Tracks],
    levels: Literal["", "constant", "fitted"],
) -> dict[str, Any]:
    """One row of the table; without levels that of the mixture itself."""
    result = umss.evaluate_separator(
        umss.comb_separator(levels) if levels else unseparated,
        [song],
        compute=COMPUTE,
        f0=f0,
        singers=singer,
        batch_size=1,
    )
    si_sdr = result.statistics("SI-SDR_mask")
    return {
        "tracks": tracks,
        "levels": levels,
        "singers": singer,
        "seconds": si_sdr.count,
        "si_sdr": {"mean": si_sdr.mean, "median": si_sdr.median, "std": si_sdr.std},
        "by_part": {
            part: result.statistics("SI-SDR_mask", voices=part.lower()).mean for part in PARTS
        },
        "spectral_snr": result.statistics("sp_SNR_mask").mean,
        "mel_cepstral_distance": result.statistics("mel_cep_dist_mask").mean,
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
    (song,) = umss.find_songs(options.data)
    rows = []
    for singer in SINGERS:
        rows.append(entry(song, singer, "none: the mixture", "mixture", ""))
        for levels in ("constant", "fitted"):
            rows.append(entry(song, singer, "supplied", "mixture", levels))
        if singer <= len(options.estimated):
            found = {song.name: umss.read_csv(options.estimated[singer - 1])}
            for levels in ("constant", "fitted"):
                rows.append(entry(song, singer, "estimated", found, levels))
        print(markdown({"rows": rows, "machine": machine.facts()}), flush=True)
    rows += overall(rows)
    report = {"machine": machine.facts(), "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "separation.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "separation.md").write_text(markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
