"""Checkpoints: one safetensors file that is whole or absent, and a JSON file to look at.

``checkpoint.safetensors`` holds ``model.<name>``, ``optimizer.<name>.<moment>`` and ``rng.noise``,
and in its metadata the version, the state (step, position in the epoch, running sums, settings) as
JSON, and a SHA-256 over that JSON and all tensors. It is therefore complete and verifiable by
itself, and appears by one rename. ``state.json``, written after it, repeats state and checksum in
readable form; after a kill between the two it is merely older.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from rlsv_fast.errors import InputError
from rlsv_fast.nn import RepresentationModel
from rlsv_fast.training.build import build_model
from rlsv_fast.training.config import Config
from rlsv_fast.training.settings import flatten, load_config

CHECKPOINT = "checkpoint.safetensors"
STATE = "state.json"
CONFIG = "config.toml"
LOG = "log.jsonl"
VERSION = 1

_FORMAT = "rlsv_fast checkpoint"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        path: of the safetensors file.
        tensors: all of them, on the CPU.
        state: step, epoch, batch, running sums, settings.
    """

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name begins with ``prefix.``, without it."""
        start = prefix + "."
        return {
            name[len(start) :]: tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }


def save_checkpoint(
    run: Path,
    model: Module,
    optimizer: Optimizer,
    noise_generator: torch.Generator,
    state: Mapping[str, Any],
) -> None:
    """Replace the checkpoint of a run; a kill at any moment leaves the old or the new one.

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
    text = json.dumps(dict(state), ensure_ascii=False)
    metadata = {
        "format": _FORMAT,
        "version": str(VERSION),
        "state": text,
        "sha256": _checksum(text, tensors),
    }
    readable = {"version": VERSION, "sha256": metadata["sha256"], **state}
    target = run / CHECKPOINT
    temporary = target.with_suffix(".tmp")
    try:
        save_file(tensors, temporary, metadata)
        temporary.chmod(0o644)  # safetensors' 0o600 would keep it from the user's group
        _commit(temporary, target)
        write_text(run / STATE, json.dumps(readable, indent=2, ensure_ascii=False) + "\n")
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{target}: cannot be written ({error}); the former checkpoint is intact: make room "
            "and resume"
        ) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a small file that is whole or absent."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    _commit(temporary, path)


def read_checkpoint(run: Path) -> Checkpoint:
    """Read and verify the checkpoint of a run.

    Raises:
        InputError: it is missing, truncated, damaged, or not one of this library's.
    """
    path = run / CHECKPOINT
    remedy = "restore it from a copy, or train anew"
    if not path.is_file():
        raise InputError(f"{path}: missing, the run has no checkpoint yet; train it first")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise InputError(f"{path}: not a checkpoint of rlsv_fast; {remedy}")
            if metadata.get("version") != str(VERSION):
                raise InputError(
                    f"{path}: has format version {metadata.get('version')}, this release reads "
                    f"{VERSION}; use the release that wrote it"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        text = metadata["state"]
        whole = metadata["sha256"] == _checksum(text, tensors)
        state = json.loads(text)
        whole = whole and isinstance(state["step"], int)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: truncated or damaged ({error}); {remedy}") from error
    if not whole:
        raise InputError(f"{path}: damaged, its checksum does not agree; {remedy}")
    checkpoint = Checkpoint(path, tensors, state)
    _compare(run / STATE, checkpoint, metadata["sha256"])
    return checkpoint


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
    """Read the settings of a run folder, or say that it is none."""
    if not run.is_dir():
        raise InputError(f"{run}: no such run folder")
    if not (run / CONFIG).is_file():
        raise InputError(f"{run}: not a run folder, it has no {CONFIG}")
    return load_config(run / CONFIG)


def load_model(model: Module, checkpoint: Checkpoint, config: Config) -> None:
    """Put the tensors of a checkpoint into a model, after making sure that they are its own.

    Raises:
        InputError: the checkpoint is of another model; the message names the first difference.
    """
    path = checkpoint.path
    saved = checkpoint.state.get("config", {})
    for key, value in flatten(config).items():
        essential = key in ("convention", "data.sample_rate") or key.startswith("model.")
        if essential and key in saved and saved[key] != value:
            raise InputError(
                f"{path}: of another model, made with {key} = {saved[key]!r} where "
                f"{path.parent / CONFIG} says {value!r}; put the two that belong together in place"
            )
    tensors = checkpoint.group("model")
    wanted = model.state_dict()
    for name in sorted(tensors.keys() ^ wanted.keys()):
        what = "lacks" if name in wanted else "has an unknown"
        raise InputError(f"{path}: of another model, it {what} '{name}'")
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            raise InputError(
                f"{path}: of another model, '{name}' has shape {tuple(tensors[name].shape)}, "
                f"{path.parent / CONFIG} asks for {tuple(tensor.shape)}"
            )
    model.load_state_dict(tensors)


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


def _compare(path: Path, checkpoint: Checkpoint, checksum: str) -> None:
    """Tell an older state.json, which a kill leaves behind, from one that belongs elsewhere."""
    try:
        readable = json.loads(path.read_text(encoding="utf-8"))
        older = readable["sha256"] == checksum or readable["step"] <= checkpoint.state["step"]
    except FileNotFoundError:
        older = True
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); remove it, {CHECKPOINT} is whole") from error
    if not older:
        raise InputError(
            f"{path}: is at step {readable['step']}, {checkpoint.path.name} at step "
            f"{checkpoint.state['step']}; they do not belong together: restore both from one copy"
        )


def _checksum(state: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _commit(temporary: Path, target: Path) -> None:
    """Rename once the content is on disk, and have the rename on disk, too."""
    _flush(temporary)
    os.replace(temporary, target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
