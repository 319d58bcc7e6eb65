import re
from pathlib import Path

import pytest

from rlsv_fast.errors import InputError
from rlsv_fast.training import (
    PRESETS,
    build_losses,
    build_model,
    load_config,
    resolve,
    to_toml,
)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("convention", ["paper", "code"])
def test_settings_survive_a_round_trip(preset: str, convention: str, tmp_path: Path) -> None:
    config = resolve(preset, overrides=[f"convention={convention}", "training.noise=1e-7"])
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load_config(path) == config


def test_presets_are_the_papers() -> None:
    p1, p2 = resolve("p1"), resolve("p2")
    for config in (p1, p2):
        assert (config.model.components, config.model.kernel_size) == (800, 2048)
        assert (config.data.segment_length, config.data.overlap) == (44100, 22050)
        training = config.training
        assert (training.batch_size, training.learning_rate, training.noise) == (8, 1e-4, 1e-4)
        assert training.epochs == 10
    assert (p1.model.hop, p1.loss.representation, p1.loss.weight) == (384, "total-variation", 0.5)
    assert p1.loss.computed_on == "mixture"
    assert (p2.model.hop, p2.loss.representation, p2.loss.weight) == (256, "sinkhorn", 1.0)
    assert p2.loss.epsilon == 0.5


def test_a_convention_brings_its_defaults() -> None:
    config = resolve("p2", overrides=["convention=code"])
    assert (config.loss.weight, config.loss.epsilon, config.training.epochs) == (0.5, 1.3, 8)
    assert config.data.accompaniment == "difference" and config.data.concatenate
    assert config.training.sort == "none"
    # what is given goes before it
    assert resolve("p2", overrides=["convention=code", "loss.epsilon=2"]).loss.epsilon == 2.0


def test_the_code_squashes_the_output_of_free_kernels(tmp_path: Path) -> None:
    code, conv = "convention=code", "model.decoder=conv"
    assert resolve(overrides=[code, conv]).model.tanh
    assert not resolve(overrides=[code]).model.tanh
    assert not resolve(overrides=[conv]).model.tanh
    assert not resolve(overrides=[code, conv, "model.tanh=false"]).model.tanh
    path = tmp_path / "code.toml"
    path.write_text('convention = "code"\n[model]\ndecoder = "conv"\n')
    assert load_config(path).model.tanh


def test_later_sources_win(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\nhop = 128\ncomponents = 10\n[loss]\nweight = 3\n")
    config = resolve("p1", path, ["model.components=20"])
    assert (config.model.hop, config.model.components, config.loss.weight) == (128, 20, 3.0)
    assert isinstance(config.loss.weight, float)
    assert config.loss.representation == "total-variation"


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("model.componets=4", ["no setting 'model.componets'", "did you mean 'model.components'"]),
        ("hop=4", ["no setting 'hop'", "'model.hop'"]),
        ("zzz=4", ["no setting 'zzz'", "there are"]),
        ("model=4", ["no setting 'model'"]),
        ("model.hop", ["expected key=value"]),
        ("model.hop=4.5", ["model.hop must be an integer from 1 to 65536", "got 4.5"]),
        ("model.hop=true", ["model.hop", "got True"]),
        ("model.hop=many", ["model.hop", "got 'many'"]),
        ("model.hop=0", ["model.hop", "got 0"]),
        ("model.components=1000000000", ["model.components", "to 16384"]),
        ("model.power=3", ["model.power must be one of 1, 2", "got 3"]),
        ("model.power=true", ["model.power", "got True"]),
        ("model.encoder=conf", ["model.encoder must be one of 'conv'", "got 'conf'"]),
        ("training.learning_rate=nan", ["training.learning_rate must be a number from"]),
        ("training.learning_rate=inf", ["training.learning_rate", "got inf"]),
        ("training.learning_rate=-1", ["training.learning_rate", "got -1"]),
        ("training.early_stopping=1", ["must be true or false", "got 1"]),
        ("training.seed=" + "9" * 5000, ["training.seed"]),
        ("loss.epsilon=0", ["loss.epsilon"]),
        ("training.precision=half", ["training.precision must be one of 'float32', 'tf32'"]),
        ("training.read_every=-1", ["training.read_every must be an integer from 0"]),
        ("training.cuda_graph=true", ["training.cuda_graph must be one of 'auto', 'on', 'off'"]),
        ("training.compile=1", ["training.compile must be true or false"]),
        ("convention=both", ["convention must be one of 'paper', 'code'"]),
        ("model.hop=4096", ["model.hop = 4096", "model.kernel_size = 2048"]),
        ("data.segment_length=1000", ["data.segment_length = 1000", "model.kernel_size"]),
        ("data.overlap=44100", ["data.overlap = 44100", "data.segment_length"]),
        ("model.tanh=true", ["model.tanh", "model.decoder"]),
    ],
)
def test_an_impossible_override_is_named(override: str, fragments: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        resolve("p2", overrides=[override])
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"[model]\nhopp = 3\n", "did you mean 'model.hop'"),
        (b"[modl]\nhop = 3\n", "did you mean 'model.hop'"),
        (b"model = 3\n", "no setting 'model'"),
        (b"[model.hop]\nx = 3\n", "model.hop must be an integer"),
        (b"[model]\nhop = [1]\n", "got [1]"),
        (b"[model\n", "not valid TOML"),
        (b"\xff\xfe", "not a text file"),
        (b"#" * (2 << 20), "larger than 16 kB"),
        (b"a = " + b"[" * 10_000, "not valid TOML"),
    ],
)
def test_a_bad_file_is_named(content: bytes, fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: .*{re.escape(fragment)}"):
        resolve(file=path)


def test_a_compiled_objective_is_not_replayed_from_a_graph() -> None:
    settings = ["training.compile=true", "training.cuda_graph=on"]
    with pytest.raises(InputError, match=r"training\.compile = true does not go with"):
        resolve(overrides=settings)
    assert resolve(overrides=settings[:1]).training.cuda_graph == "auto"


def test_a_missing_file_and_preset_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.toml: cannot be read"):
        resolve(file=tmp_path / "nowhere.toml")
    with pytest.raises(InputError, match="no preset 'p3'; there are p1, p2, 16k, demo"):
        resolve("p3")


@pytest.mark.parametrize("convention", ["paper", "code"])
@pytest.mark.parametrize("encoder", ["conv", "cosine", "sinc"])
@pytest.mark.parametrize("decoder", ["modulated-cosine", "conv"])
def test_every_variant_can_be_built(convention: str, encoder: str, decoder: str) -> None:
    config = resolve(
        overrides=[
            *("model.components=6", "model.kernel_size=32", "model.hop=8"),
            *("data.segment_length=100", "data.overlap=0"),
            *(f"convention={convention}", f"model.encoder={encoder}", f"model.decoder={decoder}"),
        ]
    )
    model = build_model(config)
    assert (model.encoder.components, model.encoder.kernel_size, model.hop) == (6, 32, 8)
    again = build_model(config).state_dict()
    assert all(tensor.equal(again[name]) for name, tensor in model.state_dict().items())


def test_a_zero_weight_leaves_the_loss_out() -> None:
    assert build_losses(resolve("p1", overrides=["loss.weight=0"])).representation is None
