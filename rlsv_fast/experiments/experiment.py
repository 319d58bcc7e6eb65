"""An experiment as data: its cells, what was published of them, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rlsv_fast.training.config import Value

Statistic: TypeAlias = Literal["mean", "median"]
Label: TypeAlias = str | float

RECONSTRUCTION = "reconstruction_si_sdr"
MASK = "mask_si_sdr"
ADDITIVITY = "additivity"


@dataclass(frozen=True)
class Published:
    """A printed number: the experiment's statistic, and the standard deviation where there is one.

    SI-SDRs in dB.
    """

    value: float
    std: float | None = None


@dataclass(frozen=True)
class Cell:
    """One row of a table: the settings of its runs, and what the paper prints for it.

    Attributes:
        labels: one per column of the experiment.
        settings: by dotted key, on top of the scale's; the seeds come with the scale.
        published: quantity → number.
        parameters: number of parameters that the paper prints.
    """

    labels: tuple[Label, ...]
    settings: Mapping[str, Value]
    published: Mapping[str, Published] = field(default_factory=dict)
    parameters: str = ""


@dataclass(frozen=True)
class Plot:
    """Error plots of an experiment's quantities against one of its columns.

    Attributes:
        x: column on the horizontal axis, whose labels are numbers.
        series: columns whose values tell the lines apart.
        log: a logarithmic axis.
    """

    x: str
    series: tuple[str, ...] = ()
    log: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture of the representations of mixture, voice and accompaniment of one cell's model."""

    name: str
    cell: Cell


@dataclass(frozen=True)
class Experiment:
    """A table, its cells and its figures.

    Attributes:
        name: on the command line.
        title: above the table.
        columns: heads of the cells' labels.
        cells: rows.
        statistic: over segments, which the paper prints.
        quantities: columns with results.
        seeds: one run per cell and seed.
        stft: what the paper prints for the STFT, quantity → number; None leaves its row out.
        notes: sentences below the table.
        plot: error plots, if the experiment is (also) a figure.
        pictures: representations to be shown.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    statistic: Statistic
    quantities: tuple[str, ...]
    seeds: tuple[int, ...]
    stft: Mapping[str, Published] | None = None
    notes: tuple[str, ...] = ()
    plot: Plot | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def published(self) -> set[str]:
        """Quantities of which the paper prints anything."""
        printed = {quantity for cell in self.cells for quantity in cell.published}
        return printed.union(self.stft or ())
