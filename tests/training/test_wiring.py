"""Every setting reaches what it is about: each test fails where its keyword is dropped."""

import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from rlsv_fast import nn
from rlsv_fast.commands.common import prepared
from rlsv_fast.data import PreparedTrack, SegmentStore
from rlsv_fast.training import (
    Losses,
    Trainer,
    build_losses,
    build_model,
    train,
    training_losses,
)
from training import tiny

Probe = Callable[[Any], Any]


def _sizes(model: Any) -> Any:
    parts = (model.encoder, model.decoder)
    return {(part.components, part.kernel_size, part.hop) for part in parts}


@pytest.mark.parametrize(
    ("settings", "probe", "expected"),
    [
        ("model.power=1", lambda model: model.decoder.power, 1),
        ("model.modulator=shared", lambda model: model.decoder.modulator.shape, (1, 64)),
        ("model.modulator=none", lambda model: model.decoder.modulation, "none"),
        ("model.decoder=conv", lambda model: type(model.decoder), nn.ConvDecoder),
        ("model.decoder=conv model.tanh=true", lambda model: model.decoder.tanh, True),
        ("model.encoder=cosine", lambda model: type(model.encoder), nn.CosineEncoder),
        ("model.encoder=sinc", lambda model: type(model.encoder), nn.SincEncoder),
        ("model.components=5", _sizes, {(5, 64, 16)}),
        ("model.kernel_size=48", _sizes, {(8, 48, 16)}),
        ("model.hop=12", _sizes, {(8, 64, 12)}),
        *(
            (
                f"convention=code model.encoder={kind}",
                lambda model: model.encoder.convention,
                "code",
            )
            for kind in ("conv", "cosine", "sinc")
        ),
        ("convention=code", lambda model: bool(model.decoder.phase.all()), True),
        ("convention=paper", lambda model: bool(model.decoder.phase.any()), False),
    ],
)
def test_model(settings: str, probe: Probe, expected: Any) -> None:
    assert probe(build_model(tiny.config(*settings.split()))) == expected


@pytest.mark.parametrize(
    ("settings", "grid", "low"),
    [
        ("model.encoder=conv", lambda model: model.decoder.frequency, 30),
        ("model.encoder=cosine", lambda model: model.encoder.frequency, 30),
        ("model.encoder=sinc", lambda model: model.encoder.low, 80),
    ],
)
@pytest.mark.parametrize("rate", [8000, 16000])
def test_sample_rate_of_the_mel_grid(settings: str, grid: Probe, low: float, rate: int) -> None:
    frequencies = grid(build_model(tiny.config(settings, f"data.sample_rate={rate}"))).detach()
    assert float(frequencies[0]) == pytest.approx(low / rate)
    assert float(frequencies[-1]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("settings", "probe", "expected"),
    [
        ("loss.p=2", lambda losses: losses.representation.p, 2),
        ("loss.epsilon=0.25", lambda losses: losses.representation.epsilon, 0.25),
        ("loss.marginals=unit", lambda losses: losses.representation.marginal_mass, "T"),
        ("loss.marginals=normalised", lambda losses: losses.representation.marginal_mass, 1),
        ("convention=code", lambda losses: losses.representation.convention, "code"),
        ("convention=code", lambda losses: losses.reconstruction.convention, "code"),
        (
            "convention=code loss.representation=total-variation",
            lambda losses: (type(losses.representation), losses.representation.convention),
            (nn.TotalVariationLoss, "code"),
        ),
        ("training.sort=none", lambda losses: losses.sort, False),
        ("training.sort=update", lambda losses: losses.sort, True),
    ],
)
def test_losses(settings: str, probe: Probe, expected: Any) -> None:
    losses: Losses = build_losses(tiny.config("loss.representation=sinkhorn", *settings.split()))
    assert probe(losses) == expected


def _step(*settings: str, accompaniment: float = 0.1) -> tuple[float, ...]:
    config = tiny.config(*settings)
    random = torch.Generator().manual_seed(0)
    voice, other = torch.randn(2, 4, 2000, generator=random) * 0.1
    noise = torch.randn(4, 2000, generator=random)
    losses = training_losses(
        build_model(config), build_losses(config), voice, other * accompaniment, noise, config
    )
    return tuple(float(loss.detach()) for loss in losses)


@pytest.mark.parametrize("weight", [0.25, 3.0])
def test_weight(weight: float) -> None:
    total, reconstruction, representation = _step(f"loss.weight={weight}")
    assert representation > 0
    assert total == pytest.approx(reconstruction + weight * representation, rel=1e-4)


def test_what_the_loss_is_computed_on() -> None:
    for kind, depends in (("mixture", True), ("voice", False)):
        values = [_step(f"loss.computed_on={kind}", accompaniment=gain)[2] for gain in (1.0, 9.0)]
        assert (values[0] != values[1]) == depends


def test_noise() -> None:
    assert len({_step(f"training.noise={noise}")[1] for noise in (0, 0.01, 0.1)}) == 3


def _trainer(tmp_path: Path, *settings: str) -> Trainer:
    config = tiny.config(*settings)
    track = tiny.track()
    track = PreparedTrack("scaled", 8000, 3 * track.voice, track.voice, 2 * track.voice)
    store = SegmentStore([track], 2000, 1000)
    return Trainer(config, store, tmp_path, device=torch.device("cpu"))


def test_learning_rate_and_batch_size(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, "training.learning_rate=0.03", "training.batch_size=3")
    assert [group["lr"] for group in trainer.update.optimizer.param_groups] == [0.03]
    assert all(voice.shape == (3, 2000) for voice, _ in trainer._epoch())


@pytest.mark.parametrize("mixing", [True, False])
def test_random_mixing(mixing: bool, tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, f"data.random_mixing={str(mixing).lower()}")
    paired = all(accompaniment.equal(2 * voice) for voice, accompaniment in trainer._epoch())
    assert paired != mixing


@pytest.mark.parametrize(
    ("settings", "segments"),
    [
        ([], 2 * 4),  # 5000 samples: four segments of 2000 that share 1000
        (["data.overlap=0"], 2 * 3),
        (["data.segment_length=5000"], 2 * 1),
        (["data.concatenate=true"], 9),
    ],
)
def test_segments(settings: list[str], segments: int, tmp_path: Path) -> None:
    tracks = [tiny.track(5000 / 8000, seed, str(seed)) for seed in (0, 1)]
    records: list[dict[str, Any]] = []
    train(
        tiny.config(*settings, "training.max_steps=1"),
        tracks,
        tmp_path / "run",
        callback=records.append,
    )
    assert records[0]["voice_segments"] == segments


@pytest.mark.parametrize(("rule", "level"), [("stems", 0.125), ("difference", 0.25)])
def test_accompaniment(rule: str, level: float, tmp_path: Path) -> None:
    folder = tmp_path / "music" / "train" / "song"
    folder.mkdir(parents=True)
    # the mixture is not the sum of its stems
    for name, value in (("mixture", 0.75), ("vocals", 0.5), ("accompaniment", 0.125)):
        soundfile.write(folder / f"{name}.wav", np.full(4000, value), 8000)
    options = Namespace(quiet=True, cache=tmp_path / "cache")
    config = tiny.config(f"data.accompaniment={rule}")
    (track,) = prepared(tmp_path / "music", "train", config, options)
    assert np.allclose(track.accompaniment, level)


def test_the_bound_of_the_first_kernels() -> None:
    for convention, bound in (("paper", math.sqrt(3 / 8)), ("code", math.sqrt(6 / 64))):
        kernels: Any = build_model(tiny.config(f"convention={convention}")).encoder.kernels
        assert 0.9 * bound < float(kernels.detach().abs().max()) <= bound
