"""The published files of the f0 networks, read as layers of arrays.

Three forms hold the same layers: an npz whose keys name them, the ``.npy`` pickles of the
differentiable system (one file for each part), and the Keras file of the voice assignment.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rlsv_fast.errors import InputError, require
from rlsv_fast.files import read_bytes

Array: TypeAlias = npt.NDArray[Any]
Layer: TypeAlias = list[Array]
"""A convolution: weight [out, in, frequency, time] and bias; or a normalisation: gamma, beta, mean
and variance.
"""

_MOST_BYTES = 64_000_000

_PARAMETERS = {"conv": ("weight", "bias"), "bn": ("gamma", "beta", "mean", "var")}
_KEY = re.compile(r"(?P<part>[a-z_]+\d?)(\.(?P<index>\d+))?\.(?P<kind>conv|bn)\.(?P<name>[a-z]+)")

_NPY_PARTS = {
    "base_model1": "base_model1",
    "base_model2": "base_model2",
    "cuesta": "cuesta",
    "voas_cnn_f0_assigner": "trunk",
    **{f"voas_cnn_branch{n}": f"branch{n}" for n in range(1, 5)},
}
_NPY_OUT = re.compile(r"voas_cnn_postprocess([1-4])_(weights|bias)")

_KERAS_TRUNK = ("conv1", "conv2", "conv_harm_1", "conv_harm_2")
_KERAS_OUT = ("conv_soprano", "conv_alto", "conv_tenor", "conv_bass")


def read_parts(path: Path) -> tuple[dict[str, list[Layer]], str]:
    """The layers of each part that a file holds, in order, and the SHA-256 of the file.

    A part of which two files hold one half each (``postprocess`` weights and bias) is a list of one
    layer in which the other array is missing.

    Raises:
        InputError: unreadable, of an unknown form, or a pickle that asks for more than arrays.
        MissingPackage: a Keras file, and h5py is not installed.
    """
    content = read_bytes(path, _MOST_BYTES)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        parts = _npz(path, content)
    elif suffix == ".npy":
        parts = _npy(path, content)
    elif suffix in (".h5", ".hdf5", ".keras"):
        parts = _keras(path, content)
    else:
        raise InputError(f"{path}: expected a file that ends in .npz, .npy or .h5")
    return parts, hashlib.sha256(content).hexdigest()


def _npz(path: Path, content: bytes) -> dict[str, list[Layer]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as npz ({error})") from error
    found: dict[str, dict[int, dict[str, Array]]] = {}
    kinds: dict[tuple[str, int], str] = {}
    for key, array in arrays.items():
        match = _KEY.fullmatch(key)
        if match is None or match["name"] not in _PARAMETERS[match["kind"]]:
            raise InputError(f"{path}: unexpected key '{key}'")
        place = (match["part"], int(match["index"] or 0))
        if kinds.setdefault(place, match["kind"]) != match["kind"]:
            raise InputError(f"{path}: key '{key}' makes one layer of two kinds")
        found.setdefault(place[0], {}).setdefault(place[1], {})[match["name"]] = array
    parts: dict[str, list[Layer]] = {}
    for part, layers in found.items():
        parts[part] = []
        for index in sorted(layers):
            names = _PARAMETERS[kinds[part, index]]
            missing = [name for name in names if name not in layers[index]]
            if missing:
                raise InputError(f"{path}: layer {index} of '{part}' has no {', '.join(missing)}")
            parts[part].append([layers[index][name] for name in names])
    return parts


def _npy(path: Path, content: bytes) -> dict[str, list[Layer]]:
    values = _restricted_npy(path, content)
    out = _NPY_OUT.fullmatch(path.stem)
    if out:
        name = f"out{out[1]}.{out[2]}"
        if len(values) != 1:
            raise InputError(f"{path}: expected one array, found {len(values)}")
        return {name: [[_oihw(values[0]) if out[2] == "weights" else np.asarray(values[0])]]}
    part = _NPY_PARTS.get(path.stem)
    if part is None:
        known = ", ".join(_NPY_PARTS)
        raise InputError(
            f"{path}: its name must tell the part, as published: {known}, "
            "voas_cnn_postprocess1_weights, voas_cnn_postprocess1_bias, ..."
        )
    layers = []
    for value in values:
        layer = [np.asarray(array) for array in value]
        if len(layer) == 2:
            layer[0] = _oihw(layer[0])
        layers.append(layer)
    return {part: layers}


def _oihw(kernel: Any) -> Array:
    """From Keras' order (frequency, time, in, out) to PyTorch's."""
    array = np.asarray(kernel)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array


def _restricted_npy(path: Path, content: bytes) -> Any:
    """The array of an .npy file; an array of objects is unpickled if it is made of arrays alone."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        _, _, dtype = read(stream)
        if not dtype.hasobject:
            return np.load(io.BytesIO(content), allow_pickle=False)
        values = _ArraysOnly(stream).load()
    except _Refused as error:
        raise InputError(f"{path}: refused, {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{path}: cannot be read as npy ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(values, np.ndarray | list | tuple):
        raise InputError(f"{path}: expected an array of layers, found {type(values).__name__}")
    return values


class _Refused(Exception):
    """A pickle asks for something else than arrays."""


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds numpy arrays and nothing else: every other name in the pickle is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if (module, name) == ("numpy", "ndarray"):
            return _NDARRAY
        if (module, name) == ("numpy", "dtype"):
            return _plain_dtype
        raise _Refused(
            f"it asks for {module}.{name}, and only numpy arrays are read; do not trust it"
        )


_NDARRAY = "ndarray"


def _empty_array(kind: object, shape: object, code: object) -> Array:
    """What a pickled array begins as; its state then brings shape, type and data."""
    if kind != _NDARRAY or shape != (0,):
        raise _Refused("it makes an array in an unusual way")
    return np.ndarray((0,), dtype="b")


def _plain_dtype(code: object, align: object = False, copy: object = True) -> np.dtype[Any]:
    if not isinstance(code, str) or code not in ("f2", "f4", "f8", "i4", "i8", "O", "O8"):
        raise _Refused(f"it holds arrays of type {code!r}")
    return np.dtype("O" if code == "O8" else code)


def _keras(path: Path, content: bytes) -> dict[str, list[Layer]]:
    h5py = require("h5py", extra="umss", purpose=f"read {path}")
    layers: dict[str, dict[str, Array]] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and "optimizer_weights" not in name:
            *folders, parameter = name.split("/")
            if folders:
                layers.setdefault(folders[-1], {})[parameter.partition(":")[0]] = node[()]

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({error})") from error

    def taken(name: str, parameters: tuple[str, ...]) -> Layer:
        if name not in layers or any(key not in layers[name] for key in parameters):
            raise InputError(f"{path}: layer '{name}' is missing; expected the file of VoasCNN")
        return [np.asarray(layers[name][key]) for key in parameters]

    def conv(name: str) -> Layer:
        kernel, bias = taken(name, ("kernel", "bias"))
        return [_oihw(kernel), bias]

    # numbered in the order they were made: input, after each of the trunk, then the branches
    pattern = re.compile(r"batch_normalization(?:_(\d+))?")
    numbers = {name: match for name in layers if (match := pattern.fullmatch(name))}
    norms = [
        taken(name, ("gamma", "beta", "moving_mean", "moving_variance"))
        for name in sorted(numbers, key=lambda name: int(numbers[name][1] or 0))
    ]
    if len(norms) != 9:
        raise InputError(f"{path}: has {len(norms)} normalisations, expected the 9 of VoasCNN")
    trunk = [norms[0]]
    for name, norm in zip(_KERAS_TRUNK, norms[1:5], strict=True):
        trunk += [conv(name), norm]
    parts = {"trunk": trunk}
    for voice, name in enumerate(_KERAS_OUT, 1):
        parts[f"branch{voice}"] = [conv(f"conv{voice}a"), norms[4 + voice], conv(f"conv{voice}b")]
        parts[f"out{voice}"] = [conv(name)]
    return parts
