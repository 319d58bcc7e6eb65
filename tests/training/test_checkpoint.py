import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rlsv_fast.errors import InputError
from rlsv_fast.training import (
    checkpoint,
    checkpoint_files,
    load_run,
    read_checkpoint,
    to_toml,
    train,
)
from training import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny.config("training.max_steps=2"), [tiny.track()], run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_loads_as_it_was_trained(tmp_path: Path) -> None:
    config = tiny.config("training.max_steps=2")
    model = train(config, [tiny.track()], tmp_path / "run")
    loaded_config, loaded = load_run(tmp_path / "run")
    assert loaded_config == config
    assert not loaded.training
    signal = torch.randn(2, 777)
    assert loaded(signal).equal(model(signal))


@pytest.mark.parametrize("keep", [0, 7, 8, 200, 4000, -1])
def test_a_truncated_checkpoint_is_named(run: Path, keep: int) -> None:
    path = run / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: truncated or damaged"):
        load_run(run)


def test_a_changed_byte_anywhere_is_noticed(run: Path) -> None:
    path = run / "checkpoint.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"checkpoint\.safetensors: "):
            load_run(run)


def test_a_checkpoint_of_another_model_is_named(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    train(tiny.config("training.max_steps=1", "model.components=9"), [tiny.track()], other)
    shutil.copy(other / "checkpoint.safetensors", run)
    shutil.copy(other / "state.json", run)
    with pytest.raises(InputError, match="of another model, made with model.components = 9"):
        load_run(run)


def test_settings_of_another_model_are_named(run: Path) -> None:
    (run / "config.toml").write_text(to_toml(tiny.config("model.power=1")))
    with pytest.raises(InputError, match="made with model.power = 2 .* says 1"):
        load_run(run)


def test_a_shape_that_does_not_fit_is_named(run: Path) -> None:
    found = read_checkpoint(run)
    config, model = load_run(run)
    found.tensors["model.decoder.phase"] = torch.zeros(3)
    with pytest.raises(InputError, match=r"'decoder.phase' has shape \(3,\).*\(8,\)"):
        checkpoint.load_model(model, found, config)
    del found.tensors["model.decoder.phase"]
    with pytest.raises(InputError, match="lacks 'decoder.phase'"):
        checkpoint.load_model(model, found, config)


def test_what_is_no_run_or_no_checkpoint_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        load_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not a run folder"):
        load_run(tmp_path / "empty")
    save_file({"a": torch.zeros(2)}, run / "checkpoint.safetensors")
    with pytest.raises(InputError, match="not a checkpoint of rlsv_fast"):
        load_run(run)
    (run / "checkpoint.safetensors").unlink()
    with pytest.raises(InputError, match="no checkpoint yet"):
        load_run(run)


def test_the_two_files_may_be_one_save_apart_but_no_more(run: Path) -> None:
    state = json.loads((run / "state.json").read_text())
    older = {**state, "step": state["step"] - 1, "sha256": "0"}
    (run / "state.json").write_text(json.dumps(older))
    load_run(run)  # killed between the two: the checkpoint is whole by itself
    (run / "state.json").unlink()
    load_run(run)
    newer = {**state, "step": state["step"] + 1, "sha256": "0"}
    (run / "state.json").write_text(json.dumps(newer))
    with pytest.raises(InputError, match=r"state\.json: is at step 3, .* at step 2"):
        load_run(run)


@pytest.mark.parametrize("during", ["write", "rename"])
def test_a_full_disk_leaves_the_former_checkpoint(
    run: Path, during: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {path.name: path.read_bytes() for path in run.iterdir()}
    config, model = load_run(run)
    if during == "write":
        monkeypatch.setattr(checkpoint_files, "save_file", full)
    else:
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left on device.*last checkpoint is intact"):
        checkpoint.save_checkpoint(
            run, model, torch.optim.Adam(model.parameters()), torch.Generator(), {"step": 9}
        )
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
