"""What a checkpoint holds of a model and its optimiser, and the way back.

``model.<name>``, ``optimizer.<name>.<moment>`` and ``rng.noise``; how the files are kept is in
``checkpoint_files``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from rlsv_fast.errors import InputError
from rlsv_fast.nn import RepresentationModel
from rlsv_fast.training.build import build_model
from rlsv_fast.training.checkpoint_files import Checkpoint, read_checkpoint, write_checkpoint
from rlsv_fast.training.config import Config
from rlsv_fast.training.run_files import CONFIG
from rlsv_fast.training.settings import REPRESENTATION, Schema, Tree, flatten

logger = logging.getLogger(__name__)


def save_checkpoint(
    run: Path,
    model: Module,
    optimizer: Optimizer,
    noise_generator: torch.Generator,
    state: Mapping[str, Any],
) -> None:
    """Add a checkpoint to a run; a kill at any moment leaves the last one, or this.

    Args:
        run: run folder.
        model: its parameters and buffers are saved.
        optimizer: its state is saved under the names of the model's parameters.
        noise_generator: its state is saved.
        state: what JSON can hold.

    Raises:
        InputError: the folder cannot be written, for example because the disk is full.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{moment}"] = value
    tensors["rng.noise"] = noise_generator.get_state()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_checkpoint(run, tensors, state)


def load_run(run: Path, device: torch.device | str = "cpu") -> tuple[Config, RepresentationModel]:
    """Load a trained model with its settings.

    Args:
        run: run folder.
        device: where the model goes.

    Returns:
        Settings and model, in evaluation mode.

    Raises:
        InputError: not a run folder, or its checkpoint cannot be used.
    """
    return load_run_and_step(run, device)[:2]


def load_run_and_step(
    run: Path, device: torch.device | str = "cpu"
) -> tuple[Config, RepresentationModel, int]:
    """Load as :func:`load_run` does, and say after how many steps the model was saved."""
    config, checkpoint = load_run_config(run), read_checkpoint(run)
    model = build_model(config)
    load_model(model, checkpoint, config)
    return config, model.to(device).eval(), checkpoint.state["step"]


def load_run_config(run: Path) -> Config:
    """Read the settings of a representation's run folder, or say that it is none."""
    return load_run_settings(run, REPRESENTATION)


def load_run_settings(run: Path, schema: Schema[Tree]) -> Tree:
    """Read the settings of a run folder of some family, or say that it is none."""
    if not run.is_dir():
        raise InputError(f"{run}: no such run folder")
    path = run / CONFIG
    if not path.is_file():
        raise InputError(f"{run}: not a run folder, it has no {CONFIG}")
    try:
        return schema.load(path)
    except InputError as error:
        if str(path) in str(error):
            raise
        # settings that cannot go together, which only name each other
        raise InputError(f"{path}: {error}") from error


def load_model(model: Module, checkpoint: Checkpoint, config: Any) -> None:
    """Put the tensors of a checkpoint into a model, after making sure that they are its own.

    Raises:
        InputError: the checkpoint is of another model; the message names the first difference.
    """
    path = checkpoint.path
    for key, saved, value in _differences(checkpoint, config):
        # how it was trained does not matter to what it is
        if not key.startswith(("loss.", "training.")):
            raise InputError(
                f"{path}: of another model, made with {key} = {saved!r} where "
                f"{path.parent / CONFIG} says {value!r}; put the two that belong together in place"
            )
    tensors = checkpoint.group("model")
    wanted = model.state_dict()
    for name in sorted(tensors.keys() ^ wanted.keys()):
        what = "lacks" if name in wanted else "has an unknown"
        raise InputError(
            f"{path}: of another model than {path.parent / CONFIG} describes, it {what} '{name}'"
        )
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            raise InputError(
                f"{path}: of another model, '{name}' has shape {tuple(tensors[name].shape)}, "
                f"{path.parent / CONFIG} asks for {tuple(tensor.shape)}"
            )
    model.load_state_dict(tensors)


def check_settings(checkpoint: Checkpoint, config: Any, changeable: Collection[str]) -> None:
    """Make sure that training goes on with the settings that it began with.

    Args:
        checkpoint: where it goes on from.
        config: settings of the run, which may have been damaged or edited since.
        changeable: dotted keys that may differ, which is told.

    Raises:
        InputError: another one differs.
    """
    for key, saved, value in _differences(checkpoint, config):
        if key in changeable:
            logger.warning("%s = %r from here on, until now %r", key, value, saved)
        else:
            raise InputError(
                f"{checkpoint.path.parent / CONFIG}: says {key} = {value!r}, but the run was made "
                f"with {saved!r}; put that back"
            )


def load_optimizer(optimizer: Optimizer, model: Module, checkpoint: Checkpoint) -> None:
    """Put the saved moments into an optimiser over ``model.parameters()``.

    Raises:
        InputError: a moment does not fit its parameter.
    """
    saved: dict[str, dict[str, Tensor]] = {}
    for key, tensor in checkpoint.group("optimizer").items():
        owner, _, moment = key.rpartition(".")
        saved.setdefault(owner, {})[moment] = tensor
    state = {}
    for index, (name, parameter) in enumerate(model.named_parameters()):
        moments = saved.pop(name, {})
        for moment, value in moments.items():
            if value.dim() and value.shape != parameter.shape:
                raise InputError(
                    f"{checkpoint.path}: of another model, optimizer.{name}.{moment} has shape "
                    f"{tuple(value.shape)}, the parameter {tuple(parameter.shape)}"
                )
        if moments:
            state[index] = moments
    if saved:
        raise InputError(f"{checkpoint.path}: of another model, has moments of '{min(saved)}'")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _differences(checkpoint: Checkpoint, config: Any) -> list[tuple[str, Any, Any]]:
    """Dotted keys with what was saved and what the settings say, where the two differ."""
    saved = checkpoint.state.get("config", {})
    if not isinstance(saved, dict):
        raise InputError(f"{checkpoint.path}: its settings are no table; train anew")
    return [
        (key, saved[key], value)
        for key, value in flatten(config).items()
        if key in saved and saved[key] != value
    ]
