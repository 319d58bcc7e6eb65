"""What several commands share."""

from __future__ import annotations

import logging
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch
from tqdm import tqdm

import rlsv_fast
from rlsv_fast import data, training
from rlsv_fast._library import has_cuda_kernels
from rlsv_fast.errors import InputError, printable
from rlsv_fast.processes import ALONE, Processes
from rlsv_fast.training import Config
from rlsv_fast.training.settings import Tree

logger = logging.getLogger(__name__)


def prepared(
    root: Path | None,
    subset: data.Subset,
    config: Config,
    options: Namespace,
    *,
    limit: int | None = None,
    processes: Processes = ALONE,
) -> list[data.PreparedTrack]:
    """Find and decode the (first) tracks of one subset at the rate of the settings."""

    def prepare(
        tracks: list[data.Track], progress: Callable[[int, int, str], None] | None = None
    ) -> list[data.PreparedTrack]:
        return data.prepare_tracks(
            tracks,
            config.data.sample_rate,
            options.cache,
            accompaniment=config.data.accompaniment,
            progress=progress,
        )

    with processes.together():
        found = data.find_tracks(root, subset)[:limit]
        share = found[processes.local_rank :: processes.local_size]
        with progress_bar(options, len(share), "track") as move:
            tracks = prepare(share, move)
    if processes.several:  # the others' tracks come from the cache
        with processes.together():
            tracks = prepare(found)
    return tracks


@contextmanager
def progress_bar(
    options: Namespace, total: int, unit: str
) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar, on a terminal only, that is moved by (done, total, name)."""
    with tqdm(total=total, unit=unit, leave=False, disable=options.quiet or None) as bar:

        def move(done: int, total: int, name: str) -> None:
            bar.set_postfix_str(printable(name[:40]), refresh=False)
            bar.update(done - bar.n)

        yield move


def chosen_device(wanted: str | None, processes: Processes = ALONE) -> torch.device:
    """The device asked for, if it can work; CUDA if it can and nothing is asked for.

    Of several processes on a machine, each gets the GPU of its own number there.
    """
    kernels = has_cuda_kernels()
    if wanted is None:
        if kernels and torch.version.cuda and not torch.cuda.is_available():
            logger.warning("working on the CPU: %s", _no_gpu())
        wanted = "cuda" if kernels and torch.cuda.is_available() else "cpu"
    expected = f"--device {wanted}: expected cpu, cuda or cuda:N"
    if wanted.partition(":")[0] not in ("cpu", "cuda"):
        raise InputError(expected)
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise InputError(expected) from error
    if device.type == "cuda":
        if processes.several:
            if device.index is not None:
                raise InputError(
                    f"--device {wanted}: each process takes the GPU of its own number; give "
                    "--device cuda, and CUDA_VISIBLE_DEVICES to choose among GPUs"
                )
            device = torch.device("cuda", processes.local_rank)
        count = torch.cuda.device_count()
        if not count:
            raise InputError(f"--device {wanted}: {_no_gpu()}; or use --device cpu")
        if (device.index or 0) >= count:
            raise InputError(f"--device {device}: torch sees {count} of them")
        if not kernels:
            raise InputError(
                f"--device {wanted}: this build does not hold CUDA kernels for all operators; "
                "use --device cpu"
            )
        if processes.several:
            torch.cuda.set_device(device)  # where NCCL works for this process
    return device


def _no_gpu() -> str:
    """Why torch sees no GPU, and the remedy."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; install a build with it"
    return (
        f"torch {torch.__version__} sees no GPU, the NVIDIA driver is missing or older than "
        f"CUDA {torch.version.cuda} needs; install or update it (nvidia-smi shows it)"
    )


def build_info() -> dict[str, str]:
    """What the build holds, as far as it can tell."""
    try:
        return rlsv_fast.build_info()
    except ImportError:  # the helper module is tied to one Python; the operators are not
        return {}


def commit() -> str | None:
    """Commit of the checkout that this code runs from, marked where it has been changed."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def asked_run(
    options: Namespace, schema: training.Schema[Tree], usual: str
) -> tuple[Tree, Path, bool]:
    """Settings and folder of the run to be trained, and whether it is to be continued.

    Args:
        options: of a command that trains.
        schema: of the settings.
        usual: the preset where neither one nor a file is given.
    """
    overrides = list(options.set)
    if options.seed is not None:
        overrides.append(f"training.seed={options.seed}")
    if options.resume:
        if options.preset or options.config or not options.out:
            raise InputError("--resume needs --out RUN and takes the settings of that run")
        training.load_run_settings(options.out, schema)
        config = schema.resolve(file=options.out / "config.toml", overrides=overrides)
        training.check_resumable(options.out, config, schema)
        return config, options.out, True
    # a file is complete by its own defaults
    preset = options.preset or (None if options.config else usual)
    config = schema.resolve(preset, options.config, overrides)
    if options.restartable:
        if not options.out:
            raise InputError("--restartable needs --out RUN")
        if (options.out / "config.toml").exists():
            training.check_resumable(options.out, config, schema)
            return config, options.out, True
    run = options.out or _next_run(preset or options.config.stem)
    training.check_new_run(run)
    return config, run, False


def _next_run(name: str) -> Path:
    """The first folder below runs that is not there yet, by a name and a number."""
    numbers = (Path("runs", f"{name}-{number}") for number in count(1))
    return next(path for path in numbers if not path.exists())


def must_be_new(path: Path, remedy: str) -> None:
    """Raise InputError where a result would overwrite something."""
    if path.exists():
        raise InputError(f"{path}: exists already; {remedy}")


def say(options: Namespace, text: str) -> None:
    """Tell what is going on, on standard error; standard output is for results."""
    if not options.quiet:
        tqdm.write(printable(text), file=sys.stderr)  # above a progress bar, not into it
