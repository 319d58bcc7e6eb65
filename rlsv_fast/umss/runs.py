"""Run folders of separators: their best weights, and the way back to a model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.files import read_bytes
from rlsv_fast.training.checkpoint import load_run_settings
from rlsv_fast.training.checkpoint_files import read_checkpoint
from rlsv_fast.training.run_files import commit, unwritable, writing
from rlsv_fast.umss.model import EnsembleModel
from rlsv_fast.umss.settings import SCHEMA, EnsembleConfig

BEST = "best.safetensors"
_MOST_BYTES = 1 << 30


def write_best(run: Path, model: EnsembleModel, loss: float, epoch: int) -> None:
    """Write the weights, whole or not at all, with their validation loss and epochs.

    Raises:
        InputError: the folder cannot be written.
    """
    tensors = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    told = json.dumps({"validation": loss, "epoch": epoch})
    try:
        with writing(run) as folder:
            save_file(tensors, folder / BEST, {"rlsv_fast": told})
            commit(folder / BEST, run / BEST)
    except (OSError, SafetensorError) as error:
        raise unwritable(run / BEST, error) from error


def load_separator(
    run: Path, device: torch.device | str = "cpu"
) -> tuple[EnsembleConfig, EnsembleModel]:
    """Load a trained separator with its settings: its best weights, or the newest there are.

    Returns:
        Settings and model, in evaluation mode.

    Raises:
        InputError: not such a run folder, or its weights cannot be used.
    """
    config = load_run_settings(run, SCHEMA)
    model = EnsembleModel(config)
    path, tensors = _weights(run)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path}: of another model than its settings ({reason})") from error
    return config, model.to(device).eval()


def start_from(model: EnsembleModel, run: Path) -> None:
    """Take over the weights of another run, of all parts that both models have.

    Raises:
        InputError: there are none, or their shapes differ.
    """
    path, tensors = _weights(run)
    wanted = model.state_dict()
    common = {name: x for name, x in tensors.items() if name in wanted}
    if not common:
        raise InputError(f"training.start_from: {path} has no part in common with this model")
    for name, tensor in common.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"training.start_from: {path}: '{name}' has shape {tuple(tensor.shape)}, this "
                f"model's {tuple(wanted[name].shape)}"
            )
    model.load_state_dict({**wanted, **common})


def _weights(run: Path) -> tuple[Path, dict[str, Tensor]]:
    path = run / BEST
    if not path.is_file():
        checkpoint = read_checkpoint(run)
        return checkpoint.path, checkpoint.group("model")
    try:
        return path, load_safetensors(read_bytes(path, _MOST_BYTES))
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({error})") from error
