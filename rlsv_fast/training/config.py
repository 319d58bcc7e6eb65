"""Settings as data: one frozen tree of dataclasses, its presets, and what cannot work together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rlsv_fast.errors import InputError

Value: TypeAlias = str | int | float | bool


def _between(default: Any, low: float, high: float) -> Any:
    """A number with the range in which it makes sense; settings.py checks it."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class ModelConfig:
    """Encoder and decoder; the defaults are P2's.

    Attributes:
        encoder: first layer of the encoder: free kernels, cosines or sinc band-passes.
        decoder: modulated cosines, or free kernels.
        components: C, number of components.
        kernel_size: L, in samples.
        hop: S, in samples.
        power: exponent of the carrier frequency, 1 or 2 (modulated-cosine only).
        modulator: one per component, one shared by all, or none (modulated-cosine only).
        tanh: squash the output (conv decoder only; the default with the published code's).
    """

    encoder: Literal["conv", "cosine", "sinc"] = "conv"
    decoder: Literal["modulated-cosine", "conv"] = "modulated-cosine"
    components: int = _between(800, 1, 1 << 14)
    kernel_size: int = _between(2048, 2, 1 << 16)
    hop: int = _between(256, 1, 1 << 16)
    power: Literal[1, 2] = 2
    modulator: Literal["component", "shared", "none"] = "component"
    tanh: bool = False


@dataclass(frozen=True)
class DataConfig:
    """What a training segment is.

    Attributes:
        sample_rate: in Hz; tracks of another rate are resampled.
        segment_length: N, in samples.
        overlap: samples shared by neighbouring training segments.
        accompaniment: sum of the stems (papers), or mixture minus vocals (published code).
        random_mixing: pair the voice with unrelated accompaniment; false is P1, experiment 1.
        concatenate: join the tracks before cutting, as the published code does.
    """

    sample_rate: int = _between(44100, 1000, 384000)
    segment_length: int = _between(44100, 2, 1 << 26)
    overlap: int = _between(22050, 0, 1 << 26)
    accompaniment: Literal["stems", "difference"] = "stems"
    random_mixing: bool = True
    concatenate: bool = False


@dataclass(frozen=True)
class LossConfig:
    """Loss = neg-SNR + weight · representation loss.

    Attributes:
        representation: total-variation makes L_A, sinkhorn L_B.
        weight: ω.
        computed_on: representation of the mixture (A_m) or of the voice (A_v; P1, Table 2).
        epsilon: strength of the entropy (sinkhorn only): the λ of P2's tables. What a value does
            depends on the mean distance of frames, about 1.4 with the papers' normalisation and 6.5
            with the code's: above a quarter of it the loss pulls frames together, below it pushes
            them apart, and far below it does nothing.
        p: exponent of the distance between frames, 1 or 2 (sinkhorn only).
        marginals: each 1/T, as in the published code, which the published ω go with; or each 1, as
            P2 prints, which makes the loss T times larger (sinkhorn only).
        discriminator: weight of a discriminator's cross-entropy, which is trained along with the
            model to tell pairs of voice segments from pairs of voice and accompaniment (published
            code only; a proxy of mutual information); 0: none.
    """

    representation: Literal["total-variation", "sinkhorn", "none"] = "sinkhorn"
    weight: float = _between(1.0, 0.0, 1e6)
    computed_on: Literal["mixture", "voice"] = "mixture"
    epsilon: float = _between(0.5, 1e-4, 1e4)
    p: Literal[1, 2] = 1
    marginals: Literal["normalised", "unit"] = "normalised"
    discriminator: float = _between(0.0, 0.0, 1e6)


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained: Adam with PyTorch's default betas.

    Attributes:
        batch_size: B.
        learning_rate: of Adam.
        noise: standard deviation of the noise added to the voice.
        epochs: passes over the voice segments, at most.
        max_steps: steps at most; 0 means no limit.
        early_stopping: stop after an epoch whose mean reconstruction loss did not decrease (P1).
        sort: "update" takes the total variation between components that are neighbours by
            carrier, as if the kernels were sorted after every update (P1); "none" between
            neighbours by number (published code). Nothing else depends on the order.
        seed: of the initial weights, the shuffling and the noise.
        checkpoint_every: steps between checkpoints; one is also written after every epoch.
        max_skipped: a step whose loss or gradient is not finite is skipped; training stops when
            more than this many have been.
        precision: "float32"; "tf32", which lets a GPU's tensor cores round the factors of matrix
            products and convolutions to 11 bits (on a CPU nothing changes); or "bfloat16", which
            runs encoder and decoder under autocast, on any device. Parameters, moments, the
            operators and the losses are float32 in each.
        read_every: losses are fetched from the device, and logged, after so many steps; until then
            the host does not wait for it. 0 chooses 1 on the CPU, where it costs nothing, and 50
            elsewhere. Changes no number.
        cuda_graph: record the whole step once and replay it. "auto" does so on CUDA, unless the
            training set does not fit into the device's memory or ``compile`` is set; the run's log
            says which. "on" is an error there and on the CPU.
        compile: run the objective through ``torch.compile``; numbers then differ by rounding.
        threads: of the CPU. A run repeats to the bit for the same number on the same kind of
            processor; 0 takes torch's own, as many as cores or OMP_NUM_THREADS.
    """

    batch_size: int = _between(8, 1, 1 << 16)
    learning_rate: float = _between(1e-4, 1e-12, 10.0)
    noise: float = _between(1e-4, 0.0, 1e3)
    epochs: int = _between(10, 1, 10**6)
    max_steps: int = _between(0, 0, 10**9)
    early_stopping: bool = False
    sort: Literal["update", "none"] = "update"
    seed: int = _between(218, 0, 2**63 - 1)
    checkpoint_every: int = _between(500, 1, 10**9)
    max_skipped: int = _between(20, 0, 10**9)
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    read_every: int = _between(0, 0, 10**5)
    cuda_graph: Literal["auto", "on", "off"] = "auto"
    compile: bool = False
    threads: int = _between(0, 0, 1024)


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    Attributes:
        convention: the papers' equations, or those of the published code where they differ.
        model: encoder and decoder.
        data: segments.
        loss: reconstruction and representation loss.
        training: the optimisation.
    """

    convention: Literal["paper", "code"] = "paper"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()


CONVENTIONS: Mapping[str, Mapping[str, Value]] = {
    "paper": {},
    "code": {
        "data.accompaniment": "difference",
        "data.concatenate": True,
        "loss.weight": 0.5,
        "loss.epsilon": 1.3,
        "training.epochs": 8,
        "training.sort": "none",
    },
}
"""Defaults that come with a convention; presets, files and overrides go before them."""


def defaults(given: Mapping[str, Value]) -> dict[str, Value]:
    """Defaults by dotted key that differ from the dataclasses', for settings that are given."""
    convention = str(given.get("convention", Config.convention))
    found = dict(CONVENTIONS[convention])
    if convention == "code" and given.get("model.decoder") == "conv":
        found["model.tanh"] = True  # the only decoder that can have it
    return found


_16K: Mapping[str, Value] = {
    "data.sample_rate": 16000,
    "data.segment_length": 16000,
    "data.overlap": 8000,
}

PRESETS: Mapping[str, Mapping[str, Value]] = {
    # EUSIPCO 2020: total variation, hop 384
    "p1": {
        "model.hop": 384,
        "loss.representation": "total-variation",
        "loss.weight": 0.5,
    },
    # Sinkhorn paper: the defaults above
    "p2": {},
    # P2 at 16 kHz. Its kernels last 46 ms and hop by 5.8 ms, an eighth of that: 768 and 96 samples
    # keep the eighth and give 48 and 6 ms. The band is 2.8 times narrower, so half the components
    # cover it more densely than P2's do theirs. Sets of this kind are small and runs short, hence
    # the larger learning rate.
    "16k": {
        **_16K,
        "model.components": 400,
        "model.kernel_size": 768,
        "model.hop": 96,
        "training.learning_rate": 5e-4,
    },
    # The smallest that still shows everything, in minutes on two cores
    "demo": {
        **_16K,
        "model.components": 256,
        "model.kernel_size": 384,
        "model.hop": 96,
        "loss.representation": "total-variation",
        "loss.weight": 0.5,
        "training.learning_rate": 1e-3,
        "training.epochs": 1000,
        "training.max_steps": 2000,
    },
}
"""Settings by name; what a preset does not name is the default of its convention."""


def check(config: Config) -> None:
    """Raise InputError where settings, each possible by itself, cannot work together."""
    model, data = config.model, config.data
    if model.hop > model.kernel_size:
        raise InputError(
            f"model.hop = {model.hop} is larger than model.kernel_size = {model.kernel_size}: "
            "samples between the kernels would be lost; choose a hop of at most the kernel size"
        )
    if data.segment_length < model.kernel_size:
        raise InputError(
            f"data.segment_length = {data.segment_length} is shorter than model.kernel_size = "
            f"{model.kernel_size}; choose longer segments or shorter kernels"
        )
    if data.overlap >= data.segment_length:
        raise InputError(
            f"data.overlap = {data.overlap} must be less than data.segment_length = "
            f"{data.segment_length}"
        )
    if config.training.compile and config.training.cuda_graph == "on":
        raise InputError(
            "training.compile = true does not go with training.cuda_graph = 'on'; choose one"
        )
    if model.tanh and model.decoder != "conv":
        raise InputError(
            f"model.tanh = true goes with model.decoder = 'conv', not '{model.decoder}'"
        )
