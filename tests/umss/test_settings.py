"""Settings of separators: the published variants, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlsv_fast.errors import InputError
from rlsv_fast.training.settings import flatten, to_toml
from rlsv_fast.umss import SourceFilterSeparator
from rlsv_fast.umss.model import EnsembleModel
from rlsv_fast.umss.settings import PRESETS, SCHEMA

PUBLISHED = {  # of all configurations
    "convention": "paper",
    "data.sample_rate": 16000,
    "data.segment_length": 64000,
    "data.voices": 4,
    "model.roll_off": "fixed",
    "loss.magnitude": 1.0,
    "loss.log_magnitude": 1.0,
    "training.epochs": 8000,
    "training.patience": 200,
    "training.weight_decay": 1e-5,
    "training.decay": 0.98,
    "training.decay_every": 200,
    "training.seed": 4,
}
SOURCE_FILTER = {
    "model.kind": "source-filter",
    "training.batch_size": 15,
    "training.learning_rate": 1e-4,
}
U_NET = {"model.kind": "u-net", "training.batch_size": 16, "training.learning_rate": 1e-3}

NAMES = ("f0", "multif0", "assignment")
VARIANTS = {
    "umss": ("external", "frozen", "frozen"),
    "umss-supervised": ("external", "frozen", "frozen"),
    "sf-sf": ("estimated", "frozen", "frozen"),
    "sf-sft": ("estimated", "frozen", "trained"),
    "sft-sft": ("estimated", "trained", "trained"),
    "w-up-1": ("estimated", "trained", "trained"),
    "w-up-2": ("estimated", "frozen", "frozen"),
    "w-up-3": ("estimated", "trained", "trained"),
    "u-net": ("external", "frozen", "frozen"),
    "u-net-harmonics": ("external", "frozen", "frozen"),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_published_variants(preset: str, tmp_path: Path) -> None:
    config = SCHEMA.resolve(preset)
    expected = {**PUBLISHED, **(U_NET if preset.startswith("u-net") else SOURCE_FILTER)}
    expected |= dict(zip((f"model.{n}" for n in NAMES), VARIANTS[preset], strict=True))
    expected["loss.supervised"] = preset in ("umss-supervised", "u-net", "u-net-harmonics")
    first = preset == "w-up-1"  # warms up the f0 networks alone
    expected |= {"loss.consistency": 1e4 * first, "loss.commitment": 1e4 * first}
    expected |= {"loss.band": 1e5 * first, "loss.reconstruction": 1.0 - first}
    expected["model.conditioning"] = "harmonics" if preset == "u-net-harmonics" else "one-hot"
    values = flatten(config)
    assert {key: values[key] for key in expected} == expected
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert SCHEMA.load(tmp_path / "config.toml") == config


def test_the_models_have_the_published_sizes() -> None:
    def size(*overrides: str, preset: str = "umss") -> int:
        made = EnsembleModel(SCHEMA.resolve(preset, overrides=overrides))
        return sum(parameter.numel() for parameter in made.parameters())

    assert size() == 5_573_961
    assert size("model.roll_off=frame") == 5_573_961 + 513
    assert size(preset="sf-sft") == 5_573_961 + 1_251_701 + 189_830
    assert size(preset="u-net") == 10_319_171
    assert size(preset="u-net-harmonics") == 10_878_041


def test_what_the_convention_changes() -> None:
    code = SCHEMA.resolve("sf-sft", overrides=["convention=code"])
    assert code.model.reference == "batch"
    tracker = EnsembleModel(code).tracker
    assert tracker is not None
    assert tracker.convention == tracker.transform.convention == "code"
    mixed = SCHEMA.resolve("sf-sft", overrides=["convention=code", "model.reference=item"])
    made = EnsembleModel(mixed)
    assert made.tracker is not None and isinstance(made.separator, SourceFilterSeparator)
    assert made.tracker.convention == made.separator.convention == "code"
    assert made.tracker.transform.convention == "paper"
    # a level of the batch alone leaves the decoding as it is meant
    other = EnsembleModel(SCHEMA.resolve("sf-sft", overrides=["model.reference=batch"]))
    assert other.tracker is not None and other.tracker.convention == "paper"
    assert other.tracker.transform.convention == "code"


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("umss", ["model.multif0=trained"], "model.multif0 = 'trained' goes with model.f0 = 'est"),
        ("umss", ["model.assignment=trained"], "model.assignment = 'trained' goes with model.f0"),
        ("umss", ["loss.band=1"], "loss.band > 0 goes with model.f0 = 'estimated'"),
        ("umss", ["data.f0=none"], "data.f0 = 'none' goes with model.f0 = 'estimated'"),
        ("umss", ["loss.reconstruction=0"], "nothing would be trained"),
        ("sf-sf", ["data.voices=3"], "four voices, data.voices is 3"),
        ("sf-sf", ["data.segment_length=16000"], r"1\.32 s or more.*16000 is 1\.00 s"),
        ("sf-sf", ["loss.commitment=1"], "loss.commitment > 0 goes with model.multif0 or"),
        ("sf-sf", ["loss.consistency=1", "loss.reconstruction=0"], "loss.consistency > 0 goes"),
        ("sft-sft", ["loss.reconstruction=0"], "nothing would be trained"),
        ("u-net", ["loss.supervised=false"], "needs loss.supervised = true"),
        ("u-net", ["model.f0=estimated"], "'u-net' goes with model.f0 = 'external'"),
        ("u-net", ["model.roll_off=frame"], "roll_off goes with model.kind = 'source-filter'"),
        ("umss", ["model.decoding=amplitude"], "model.decoding must be one of"),
        ("umss", ["training.patience=-1"], "training.patience must be an integer from 0"),
        ("umss", ["data.song=x"], "no setting 'data.song'; did you mean 'data.songs'"),
        ("w-up", [], "no preset 'w-up'; did you mean 'w-up-"),
    ],
)
def test_settings_that_cannot_be(preset: str, settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SCHEMA.resolve(preset, overrides=settings)
