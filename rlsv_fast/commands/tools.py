"""The commands that need no run: synthesize and info."""

from __future__ import annotations

import os
import platform
from argparse import Namespace

import torch

import rlsv_fast
from rlsv_fast import data, training, umss
from rlsv_fast.commands.common import build_info, chosen_device, commit, say


def synthesize(options: Namespace) -> None:
    """Write the synthetic multitrack set."""
    folders = data.synthesize(
        options.directory,
        seed=options.seed,
        train_tracks=options.train_tracks,
        test_tracks=options.test_tracks,
        seconds=options.seconds,
        sample_rate=options.sample_rate,
    )
    say(options, f"{len(folders)} tracks in {options.directory}")


def info(options: Namespace) -> None:
    """Print what there is to know about the installation."""
    rows = {
        "rlsv_fast": rlsv_fast.__version__,
        "commit": commit() or "unknown (not a git checkout)",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{f"build: {key}": value for key, value in build_info().items()},
        "threads": str(torch.get_num_threads()),
        "device": str(chosen_device(None)),
        "cache": str(data.default_cache()),
        "weights": str(umss.default_weights()),
        "MUSDB_PATH": os.environ.get("MUSDB_PATH") or "not set",
        "presets": ", ".join(training.PRESETS),
    }
    width = max(map(len, rows))
    for key, value in rows.items():
        print(f"{key:{width}}  {value}")
