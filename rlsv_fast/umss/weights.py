"""Pretrained weights: import from the published files, and where they live."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from rlsv_fast.errors import InputError
from rlsv_fast.files import read_bytes
from rlsv_fast.umss.assignment import VoasCNN
from rlsv_fast.umss.multif0 import LateDeep
from rlsv_fast.umss.weight_files import Layer, read_parts

ENVIRONMENT = "RLSV_FAST_WEIGHTS"
_NETWORKS: dict[str, type[nn.Module]] = {"late_deep": LateDeep, "voas_cnn": VoasCNN}
_MOST_BYTES = 64_000_000


@dataclass(frozen=True)
class F0Networks:
    """The two networks, ready to estimate."""

    multif0: LateDeep
    assignment: VoasCNN


def default_weights() -> Path:
    """Folder of the weights: ``RLSV_FAST_WEIGHTS``, else in the user's data folder."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "rlsv_fast" / "weights"


def import_weights(files: Sequence[Path], out: Path | None = None) -> list[Path]:
    """Turn published files into ``late_deep.safetensors`` and ``voas_cnn.safetensors``.

    Args:
        files: the ``.npz`` of both networks, the published ``.npy`` (``base_model1``,
            ``base_model2``, ``cuesta``; the thirteen ``voas_cnn_*``), or ``voas_cnn.h5``, in any
            mixture.
        out: folder; None means :func:`default_weights`.

    Returns:
        The files written. A JSON beside each tells the sources and their SHA-256.

    Raises:
        InputError: a file cannot be read, is refused, or the parts of a network are not all there;
            then nothing is written.
        MissingPackage: h5py is needed and not installed.
    """
    out = default_weights() if out is None else out
    parts: dict[str, list[Layer]] = {}
    sources: dict[str, tuple[Path, str]] = {}
    for path in files:
        found, digest = read_parts(path)
        for name, layers in found.items():
            if name in parts:
                raise InputError(f"{path}: '{name}' was in {sources[name][0]} already")
            parts[name], sources[name] = layers, (path, digest)
    for voice in range(1, 5):  # published in two files
        halves = [f"out{voice}.weights", f"out{voice}.bias"]
        if all(half in parts for half in halves):
            parts[f"out{voice}"] = [[parts[half][0][0] for half in halves]]
            sources[f"out{voice}"] = sources[halves[0]]
    written: dict[str, tuple[nn.Module, set[tuple[Path, str]]]] = {}
    for name, network in _NETWORKS.items():
        model = network()
        wanted = dict(_parts(model))
        present = [part for part in wanted if part in parts]
        if not present:
            continue
        missing = [part for part in wanted if part not in parts]
        if missing:
            raise InputError(
                f"{sources[present[0]][0]}: is a part of {name} only; add the files of "
                f"{', '.join(missing)}"
            )
        for part, modules in wanted.items():
            _fill(modules, parts[part], f"{sources[part][0]}: '{part}'")
        used = {sources[part] for part in parts if part.partition(".")[0] in wanted}
        written[name] = (model, used)
    if not written:
        raise InputError("no weights of the f0 networks in the files given")
    return [_write(out, name, model, used) for name, (model, used) in written.items()]


def load_networks(folder: Path | None = None, device: torch.device | str = "cpu") -> F0Networks:
    """Load both networks, in evaluation mode.

    Args:
        folder: where :func:`import_weights` wrote them; None means :func:`default_weights`.
        device: where to.

    Raises:
        InputError: weights are missing, damaged or of another network.
    """
    folder = default_weights() if folder is None else folder
    multif0, assignment = LateDeep(), VoasCNN()
    for name, model in (("late_deep", multif0), ("voas_cnn", assignment)):
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            raise InputError(
                f"{path}: no weights there; make them from the published files with: rlsv-fast "
                f"umss import-weights FILE... --out {folder}"
            )
        try:
            model.load_state_dict(load_safetensors(read_bytes(path, _MOST_BYTES)))
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(f"{path}: no weights of this network ({reason})") from error
        model.to(device).eval().requires_grad_(False)
    return F0Networks(multif0, assignment)


def _parts(model: nn.Module) -> Iterator[tuple[str, list[nn.Module]]]:
    """Convolutions and normalisations of a network in the order of the published parts."""
    if isinstance(model, LateDeep):
        yield "base_model1", _leaves(model.magnitude)
        yield "base_model2", _leaves(model.phase)
        yield "cuesta", _leaves(model.head)
    elif isinstance(model, VoasCNN):
        yield "trunk", _leaves(model.trunk)
        for number, branch in enumerate(model.voices, 1):
            *layers, out = _leaves(branch)
            yield f"branch{number}", layers
            yield f"out{number}", [out]


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [leaf for leaf in module.modules() if isinstance(leaf, nn.Conv2d | nn.BatchNorm2d)]


def _fill(modules: Sequence[nn.Module], layers: Sequence[Layer], where: str) -> None:
    if len(modules) != len(layers):
        raise InputError(f"{where}: has {len(layers)} layers, expected {len(modules)}")
    for number, (module, layer) in enumerate(zip(modules, layers, strict=True)):
        names = ["weight", "bias"]
        if isinstance(module, nn.BatchNorm2d):
            names += ["running_mean", "running_var"]
        state = module.state_dict()
        shapes = [tuple(state[name].shape) for name in names]
        if [array.shape for array in layer] != shapes:
            found = [array.shape for array in layer]
            raise InputError(f"{where}: layer {number} has shapes {found}, expected {shapes}")
        for name, array in zip(names, layer, strict=True):
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise InputError(f"{where}: {name} of layer {number} must hold finite numbers")
            state[name].copy_(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)))


def _write(out: Path, name: str, model: nn.Module, used: set[tuple[Path, str]]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.safetensors"
    about = {
        "network": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sources": [{"file": file.name, "sha256": digest} for file, digest in sorted(used)],
    }
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    contents = {
        path: save_safetensors(state, metadata={"network": name}),
        path.with_suffix(".json"): (json.dumps(about, indent=1) + "\n").encode(),
    }
    for target, content in contents.items():
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        temporary.write_bytes(content)
        os.replace(temporary, target)
    return path
