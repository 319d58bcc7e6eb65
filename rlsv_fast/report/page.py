"""The page: templates filled with what is known of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import rlsv_fast
from rlsv_fast.errors import printable, require
from rlsv_fast.evaluation import CELL, Evaluation, table_cells, table_notes
from rlsv_fast.report.components import Components
from rlsv_fast.report.curves import loss_panels
from rlsv_fast.report.examples import SOURCES, VERSIONS, Example, Source, Version
from rlsv_fast.report.pictures import palette, picture
from rlsv_fast.report.responses import POINTS, all_responses, as_bytes, mel_ticks
from rlsv_fast.report.scores import score_panels
from rlsv_fast.report.sounds import data_script, flac, gain
from rlsv_fast.report.style import hertz, inline_svg, write_whole

Array: TypeAlias = npt.NDArray[np.floating[Any]]

_CARRIER_TICKS = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)
_BETWEEN = 0.09
"""Of an axis, between two of its labels."""

_NAMES: dict[Version, str] = {
    "input": "input",
    "decoded": "decoded",
    "learned": "mask",
    "stft": "STFT mask",
}
_LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass
class Page:
    """A page in the making: everything it loads goes into its folder beside it.

    Attributes:
        out: folder.
        components: of the model.
        sample_rate: in Hz.
        hop: S, in samples.
        title: of the run.
        files: what has been written.
        examples: what the template shows of each example.
    """

    out: Path
    components: Components
    sample_rate: int
    hop: int
    title: str
    files: list[Path] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add_example(self, example: Example) -> None:
        """Write audio and pictures of an example."""
        number = len(self.examples) + 1
        key = f"examples/{number:02d}"
        level = gain(example.signals.values())
        audio = {
            f"{source}-{version}": flac(signal * level, example.sample_rate)
            for (source, version), signal in example.signals.items()
        }
        self._write(f"{key}.js", data_script(key, audio).encode())
        # A few coefficients tower above the rest; the scale ends below them and says so.
        largest = float(np.quantile(np.stack(list(example.representations.values())), 0.998))
        pictures = []
        for source in SOURCES:
            values = np.sqrt(np.maximum(example.representations[source], 0) / (largest or 1.0))
            content, size = picture(values[self.components.order])
            self._write(f"{key}-{source}.png", content)
            pictures.append({"source": source, "path": f"{key}-{source}.png", "size": size})
        duration = len(example.signals["mixture", "input"]) / example.sample_rate
        frames = example.representations["mixture"].shape[1]
        self.examples.append(
            {
                "number": number,
                "key": key,
                "name": printable(example.name),
                "start": example.start,
                "duration": duration,
                # the last frame reaches beyond the last sample
                "drawn": frames * self.hop / example.sample_rate,
                "pictures": pictures,
                "gain": level,
                "rows": [(source, _buttons(example, source)) for source in SOURCES],
            }
        )

    def write(
        self,
        *,
        curves: Mapping[str, tuple[Array, Array]],
        evaluation: Evaluation | None,
        settings: Mapping[str, object],
        figures: Sequence[Path],
        notes: Sequence[str],
        step: int | None,
    ) -> None:
        """Write the page itself, last."""
        text = template("page.html.j2").render(
            page=self,
            script=resource("page.js"),
            style=resource("page.css"),
            version=rlsv_fast.__version__,
            versions=VERSIONS,
            colours=[f"rgb({r} {g} {b})" for r, g, b in palette()[::7]],
            levels=[(math.sqrt(level), level) for level in _LEVELS],
            carrier_ticks=self._carrier_ticks(),
            basis=self._basis(),
            losses=inlined(loss_panels(curves), "loss during training") if curves else {},
            scores=inlined(score_panels(evaluation), "over the segments") if evaluation else {},
            table=table_cells(evaluation) if evaluation else None,
            table_notes=[printable(note) for note in table_notes(evaluation)] if evaluation else [],
            cell=CELL,
            settings=grouped(settings),
            figures=[path.relative_to(self.out).as_posix() for path in figures],
            notes=[printable(note) for note in notes],
            step=step,
        )
        self.files.extend(figures)
        self._write("index.html", text.encode("utf-8", errors="backslashreplace"))

    def _basis(self) -> dict[str, Any]:
        """Write what the browser of components loads; what the template needs of it."""
        responses = all_responses(self.components, self.sample_rate)
        # one picture of all: components from left to right, frequency upwards
        whole = 1 - responses["result"].T / responses["result"].min(initial=-1.0)
        content, size = picture(whole)
        self._write("basis.png", content)
        levels = {name: as_bytes(response).tobytes() for name, response in responses.items()}
        frequencies = [float(f"{f:.6g}") for f in self.components.frequencies]
        data = {"points": POINTS, "frequencies": frequencies, "responses": levels}
        self._write("basis.js", data_script("basis", data).encode())
        ticks = [(place, hertz(tick)) for place, tick in mel_ticks(self.sample_rate)]
        return {"size": size, "curves": list(responses), "ticks": sparse(ticks)}

    def _carrier_ticks(self) -> list[tuple[float, str]]:
        """Places on the axis of components where the frequency passes a round number."""
        frequencies = np.abs(self.components.frequencies)
        ticks = [
            (float(np.searchsorted(frequencies, tick)) / len(frequencies), hertz(tick))
            for tick in _CARRIER_TICKS
            if frequencies[0] <= tick <= frequencies[-1]
        ]
        return sparse(ticks)

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self.out / name, content)
        self.files.append(self.out / name)


class Button(NamedTuple):
    """One of the sounds that a player has."""

    version: str
    """what the style and, behind the source, the files call it"""
    name: str
    score: str
    first: bool
    """whether it is heard until another is chosen"""


def decibels(score: float) -> str:
    """A score to be read; nothing where there is none."""
    return "" if math.isnan(score) else f"{score:.1f} dB".replace("-", "−")


def _buttons(example: Example, source: Source) -> list[Button]:
    """Versions of a source with the SI-SDR of each."""
    return [
        Button(
            version,
            _NAMES[version],
            decibels(example.scores.get((source, version), math.nan)),
            (source, version) == ("mixture", "input"),
        )
        for version in VERSIONS
        if (source, version) in example.signals
    ]


def sparse(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks without those whose labels would touch their neighbour's."""
    kept: list[tuple[float, str]] = []
    for place, label in ticks:
        if not kept or place - kept[-1][0] >= _BETWEEN:
            kept.append((place, label))
    return kept


def inlined(panels: Mapping[str, Any], what: str) -> dict[str, str]:
    """Figures by title as SVG elements; ``what`` follows the title in their labels."""
    return {title: inline_svg(figure, f"{title}, {what}") for title, figure in panels.items()}


def grouped(settings: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Dotted settings by their group."""
    groups: dict[str, dict[str, str]] = {}
    for key, value in settings.items():
        group, _, name = key.rpartition(".")
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        groups.setdefault(group or "run", {})[name] = printable(shown)
    return groups


def resource(name: str) -> str:
    """The text of a template, the style or the script."""
    return files("rlsv_fast.report").joinpath("templates", name).read_text(encoding="utf-8")


def template(name: str) -> Any:
    """A template with the filters that all of them use."""
    jinja2 = require("jinja2", extra="report", purpose="write the page")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment.get_template(name)


_number: Callable[[float], str] = "{:,.4g}".format
