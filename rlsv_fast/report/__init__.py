"""Reports of runs: a page to listen to and look at, and figures (needs matplotlib and jinja2)."""

from rlsv_fast.report.basis import basis_figure, basis_image, carrier_figure, magnitude_response
from rlsv_fast.report.components import sorted_components
from rlsv_fast.report.curves import loss_figure, read_curves
from rlsv_fast.report.examples import Example, make_example
from rlsv_fast.report.figures import example_figure
from rlsv_fast.report.representation import representation_figure
from rlsv_fast.report.scores import score_figure
from rlsv_fast.report.style import save
from rlsv_fast.report.tensorboard import TensorBoard, check_tensorboard
from rlsv_fast.report.tracks import tracks_figure
from rlsv_fast.report.write import Report, write_report

__all__ = [
    "Example",
    "Report",
    "TensorBoard",
    "basis_figure",
    "basis_image",
    "carrier_figure",
    "check_tensorboard",
    "example_figure",
    "loss_figure",
    "magnitude_response",
    "make_example",
    "read_curves",
    "representation_figure",
    "save",
    "score_figure",
    "sorted_components",
    "tracks_figure",
    "write_report",
]
