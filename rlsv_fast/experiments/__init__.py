"""The papers' experiments: which runs, which tables. Training and evaluation know nothing of it."""

from rlsv_fast.experiments.catalogue import NAMES, build
from rlsv_fast.experiments.experiment import Cell, Experiment, Picture, Plot, Published
from rlsv_fast.experiments.figures import draw
from rlsv_fast.experiments.jobs import run_jobs
from rlsv_fast.experiments.results import Table, tabulate
from rlsv_fast.experiments.runs import Bench, Run, distinct_runs, finished, make_all, sign_change
from rlsv_fast.experiments.scale import SCALES, Scale
from rlsv_fast.experiments.write import markdown, write_table

__all__ = [
    "NAMES",
    "SCALES",
    "Bench",
    "Cell",
    "Experiment",
    "Picture",
    "Plot",
    "Published",
    "Run",
    "Scale",
    "Table",
    "build",
    "distinct_runs",
    "draw",
    "finished",
    "make_all",
    "markdown",
    "run_jobs",
    "sign_change",
    "tabulate",
    "write_table",
]
