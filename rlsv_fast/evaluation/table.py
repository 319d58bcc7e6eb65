"""The evaluation as a table for people."""

from __future__ import annotations

from rlsv_fast.evaluation.result import Evaluation

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

CELL = "mean ± std (median)"
"""What a cell of the table holds."""


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
    header, rows = table_cells(evaluation)
    below = ["", *[CELL] * len(_COLUMNS)]
    widths = [max(map(len, column)) for column in zip(header, below, *rows, strict=True)]
    line = "  ".join("─" * width for width in widths)
    text = [_line(header, widths), _line(below, widths), line]
    text += [_line(row, widths) for row in rows]
    return "\n".join([*text, line, *table_notes(evaluation)])


def table_cells(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The same table cell by cell: header and rows, whose first cells say what they are of."""
    rows = [
        [_LABELS[method], *(_cell(evaluation, method, quantity, digits)
                            for quantity, _, digits in _COLUMNS)]
        for method in ("learned", evaluation.stft)
    ]  # fmt: skip
    rows.append([_BASELINE, "–", _cell(evaluation, "mixture", "si_sdr", 1), "–"])
    header = ["", *(title for _, title, _ in _COLUMNS)]
    if evaluation.settings.get("convention") == "code":
        header[-1] = "1 − additivity"
    return header, rows


def table_notes(evaluation: Evaluation) -> list[str]:
    """What stands below the table: how many segments, and what was left out."""
    notes = [_counts(evaluation)]
    excluded = sum(
        values.excluded for found in evaluation.summary.values() for values in found.values()
    )
    if excluded:
        notes.append(f"not finite and left out: {excluded} of the values")
    return notes + evaluation.notes


def _cell(evaluation: Evaluation, method: str, quantity: str, digits: int) -> str:
    values = evaluation.summary.get(method, {}).get(quantity)
    if values is None:  # a file may hold less than was written
        return "–"
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
