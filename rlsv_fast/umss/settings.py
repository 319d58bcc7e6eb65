"""Settings of the training of a separator of ensembles, and the published variants by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rlsv_fast.errors import InputError
from rlsv_fast.training.config import Value
from rlsv_fast.training.settings import Schema
from rlsv_fast.umss import hcqt


def _between(default: Any, low: float, high: float) -> Any:
    """A number with the range in which it makes sense."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class SeparatorConfig:
    """What separates.

    Attributes:
        kind: a source-filter model of every voice, or the U-Net baseline.
        roll_off: of the glottal source: 6 dB an octave, or decoded for each frame or excerpt
            (source-filter only).
        levels: of the voices in the masks: as they are synthesised, as published, or fitted to the
            mixture in each window (source-filter only; no matter to the training).
        conditioning: of the U-Net: the pitch itself, or the spectrum of its harmonics.
        f0: tracks that come with the data, or those of the two pretrained networks, which are then
            a part of the model.
        multif0: whether the multi-f0 network is trained along (estimated f0 only).
        assignment: likewise the voice assignment.
        decoding: from salience to f0, with the gradient of that method (estimated f0 only).
        reference: of the networks' input level: each excerpt's own, or one of the whole batch, as
            published (estimated f0 only).
    """

    kind: Literal["source-filter", "u-net"] = "source-filter"
    roll_off: Literal["fixed", "frame", "excerpt"] = "fixed"
    levels: Literal["synthesised", "fitted"] = "synthesised"
    conditioning: Literal["one-hot", "harmonics"] = "one-hot"
    f0: Literal["external", "estimated"] = "external"
    multif0: Literal["frozen", "trained"] = "frozen"
    assignment: Literal["frozen", "trained"] = "frozen"
    decoding: Literal["reconstruction", "soft", "ste", "sigmoid", "threshold"] = "reconstruction"
    reference: Literal["item", "batch"] = "item"


@dataclass(frozen=True)
class ChoirConfig:
    """What an example is.

    Attributes:
        songs: names of the songs to train on, with commas; without any, those that the published
            split leaves for training, or all.
        validation: likewise those to validate on.
        singers: numbers of the singers to train on, with commas; "all" of them.
        validation_singers: likewise to validate on.
        voices: in a mixture.
        f0: tracks of each singer, or those estimated from mixtures (see the layouts of the data);
            none for a model that finds its own.
        sample_rate: in Hz.
        segment_length: N, in samples.
        passes: excerpts that an epoch takes of each song; 0: one for every 2.5 s of it, as
            validation does in any case.
    """

    songs: str = ""
    validation: str = ""
    singers: str = "all"
    validation_singers: str = "all"
    voices: int = _between(4, 1, 16)
    f0: Literal["singers", "mixture", "none"] = "singers"
    sample_rate: int = _between(16000, 1000, 384000)
    segment_length: int = _between(64000, 2048, 1 << 26)
    passes: int = _between(0, 0, 10**6)


@dataclass(frozen=True)
class EnsembleLossConfig:
    """What is minimised.

    Attributes:
        supervised: compare each voice with its recording, not their sum with the mixture.
        magnitude: weight of the distance of magnitudes.
        log_magnitude: weight of the distance of their logarithms.
        consistency: weight of the squared distance between the sum of the voices' saliences and
            that of all pitches (estimated f0 only).
        band: weight of the salience of voices outside their ranges (estimated f0 only).
        commitment: weight of the distance of saliences from the decoded tracks (estimated f0 only).
        reconstruction: weight of all else; 0 trains the f0 networks alone.
    """

    supervised: bool = False
    magnitude: float = _between(1.0, 0.0, 1e6)
    log_magnitude: float = _between(1.0, 0.0, 1e6)
    consistency: float = _between(0.0, 0.0, 1e9)
    band: float = _between(0.0, 0.0, 1e9)
    commitment: float = _between(0.0, 0.0, 1e9)
    reconstruction: float = _between(1.0, 0.0, 1e6)


@dataclass(frozen=True)
class EnsembleTrainingConfig:
    """How it is trained: Adam with PyTorch's default betas.

    Attributes:
        batch_size: B, of all processes together.
        learning_rate: of Adam.
        weight_decay: added to the gradient, times the weight.
        clip: the largest norm that a gradient keeps; 0: any, as published.
        decay: factor of the learning rate after every so many epochs.
        decay_every: epochs from one such step to the next.
        epochs: passes over the songs, at most.
        max_steps: steps at most; 0 means no limit.
        patience: epochs without a better validation loss that end the training; 0: never.
        validate_every: epochs from one validation to the next.
        seed: of the initial weights, the excerpts and the noise.
        start_from: run folder whose best weights are the initial ones, "" for none.
        checkpoint_every: steps between checkpoints; one is also written after every epoch.
        max_skipped: a step whose loss or gradient is not finite is skipped; training stops when
            more than this many have been.
        precision: "float32"; "tf32" or "bfloat16" for the networks, as for representations. What is
            synthesised and its spectra are float32 in each.
        read_every: losses are fetched from the device after so many steps; 0 chooses.
        cuda_graph: record the whole step once and replay it. "auto" does so on CUDA where the f0 is
            known before the step and nothing is dropped at random; the run's log says which.
        threads: of the CPU; 0 takes torch's own.
    """

    batch_size: int = _between(15, 1, 1 << 16)
    learning_rate: float = _between(1e-4, 1e-12, 10.0)
    weight_decay: float = _between(1e-5, 0.0, 1.0)
    clip: float = _between(0.0, 0.0, 1e9)
    decay: float = _between(0.98, 1e-6, 1.0)
    decay_every: int = _between(200, 1, 10**9)
    epochs: int = _between(8000, 1, 10**9)
    max_steps: int = _between(0, 0, 10**9)
    patience: int = _between(200, 0, 10**9)
    validate_every: int = _between(1, 1, 10**6)
    seed: int = _between(4, 0, 2**63 - 1)
    start_from: str = ""
    checkpoint_every: int = _between(500, 1, 10**9)
    max_skipped: int = _between(20, 0, 10**9)
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    read_every: int = _between(0, 0, 10**5)
    cuda_graph: Literal["auto", "on", "off"] = "auto"
    threads: int = _between(0, 0, 1024)


@dataclass(frozen=True)
class EnsembleConfig:
    """All settings of a run.

    Attributes:
        convention: the equations as meant, or those of the published code where they differ.
        model: what separates.
        data: excerpts.
        loss: what is minimised.
        training: the optimisation.
    """

    convention: Literal["paper", "code"] = "paper"
    model: SeparatorConfig = SeparatorConfig()
    data: ChoirConfig = ChoirConfig()
    loss: EnsembleLossConfig = EnsembleLossConfig()
    training: EnsembleTrainingConfig = EnsembleTrainingConfig()


_NETWORKS: Mapping[str, Value] = {"model.f0": "estimated", "data.f0": "none"}
_F0_LOSSES: Mapping[str, Value] = {
    "loss.consistency": 1e4,
    "loss.band": 1e5,
    "loss.commitment": 1e4,
}
_TRAINED: Mapping[str, Value] = {"model.multif0": "trained", "model.assignment": "trained"}
_U_NET: Mapping[str, Value] = {
    "model.kind": "u-net",
    "loss.supervised": True,
    "training.batch_size": 16,
    "training.learning_rate": 1e-3,
}

PRESETS: Mapping[str, Mapping[str, Value]] = {
    "umss": {},
    "umss-supervised": {"loss.supervised": True},
    # the first half names the multi-f0 network, the second the assignment: frozen or fine-tuned
    "sf-sf": _NETWORKS,
    "sf-sft": {**_NETWORKS, "model.assignment": "trained"},
    "sft-sft": {**_NETWORKS, **_TRAINED},
    # in three stages, each from the one before: --set training.start_from=RUN
    "w-up-1": {**_NETWORKS, **_TRAINED, **_F0_LOSSES, "loss.reconstruction": 0.0},
    "w-up-2": _NETWORKS,
    "w-up-3": {**_NETWORKS, **_TRAINED},
    "u-net": _U_NET,
    "u-net-harmonics": {**_U_NET, "model.conditioning": "harmonics"},
}
"""The variants of the published comparison; what a preset does not name is the default."""


CODE: Mapping[str, Value] = {"model.reference": "batch"}
"""Defaults under ``convention = "code"``."""


def _defaults(given: Mapping[str, Value]) -> Mapping[str, Value]:
    """The defaults that differ from the dataclasses'."""
    return CODE if given.get("convention") == "code" else {}


def _check(config: EnsembleConfig) -> None:
    """Raise InputError where settings, each possible by itself, cannot work together."""
    model, loss = config.model, config.loss
    if model.f0 == "external":
        for key, value in (("multif0", model.multif0), ("assignment", model.assignment)):
            if value == "trained":
                raise InputError(f"model.{key} = 'trained' goes with model.f0 = 'estimated'")
        for key in ("consistency", "band", "commitment"):
            if getattr(loss, key) > 0:
                raise InputError(f"loss.{key} > 0 goes with model.f0 = 'estimated'")
        if config.data.f0 == "none":
            raise InputError("data.f0 = 'none' goes with model.f0 = 'estimated'")
    else:
        _check_networks(config)
    if model.kind == "u-net":
        if not loss.supervised:
            raise InputError("model.kind = 'u-net' needs loss.supervised = true")
        if model.f0 == "estimated":
            raise InputError("model.kind = 'u-net' goes with model.f0 = 'external'")
        for key, usual in (("roll_off", "fixed"), ("levels", "synthesised")):
            if getattr(model, key) != usual:
                raise InputError(f"model.{key} goes with model.kind = 'source-filter'")
    if loss.reconstruction == 0 and not loss.consistency + loss.band + loss.commitment:
        raise InputError("all weights of the loss are 0: nothing would be trained")


def _check_networks(config: EnsembleConfig) -> None:
    """Likewise where the f0 networks are a part of the model."""
    model, data, loss = config.model, config.data, config.loss
    if data.voices != 4:
        raise InputError(
            f"model.f0 = 'estimated' assigns four voices, data.voices is {data.voices}"
        )
    shortest = hcqt.SHORTEST / hcqt.SAMPLE_RATE
    if data.segment_length < shortest * data.sample_rate:
        raise InputError(
            f"model.f0 = 'estimated' needs excerpts of {shortest:.2f} s or more, "
            f"data.segment_length = {data.segment_length} is "
            f"{data.segment_length / data.sample_rate:.2f} s"
        )
    if "trained" not in (model.multif0, model.assignment):
        for key in ("consistency", "band", "commitment"):
            if getattr(loss, key) > 0:
                raise InputError(
                    f"loss.{key} > 0 goes with model.multif0 or model.assignment = 'trained'"
                )


SCHEMA = Schema(EnsembleConfig, PRESETS, _defaults, _check)
