"""The evaluation as a table for people."""

from __future__ import annotations

from rlsv_fast.evaluation.result import Evaluation, Statistics

_COLUMNS = (
    ("reconstruction_si_sdr", "reconstruction SI-SDR (dB)", 1),
    ("mask_si_sdr", "oracle-mask SI-SDR (dB)", 1),
    ("additivity", "additivity", 2),
)
_LABELS = {
    "learned": "learned representation",
    "stft_hamming": "STFT (Hamming)",
    "stft_hann": "STFT (Hann)",
}
_BASELINE = "unprocessed mixture"


def format_table(evaluation: Evaluation) -> str:
    """Learned representation and STFT: mean ± deviation and median of each quantity.

    The STFT is the papers' with a Hamming window, or the published code's with a Hann window where
    the evaluation follows that convention.

    The unprocessed mixture stands in the column of the oracle mask, as it is what the mask has to
    improve on.

    Args:
        evaluation: the result.

    Returns:
        Lines of plain text, no newline at the end.
    """
    rows = [
        [_LABELS[method], *(_cell(evaluation.summary[method][quantity], digits)
                  for quantity, _, digits in _COLUMNS)]
        for method in ("learned", evaluation.stft)
    ]  # fmt: skip
    rows.append([_BASELINE, "–", _cell(evaluation.summary["mixture"]["si_sdr"], 1), "–"])
    header = ["", *(title for _, title, _ in _COLUMNS)]
    if evaluation.settings.get("convention") == "code":
        header[-1] = "1 − additivity"
    below = ["", *["mean ± std (median)"] * len(_COLUMNS)]
    widths = [max(map(len, column)) for column in zip(header, below, *rows, strict=True)]
    line = "  ".join("─" * width for width in widths)
    text = [_line(header, widths), _line(below, widths), line]
    text += [_line(row, widths) for row in rows]
    text += [line, _counts(evaluation)]
    excluded = sum(
        values.excluded for found in evaluation.summary.values() for values in found.values()
    )
    if excluded:
        text.append(f"not finite and left out: {excluded} of the values")
    return "\n".join(text + evaluation.notes)


def _cell(values: Statistics, digits: int) -> str:
    if not values.count:
        return "none finite"
    return f"{values.mean:.{digits}f} ± {values.std:.{digits}f} ({values.median:.{digits}f})"


def _line(cells: list[str], widths: list[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    parts = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "  ".join(parts).rstrip()


def _counts(evaluation: Evaluation) -> str:
    tracks = len({segment.track for segment in evaluation.segments})
    return (
        f"{len(evaluation.segments)} segments with singing from {tracks} "
        f"track{'s' * (tracks != 1)}; {evaluation.silent_segments} silent ones left out"
    )
