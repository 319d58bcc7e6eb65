import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlsv_fast.errors import InputError
from rlsv_fast.umss import LateDeep, VoasCNN, default_weights, import_weights, load_networks
from rlsv_fast.umss.weights import _parts


@pytest.fixture(scope="module")
def networks() -> list[nn.Module]:
    """Both networks with numbers that tell every array from every other."""
    torch.manual_seed(5)
    made: list[nn.Module] = [LateDeep(), VoasCNN()]
    for network in made:
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape) + 0.5)
    return made


def layers(network: nn.Module) -> dict[str, list[list[Any]]]:
    """Arrays of each published part, in PyTorch's order of axes."""
    names = ("weight", "bias", "running_mean", "running_var")
    return {
        part: [
            [state[name].numpy() for name in names if name in (state := module.state_dict())]
            for module in modules
        ]
        for part, modules in _parts(network)
    }


def keras(layer: list[Any]) -> list[Any]:
    """The same in Keras' order of axes."""
    return [a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for a in layer]


def write_npz(network: nn.Module, path: Path) -> Path:
    arrays = {}
    for part, found in layers(network).items():
        for index, layer in enumerate(found):
            stem = part if part.startswith("out") else f"{part}.{index}"
            conv = len(layer) == 2
            names = ("weight", "bias") if conv else ("gamma", "beta", "mean", "var")
            for name, array in zip(names, layer, strict=True):
                arrays[f"{stem}.{'conv' if conv else 'bn'}.{name}"] = array
    np.savez(path, **arrays)
    return path


def objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def write_npy(networks: list[nn.Module], folder: Path) -> list[Path]:
    """As published: an array of layers for each part; the last layers in two files."""
    for network in networks:
        for part, found in layers(network).items():
            values = [keras(layer) for layer in found]
            if part.startswith("out"):
                stem = f"voas_cnn_postprocess{part[3:]}"
                np.save(folder / f"{stem}_weights.npy", np.stack([values[0][0]]))
                np.save(folder / f"{stem}_bias.npy", objects([values[0][1]]), allow_pickle=True)
                continue
            name = {"trunk": "voas_cnn_f0_assigner"}.get(part, part)
            name = f"voas_cnn_{name}" if name.startswith("branch") else name
            np.save(folder / f"{name}.npy", objects(values), allow_pickle=True)
    return sorted(folder.glob("*.npy"))


def write_keras(network: nn.Module, path: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    parts = layers(network)
    trunk = ["conv1", "conv2", "conv_harm_1", "conv_harm_2"]
    voices = ["soprano", "alto", "tenor", "bass"]
    named = dict(zip(trunk, parts["trunk"][1::2], strict=True))
    norms = parts["trunk"][::2]
    for number, voice in enumerate(voices, 1):
        first, norm, second = parts[f"branch{number}"]
        named[f"conv{number}a"], named[f"conv{number}b"] = first, second
        named[f"conv_{voice}"] = parts[f"out{number}"][0]
        norms.append(norm)
    for number, norm in enumerate(norms):
        named["batch_normalization" + (f"_{number}" if number else "")] = norm
    keys = {
        2: ("kernel:0", "bias:0"),
        4: ("gamma:0", "beta:0", "moving_mean:0", "moving_variance:0"),
    }
    with h5py.File(path, "w") as file:
        for name, layer in named.items():
            for key, array in zip(keys[len(layer)], keras(layer), strict=True):
                file[f"model_weights/{name}/{name}/{key}"] = array
    return path


def assert_same(folder: Path, networks: list[nn.Module], names: tuple[str, ...]) -> None:
    loaded = load_networks(folder)
    pairs = {
        "late_deep": (loaded.multif0, networks[0]),
        "voas_cnn": (loaded.assignment, networks[1]),
    }
    for name in names:
        found, wanted = pairs[name]
        for key, value in wanted.state_dict().items():
            assert torch.equal(found.state_dict()[key], value), key
        assert not found.training


def test_every_published_form_gives_the_same_weights(
    networks: list[nn.Module], tmp_path: Path
) -> None:
    npz = [write_npz(network, tmp_path / f"{n}.npz") for n, network in enumerate(networks)]
    written = import_weights(npz, tmp_path / "npz")
    assert [path.name for path in written] == ["late_deep.safetensors", "voas_cnn.safetensors"]
    assert_same(tmp_path / "npz", networks, ("late_deep", "voas_cnn"))
    about = json.loads((tmp_path / "npz" / "voas_cnn.json").read_text())
    assert about["parameters"] == 189_830 and about["sources"][0]["file"] == "1.npz"

    (tmp_path / "pickles").mkdir()
    import_weights(write_npy(networks, tmp_path / "pickles"), tmp_path / "npy")
    assert_same(tmp_path / "npy", networks, ("late_deep", "voas_cnn"))

    import_weights([npz[0], write_keras(networks[1], tmp_path / "voas_cnn.h5")], tmp_path / "h5")
    assert_same(tmp_path / "h5", networks, ("voas_cnn",))


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (Evil(), "posix.system|nt.system"),
        (np.datetime64, "numpy.datetime64"),
        (np.dtype("M8[s]"), "arrays of type 'M8'"),
    ],
)
def test_a_pickle_that_asks_for_more_than_arrays_is_refused(
    payload: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cuesta.npy"
    np.save(path, objects([payload]), allow_pickle=True)
    with pytest.raises(InputError, match=f"cuesta.npy: refused, .*({named})".replace("[", r"\[")):
        import_weights([path], tmp_path / "out")
    assert not (tmp_path / "pwned").exists() and not (tmp_path / "out").exists()


class Huge:
    def __reduce__(self) -> Any:
        return np._core.multiarray._reconstruct, (np.ndarray, (1 << 40,), b"b")


def test_a_pickle_cannot_ask_for_memory(tmp_path: Path) -> None:
    path = tmp_path / "cuesta.npy"
    np.save(path, objects([Huge()]), allow_pickle=True)
    with pytest.raises(InputError, match="refused, it makes an array in an unusual way"):
        import_weights([path], tmp_path)


def test_what_is_missing_or_wrong_is_named(
    networks: list[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickles").mkdir()
    paths = write_npy(networks, tmp_path / "pickles")
    some = [path for path in paths if path.stem in ("base_model1", "cuesta")]
    with pytest.raises(InputError, match="part of late_deep only; add the files of base_model2"):
        import_weights(some, tmp_path)
    with pytest.raises(InputError, match="'cuesta' was in .* already"):
        import_weights([*some, some[-1]], tmp_path)
    with pytest.raises(InputError, match="its name must tell the part"):
        import_weights([some[0].rename(tmp_path / "part.npy")], tmp_path)
    broken = tmp_path / "cuesta.npy"
    broken.write_bytes(paths[2].read_bytes()[:300] if paths[2].exists() else b"")
    with pytest.raises(InputError, match=r"cuesta.npy: cannot be read as npy"):
        import_weights([broken], tmp_path)
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(InputError, match="unexpected key 'weight'"):
        import_weights([tmp_path / "other.npz"], tmp_path)
    voas = VoasCNN()
    voas.trunk[0].weight.data[0] = torch.nan
    with pytest.raises(InputError, match="'trunk': weight of layer 0 must hold finite numbers"):
        import_weights([write_npz(voas, tmp_path / "nan.npz")], tmp_path)
    with pytest.raises(InputError, match="expected a file that ends in"):
        import_weights([tmp_path / "voas.pkl"] if (tmp_path / "voas.pkl").write_bytes(b"x") else [])

    monkeypatch.setenv("RLSV_FAST_WEIGHTS", str(tmp_path / "nowhere"))
    assert default_weights() == tmp_path / "nowhere"
    with pytest.raises(InputError, match="rlsv-fast umss import-weights FILE... --out"):
        load_networks()
    (tmp_path / "late_deep.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no weights of this network"):
        load_networks(tmp_path)


def test_older_pickles_are_read(networks: list[nn.Module], tmp_path: Path) -> None:
    """Protocols differ between Pythons; the arrays are the same."""
    path = tmp_path / "voas_cnn_branch1.npy"
    values = objects([keras(layer) for layer in layers(networks[1])["branch1"]])
    header = tmp_path / "header.npy"
    np.save(header, values, allow_pickle=True)
    content = header.read_bytes()
    start = content.index(b"\x80", 10)  # where the pickle begins
    path.write_bytes(content[:start] + pickle.dumps(values, protocol=3))
    with pytest.raises(InputError, match="part of voas_cnn only; add the files of trunk, out1"):
        import_weights([path], tmp_path)
