"""The runs of a grid: each a run folder, named after its settings and made once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rlsv_fast import data, evaluation, nn, training
from rlsv_fast.errors import InputError
from rlsv_fast.experiments.experiment import Cell, Experiment
from rlsv_fast.experiments.scale import Scale
from rlsv_fast.training.arithmetic import computing_threads
from rlsv_fast.training.run_files import CONFIG

EVALUATION = "evaluation.json"

_NO_MATTER = ("training.seed", "training.threads", "training.checkpoint_every")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes:
        name: of its folder; the same settings have the same name in every experiment.
        config: resolved settings.
    """

    name: str
    config: training.Config


@dataclass(frozen=True)
class Bench:
    """Where and with what runs are made.

    Attributes:
        folder: of all run folders.
        train: training tracks.
        test: test tracks.
        device: where to compute.
        threads: of the CPU; 0: torch's own.
        commit: of this code, for the evaluations.
    """

    folder: Path
    train: Sequence[data.PreparedTrack]
    test: Sequence[data.PreparedTrack]
    device: torch.device
    threads: int = 0
    commit: str | None = None


def runs_of(cell: Cell, scale: Scale, seeds: Sequence[int]) -> list[Run]:
    """The runs of a cell, one per seed."""
    configs = [scale.config({**cell.settings, "training.seed": seed}) for seed in seeds]
    return [Run(run_name(config), config) for config in configs]


def distinct_runs(experiments: Sequence[Experiment], scale: Scale) -> list[Run]:
    """The runs of experiments, each once.

    First one of each cell, then the further seeds, so that tables fill evenly.
    """
    found: dict[str, Run] = {}
    for number in range(max(len(experiment.seeds) for experiment in experiments)):
        for experiment in experiments:
            for cell in experiment.cells:
                for run in runs_of(cell, scale, experiment.seeds[number : number + 1]):
                    found.setdefault(run.name, run)
    return list(found.values())


def run_name(config: training.Config) -> str:
    """A readable name with a digest of all settings that are not defaults, and the seed."""
    model, loss = config.model, config.loss
    decoder = model.decoder
    if decoder == "modulated-cosine":
        shape = {"component": "modcos", "shared": "sharedcos", "none": "cos"}[model.modulator]
        decoder = f"{shape}{model.power}"  # type: ignore[assignment]
    elif model.tanh:
        decoder = "convtanh"  # type: ignore[assignment]
    parts = [model.encoder, decoder, f"C{model.components}"]
    if loss.representation == "total-variation":
        parts.append(f"tv{loss.weight:g}")
    elif loss.representation == "sinkhorn":
        parts.append(f"ot{loss.weight:g}-{config.convention}-p{loss.p}-eps{loss.epsilon:g}")
    if loss.computed_on == "voice":
        parts.append("voice")
    if loss.discriminator > 0:
        parts.append(f"disc{loss.discriminator:g}")
    ordinary = training.flatten(training.Config())
    settings = {
        key: value
        for key, value in training.flatten(config).items()
        # a setting that does not exist yet must not rename today's runs once it does
        if key not in _NO_MATTER and value != ordinary[key]
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join([*parts, digest, f"seed{config.training.seed}"])


def finished(run: Run, folder: Path) -> evaluation.Evaluation | None:
    """The evaluation of a run that is complete, else None.

    Raises:
        InputError: there is one that cannot be read.
    """
    path = folder / run.name / EVALUATION
    if not path.is_file():
        return None
    found = evaluation.read_json(path)
    # one made by hand, in the midst of the training, has no such mark
    return found if found.settings.get("finished") is True else None


def make(run: Run, bench: Bench) -> None:
    """Train and evaluate a run, from where it stands; nothing is done where nothing is left.

    Raises:
        RunIsBusy: another process is at it.
        InputError: it cannot be trained or evaluated.
    """
    folder = bench.folder / run.name
    with training.lock_run(folder):
        if finished(run, bench.folder) is not None:
            return
        config = replace(run.config, training=replace(run.config.training, threads=bench.threads))
        model = training.train(
            config,
            bench.train,
            folder,
            device=bench.device,
            resume=(folder / CONFIG).exists(),
            locked=True,
        )
        step = training.read_checkpoint(folder).state["step"]
        with computing_threads(bench.threads):
            found = evaluation.evaluate(
                model,
                bench.test,
                segment_length=config.data.segment_length,
                # one yardstick for all runs, whatever they were trained with
                convention="paper",
                stft_hop=min(config.model.hop, config.model.kernel_size // 2),
                device=bench.device,
            )
            facts: dict[str, Any] = {"run": training.flatten(config), "step": step}
            facts["parameters"] = sum(
                parameter.numel()
                for part in (model.encoder, model.decoder)
                for parameter in part.parameters()
            )
            if config.loss.representation == "sinkhorn":
                facts["sinkhorn"] = _diagnosis(model, config, bench)
        evaluation.write_json(
            found,
            folder / EVALUATION,
            commit=bench.commit,
            settings={**facts, "finished": True},
        )


def make_all(
    runs: Sequence[Run], bench: Bench, tell: Callable[[str], None] = lambda text: None
) -> None:
    """Make all runs that are neither finished nor in the hands of another process.

    A run that fails is told and left out; the others go on.
    """
    for number, run in enumerate(runs, 1):
        if finished(run, bench.folder) is not None:
            continue
        tell(f"{number} of {len(runs)}: {run.name}")
        try:
            make(run, bench)
        except training.RunIsBusy:
            continue
        except InputError as error:
            logger.error("%s: %s", run.name, error)


def sign_change(scale: Scale, settings: dict[str, Any], bench: Bench) -> float:
    """The epsilon at which the mean gradient changes its sign, with an untrained model.

    Args:
        scale: of the experiment.
        settings: of a run with a Sinkhorn loss, whatever its epsilon.
        bench: whose test tracks are encoded.
    """
    config = scale.config(settings)
    model = training.build_model(config).to(bench.device)
    with computing_threads(bench.threads):
        found = _diagnosis(model, config, bench)["sign_change"]
    if found is None:
        raise InputError("no sign change: the test segments have no two different frames")
    return float(found)


def _diagnosis(
    model: nn.RepresentationModel, config: training.Config, bench: Bench
) -> dict[str, Any]:
    """What the Sinkhorn loss does to a batch of test mixtures, spread over the tracks."""
    length = config.data.segment_length
    firsts = [
        next(iter(data.test_segments(track, length, batch_size=1))).mixture
        for track in bench.test
        if len(track) >= length
    ]
    if not firsts:
        raise InputError(f"no test track is as long as a segment of {length} samples")
    some = firsts[:: max(1, len(firsts) // 8)][:8]
    loss = nn.SinkhornLoss(config.loss.epsilon, p=config.loss.p, convention=config.convention)
    with torch.inference_mode():
        representation = model.encode(torch.cat(some).to(bench.device))
    return asdict(loss.diagnose(representation.cpu()))
