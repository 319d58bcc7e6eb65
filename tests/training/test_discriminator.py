"""The discriminator that is trained along, and what of the published code it does not repeat."""

from pathlib import Path

import pytest
import torch

from rlsv_fast.errors import InputError
from rlsv_fast.nn import Discriminator
from rlsv_fast.processes import Processes
from rlsv_fast.training import (
    build_losses,
    build_model,
    check_processes,
    load_run,
    read_checkpoint,
    train,
    training_losses,
)
from tests.training import tiny


def test_its_cross_entropy_is_added() -> None:
    config = tiny.config("loss.discriminator=2.0", "training.noise=0.0")
    model, losses = build_model(config), build_losses(config)
    torch.manual_seed(0)
    voice, accompaniment = torch.randn(2, 4, 2000)
    voice[1] = 0  # silent: in no pair
    found = training_losses(model, losses, voice, accompaniment, torch.zeros_like(voice), config)
    discriminator = model.discriminator
    assert isinstance(discriminator, Discriminator)
    of_voice, of_accompaniment = model.encode(voice), model.encode(accompaniment)
    same = discriminator(of_voice[[0, 3]], of_voice[[3, 2]])
    other = discriminator(of_voice[[0, 2, 3]], of_accompaniment[[0, 2, 3]])
    wanted = 0.5 * (-same.sigmoid().log().mean() - (1 - other.sigmoid()).log().mean())
    rest = found.reconstruction + config.loss.weight * found.representation
    torch.testing.assert_close(found.total, rest + 2 * wanted)
    found.total.backward()
    for part in (model.encoder, discriminator):
        assert all(parameter.grad is not None for parameter in part.parameters())


def test_without_three_segments_with_singing_there_is_no_loss() -> None:
    config = tiny.config("loss.discriminator=2.0")
    model, losses = build_model(config), build_losses(config)
    voice, accompaniment = torch.randn(2, 4, 2000)
    for silent in (2, 4):
        voice[:silent] = 0
        found = training_losses(
            model, losses, voice, accompaniment, torch.zeros_like(voice), config
        )
        rest = found.reconstruction + config.loss.weight * found.representation
        torch.testing.assert_close(found.total, rest)


def test_it_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    config = tiny.config("loss.discriminator=1.0", "training.max_steps=3")
    trained = train(config, [tiny.track()], tmp_path / "run")
    before = build_model(config).state_dict()
    after = trained.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert any(name.startswith("discriminator.") for name in moved)
    assert "discriminator.classify.weight" in read_checkpoint(tmp_path / "run").group("model")
    _, loaded = load_run(tmp_path / "run")
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, after[name])


def test_several_processes_are_refused() -> None:
    with pytest.raises(InputError, match="pairs the segments of a whole batch"):
        check_processes(tiny.config("loss.discriminator=1.0"), Processes(0, 2, 0, 2, None))
