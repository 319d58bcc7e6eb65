"""Figures of runs: basis, representations, losses and scores (needs matplotlib)."""

from rlsv_fast.report.basis import basis_figure, basis_image, carrier_figure, magnitude_response
from rlsv_fast.report.curves import loss_figure, read_curves
from rlsv_fast.report.representation import representation_figure
from rlsv_fast.report.scores import score_figure
from rlsv_fast.report.style import save
from rlsv_fast.report.write import Report, example_figure, write_report

__all__ = [
    "Report",
    "basis_figure",
    "basis_image",
    "carrier_figure",
    "example_figure",
    "loss_figure",
    "magnitude_response",
    "read_curves",
    "representation_figure",
    "save",
    "score_figure",
    "write_report",
]
