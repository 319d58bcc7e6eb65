"""Several processes train as one would: the same data, noise, losses, gradients and decisions."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training import Config, update
from training import tiny, workers

CPU = torch.device("cpu")
STEPS = 4

OBJECTIVES = [
    (f"convention={convention}", f"loss.representation={loss}", f"loss.computed_on={place}")
    for convention, loss, place in itertools.product(
        ("paper", "code"), ("total-variation", "sinkhorn"), ("mixture", "voice")
    )
]
OBJECTIVES += [
    (*OBJECTIVES[0], "loss.representation=none"),
    (*OBJECTIVES[1], "model.encoder=cosine", "training.sort=update"),
    (*OBJECTIVES[2], "loss.marginals=unit", "loss.p=2"),
    (*OBJECTIVES[6], "training.sort=update", "model.encoder=sinc", "model.decoder=conv"),
    (*OBJECTIVES[4], "training.sort=update"),
]


def _config(objective: tuple[str, ...]) -> Config:
    return tiny.config(*objective, "training.batch_size=4", "training.learning_rate=0.01")


def _batches() -> torch.Tensor:
    """Of voice and accompaniment, with unlike rows: loud ones, an offset, a silent one."""
    batches = torch.randn(STEPS, 2, 4, 600, generator=torch.Generator().manual_seed(7))
    batches *= torch.tensor([0.1, 1.0, 0.02, 0.3]).view(4, 1)
    batches += torch.tensor([0.0, 0.3, -0.1, 0.0]).view(4, 1)
    batches[1, 0, 0] = 0
    return batches


def _steps(objective: tuple[str, ...], processes: Processes) -> list[torch.Tensor]:
    """Readings, then parameters and moments, after some steps in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        step = update.Update(_config(objective), CPU, STEPS, processes)
        rows = processes.rows(4)
        for voice, accompaniment in _batches():
            step(voice[rows], accompaniment[rows])
        readings = torch.tensor(step.readings.fetch(STEPS))
        moments = [m for p in step.model.parameters() for m in step.optimizer.state[p].values()]
        return [readings, *(p.detach() for p in step.model.parameters()), *moments]
    finally:
        torch.set_default_dtype(torch.float32)


def _all_objectives(processes: Processes, folder: Path) -> None:
    found = [_steps(objective, processes) for objective in OBJECTIVES]
    torch.save(found, folder / f"{processes.size}-{processes.rank}.pt")


@pytest.fixture(scope="module", params=[2, 4])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("shared")
    workers.run(request.param, folder, _all_objectives, folder)
    return [torch.load(folder / f"{request.param}-{r}.pt") for r in range(request.param)]


@pytest.mark.parametrize("number", range(len(OBJECTIVES)), ids=lambda n: " ".join(OBJECTIVES[n]))
def test_steps_are_those_of_one_process(
    number: int, shared: list[list[list[torch.Tensor]]]
) -> None:
    alone = _steps(OBJECTIVES[number], ALONE)
    for found in shared:
        for one, other in zip(alone, found[number], strict=True):
            torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)
        for first, other in zip(shared[0][number], found[number], strict=True):
            assert other.equal(first)
