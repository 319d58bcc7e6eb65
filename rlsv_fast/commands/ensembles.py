"""The commands on trained separators of ensembles: train and evaluate."""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlsv_fast import training, umss
from rlsv_fast.commands.common import asked_run, chosen_device, must_be_new, progress_bar, say
from rlsv_fast.commands.runs import check_drawable
from rlsv_fast.errors import InputError, printable
from rlsv_fast.processes import joined
from rlsv_fast.umss.excerpts import F0Source
from rlsv_fast.umss.settings import SCHEMA, EnsembleConfig


def train(options: Namespace) -> None:
    """Train a separator, or continue to; under torchrun in all its processes together."""
    with joined() as processes, ExitStack() as stack:
        options.quiet = options.quiet or not processes.first
        with processes.together():
            device = chosen_device(options.device, processes)

        def enter() -> tuple[EnsembleConfig, Path, bool]:
            config, run, resume = asked_run(options, SCHEMA, "umss")
            stack.enter_context(training.lock_run(run))
            return config, run, resume

        config, run, resume = processes.from_first(enter)
        with processes.together():
            songs = umss.find_songs(options.root)
        if device.type == "cpu":
            training.keep_freed_memory()
        try:
            umss.train_separator(
                config,
                songs,
                run,
                device=device,
                resume=resume,
                locked=True,
                progress=not options.quiet,
                callback=_announcer(options, run),
                processes=processes,
            )
        except training.Interrupted as stop:
            stop.args = (
                f"{stop}, checkpoint saved in {run}; continue with umss train --resume --out {run}",
            )
            raise
    say(options, f"trained: rlsv-fast umss evaluate {run} --root DIR")


def evaluate(options: Namespace) -> None:
    """Evaluate a run, or the untrained comb, on songs; prints the table and writes both files."""
    out = options.out or (Path("evaluation") if options.run is None else options.run / "evaluation")
    name = "robustness" if options.robustness else "evaluation"
    for ending in ("json", "md"):
        must_be_new(out / f"{name}.{ending}", "choose another --out or remove it")
    device = chosen_device(options.device)
    source: F0Source = "mixture" if options.f0_from_mix else "singers"
    choice: dict[str, Any] = {"device": device, "compute": _measures(options)}
    if options.singer is not None:
        choice["singers"] = options.singer
    if options.run is None:
        separate = umss.comb_separator()
        choice["label"] = "untrained comb"
    else:
        config, model = umss.load_separator(options.run, device)
        choice |= {
            "voices": config.data.voices,
            "length": config.data.segment_length,
            "sample_rate": config.data.sample_rate,
            "label": options.run.resolve().name,
        }
        if options.levels is not None:
            if not isinstance(model.separator, umss.SourceFilterSeparator):
                raise InputError(f"--levels: {options.run} synthesises no voices")
            model.separator.levels = options.levels
            choice["label"] += f", {options.levels} levels"
        choice |= _abilities(model)
        if model.tracker is not None:
            source = "none"
            for given, option in (
                (options.robustness, "--robustness"),
                (options.f0_from_mix, "--f0-from-mix"),
            ):
                if given:
                    raise InputError(f"{option}: {options.run} finds the f0 by itself")

        def separate(mixture: Tensor, f0: Tensor) -> Tensor:
            return model.separate(mixture, None if model.tracker is not None else f0)

    _check_measures(choice, options)
    songs = umss.test_songs(options.root, options.test_set)
    if options.test_set == "BCBQ":
        choice["first"] = 0
    if options.robustness:
        with progress_bar(options, 1, "test") as move:
            table = umss.robustness_table(
                separate,
                songs,
                f0=source,
                progress=move,
                **{key: value for key, value in choice.items() if key in _OF_ROBUSTNESS},
            )
        umss.write_result(table, out, name)
        _print(table.markdown())
        return
    with progress_bar(options, len(songs), "song") as move:
        result = umss.evaluate_separator(separate, songs, f0=source, progress=move, **choice)
    result.settings["test_set"] = options.test_set
    umss.write_result(result, out, name)
    _print(result.markdown())
    say(options, f"written: {out}")


def draw(options: Namespace) -> None:
    """Write the page of a run."""
    out = options.out or options.run / "report"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty; choose another --out")
    if options.examples < 0 or not 1.5 <= options.seconds <= 30:
        raise InputError("--examples must be at least 0, and --seconds from 1.5 to 30")
    check_drawable()
    device = chosen_device(options.device)
    config, model = umss.load_separator(options.run, device)
    found = umss.find_songs(options.root)
    with suppress(InputError):  # a folder of other songs than those of the training
        found = umss.choose_songs(found, config)[1]
    path = options.run / "evaluation" / "evaluation.json"
    with progress_bar(options, options.examples, "example") as move:
        drawn = umss.write_report(
            *(config, model, out),
            title=options.run.resolve().name,
            songs=found,
            examples=options.examples,
            seconds=options.seconds,
            singer=options.singer,
            f0="mixture" if options.f0_from_mix else "singers",
            log=options.run / "log.jsonl",
            evaluation=umss.read_result(path) if path.exists() else None,
            progress=move,
        )
    for note in drawn.notes:
        say(options, note)
    print(printable(str(drawn.page)))


def _print(table: str) -> None:
    for line in table.splitlines():
        print(printable(line))


_OF_ROBUSTNESS = ("singers", "voices", "length", "sample_rate", "first", "device")


def _measures(options: Namespace) -> list[str]:
    """The names that --compute gives."""
    names = [name.strip() for name in options.compute.split(",")]
    for name in names:
        if name not in umss.COMPUTE:
            raise InputError(f"--compute: no measure '{name}'; there are {', '.join(umss.COMPUTE)}")
    return names


def _check_measures(choice: dict[str, Any], options: Namespace) -> None:
    """Raise InputError where what is measured lacks what is to be measured of it."""
    for name in choice["compute"]:
        if name == "f0_infos" and not (options.f0_from_mix or "track" in choice):
            raise InputError("--compute f0_infos: f0 comes with the songs; give --f0-from-mix")
        of_synthesis = name not in ("all", "f0_infos") and not name.endswith("_mask")
        if of_synthesis and "synthesise" not in choice:
            raise InputError(
                f"--compute {name}: {choice['label']} synthesises no voices; "
                "only measures with _mask can be had"
            )


def _abilities(model: umss.EnsembleModel) -> dict[str, Any]:
    """What can be measured of a model besides what it separates."""
    found: dict[str, Any] = {}
    separator, tracker = model.separator, model.tracker
    if isinstance(separator, umss.SourceFilterSeparator):

        @torch.no_grad()
        def synthesise(mixture: Tensor, f0: Tensor) -> Tensor:
            if tracker is not None:
                f0 = tracker(mixture).f0
            sources: Tensor = separator(mixture, f0).sources
            return sources

        found["synthesise"] = synthesise
    if tracker is not None:

        @torch.no_grad()
        def track(mixture: Tensor) -> Tensor:
            heard: umss.TrackedVoices = tracker(mixture)
            return heard.f0

        found["track"] = track
    return found


def _announcer(options: Namespace, run: Path) -> Any:
    def announce(record: dict[str, Any]) -> None:
        if record["kind"] == "start":
            say(
                options,
                f"training in {run}: {record['parameters'] / 1e6:.2f} M parameters, "
                f"{record['voice_segments']} excerpts an epoch of {len(record['songs'])} songs, "
                f"{record['step']} of {record['steps']} steps done, on {record['device']} in "
                f"{record['precision']}",
            )
        elif record["kind"] == "epoch" and "validation" in record:
            best = "none" if record["best"] is None else f"{record['best']:.3f}"
            # where the f0 networks are trained alone, theirs is the loss
            loss = record["reconstruction"] or record["representation"]
            speed = training.describe_throughput(record["throughput"])
            say(
                options,
                f"epoch {record['epoch'] + 1}: loss {loss:.3f}, validation "
                f"{record['validation']:.3f}, best {best}; {speed}",
            )

    return announce
