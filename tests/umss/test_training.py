"""Training of separators: what moves, what is saved, and that an interruption changes nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast import ops
from rlsv_fast.errors import InputError
from rlsv_fast.training import Interrupted, StepLosses, read_checkpoint
from rlsv_fast.umss import (
    EnsembleModel,
    EnsembleObjective,
    EnsembleTrainer,
    ExcerptStore,
    Song,
    choose_songs,
    find_songs,
    train_separator,
)
from rlsv_fast.umss.known_f0 import KnownF0
from rlsv_fast.umss.model import Known, build_model
from rlsv_fast.umss.settings import PRESETS, EnsembleConfig
from rlsv_fast.umss.update import EnsembleUpdate
from umss.choir_files import choir
from umss.small import LONG, config, interrupt_at, records

pytestmark = pytest.mark.usefixtures("small")
CPU = torch.device("cpu")
close = torch.testing.assert_close


def short(preset: str) -> EnsembleConfig:
    """Small settings of a preset, with excerpts as long as it needs."""
    needs_networks = PRESETS[preset].get("model.f0") == "estimated"
    return config(*([LONG] if needs_networks else []), "training.epochs=2", preset=preset)


def store(songs: list[Song], settings: EnsembleConfig) -> ExcerptStore:
    return ExcerptStore(songs, length=settings.data.segment_length, passes=settings.data.passes)


def trainer(songs: list[Song], settings: EnsembleConfig, run: Path) -> EnsembleTrainer:
    one, two = (store(chosen, settings) for chosen in choose_songs(songs, settings))
    return EnsembleTrainer(settings, one, two, run, device=CPU)


def weights(model: EnsembleModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_moves_in_each_variant(preset: str, songs: list[Song], tmp_path: Path) -> None:
    settings = short(preset)
    before = weights(build_model(settings))
    model = train_separator(settings, songs, tmp_path / "run")
    moves = {
        "separator": settings.loss.reconstruction > 0,
        "tracker.multif0": settings.model.multif0 == "trained",
        "tracker.assignment": settings.model.assignment == "trained",
    }
    for part, moved in moves.items():
        names = [name for name, _ in model.named_parameters() if name.startswith(part)]
        changed = [name for name in names if not before[name].equal(model.state_dict()[name])]
        assert changed == (names if moved else [])
    if model.tracker is not None:
        for name, tensor in model.tracker.state_dict().items():
            if "running" in name or "batches" in name:
                assert tensor.equal(before[f"tracker.{name}"]), name
        assert not any(part.training for part in model.tracker.modules())
    for record in records(tmp_path / "run", "step"):
        sizes = {key: record[key] for key in ("total", "reconstruction", "representation")}
        assert all(map(math.isfinite, sizes.values()))
        weighted = settings.loss.reconstruction * sizes["reconstruction"]
        assert sizes["total"] == pytest.approx(weighted + sizes["representation"])
        assert record["gradient_norm"] > 0
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.toml", "log.jsonl", "state.json", "best.safetensors"} | {
        f"checkpoint{which}.safetensors" for which in ("", ".previous")
    }


@pytest.mark.parametrize("supervised", [False, True])
def test_the_objective_of_a_source_filter_model(
    supervised: bool,
    songs: list[Song],
) -> None:
    settings = config(
        "loss.magnitude=0.5",
        "loss.log_magnitude=2",
        "loss.reconstruction=3",
        f"loss.supervised={str(supervised).lower()}",
    )
    model = build_model(settings)
    mixture, sources, f0 = next(store(songs, settings).epoch(2, seed=0, epoch=0))
    objective = EnsembleObjective(model, settings)
    found = objective(mixture, sources, Known(f0=f0), torch.Generator().manual_seed(1))
    made = model.separator(mixture, f0, generator=torch.Generator().manual_seed(1))
    pairs = [(made.mixture, mixture)]
    if supervised:
        pairs = [(made.sources[:, voice], sources[:, voice]) for voice in range(4)]
    distances = [
        ops.spectral_loss(*pair, magnitude_weight=0.5, log_magnitude_weight=2.0, reduce="mean")
        for pair in pairs
    ]
    expected = torch.stack(distances).mean()
    close(found.reconstruction, expected)
    close(found.total, 3 * expected)
    assert found.representation == 0


def test_the_objective_of_a_u_net(songs: list[Song]) -> None:
    settings = config(preset="u-net")
    model = build_model(settings).eval()
    mixture, sources, f0 = next(store(songs, settings).epoch(2, seed=0, epoch=0))
    drawn = set()
    for seed in range(12):
        found = EnsembleObjective(model, settings)(
            mixture, sources, Known(f0=f0), torch.Generator().manual_seed(seed)
        )
        generator = torch.Generator().manual_seed(seed)
        voices = torch.randint(4, (2,), generator=generator).tolist()
        distances = []
        for item, voice in enumerate(voices):
            one = slice(item, item + 1)
            estimate = model.separator.estimate(mixture[one], f0[one, voice])
            true = model.separator.spectrum(sources[one, voice]).abs()
            distances.append((estimate - true).abs().mean())
        close(found.total, torch.stack(distances).mean())
        drawn |= set(voices)
    assert drawn == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("preset", "stop"), [("umss", 1), ("umss", 4), ("u-net", 3), ("sf-sft", 3), ("sf-sf", 5)]
)
def test_a_resumed_run_ends_with_the_same_bits(
    preset: str,
    stop: int,
    songs: list[Song],
    tmp_path: Path,
) -> None:
    settings = [] if preset in ("umss", "u-net") else [LONG]
    settings += ["training.decay=0.5", "training.decay_every=1"]
    wanted = config(*settings, preset=preset)
    train_separator(wanted, songs, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train_separator(wanted, songs, tmp_path / "parts", callback=interrupt_at(stop))
    assert read_checkpoint(tmp_path / "parts").state["step"] == stop
    train_separator(wanted, songs, tmp_path / "parts", resume=True)
    for name in ("checkpoint", "best"):
        whole, parts = (
            load_file(tmp_path / run / f"{name}.safetensors") for run in ("whole", "parts")
        )
        assert whole.keys() == parts.keys()
        assert all(tensor.equal(parts[key]) for key, tensor in whole.items())
    for kind in ("step", "epoch"):
        first, second = (records(tmp_path / run, kind) for run in ("whole", "parts"))
        assert first == second and len(first) == (6 if kind == "step" else 3)
    first, second = (read_checkpoint(tmp_path / run).state for run in ("whole", "parts"))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert first["best"] == min(r["validation"] for r in records(tmp_path / "whole", "epoch"))


def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Learning rates of the steps to come."""
    found: list[float] = []
    whole = EnsembleUpdate._apply

    def applied(self: EnsembleUpdate, losses: StepLosses) -> None:
        found.append(float(self.optimizer.param_groups[0]["lr"]))
        whole(self, losses)

    monkeypatch.setattr(EnsembleUpdate, "_apply", applied)
    return found


def test_the_learning_rate_falls_by_epochs(
    songs: list[Song],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = rates(monkeypatch)
    settings = ("training.epochs=5", "training.decay=0.5", "training.decay_every=2")
    with pytest.raises(Interrupted):
        train_separator(config(*settings), songs, tmp_path / "run", callback=interrupt_at(5))
    train_separator(config(*settings), songs, tmp_path / "run", resume=True)
    epochs = [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]
    assert made == pytest.approx([rate for rate in epochs for _ in range(2)])


def validations(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Put numbers in the place of validation losses."""
    given = iter(losses)
    monkeypatch.setattr(EnsembleTrainer, "_validation_loss", lambda self: next(given))


def test_patience_ends_a_run_also_after_an_interruption(
    songs: list[Song],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validations(monkeypatch, [3.0, 2.0, math.nan, 2.0, 1.0, 5.0, 5.0, 5.0])
    settings = ("training.epochs=50", "training.patience=3")
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train_separator(config(*settings), songs, run, callback=interrupt_at(7))
    state = read_checkpoint(run).state
    assert (state["epoch"], state["batch"], state["best"], state["best_epoch"]) == (3, 1, 2.0, 2)
    train_separator(config(*settings), songs, run, resume=True)
    epochs = records(run, "epoch")
    assert [record["best"] for record in epochs] == [3, 2, 2, 2, 1, 1, 1, 1]
    assert epochs[2]["validation"] is None  # NaN
    assert read_checkpoint(run).state["best_epoch"] == 5
    # finished; with more patience it would go on
    train_separator(config(*settings), songs, run, resume=True)
    assert len(records(run, "epoch")) == 8
    validations(monkeypatch, [0.5])
    more = ("training.epochs=9", "training.patience=4")
    train_separator(config(*more), songs, run, resume=True)
    assert records(run, "epoch")[-1]["best"] == 0.5


def test_a_first_validation_that_is_not_finite_is_not_the_best(
    songs: list[Song],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validations(monkeypatch, [math.nan, 7.0])
    train_separator(config("training.epochs=2"), songs, tmp_path / "run")
    assert [r["best"] for r in records(tmp_path / "run", "epoch")] == [None, 7.0]


def test_validation_every_few_epochs(songs: list[Song], tmp_path: Path) -> None:
    settings = ("training.epochs=5", "training.validate_every=2")
    train_separator(config(*settings), songs, tmp_path / "run")
    found = ["validation" in record for record in records(tmp_path / "run", "epoch")]
    assert found == [False, True, False, True, False]


@pytest.mark.parametrize("preset", ["umss", "u-net", "sf-sft", "w-up-1"])
def test_validation_sees_the_same_and_leaves_no_trace(
    preset: str,
    songs: list[Song],
    tmp_path: Path,
) -> None:
    made = trainer(songs, short(preset), tmp_path)
    made.model.train()
    before, modes = weights(made.model), [part.training for part in made.model.modules()]
    noise, state = made.update.noise.get_state(), torch.get_rng_state()
    first = made._validation_loss()
    assert made._validation_loss() == first and math.isfinite(first) and first > 0
    assert made.update.noise.get_state().equal(noise) and torch.get_rng_state().equal(state)
    assert [part.training for part in made.model.modules()] == modes
    assert all(tensor.equal(before[name]) for name, tensor in made.model.state_dict().items())
    assert all(parameter.grad is None for parameter in made.model.parameters())


def bad_steps(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    """Losses of some steps are NaN."""
    whole, calls = EnsembleUpdate.losses_of, iter(range(1, 100))

    def losses(self: EnsembleUpdate, *arguments: Any) -> tuple[StepLosses, str]:
        found, last = whole(self, *arguments)
        scale = math.nan if next(calls) in bad else 1.0
        return found._replace(total=found.total * scale), last

    monkeypatch.setattr(EnsembleUpdate, "losses_of", losses)


def test_steps_that_are_not_finite(
    songs: list[Song],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad_steps(monkeypatch, {2, 3, 9, 10})
    settings = config("training.max_steps=4", "training.max_skipped=2")
    model = train_separator(settings, songs, tmp_path / "run")
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert [r["skipped"] for r in records(tmp_path / "run", "step")] == [0, 1, 2, 2]
    settings = config("training.epochs=9", "training.max_skipped=1")
    with pytest.raises(InputError, match="stopped at step 6, the loss was not finite and 2 steps"):
        train_separator(settings, songs, tmp_path / "other")


def direct(model: EnsembleModel, mixture: Tensor, settings: EnsembleConfig) -> Tensor:
    """f0, or salience, without a cache."""
    assert model.tracker is not None
    with torch.no_grad():
        found = model.tracker(mixture)
    return found.f0 if settings.model.assignment == "frozen" else found.salience


@pytest.mark.parametrize("preset", ["sf-sf", "sf-sft"])
def test_what_frozen_networks_find_is_found_once(
    preset: str,
    songs: list[Song],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = short(preset)
    model, excerpts = build_model(settings), store(songs, settings)
    assert model.tracker is not None
    calls: list[int] = []
    whole = model.tracker.salience

    def counted(mixture: Tensor) -> Tensor:
        calls.append(len(mixture))
        return whole(mixture)

    monkeypatch.setattr(model.tracker, "salience", counted)
    known = KnownF0(model, settings)
    places = excerpts.grid()
    once = known(places, excerpts.gather(places))
    assert calls == [1] * len(places)
    mixed = [places[-1], places[0], places[-1]]
    again = known(mixed, excerpts.gather(mixed))
    assert calls == [1] * len(places)
    calls.clear()
    without = KnownF0(model, settings, room=0)
    for _ in range(2):  # nothing is kept, and the bits are the same
        fresh = without(mixed, excerpts.gather(mixed))
        for one, other in zip(again, fresh, strict=True):
            assert (one is None) == (other is None) and (one is None or one.equal(other))
    assert calls == [1] * 6
    expected = direct(model, excerpts.gather(places).mixture, settings)
    if preset == "sf-sf":
        assert once.salience is None and once.f0 is not None
        assert once.f0.equal(expected) and (once.f0 > 0).any()
        assert not once.f0.equal(once.f0.half().float())
    else:
        assert once.f0 is None and once.salience is not None
        assert once.salience.equal(expected.half().float())
    kept = known._kept[places[0]]
    room = kept.numel() * kept.element_size()
    bounded = KnownF0(model, settings, room=room)
    bounded(places, excerpts.gather(places))
    assert list(bounded._kept) == places[:1] and len(places) > 1


@pytest.mark.parametrize(
    ("preset", "setting"), [("sf-sf", "model.reference=batch"), ("sft-sft", "convention=paper")]
)
def test_nothing_is_kept_of_what_may_change(
    preset: str,
    setting: str,
    songs: list[Song],
) -> None:
    settings = config(LONG, setting, preset=preset)
    excerpts = store(songs, settings)
    known = KnownF0(build_model(settings), settings)
    assert known(excerpts.grid(), excerpts.gather(excerpts.grid())) == Known()
    assert not known._kept


def test_f0_of_the_data_is_passed_on(songs: list[Song]) -> None:
    settings = config()
    excerpts = store(songs, settings)
    batch = excerpts.gather(excerpts.grid())
    known = KnownF0(build_model(settings), settings)(excerpts.grid(), batch)
    assert known.salience is None and known.f0 is batch.f0


def test_stages_start_from_each_other(songs: list[Song], tmp_path: Path) -> None:
    former: Path | None = None
    models = {}
    for stage in ("w-up-1", "w-up-2", "w-up-3"):
        start = [] if former is None else [f"training.start_from={former}"]
        settings = config(LONG, "training.epochs=1", *start, preset=stage)
        if former is not None:
            begun = EnsembleUpdate(settings, CPU, 1).model.state_dict()
            best = load_file(former / "best.safetensors")
            assert begun.keys() == best.keys()
            assert all(begun[name].equal(tensor) for name, tensor in best.items())
        former = tmp_path / stage
        models[stage] = weights(train_separator(settings, songs, former))
    for name, tensor in models["w-up-2"].items():
        if name.startswith("tracker."):
            assert tensor.equal(models["w-up-1"][name])


def test_a_run_goes_on_without_the_one_it_started_from(
    songs: list[Song],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train_separator(config("training.epochs=1"), songs, first)
    settings = (LONG, f"training.start_from={first}")
    wanted = config(*settings, "training.max_steps=1", preset="sf-sf")
    train_separator(wanted, songs, second)
    first.rename(tmp_path / "elsewhere")

    def missing() -> None:
        raise InputError("no weights there")

    monkeypatch.setattr("rlsv_fast.umss.model.load_networks", missing)
    longer = config(*settings, "training.max_steps=2", preset="sf-sf")
    train_separator(longer, songs, second, resume=True)
    assert read_checkpoint(second).state["step"] == 2
    with pytest.raises(InputError, match="no weights there"):
        train_separator(longer, songs, tmp_path / "third")


def test_runs_one_cannot_start_from(songs: list[Song], tmp_path: Path) -> None:
    train_separator(config("training.epochs=1", preset="u-net"), songs, tmp_path / "u-net")
    train_separator(config("training.epochs=1"), songs, tmp_path / "umss")
    for setting, former, message in (
        ("data.voices=4", "nowhere", "nowhere"),
        ("data.voices=4", "u-net", "start_from: .*best.safetensors has no part in common"),
    ):
        wanted = config(setting, f"training.start_from={tmp_path / former}")
        with pytest.raises(InputError, match=message):
            train_separator(wanted, songs, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_bfloat16_trains(songs: list[Song], tmp_path: Path) -> None:
    for preset in ("umss", "u-net", "sft-sft"):
        long = [LONG] if preset == "sft-sft" else []
        found = {}
        for precision in ("float32", "bfloat16"):
            wanted = config(*long, f"training.precision={precision}", preset=preset)
            run = tmp_path / f"{preset}-{precision}"
            model = train_separator(wanted, songs, run)
            assert all(p.dtype == torch.float32 for p in model.parameters())
            found[precision] = records(run, "step")[0]["reconstruction"]
        assert found["bfloat16"] != found["float32"]
        assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.05)


def test_readings_may_come_late(songs: list[Song], tmp_path: Path) -> None:
    settings = ("training.max_steps=5", "training.checkpoint_every=3")
    found = []
    for read_every in (1, 4):
        run = tmp_path / str(read_every)
        train_separator(config(*settings, f"training.read_every={read_every}"), songs, run)
        found.append((records(run, "step"), load_file(run / "checkpoint.safetensors")))
    assert found[0][0] == found[1][0]
    assert all(tensor.equal(found[1][1][name]) for name, tensor in found[0][1].items())


def test_songs_by_name_or_by_the_published_split(tmp_path: Path) -> None:
    names = ["1_BC001_part1", "8_BC002_part1", "9_BQ003_part2", "17_BC021_part11"]
    found = [Song(name, 16000, {}) for name in names]

    def chosen(*settings: str) -> tuple[list[str], list[str]]:
        wanted = config("data.validation=", *settings)
        one, two = choose_songs(found, wanted)
        return [song.name for song in one], [song.name for song in two]

    assert chosen() == (names[:1], names[1:3])
    assert chosen(f"data.songs={names[3]}, {names[1]}") == ([names[3], names[1]], [names[2]])
    with pytest.raises(InputError, match="data.songs: no song 'x'; there are 17_BC021_part11, 1_"):
        chosen("data.songs=x")
    with pytest.raises(InputError, match="data.validation names no song"):
        choose_songs(found[:1], config("data.validation="))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.singers=one"], "data.singers must be 'all' or numbers, as in '1,2', got 'one'"),
        (["data.singers=7"], "has 4 voices of singers"),
        (["data.validation_singers=1,x"], "data.validation_singers must be"),
        (["data.segment_length=40000"], "40000 samples"),
        (["training.cuda_graph=on"], "cuda_graph = 'on' cannot be: this run is on cpu"),
        (["data.validation=three"], "no song 'three'; there are one, two"),
    ],
)
def test_bad_data_leaves_no_folder(
    settings: list[str],
    message: str,
    songs: list[Song],
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=message):
        train_separator(config(*settings), songs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_singers_are_chosen(tmp_path: Path) -> None:
    choir(tmp_path / "songs" / "one", seconds=1.0)
    choir(tmp_path / "songs" / "two", seconds=1.0)
    seen: set[int] = set()
    whole = ExcerptStore.gather

    def gather(self: ExcerptStore, places: Any) -> Any:
        seen.update(number for place in places for _, number in place.singers)
        return whole(self, places)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExcerptStore, "gather", gather)
        settings = ("training.epochs=1", "data.singers=2", "data.validation_singers=2")
        train_separator(config(*settings), find_songs(tmp_path / "songs"), tmp_path / "run")
    assert seen == {2}


@pytest.mark.parametrize("clip", [0.0, 0.25])
def test_the_norm_of_a_gradient_has_a_limit(clip: float, songs: list[Song]) -> None:
    settings = config(f"training.clip={clip}")
    one = store(choose_songs(songs, settings)[0], settings)
    update = EnsembleUpdate(settings, CPU, 1)
    (batch, *_) = one.epoch(2, seed=0, epoch=0)
    update(batch.mixture, batch.sources, Known(f0=batch.f0))
    gradients = [p.grad for p in update.model.parameters() if p.grad is not None]
    (reading,) = update.readings.fetch(1)
    assert reading.gradient_norm > 1, "what is logged is the norm before"
    kept = clip or reading.gradient_norm
    assert float(torch.nn.utils.get_total_norm(gradients)) == pytest.approx(kept, rel=1e-4)


def test_a_small_model_learns_an_excerpt() -> None:
    """Two synthetic voices, steady and swelling: the mixture alone teaches it their sounds."""
    settings = config("data.voices=2", "training.learning_rate=1e-2")
    time = torch.arange(8192) / 16000
    f0 = torch.tensor([[[220.0], [330.0]]]).expand(1, 2, 32)
    swell = torch.stack([0.1 + time, 0.6 - time])
    harmonics = torch.arange(1, 9)[:, None, None]
    tones = (2 * torch.pi * harmonics * f0[0, :, :1] * time).sin() / harmonics**2
    sources = 0.3 * swell * tones.sum(0)
    mixture = sources.sum(0, keepdim=True)
    update = EnsembleUpdate(settings, CPU, 100)
    for _ in range(100):
        update(mixture, sources[None], Known(f0=f0))
    losses = [reading.reconstruction for reading in update.readings.fetch(100)]
    first, last = np.mean(losses[:5]), np.mean(losses[-5:])
    assert last < first / 5
