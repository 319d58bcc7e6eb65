"""What filters that begin with a state change in the separation of a real choir by a trained run.

Usage: python benchmarks/choral_filter_state.py DATA RUN --out DIR [--singer N]

DATA holds a song of the Choral Singing Dataset with the tracks of its mixtures, RUN was trained on
other singers of it (benchmarks/results/ensembles).

`ops.all_pole` filters every frame from rest, as published, and fades it in. Here a frame's filter
also begins some hops earlier, on what the signal has there: at the beginning of the frame it is
then in the state of one that has always been at work. SI-SDR is that of the published evaluation;
the change of the synthesis is an energy, over that of the voices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import choral_runs
import torch
from gpu_tables import table
from torch import Tensor
from torch.nn import functional

from rlsv_fast import ops, reference, umss
from rlsv_fast.reference.all_pole import fading

HOPS = (0, 1, 8)
"""Before a frame; a tenth of a second is longer than a formant rings."""


def warmed(hops: int) -> Callable[..., Tensor]:
    """In the place of ``ops.all_pole``, in double."""

    def all_pole(signal: Tensor, coefficients: Tensor, *, frame: int, hop: int) -> Tensor:
        before, count = hops * hop, coefficients.shape[1]
        padded = functional.pad(signal.double(), (before, frame - hop))
        cut = padded.unfold(1, before + frame, hop)[:, :count]
        filters = coefficients.double()
        past, filtered = torch.zeros_like(filters), []
        for sample in cut.unbind(-1):
            output = sample - (filters * past).sum(-1)
            past = torch.cat([output[..., None], past[..., :-1]], -1)
            filtered.append(output)
        faded = torch.stack(filtered[before:], -1) * fading(count, frame, filters)
        return reference.overlap_add(faded, hop, length=count * hop).to(signal.dtype)

    return all_pole


def in_force(hops: int | None) -> Any:
    """Filters as they are in the library, or begun some hops earlier."""
    return patch.object(ops, "all_pole", ops.all_pole if hops is None else warmed(hops))


def measure(model: umss.EnsembleModel, song: umss.Song, singer: int) -> list[dict[str, Any]]:
    """A row for each way."""
    separator, rows = model.separator, []
    if not isinstance(separator, umss.SourceFilterSeparator):
        raise SystemExit("RUN synthesises no voices")
    made: dict[int | None, list[Tensor]] = {}
    for hops in (None, *HOPS):
        voices = made[hops] = []

        def separate(mixture: Tensor, f0: Tensor, voices: list[Tensor] = voices) -> Tensor:
            with torch.random.fork_rng([]):  # the noise that the masks are made with
                voices.append(separator(mixture, f0).sources)
            return model.separate(mixture, f0)

        with in_force(hops):
            result = umss.evaluate_separator(separate, [song], f0="mixture", singers=singer)
        statistics = result.statistics("SI-SDR_mask")
        change = [
            ((one - other).square().sum() / other.square().sum()).item()
            for one, other in zip(voices, made[None], strict=True)
        ]
        rows.append(
            {
                "begins": "as in the library" if hops is None else f"{hops} hops before",
                "mean": statistics.mean,
                "median": statistics.median,
                "change": sum(change) / len(change),
            }
        )
    return rows


def markdown(report: dict[str, Any]) -> str:
    lines = [
        [row["begins"], f"{row['mean']:.3f}", f"{row['median']:.3f}", f"{row['change']:.2g}"]
        for row in report["rows"]
    ]
    intro = (
        f"# The state of filters\n{report['song']}, singers {report['singer']}, SI-SDR of the "
        f"masks in dB, `{report['levels']}` levels; made by "
        "`python benchmarks/choral_filter_state.py` at commit "
        f"{report['machine']['commit']}.\n\n"
    )
    head = ["a frame's filter begins", "mean", "median", "change of the synthesis"]
    return intro + "\n".join(table(head, lines)).rstrip() + "\n"


def main() -> None:
    options = choral_runs.arguments(__doc__.splitlines()[0])
    (song,) = umss.find_songs(options.data)
    config, model = umss.load_separator(options.run)
    report = choral_runs.facts(song, options.singer)
    report["levels"] = config.model.levels
    report["rows"] = measure(model, song, options.singer)
    choral_runs.write(options.out, "filter_state", report, markdown(report))


if __name__ == "__main__":
    main()
