"""The demonstration: everything once, on music made on the spot."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rlsv_fast import data, training
from rlsv_fast.commands.common import chosen_device, prepared, say
from rlsv_fast.commands.runs import (
    EVALUATION,
    check_drawable,
    draw_run,
    evaluate_run,
    train_run,
)

TRAIN_TRACKS = 24
"""Five minutes of music: with less the model learns its training tracks by heart."""


def demo(options: Namespace) -> None:
    """Synthesise, train, evaluate and draw; a second call continues where the first stopped."""
    check_drawable()
    device = chosen_device(options.device)
    overrides = [] if options.seed is None else [f"training.seed={options.seed}"]
    config = training.resolve("demo", overrides=overrides)
    folder: Path = options.out
    music, run = folder / "data", folder / "run"
    options.cache = folder / "cache"
    with training.lock_run(run):
        exists = (run / "config.toml").exists()
        if exists:
            training.check_resumable(run, config)
        else:
            training.check_new_run(run)

        say(options, f"1/4 synthesising music: {music}")
        data.synthesize(music, train_tracks=TRAIN_TRACKS, sample_rate=config.data.sample_rate)
        tracks = prepared(music, "train", config, options)
        say(options, "2/4 training, a few minutes")
        model = train_run(config, tracks, run, device, options, resume=exists)
        step = training.read_checkpoint(run).state["step"]
        say(options, "3/4 evaluating on tracks it has not seen")
        tracks = prepared(music, "test", config, options)
        found = evaluate_run(model, config, step, tracks, run / EVALUATION, device, options)
        say(options, f"4/4 drawing: {run / 'report'}")
        page = draw_run(model, config, step, run, run / "report", found, tracks, options)
    print(
        f"\nmusic       {music} (synthetic: it says nothing about real recordings)\n"
        f"model       {run}\nevaluation  {run / EVALUATION}\npage        {page}"
    )
