"""Several processes train a separator as one would, apart from the noise, which each draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training import workers
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast.errors import InputError
from rlsv_fast.processes import Processes
from rlsv_fast.training import Interrupted, read_checkpoint
from rlsv_fast.umss import Song, SourceFilterSynthesizer, train_separator
from rlsv_fast.umss.model import Known
from rlsv_fast.umss.update import EnsembleUpdate
from umss.small import LONG, config, interrupt_at, records, shrink

STEPS = 3


def _same_noise(synthesizer: SourceFilterSynthesizer, *parameters: Tensor, **_: Any) -> Tensor:
    """The same random numbers for each voice, wherever it is."""
    rows = zip(*(parameter.split(1) for parameter in parameters), strict=True)
    drawn = [_noise(synthesizer, *row, generator=torch.Generator().manual_seed(0)) for row in rows]
    return torch.cat(drawn)


_noise = SourceFilterSynthesizer.noise


def _steps(processes: Processes, folder: Path, supervised: bool) -> None:
    """Save readings and parameters after some steps in float64."""
    shrink(setattr)
    SourceFilterSynthesizer.noise = _same_noise  # type: ignore[method-assign, assignment]
    torch.set_default_dtype(torch.float64)
    settings = config("training.batch_size=4", f"loss.supervised={str(supervised).lower()}")
    update = EnsembleUpdate(settings, torch.device("cpu"), STEPS, processes)
    generator = torch.Generator().manual_seed(7)
    rows = processes.rows(4)
    for _ in range(STEPS):
        f0 = 100 + 300 * torch.rand(4, 2, 16, generator=generator)
        sources = 0.1 * torch.randn(4, 2, 4096, generator=generator)
        sources *= torch.tensor([0.1, 1.0, 3.0, 0.5])[:, None, None]
        update(sources.sum(1)[rows], sources[rows], Known(f0=f0[rows]))
    readings = torch.tensor(update.readings.fetch(STEPS))
    found = [readings, *(p.detach() for p in update.model.parameters())]
    torch.save(found, folder / f"{processes.size}-{processes.rank}.pt")


@pytest.mark.parametrize("supervised", [False, True])
def test_steps_are_those_of_one_process(supervised: bool, tmp_path: Path) -> None:
    for count in (1, 2):
        workers.run(count, tmp_path, _steps, tmp_path, supervised)
    alone, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert all(one.equal(other) for one, other in zip(first, second, strict=True))
    for one, other in zip(alone, first, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)


def _train(
    processes: Processes, songs: list[Song], run: Path, preset: str, *settings: str, **other: Any
) -> None:
    shrink(setattr)
    wanted = config(*settings, preset=preset)
    train_separator(wanted, songs, run, processes=processes, **other)


def test_f0_networks_are_warmed_up_as_by_one(
    songs: list[Song], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch.setattr)
    settings = (LONG, "training.epochs=2", "training.batch_size=4", "data.passes=8")
    _alone(songs, tmp_path / "alone", "w-up-1", *settings)
    workers.run(2, tmp_path, _train, songs, tmp_path / "both", "w-up-1", *settings)
    one, two = (read_checkpoint(tmp_path / name).group("model") for name in ("alone", "both"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5)
    for kind in ("step", "epoch"):
        first, second = (records(tmp_path / name, kind) for name in ("alone", "both"))
        for record, other in zip(first, second, strict=True):
            assert record.pop("kind") == other.pop("kind")
            assert record == pytest.approx(other, rel=1e-4)


def _alone(songs: list[Song], run: Path, preset: str, *settings: str) -> None:
    train_separator(config(*settings, preset=preset), songs, run)


def _stopped(processes: Processes, songs: list[Song], run: Path, preset: str) -> None:
    with pytest.raises(Interrupted):
        _train(processes, songs, run, preset, callback=interrupt_at(3))
    assert read_checkpoint(run).state["step"] == 3


@pytest.mark.parametrize("preset", ["umss", "u-net"])
def test_an_interruption_of_both_loses_no_bit(
    preset: str, songs: list[Song], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    workers.run(2, tmp_path, _train, songs, whole, preset)
    workers.run(2, tmp_path, _stopped, songs, parts, preset)
    workers.run(2, tmp_path, _resume, songs, parts, preset)
    first, second = (read_checkpoint(run).tensors for run in (whole, parts))
    assert all(tensor.equal(second[name]) for name, tensor in first.items())
    assert (whole / "best.safetensors").read_bytes() == (parts / "best.safetensors").read_bytes()
    for kind in ("step", "epoch"):
        assert records(whole, kind) == records(parts, kind)


def _resume(processes: Processes, songs: list[Song], run: Path, preset: str) -> None:
    _train(processes, songs, run, preset, resume=True)


def _begun(processes: Processes, run: Path) -> None:
    """What process 0 has read of another run is in all of them."""
    shrink(setattr)
    if processes.rank:
        run = run / "unreachable"
    settings = config(LONG, f"training.start_from={run}", preset="sft-sft")
    begun = EnsembleUpdate(settings, torch.device("cpu"), 1, processes).model.state_dict()
    path = (run if processes.first else run.parent) / "best.safetensors"
    best = load_file(path)
    assert best.keys() == begun.keys()
    assert all(tensor.equal(begun[name]) for name, tensor in best.items())


def test_one_reads_what_both_start_from(
    songs: list[Song], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch.setattr)
    _alone(songs, tmp_path / "run", "w-up-1", LONG, "training.epochs=1")
    workers.run(2, tmp_path, _begun, tmp_path / "run")


def _refusals(processes: Processes, songs: list[Song], run: Path) -> None:
    with pytest.raises(InputError, match="batch_size = 3 .* 2 cannot share it equally"):
        _train(processes, songs, run, "umss", "training.batch_size=3")
    with pytest.raises(InputError, match="process 1 has other training data than process 0"):
        other = "four" if processes.rank else "three"
        _train(processes, [*songs, replace(songs[0], name=other)], run, "umss")
    with pytest.raises(InputError, match="cuda_graph = 'on' cannot be"):
        _train(processes, songs, run, "umss", "training.cuda_graph=on")
    with pytest.raises(InputError, match="nowhere"):
        _train(processes, songs, run, "umss", "training.start_from=nowhere")
    processes.wait()
    assert not run.exists()


def test_what_one_cannot_do_both_refuse(songs: list[Song], tmp_path: Path) -> None:
    workers.run(2, tmp_path, _refusals, songs, tmp_path / "run")
