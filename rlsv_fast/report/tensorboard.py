"""A run on TensorBoard while it trains: scalars, audio and figures (needs tensorboard)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlsv_fast.data import PreparedTrack
from rlsv_fast.errors import InputError, require
from rlsv_fast.nn import RepresentationModel
from rlsv_fast.report.basis import basis_image
from rlsv_fast.report.components import sorted_components
from rlsv_fast.report.examples import VERSIONS, make_example
from rlsv_fast.report.representation import representation_figure
from rlsv_fast.report.sounds import gain
from rlsv_fast.report.style import style
from rlsv_fast.training.config import Config

_LOSSES = ("total", "reconstruction", "representation")
_FIXED = ("input", "stft")
"""What the model has no part in is logged once."""

_SPEED = ("steps_per_second", "audio_per_second", "data_wait")

logger = logging.getLogger(__name__)


class TensorBoard:
    """What ``rlsv_fast.training.train`` takes as ``monitor``.

    Losses are logged of every step, once they have been read from the device, which does not wait
    for that. Audio and figures are made at ends of epochs that lie at least
    ``training.checkpoint_every`` steps apart, and at the end. Where the folder cannot be written
    any more, a warning says so and training goes on.

    Args:
        folder: for the event files.
        track: whose excerpt is to be heard and seen.
        config: settings of the run.
        seconds: length of the excerpt.

    Raises:
        MissingPackage: tensorboard or matplotlib is not installed.
    """

    def __init__(
        self, folder: Path, track: PreparedTrack, config: Config, *, seconds: float = 5.0
    ) -> None:
        check_tensorboard()
        self._folder = folder
        self._track = track
        self._config = config
        self._seconds = seconds
        self._writer: Any = None
        self._shown = 0
        self._fixed = False

    def __call__(self, record: Mapping[str, Any], model: RepresentationModel) -> None:
        """Log one record of the run."""
        kind, step = record["kind"], record["step"]
        try:
            if kind == "start":
                self._open(step)
            if self._writer is None:
                return
            if kind == "step":
                self._scalars("loss", record, _LOSSES, step)
            if "throughput" in record:
                self._scalars("speed", record["throughput"], _SPEED, step)
            far = step - self._shown >= self._config.training.checkpoint_every
            if (kind == "epoch" and far) or (kind == "end" and step > self._shown):
                self._show(model, step)
            if kind == "end":
                self.close()
        except OSError as error:
            logger.warning("%s: %s; nothing more is logged there", self._folder, error.strerror)
            self._writer = None

    def close(self) -> None:
        """Wait until everything is in the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a resumed run repeats takes the place of what was logged before
        purge = step + 1 if step else None
        self._writer = SummaryWriter(str(self._folder), purge_step=purge)
        self._shown = step

    def _scalars(
        self, group: str, values: Mapping[str, Any], names: tuple[str, ...], step: int
    ) -> None:
        for name in names:
            if values.get(name) is not None:
                self._writer.add_scalar(f"{group}/{name}", values[name], step)

    def _show(self, model: RepresentationModel, step: int) -> None:
        """Log the excerpt as it sounds and looks now, and the basis."""
        config = self._config
        rate = config.data.sample_rate
        self._shown = step
        components = sorted_components(model, rate)
        carriers = components.carrier_frequencies
        basis = basis_image(components.basis, sample_rate=rate, frequencies=carriers)
        self._figure("basis", basis, step)
        try:
            example = make_example(
                model,
                self._track,
                seconds=self._seconds,
                segment_length=config.data.segment_length,
                convention=config.convention,
            )
        except InputError as error:  # a model that has diverged has nothing to be heard
            logger.warning("%s", error)
            return
        level = gain(example.signals.values())
        for (source, version), signal in example.signals.items():
            if version in _FIXED and self._fixed:
                continue
            name = f"{source}/{VERSIONS.index(version)} {version}"
            self._writer.add_audio(name, torch.from_numpy(level * signal)[None], step, rate)
        self._fixed = True
        shown = (image[components.order] for image in example.representations.values())
        figure = representation_figure(
            *shown,
            hop=model.hop,
            sample_rate=rate,
            carriers=carriers,
            name=example.name,
            start=example.start,
        )
        self._figure("representation", figure, step)
        self._writer.flush()

    def _figure(self, name: str, figure: Any, step: int) -> None:
        with style():
            figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        self._writer.add_image(name, pixels, step, dataformats="HWC")


def check_tensorboard() -> None:
    """Raise MissingPackage where nothing can be logged."""
    for package in ("tensorboard", "matplotlib"):
        require(package, extra="tensorboard", purpose="log to TensorBoard")
