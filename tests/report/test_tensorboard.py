import logging
import sys

import pytest
import torch
from training import tiny
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast.cli import main
from rlsv_fast.data import synthesize
from rlsv_fast.errors import MissingPackage
from rlsv_fast.report import TensorBoard
from rlsv_fast.training import read_checkpoint, train

pytest.importorskip("matplotlib")


def logged(folder):
    """What TensorBoard itself reads from a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "audio": 0})
    found.Reload()
    return found


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing takes seconds, and most of what is tested here does not need it."""
    monkeypatch.setattr(TensorBoard, "_figure", lambda *_: None)


def test_losses_of_every_step_and_at_times_audio_and_figures(tmp_path):
    pytest.importorskip("tensorboard")
    config = tiny.config("training.epochs=2", "training.checkpoint_every=1")
    tracks = [tiny.track()]
    monitor = TensorBoard(tmp_path / "tensorboard", tracks[0], config, seconds=1.0)
    records = []
    train(config, tracks, tmp_path / "run", monitor=monitor, callback=records.append)
    found = logged(tmp_path / "tensorboard")
    steps = [record for record in records if record["kind"] == "step"]
    ends = [record["step"] for record in records if record["kind"] == "epoch"]
    for name in ("total", "reconstruction", "representation"):
        scalars = found.Scalars(f"loss/{name}")
        assert [scalar.step for scalar in scalars] == [record["step"] for record in steps]
        for scalar, record in zip(scalars, steps, strict=True):
            assert scalar.value == pytest.approx(record[name], rel=1e-6)
    for name in ("basis", "representation"):
        images = found.Images(name)
        assert [image.step for image in images] == ends
        assert len({image.encoded_image_string for image in images}) == 2
    assert len(found.Audio("voice/0 input")) == 1
    assert len(found.Audio("voice/1 decoded")) == 2
    assert found.Audio("mixture/1 decoded")[0].sample_rate == 8000


def test_it_changes_no_number_of_the_run(tmp_path, no_figures):
    pytest.importorskip("tensorboard")
    config, tracks = tiny.config("training.epochs=2", "training.checkpoint_every=1"), [tiny.track()]
    train(config, tracks, tmp_path / "plain")
    monitor = TensorBoard(tmp_path / "tensorboard", tracks[0], config, seconds=0.5)
    train(config, tracks, tmp_path / "watched", monitor=monitor)
    first, second = (read_checkpoint(tmp_path / name).tensors for name in ("plain", "watched"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_resumed_run_takes_the_place_of_what_it_repeats(tmp_path, no_figures):
    pytest.importorskip("tensorboard")
    tracks = [tiny.track()]
    for steps, resume in ((2, False), (4, True)):
        config = tiny.config(f"training.max_steps={steps}")
        monitor = TensorBoard(tmp_path / "run" / "tensorboard", tracks[0], config, seconds=0.5)
        train(config, tracks, tmp_path / "run", monitor=monitor, resume=resume)
    found = logged(tmp_path / "run" / "tensorboard")
    assert [scalar.step for scalar in found.Scalars("loss/total")] == [1, 2, 3, 4]


def test_the_command_logs_into_the_run(tmp_path, monkeypatch, no_figures):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("RLSV_FAST_CACHE", str(tmp_path / "cache"))
    music, run = tmp_path / "music", tmp_path / "run"
    synthesize(music, train_tracks=1, test_tracks=1, seconds=2, sample_rate=8000)
    settings = [f"--set={setting}" for setting in (*tiny.SETTINGS, "training.max_steps=2")]
    assert main(["train", "-q", "--tensorboard", f"--root={music}", f"--out={run}", *settings]) == 0
    assert [scalar.step for scalar in logged(run / "tensorboard").Scalars("loss/total")] == [1, 2]


def test_a_folder_that_cannot_be_written_does_not_end_the_run(tmp_path, caplog):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    config, tracks = tiny.config("training.max_steps=2"), [tiny.track()]
    monitor = TensorBoard(tmp_path / "file" / "tensorboard", tracks[0], config)
    with caplog.at_level(logging.WARNING):
        train(config, tracks, tmp_path / "run", monitor=monitor)
    assert "nothing more is logged there" in caplog.text
    assert read_checkpoint(tmp_path / "run").state["step"] == 2


@pytest.mark.parametrize("package", ["tensorboard", "matplotlib"])
def test_without_a_package_the_remedy_comes_before_any_work(tmp_path, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=r"pip install 'rlsv_fast\[tensorboard\]'"):
        TensorBoard(tmp_path, tiny.track(), tiny.config())
    arguments = ["train", "--tensorboard", f"--root={tmp_path}", f"--out={tmp_path / 'run'}"]
    assert main(arguments) == 2
    assert "rlsv_fast[tensorboard]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
