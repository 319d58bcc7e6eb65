"""The entry points of hubconf.py, through torch.hub, by the papers' parameter counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlsv_fast import nn, training
from rlsv_fast.training.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[1]

# P1, tables 1 and 2, as counted from its sizes ("cos" without a learnt modulator)
PUBLISHED = {
    "p1": ({}, 6_478_400),
    "p2": ({"components": 400}, 2_439_200),
    "conv_modcos": ({"power": 1}, 6_478_400),
    "conv_cos": ({}, 6_483_120),
    "conv_conv": ({"tanh": True}, 6_476_800),
    "sinc_modcos": ({}, 6_487_072),
}


def load(name: str, *args: object, **settings: object) -> nn.RepresentationModel:
    model = torch.hub.load(str(ROOT), name, *args, source="local", **settings)
    assert isinstance(model, nn.RepresentationModel)
    return model


def test_another_name_is_no_entry_point() -> None:
    with pytest.raises(RuntimeError, match="p3"):
        load("p3")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_models_by_name(name: str) -> None:
    settings, parameters = PUBLISHED[name]
    model = load(name, **settings)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.hop == (256 if name == "p2" else 384)
    assert getattr(model.decoder, "tanh", False) == settings.get("tanh", False)


def test_settings_seed_and_errors() -> None:
    small = {"components": 4, "kernel_size": 8, "hop": 4}
    first, again, other = (load("p2", **small, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.encoder.context, again.encoder.context)
    assert not torch.equal(first.encoder.context, other.encoder.context)
    with pytest.raises(ValueError, match="no setting 'model.components_'"):
        load("p2", components_=3)


def test_a_run_by_its_folder(tmp_path: Path) -> None:
    config = training.resolve(
        overrides=["model.components=4", "model.kernel_size=8", "model.hop=4"]
    )
    model = training.build_model(config)
    (tmp_path / "config.toml").write_text(training.to_toml(config))
    optimizer = torch.optim.Adam(model.parameters())
    save_checkpoint(tmp_path, model, optimizer, torch.Generator(), {"step": 0})
    loaded = load("run", str(tmp_path))
    assert torch.equal(loaded.encoder.kernels, model.encoder.kernels)
