"""The page of a separator of ensembles: voices to hear, and their f0 over spectrograms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

import rlsv_fast
from rlsv_fast.errors import printable
from rlsv_fast.report.page import Button, decibels, grouped, inlined, resource, sparse, template
from rlsv_fast.report.pictures import picture
from rlsv_fast.report.sounds import data_script, flac, gain
from rlsv_fast.report.style import hertz, write_whole

Array: TypeAlias = npt.NDArray[np.floating[Any]]
VoiceVersion: TypeAlias = Literal["true", "separated", "synthesis"]

MOST_SOUNDS = 32
"""Channels of a buffer that every browser has; the player plays all sounds in one."""

_NAMES: dict[VoiceVersion, str] = {
    "true": "true",
    "separated": "separated",
    "synthesis": "synthesised",
}
_COLOURS = ("#38bdf8", "#4ade80", "#facc15", "#ffffff", "#2dd4bf", "#a3e635")
"""Of the tracks; none of them is one of the spectrograms'."""

_WINDOW, _HOP = 0.128, 0.016
_LOWEST, _HIGHEST = 60.0, 5000.0
_ROWS = 240
_FLOOR = 70.0
"""dB below the loudest cell of an example that are black."""

_TICKS = (100, 200, 400, 800, 1600, 3200)


@dataclass(frozen=True, eq=False)
class EnsembleExample:
    """An excerpt of a song with its voices.

    Attributes:
        name: of the song and its singers.
        sample_rate: in Hz.
        start: of the excerpt in the song, in seconds.
        mixture: shape (N,).
        voices: names, highest first.
        signals: by voice and version, each (N,).
        scores: SI-SDR in dB of separated voices; NaN where that of silence would be meant.
        f0: of each voice in Hz, 0 where unvoiced, shape (V, T), over the time of the excerpt.
    """

    name: str
    sample_rate: int
    start: float
    mixture: Array
    voices: Sequence[str]
    signals: Mapping[tuple[str, VoiceVersion], Array]
    scores: Mapping[str, float]
    f0: Array


@dataclass
class EnsemblePage:
    """A page in the making: everything it loads goes into its folder beside it.

    Attributes:
        out: folder.
        title: of the run.
        files: what has been written.
        examples: what the template shows of each example.
    """

    out: Path
    title: str
    files: list[Path] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add_example(self, example: EnsembleExample) -> None:
        """Write audio and pictures of an example.

        Raises:
            ValueError: it has more than 32 sounds.
        """
        if 1 + len(example.signals) > MOST_SOUNDS:
            raise ValueError(
                f"EnsemblePage: an example has at most {MOST_SOUNDS} sounds, got "
                f"{1 + len(example.signals)}"
            )
        number = len(self.examples) + 1
        key = f"examples/{number:02d}"
        duration = len(example.mixture) / example.sample_rate
        level = gain([example.mixture, *example.signals.values()])
        audio = {"mixture-input": flac(example.mixture * level, example.sample_rate)}
        for (voice, version), signal in example.signals.items():
            audio[f"{voice}-{version}"] = flac(signal * level, example.sample_rate)
        self._write(f"{key}.js", data_script(key, audio).encode())
        colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(example.voices))]
        lines = [_line(f0, example.sample_rate) for f0 in example.f0]
        tracks = list(zip(example.voices, colours, lines, strict=True))
        shown = [("mixture", example.mixture, tracks)]
        for track in tracks:
            voice = track[0]
            shown.append((voice, example.signals[voice, "separated"], [track]))
        spectra = [_spectrogram(signal, example.sample_rate) for _, signal, _ in shown]
        largest = max(float(spectrum.max(initial=0.0)) for spectrum in spectra) or 1.0
        pictures: list[dict[str, Any]] = []
        for (source, _, drawn), spectrum in zip(shown, spectra, strict=True):
            decades = np.log10(np.maximum(spectrum / largest, 1e-10))
            content, size = picture(1 + 20 * decades / _FLOOR)
            path = f"{key}-{len(pictures)}.png"
            self._write(path, content)
            pictures.append({"source": source, "path": path, "size": size, "tracks": drawn})
        self.examples.append(
            {
                "number": number,
                "key": key,
                "name": printable(example.name),
                "start": example.start,
                "duration": duration,
                "drawn": duration,
                "pictures": pictures,
                "ticks": _ticks(example.sample_rate),
                "rows": [
                    ("mixture", [Button("input", "input", "", True)]),
                    *((voice, _buttons(example, voice)) for voice in example.voices),
                ],
            }
        )

    def write(
        self,
        *,
        facts: Mapping[str, str],
        losses: Mapping[str, Any],
        table: tuple[Sequence[str], Sequence[Sequence[str]]] | None,
        table_note: str,
        own: int | None,
        settings: Mapping[str, object],
        notes: Sequence[str],
        step: int | None,
    ) -> Path:
        """Write the page itself, last.

        Args:
            facts: for the head, by what they say.
            losses: figures by title.
            table: titles of the columns and rows of the evaluation.
            table_note: what stands above it.
            own: number of the row that stands out.
            settings: by dotted names.
            notes: on what is missing.
            step: of the training.

        Returns:
            Its path.
        """
        text = template("ensemble.html.j2").render(
            page=self,
            script=resource("page.js"),
            style=resource("page.css"),
            version=rlsv_fast.__version__,
            facts=facts,
            losses=inlined(losses, "during training"),
            table=table,
            table_note=table_note,
            own=own,
            settings=grouped(settings),
            notes=[printable(note) for note in notes],
            step=step,
        )
        self._write("index.html", text.encode("utf-8", errors="backslashreplace"))
        return self.files[-1]

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self.out / name, content)
        self.files.append(self.out / name)


def _buttons(example: EnsembleExample, voice: str) -> list[Button]:
    """What there is of a voice."""
    notes = {"true": "", "synthesis": "not masked"}
    notes["separated"] = decibels(example.scores.get(voice, math.nan)) or "masked"
    return [
        Button(version, name, notes[version], False)
        for version, name in _NAMES.items()
        if (voice, version) in example.signals
    ]


def _highest(sample_rate: int) -> float:
    return min(_HIGHEST, sample_rate / 2)


def _place(frequency: Array | float, sample_rate: int) -> Any:
    """From 0 at the lowest frequency of a picture to 1 at its highest, by octaves."""
    return np.log(np.asarray(frequency) / _LOWEST) / math.log(_highest(sample_rate) / _LOWEST)


def _ticks(sample_rate: int) -> list[tuple[float, str]]:
    places = [(float(_place(tick, sample_rate)), hertz(tick)) for tick in _TICKS]
    return sparse([tick for tick in places if tick[0] < 1])


def _spectrogram(signal: Array, sample_rate: int) -> Array:
    """Magnitudes over octaves, shape (rows, frames), of whole hops of the signal."""
    size, hop = (max(round(seconds * sample_rate), 2) for seconds in (_WINDOW, _HOP))
    samples = torch.from_numpy(np.array(signal, np.float32))
    samples = torch.nn.functional.pad(samples, (size // 2, size - size // 2))
    window = torch.hann_window(size)
    cells = torch.stft(samples, size, hop, window=window, center=False, return_complex=True).abs()
    magnitudes = cells.numpy()[:, : -(-len(signal) // hop)]
    shares = (np.arange(_ROWS) + 0.5) / _ROWS
    bins = _LOWEST * (_highest(sample_rate) / _LOWEST) ** shares * size / sample_rate
    low = np.minimum(bins.astype(int), len(magnitudes) - 2)
    rest = (bins - low)[:, None]
    return np.asarray((1 - rest) * magnitudes[low] + rest * magnitudes[low + 1])


def _line(f0: Array, sample_rate: int) -> str:
    """A track as the path of a drawing of 1000 by 1000, with gaps where it is unvoiced."""
    parts: list[str] = []
    joined = False
    for frame, pitch in enumerate(f0):
        place = float(_place(pitch, sample_rate)) if pitch > 0 else -1.0
        if not 0 <= place <= 1:
            joined = False
            continue
        x, y = 1000 * (frame + 0.5) / len(f0), 1000 * (1 - place)
        # a frame alone is a short stroke
        parts.append(f"{'L' if joined else 'M'}{x:.1f} {y:.1f}" + ("" if joined else "h.1"))
        joined = True
    return "".join(parts)
