"""Run folders of separators: the way back to a model, and what is refused on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast.errors import InputError
from rlsv_fast.training import load_run, read_checkpoint
from rlsv_fast.umss import Song, load_separator, train_separator
from rlsv_fast.umss.model import build_model
from rlsv_fast.umss.runs import BEST, start_from, write_best
from umss.small import LONG, config

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def run(songs: list[Song], tmp_path: Path) -> Path:
    """Trained further than its best epoch."""
    folder = tmp_path / "run"
    train_separator(config("training.epochs=1"), songs, folder)
    best = (folder / BEST).read_bytes()
    train_separator(config("training.epochs=2"), songs, folder, resume=True)
    (folder / BEST).write_bytes(best)
    return folder


def test_the_best_weights_come_back(run: Path) -> None:
    found, model = load_separator(run)
    assert found == config("training.epochs=2")
    assert not any(part.training for part in model.modules())
    best, newest = load_file(run / BEST), read_checkpoint(run).group("model")
    assert all(tensor.equal(best[name]) for name, tensor in model.state_dict().items())
    assert not all(tensor.equal(newest[name]) for name, tensor in best.items())
    (run / BEST).unlink()
    _, model = load_separator(run)
    assert all(tensor.equal(newest[name]) for name, tensor in model.state_dict().items())


def test_a_model_with_networks_separates_by_itself(songs: list[Song], tmp_path: Path) -> None:
    wanted = config(LONG, "training.epochs=1", preset="sf-sf")
    trained = train_separator(wanted, songs, tmp_path / "run").eval()
    _, model = load_separator(tmp_path / "run")
    mixture = torch.randn(1, 22400)
    parts = []
    for found in (trained, model):
        torch.manual_seed(0)
        parts.append(found.separate(mixture))
    assert parts[0].shape == (1, 4, 22400) and parts[0].equal(parts[1])
    assert not parts[0].requires_grad
    given = model.separate(mixture, torch.full((1, 2, 80), 200.0))
    assert given.shape == (1, 2, 22400)


def test_a_model_without_networks_needs_f0(run: Path) -> None:
    _, model = load_separator(run)
    with pytest.raises(ValueError, match="f0 must be given"):
        model.separate(torch.randn(1, 4096))


def test_what_is_told_of_the_best(tmp_path: Path) -> None:
    model = build_model(config())
    write_best(tmp_path, model, 1.5, 7)
    header = (tmp_path / BEST).read_bytes()[:300]
    assert b'"validation\\": 1.5, \\"epoch\\": 7' in header.replace(b'\\\\"', b'\\"')
    assert [path.name for path in tmp_path.iterdir()] == [BEST]
    with pytest.raises(InputError, match="cannot be written"):
        write_best(tmp_path / "nowhere", model, 1.5, 7)


def test_folders_that_are_no_such_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        load_separator(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"not a run folder, it has no config\.toml"):
        load_separator(tmp_path / "empty")
    with pytest.raises(InputError, match="no setting"):  # one family's run is not the other's
        load_run(run)
    content = (run / BEST).read_bytes()
    (run / BEST).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"best\.safetensors: damaged"):
        load_separator(run)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    save_file(build_model(config(preset="u-net")).state_dict(), other / BEST)
    with pytest.raises(InputError, match="of another model than its settings"):
        load_separator(other)


def test_weights_of_another_run(run: Path, tmp_path: Path) -> None:
    model = build_model(config("training.seed=9", "model.roll_off=frame"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_from(model, run)
    best = load_file(run / BEST)
    for name, tensor in model.state_dict().items():  # the roll-off's own part stays
        assert tensor.equal(best.get(name, before[name]))
    assert before.keys() > best.keys()
    with pytest.raises(InputError, match="no such|not a run|no checkpoint|nowhere"):
        start_from(model, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"start_from: .*best\.safetensors has no part in common"):
        start_from(build_model(config(preset="u-net")), run)
    wider = {name: torch.cat([x, x]) if x.dim() else x for name, x in best.items()}
    save_file(wider, run / BEST)
    with pytest.raises(InputError, match=r"'separator\..*' has shape \(.*\), this model's \("):
        start_from(model, run)
