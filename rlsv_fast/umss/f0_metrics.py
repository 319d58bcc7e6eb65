"""How well voices are tracked: melody and multi-pitch measures of mir_eval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rlsv_fast.errors import require
from rlsv_fast.nn import Convention
from rlsv_fast.ops._check import choice
from rlsv_fast.umss.tracks import F0Tracks

Array = npt.NDArray[Any]

_SECOND = 62  # frames that the published evaluation takes for a second, on its grid of 16 ms
_RANGE = (20.0, 5000.0)


def melody_scores(
    reference: F0Tracks, estimate: F0Tracks, *, convention: Convention = "paper"
) -> dict[str, dict[str, float]]:
    """Melody measures of every voice, within 50 cents.

    The tracks may lie on different grids of time; the estimate is brought to the reference's.

    Args:
        reference: true tracks, 0 where unvoiced.
        estimate: tracks of the same voices, in the same order. A negative frequency is a pitch
            where the voice is said to be silent: it counts for pitch and not for voicing.
        convention: ``"code"`` for the published evaluation, on one grid of 16 ms: it raises
            estimates to 1e-5 Hz, so that every frame counts as voiced, and means to average over
            seconds, but its windows grow (frames n to 62 (n + 1) for second n).

    Returns:
        For each voice ``raw_pitch``, ``raw_chroma``, ``overall``, ``voicing_recall`` and
        ``voicing_false_alarm``; NaN where the reference never sounds.

    Raises:
        ValueError: another number of voices, or for ``"code"`` of frames.
        MissingPackage: mir_eval is not installed.
    """
    melody = _mir_eval().melody
    scores = {}
    for column, voice in enumerate(reference.voices):
        rows = [
            _melody(melody, true_time, true[:, column], time, found[:, column])
            for true_time, true, time, found in _windows(
                "melody_scores", reference, estimate, convention
            )
        ]
        scores[voice] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return scores


def multipitch_scores(
    reference: F0Tracks, estimate: F0Tracks, *, convention: Convention = "paper"
) -> dict[str, float]:
    """Multi-pitch measures of all voices together, within half a semitone; nobody's order matters.

    Args:
        reference: true tracks.
        estimate: any number of voices; frequencies that are not positive are silence.
        convention: ``"code"``: windows as in :func:`melody_scores`, and 20 Hz are added to both,
            so that silence becomes a pitch of 20 Hz.

    Returns:
        ``precision``, ``recall``, ``f_measure`` and ``accuracy``.

    Raises:
        ValueError: for ``"code"``, another number of frames.
        MissingPackage: mir_eval is not installed.
    """
    multipitch = _mir_eval().multipitch
    added = 20.0 if convention == "code" else 0.0
    rows = []
    for true_time, true, time, found in _windows(
        "multipitch_scores", reference, estimate, convention, same_voices=False
    ):
        precision, recall, accuracy, *_ = multipitch.metrics(
            true_time, _sounding(true + added), time, _sounding(found + added)
        )
        total = precision + recall
        f_measure = 2 * precision * recall / total if total else 0.0
        rows.append((precision, recall, f_measure, accuracy))
    names = ("precision", "recall", "f_measure", "accuracy")
    return dict(zip(names, map(float, np.mean(rows, axis=0)), strict=True))


def _melody(
    melody: Any, true_time: Array, true: Array, time: Array, found: Array
) -> dict[str, float]:
    if not (true > 0).any():
        names = ("raw_pitch", "raw_chroma", "overall", "voicing_recall", "voicing_false_alarm")
        return dict.fromkeys(names, float("nan"))
    arguments = melody.to_cent_voicing(true_time, true, time, found)
    recall, false_alarm = melody.voicing_measures(arguments[0], arguments[2])
    return {
        "raw_pitch": float(melody.raw_pitch_accuracy(*arguments)),
        "raw_chroma": float(melody.raw_chroma_accuracy(*arguments)),
        "overall": float(melody.overall_accuracy(*arguments)),
        "voicing_recall": float(recall),
        "voicing_false_alarm": float(false_alarm),
    }


def _windows(
    name: str,
    reference: F0Tracks,
    estimate: F0Tracks,
    convention: Convention,
    *,
    same_voices: bool = True,
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Times and frequencies of both, over the whole, or over the published windows."""
    choice(name, "convention", convention, ("paper", "code"))
    if same_voices and len(reference.voices) != len(estimate.voices):
        raise ValueError(
            f"{name}: estimate must have the {len(reference.voices)} voices of reference, got "
            f"{len(estimate.voices)}"
        )
    if not len(reference.time) or not len(estimate.time):
        raise ValueError(f"{name}: reference and estimate must have frames")
    if convention == "paper":
        yield reference.time, reference.frequency, estimate.time, estimate.frequency
        return
    if len(reference.time) != len(estimate.time):
        raise ValueError(
            f"{name}: estimate must have the {len(reference.time)} frames of reference under "
            f"convention='code', got {len(estimate.time)}"
        )
    found = np.maximum(estimate.frequency, 1e-5)
    for second in range(max(len(reference.time) // _SECOND, 1)):
        window = slice(second, (second + 1) * _SECOND)
        time = reference.time[window] - reference.time[second]
        yield time, reference.frequency[window], time, found[window]


def _sounding(frequency: Array) -> list[Array]:
    """Pitches of each frame, those that mir_eval accepts."""
    low, high = _RANGE
    return [frame[(frame >= low) & (frame <= high)] for frame in frequency]


def _mir_eval() -> Any:
    return require("mir_eval", extra="umss-evaluation", purpose="measure f0 tracks")
