"""The command that makes, continues and tabulates the papers' experiments."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rlsv_fast import experiments, nn, training
from rlsv_fast.commands.common import chosen_device, commit, prepared, say
from rlsv_fast.errors import InputError, printable, require
from rlsv_fast.experiments.sinkhorn import sinkhorn_settings
from rlsv_fast.training.run_files import write_text

_DATA = "data.json"


def reproduce(options: Namespace) -> None:
    """Make what is missing of the experiments, and write their tables and figures."""
    if options.jobs < 0:
        raise InputError(f"--jobs {options.jobs}: expected 0 (tabulate what is there) or more")
    require("matplotlib", extra="report", purpose="draw the experiments' figures")
    scale = _scale(options)
    bench = _bench(options, scale)
    facts = _same_data(options, bench)
    wanted = _experiments(options, scale, bench)
    runs = experiments.distinct_runs(wanted, scale)
    missing = _missing(runs, bench)
    say(options, f"{len(runs)} runs, {missing} of them to be made, in {bench.folder}")
    try:
        if options.jobs == 1 and missing:
            _make(options, scale, bench, runs)
        elif options.jobs and missing:
            experiments.run_jobs(min(options.jobs, missing), work, options)
    except KeyboardInterrupt as stop:
        stop.args = (f"{str(stop) or 'stopped'}, checkpoints saved; the same command continues",)
        raise
    finally:
        # also of what there is when somebody has had enough
        for experiment in wanted:
            _write(options, experiment, scale, bench, facts)
    left = _missing(runs, bench)
    if left and options.jobs:
        raise InputError(f"{left} of {len(runs)} runs are missing, see above and the tables")


def work(options: Namespace) -> None:
    """One of several processes at the same grid."""
    scale = _scale(options)
    bench = _bench(options, scale)
    runs = experiments.distinct_runs(_experiments(options, scale, bench), scale)
    _make(options, scale, bench, runs)


def _make(
    options: Namespace, scale: experiments.Scale, bench: experiments.Bench, runs: list[Any]
) -> None:
    if bench.device.type == "cpu":
        training.keep_freed_memory()
    experiments.make_all(runs, bench, lambda text: say(options, text))


def _scale(options: Namespace) -> experiments.Scale:
    """The preset with the settings and seeds of the command."""
    scale = experiments.SCALES[options.preset]
    scale = scale.changed(dict(training.parse_override(text) for text in options.set))
    if options.seeds is None:
        return scale
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds}: expected at least 1")
    return scale.with_seeds(options.seeds)


def _bench(options: Namespace, scale: experiments.Scale) -> experiments.Bench:
    config = scale.config({})
    device = chosen_device(options.device)
    cores = len(os.sched_getaffinity(0))
    return experiments.Bench(
        folder=options.out / "runs",
        train=prepared(options.root, "train", config, options),
        test=prepared(options.root, "test", config, options),
        device=device,
        threads=max(1, cores // max(options.jobs, 1)),
        commit=commit(),
    )


def _experiments(
    options: Namespace, scale: experiments.Scale, bench: experiments.Bench
) -> list[experiments.Experiment]:
    @cache
    def sign_change(convention: nn.Convention) -> float:
        settings = sinkhorn_settings(scale, convention, 1.0, 1.0)
        return experiments.sign_change(scale, settings, replace(bench, threads=1))

    names = dict.fromkeys(options.names)
    return [experiments.build(name, scale, sign_change) for name in names]


def _missing(runs: list[experiments.Run], bench: experiments.Bench) -> int:
    return sum(experiments.finished(run, bench.folder) is None for run in runs)


def _same_data(options: Namespace, bench: experiments.Bench) -> dict[str, Any]:
    """What the tables say of the data, once it is clear that all runs in a folder share it."""
    tracks = {
        subset: {track.name: len(track) for track in found}
        for subset, found in (("train", bench.train), ("test", bench.test))
    }
    rate = bench.train[0].sample_rate
    found = {"sample_rate": rate, **tracks}
    path: Path = options.out / f"{options.preset}-{_DATA}"
    if path.exists():
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == found
        except ValueError:
            same = False
        if not same:
            raise InputError(
                f"{path}: the runs there were made with other tracks than --root has; give the "
                "same --root, or another --out"
            )
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    root = options.root or Path(os.environ["MUSDB_PATH"])
    return {
        "data": printable(root.resolve().name),
        "train_tracks": len(bench.train),
        "test_tracks": len(bench.test),
        "minutes": sum(map(len, bench.train)) / rate / 60,
        "commit": bench.commit,
    }


def _write(
    options: Namespace,
    experiment: experiments.Experiment,
    scale: experiments.Scale,
    bench: experiments.Bench,
    facts: dict[str, Any],
) -> None:
    table = experiments.tabulate(experiment, scale, bench.folder, facts)
    folder = options.out / experiment.name
    files = experiments.write_table(table, folder)
    files += experiments.draw(table, scale, bench, folder)
    if not options.quiet:
        tqdm.write("")
    for line in experiments.markdown(table).splitlines():
        print(printable(line))
    for file in files:
        say(options, f"written: {file}")
