"""The commands on runs: train, evaluate, report; and their steps, which the demo shares."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from rlsv_fast import data, evaluation, nn, report, training
from rlsv_fast.commands.common import (
    asked_run,
    chosen_device,
    commit,
    must_be_new,
    prepared,
    progress_bar,
    say,
)
from rlsv_fast.errors import InputError, MissingPackage, printable, require
from rlsv_fast.processes import ALONE, Processes, joined
from rlsv_fast.training import Config

EVALUATION = "evaluation.json"


def train(options: Namespace) -> None:
    """Train a representation, or continue to; under torchrun in all its processes together."""
    with joined() as processes, ExitStack() as stack:
        _quiet_but_the_first(options, processes)
        with processes.together():
            device = chosen_device(options.device, processes)
            if options.tensorboard:
                report.check_tensorboard()

        def enter() -> tuple[Config, Path, bool]:
            config, run, resume = asked_run(options, training.REPRESENTATION, "p2")
            training.check_device(config, device)
            training.check_processes(config, processes)
            # from before the decoding: a second command without --out takes the next number
            stack.enter_context(training.lock_run(run))
            return config, run, resume

        config, run, resume = processes.from_first(enter)
        tracks = prepared(options.root, "train", config, options, processes=processes)
        monitor = None
        if options.tensorboard and processes.first:
            monitor = report.TensorBoard(run / "tensorboard", tracks[0], config)
            stack.callback(monitor.close)
        train_run(
            *(config, tracks, run, device, options),
            resume=resume,
            monitor=monitor,
            processes=processes,
        )
    say(options, f"trained: rlsv-fast evaluate {run} --root {options.root or '$MUSDB_PATH'}")


def evaluate(options: Namespace) -> None:
    """Evaluate a run on the test tracks, print the table and write the JSON."""
    target = options.out or options.run / EVALUATION
    with joined() as processes:
        _quiet_but_the_first(options, processes)

        def load() -> tuple[Config, nn.RepresentationModel, int]:
            must_be_new(target, "choose another --out or remove it")
            return training.load_run_and_step(options.run)

        config, model, step = processes.from_first(load)
        with processes.together():
            device = chosen_device(options.device, processes)
        tracks = prepared(options.root, "test", config, options, processes=processes)
        evaluate_run(model, config, step, tracks, target, device, options, processes=processes)
    say(options, f"written: {target}")


def draw(options: Namespace) -> None:
    """Write the page and the figures of a run."""
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise InputError(f"{options.out}: exists and is not empty; choose another --out")
    if options.examples < 0 or not 0.1 <= options.seconds <= 600:
        raise InputError("--examples must be at least 0, and --seconds from 0.1 to 600")
    check_drawable()
    config, model, step = training.load_run_and_step(options.run, chosen_device(options.device))
    tracks = _examples(config, options)
    path = options.run / EVALUATION
    found = evaluation.read_json(path) if path.exists() else None
    page = draw_run(
        *(model, config, step, options.run, options.out, found, tracks, options),
        seconds=options.seconds,
    )
    print(page)


def train_run(
    config: Config,
    tracks: list[data.PreparedTrack],
    run: Path,
    device: torch.device,
    options: Namespace,
    *,
    resume: bool,
    monitor: training.Monitor | None = None,
    processes: Processes = ALONE,
) -> nn.RepresentationModel:
    """Train in a locked folder; an interruption says how to go on."""

    def announce(record: dict[str, Any]) -> None:
        if record["kind"] == "start":
            say(
                options,
                f"training in {run}: {record['parameters'] / 1e6:.2f} M parameters, "
                f"{record['voice_segments']} voice segments, {record['step']} of "
                f"{record['steps']} steps done, on {record['device']} in {record['precision']}",
            )
        elif record["kind"] == "epoch":
            speed = training.describe_throughput(record["throughput"])
            say(
                options,
                f"epoch {record['epoch'] + 1}: reconstruction {record['reconstruction']:.2f} dB; "
                f"{speed}",
            )
        elif record["kind"] == "end":
            say(
                options,
                f"step {record['step']}: {training.describe_throughput(record['throughput'])}",
            )

    if device.type == "cpu":
        training.keep_freed_memory()
    try:
        return training.train(
            config,
            tracks,
            run,
            device=device,
            resume=resume,
            locked=True,
            progress=not options.quiet,
            callback=announce,
            monitor=monitor,
            processes=processes,
        )
    except training.Interrupted as stop:
        again = "the same command" if options.verb == "demo" else f"train --resume --out {run}"
        stop.args = (f"{stop}, checkpoint saved in {run}; continue with {again}",)
        raise


def evaluate_run(
    model: nn.RepresentationModel,
    config: Config,
    step: int,
    tracks: list[data.PreparedTrack],
    target: Path,
    device: torch.device,
    options: Namespace,
    *,
    processes: Processes = ALONE,
) -> evaluation.Evaluation:
    """Evaluate, write the JSON and print the table."""
    kernel_size, hop = config.model.kernel_size, config.model.hop
    with progress_bar(options, len(tracks), "track") as move:
        found = evaluation.evaluate(
            model,
            tracks,
            segment_length=config.data.segment_length,
            convention=config.convention,
            # a model may hop by more than half its kernel, the STFT may not
            stft_hop=min(hop, kernel_size // 2),
            device=device,
            progress=move,
            processes=processes,
        )
    if not processes.first:
        return found
    settings = {"run": training.flatten(config), "step": step}
    evaluation.write_json(found, target, commit=commit(), settings=settings)
    for line in evaluation.format_table(found).splitlines():
        print(printable(line))  # notes hold names of tracks
    return found


def check_drawable() -> None:
    """Raise MissingPackage where a report cannot be written."""
    for package in ("matplotlib", "jinja2"):
        require(package, extra="report", purpose="write a report")


def draw_run(
    model: nn.RepresentationModel,
    config: Config,
    step: int,
    run: Path,
    target: Path,
    found: evaluation.Evaluation | None,
    tracks: list[data.PreparedTrack],
    options: Namespace,
    *,
    seconds: float = 5.0,
) -> Path:
    """Write the page of a run, with an excerpt of each of the tracks; returns its file."""
    with progress_bar(options, len(tracks), "example") as move:
        drawn = report.write_report(
            model,
            target,
            sample_rate=config.data.sample_rate,
            title=run.resolve().name,
            settings=training.flatten(config),
            log=run / "log.jsonl",
            evaluation=found,
            step=step,
            examples=tracks,
            seconds=seconds,
            segment_length=config.data.segment_length,
            convention=config.convention,
            progress=move,
        )
    for note in drawn.notes:
        say(options, note)
    return drawn.page


def _examples(config: Config, options: Namespace) -> list[data.PreparedTrack]:
    """The first test tracks; none where no data folder is given that can be used."""
    if not options.examples:
        return []
    if options.root:
        return prepared(options.root, "test", config, options, limit=options.examples)
    if not os.environ.get("MUSDB_PATH"):
        return []
    try:
        return prepared(None, "test", config, options, limit=options.examples)
    except (InputError, MissingPackage) as error:
        # nobody asked for them in this call, and all else can do without
        say(options, f"MUSDB_PATH: {error}")
        return []


def _quiet_but_the_first(options: Namespace, processes: Processes) -> None:
    options.quiet = options.quiet or not processes.first
