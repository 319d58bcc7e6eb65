"""What the experiments are: sizes, settings and names, without any training."""

from dataclasses import replace
from itertools import chain

import pytest
import torch

from rlsv_fast import cli, experiments
from rlsv_fast.errors import InputError
from rlsv_fast.experiments.runs import run_name, runs_of
from rlsv_fast.training import build_model, resolve

FULL, SMALL = experiments.SCALES["full"], experiments.SCALES["small"]


def build(name: str, scale: experiments.Scale = FULL) -> experiments.Experiment:
    return experiments.build(name, scale, {"paper": 0.34, "code": 1.6}.__getitem__)


def test_the_command_line_knows_all_names() -> None:
    assert cli.EXPERIMENTS == experiments.NAMES


@pytest.mark.parametrize("name", ["eusipco-table1", "eusipco-table2"])
def test_full_size_models_have_the_printed_numbers_of_parameters(name: str) -> None:
    for cell in build(name).cells:
        with torch.device("meta"):
            model = build_model(FULL.config(cell.settings))
        count = sum(parameter.numel() for parameter in model.parameters())
        assert f"{count / 1e6:.3f}M" == cell.parameters or (
            # 6,476,800 is printed as 6.476, cut and not rounded
            f"{count // 1000 / 1000:.3f}M" == cell.parameters
        ), cell.labels


def test_sizes_of_the_papers() -> None:
    assert FULL.fewer_parameters() == 952
    assert [cell.labels[1] for cell in build("eusipco-table2").cells[::2]] == [400, 800, 1600]
    assert SMALL.components(800) == 64
    for p in (1, 2):
        for convention in ("paper", "code"):
            assert FULL.epsilon(1.5, convention, p) == 1.5  # type: ignore[arg-type]


def test_settings_of_the_papers() -> None:
    first = FULL.config(build("eusipco-table1").cells[0].settings)
    assert first.model.power == 1 and first.model.modulator == "none" and first.model.hop == 384
    assert first.training.early_stopping and not first.data.random_mixing
    assert first.training.sort == "none"
    second = FULL.config(build("eusipco-table2").cells[0].settings)
    assert second.loss.computed_on == "voice" and second.data.random_mixing
    assert second.training.sort == "update" and not second.training.early_stopping
    grid = build("sinkhorn-figure5").cells
    assert len(grid) == 2 * 2 * 8
    configs = [FULL.config(cell.settings) for cell in grid]
    assert {config.model.hop for config in configs} == {256}
    assert {config.training.epochs for config in configs} == {10}
    # one set of segments for all, whatever the convention of the losses
    assert len({config.data for config in configs}) == 1


@pytest.mark.parametrize("scale", [FULL, SMALL], ids=lambda scale: scale.name)
def test_every_cell_is_a_possible_run_and_shared_ones_are_made_once(
    scale: experiments.Scale,
) -> None:
    every = [build(name, scale) for name in experiments.NAMES]
    runs = experiments.distinct_runs(every, scale)
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    wanted = {
        run.name: run.config
        for experiment in every
        for cell in experiment.cells
        for run in runs_of(cell, scale, experiment.seeds)
    }
    assert set(wanted) == set(names)
    assert len(set(wanted.values())) == len(names)  # different settings, different folders
    assert sum(len(e.cells) * len(e.seeds) for e in every) > len(names)
    assert set(chain(*(e.published for e in every))) == {
        "reconstruction_si_sdr", "mask_si_sdr", "additivity"
    }  # fmt: skip


def test_the_first_run_of_every_cell_comes_before_the_second_of_any() -> None:
    every = [build(name, SMALL) for name in ("eusipco-table1", "sinkhorn-table1")]
    seeds = [run.config.training.seed for run in experiments.distinct_runs(every, SMALL)]
    assert seeds == sorted(seeds)


def test_names_tell_settings_apart_and_nothing_else() -> None:
    config = resolve(overrides=["loss.representation=total-variation"])
    assert run_name(config) == run_name(
        replace(config, training=replace(config.training, threads=3, checkpoint_every=7))
    )
    other = replace(config, training=replace(config.training, max_steps=3))
    assert run_name(config) != run_name(other)


def test_a_scale_with_other_settings_and_seeds() -> None:
    scale = SMALL.changed({"training.max_steps": 5}).with_seeds(2)
    assert scale.config({}).training.max_steps == 5
    assert scale.table_seeds == SMALL.table_seeds[:2] and len(scale.grid_seeds) == 2
    with pytest.raises(InputError, match="differs between the cells"):
        SMALL.changed({"model.components": 5})
    with pytest.raises(InputError, match="max_stepz"):
        SMALL.changed({"training.max_stepz": 5})
