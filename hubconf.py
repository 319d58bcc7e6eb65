"""The papers' models for ``torch.hub``, untrained, and trained runs: docs/drop_in.md.

The operators are compiled, so a hub needs a tree in which they have been built (README.md)::

    model = torch.hub.load("path/to/the/tree", "p2", source="local")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

dependencies = ["torch", "numpy", "soundfile", "safetensors", "tqdm"]


def _build(preset: str, fixed: dict[str, Any], given: dict[str, Any]) -> Any:
    from rlsv_fast import training

    settings = {f"model.{key}": value for key, value in (fixed | given).items() if key != "seed"}
    if "seed" in given:
        settings["training.seed"] = given["seed"]
    overrides = [f"{key}={_toml(value)}" for key, value in settings.items()]
    return training.build_model(training.resolve(preset, overrides=overrides))


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def p1(**settings: Any) -> Any:
    """EUSIPCO 2020: conv / mod-cos with squared carriers, C = 800, L = 2048, hop 384, 44.1 kHz.

    Args:
        settings: others for the model, such as ``components=1600``, and ``seed`` of its weights;
            see docs/settings.md, ``model.*``.

    Returns:
        An untrained :class:`rlsv_fast.nn.RepresentationModel`.
    """
    return _build("p1", {}, settings)


def p2(**settings: Any) -> Any:
    """The Sinkhorn paper's: as :func:`p1`, with hop 256."""
    return _build("p2", {}, settings)


def conv_modcos(**settings: Any) -> Any:
    """P1, table 1, "conv / mod-cos": :func:`p1` by its other name; ``power=1`` for linear ones."""
    return _build("p1", {}, settings)


def conv_cos(**settings: Any) -> Any:
    """P1, table 1, "conv / cos": no modulator, C = 952; ``power=1`` for linear carriers."""
    return _build("p1", {"components": 952, "modulator": "none"}, settings)


def conv_conv(**settings: Any) -> Any:
    """P1, table 1, "conv / conv": free kernels on both sides; ``tanh=True`` for its second row."""
    return _build("p1", {"decoder": "conv"}, settings)


def sinc_modcos(**settings: Any) -> Any:
    """P1, table 1, "sinc / mod-cos": band-passes as first layer, C = 952."""
    return _build("p1", {"components": 952, "encoder": "sinc"}, settings)


def run(folder: str, device: str = "cpu") -> Any:
    """The model of a run that ``rlsv-fast train`` has left.

    Args:
        folder: the run folder.
        device: where to load it.

    Returns:
        A trained :class:`rlsv_fast.nn.RepresentationModel`.
    """
    from rlsv_fast import training

    return training.load_run(Path(folder), device)[1]
