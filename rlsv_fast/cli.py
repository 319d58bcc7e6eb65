"""The command line: arguments, errors on one line, exit status. The work is in ``commands``."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rlsv_fast.errors import (
    InputError,
    InstallationError,
    LostProcess,
    MissingPackage,
    printable,
)

_COMMANDS = {
    "demo": ("demo", "demo"),
    "train": ("runs", "train"),
    "evaluate": ("runs", "evaluate"),
    "report": ("runs", "draw"),
    "reproduce": ("reproduce", "reproduce"),
    "separate": ("separate", "separate"),
    "synthesize": ("tools", "synthesize"),
    "info": ("tools", "info"),
    "umss import-weights": ("umss", "import_weights"),
    "umss f0": ("umss", "f0"),
    "umss separate": ("umss", "separate"),
    "umss train": ("ensembles", "train"),
    "umss evaluate": ("ensembles", "evaluate"),
    "umss report": ("ensembles", "draw"),
}

EXPERIMENTS = (
    "eusipco-table1",
    "eusipco-table2",
    "sinkhorn-table1",
    "sinkhorn-table2",
    "sinkhorn-figure3",
    "sinkhorn-figure5",
    "sinkhorn-figure6",
    "discriminator",
    "sinkhorn-sign-flip",
    "closing-question",
)
"""Here, too: their own module imports torch."""

_LONGEST = 1000
"""Characters of a complaint; names and values in it can have any length."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; None means ``sys.argv``.

    Returns:
        The exit status: 0 for success, 2 for bad usage or input, 130 after Ctrl-C, 1 where another
        process of the job was lost.
    """
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a dash or a track's name must not end the work
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:  # argparse: --help, or bad usage that has been printed
        return int(stop.code or 0)
    logging.basicConfig(
        format="rlsv-fast: %(message)s", level=logging.ERROR if options.quiet else logging.WARNING
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_make_printable)
    try:
        # here and not above: torch takes seconds to import, and --help must not
        module, function = _COMMANDS[options.verb]
        getattr(importlib.import_module(f"rlsv_fast.commands.{module}"), function)(options)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        # Interrupted, from training, says which signal it was and where the checkpoint lies
        return _complain(str(stop) or "interrupted", 128 + getattr(stop, "signal_number", 2), stop)
    except (InputError, InstallationError, MissingPackage) as error:
        return _complain(f"error: {error}", 2, error)
    except LostProcess as error:
        return _complain(f"error: {error}", 1)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return _complain("error: torch is not installed: pip install torch==2.13.0", 2)
    except BrokenPipeError:
        # the reader of our output has gone; Python would complain again when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"error: {where}{error.strerror or error}", 2)
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        known = isinstance(error, MemoryError) or any(part in text for part in _OUT_OF_MEMORY)
        if not known:
            raise
        return _complain("error: out of memory; lower training.batch_size or model.components", 2)
    return 0


def _complain(text: str, status: int, error: BaseException | None = None) -> int:
    if not getattr(error, "told_elsewhere", False):  # by another process of the job
        line = _shortened(printable(" ".join(text.split())))
        print("rlsv-fast:", line, file=sys.stderr)
    return status


def _shortened(line: str) -> str:
    """Without the middle of a line that no terminal shows: both ends say what is wrong."""
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(_complain(f"error: {message}; see {self.prog} --help", 2))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rlsv-fast",
        description="Interpretable representations for singing-voice separation. A representation "
        "is learnt from a folder of multitracks; separation then uses oracle masks, that is masks "
        "made from the true sources, to show what the representation keeps apart.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    common = _Parser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true", help="print results only")
    device = _Parser(add_help=False)
    device.add_argument("-d", "--device", help="cpu, cuda or cuda:N (default: the best there is)")
    root = _Parser(add_help=False)
    root.add_argument(
        "--root", type=Path, help="folder that holds train and test (default: MUSDB_PATH)"
    )
    root.add_argument("--cache", type=Path, help="folder for decoded tracks")
    seed = _Parser(add_help=False)
    seed.add_argument("--seed", type=int, help="of weights, shuffling and noise")

    verb = verbs.add_parser(
        "demo",
        parents=[common, device, seed],
        help="synthesise music, train, evaluate and draw, in minutes",
    )
    verb.add_argument("-o", "--out", type=Path, default=Path("demo"), help="default: demo")

    verb = verbs.add_parser(
        "train", parents=[common, device, root, seed], help="train a representation"
    )
    verb.add_argument("--preset", help="p1, p2 (default), 16k or demo")
    _add_settings(verb, "model.components=400")
    verb.add_argument(
        "--tensorboard",
        action="store_true",
        help="log scalars, audio and figures for TensorBoard, into RUN/tensorboard",
    )
    _add_again(verb)

    verb = verbs.add_parser(
        "evaluate",
        parents=[common, device, root],
        help="measure a trained representation, and the STFT, on the test tracks",
    )
    verb.add_argument("run", type=Path, metavar="RUN")
    verb.add_argument(
        "-o", "--out", type=Path, metavar="FILE.json", help="default: RUN/evaluation.json"
    )

    verb = verbs.add_parser(
        "separate",
        parents=[common, device],
        help="separate a mixture with the oracle mask of its known sources",
        description="An oracle mask is made from the true voice and accompaniment, so at least "
        "one of them must be given; the other is then the mixture minus it. This shows the limit "
        "of a representation and is no separator.",
    )
    verb.add_argument("run", type=Path, metavar="RUN")
    verb.add_argument(
        "mixture", type=Path, metavar="MIXTURE", help="wav or flac, or a .stem.mp4 with its sources"
    )
    verb.add_argument("--vocals", type=Path, metavar="FILE")
    verb.add_argument("--accompaniment", type=Path, metavar="FILE")
    verb.add_argument("-o", "--out", type=Path, default=Path("separated"), metavar="DIR")

    verb = verbs.add_parser(
        "reproduce",
        parents=[common, device, root],
        help="make, or continue, the papers' experiments and tabulate them beside the papers",
        description="Every cell of a table is a run folder; a command that was ended continues "
        "where it stopped, and finished runs are never made again. Experiments: "
        f"{', '.join(EXPERIMENTS)}.",
    )
    verb.add_argument("names", nargs="+", choices=EXPERIMENTS, metavar="NAME")
    verb.add_argument("-o", "--out", type=Path, default=Path("experiments"), metavar="DIR")
    verb.add_argument(
        "--preset",
        choices=("full", "small"),
        default="full",
        help="the papers' sizes (default), or models at 16 kHz that two cores make in seconds",
    )
    verb.add_argument(
        "--seeds", type=int, metavar="N", help="runs of each cell (default: the preset's)"
    )
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting of all runs, such as training.max_steps=5000; may be repeated",
    )
    verb.add_argument(
        "-j",
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="processes that share the runs and the cores (default: 1); 0 only tabulates",
    )

    verb = verbs.add_parser(
        "report",
        parents=[common, device, root],
        help="write a page to hear and see what a run has learnt",
        description="DIR/index.html opens in any browser, without a server or a network. Excerpts "
        "of the test tracks need --root or MUSDB_PATH.",
    )
    verb.add_argument("run", type=Path, metavar="RUN")
    verb.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    verb.add_argument(
        "--examples", type=int, default=11, metavar="N", help="test tracks, default: the first 11"
    )
    verb.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="length of an excerpt, default: 5"
    )

    verb = verbs.add_parser(
        "synthesize", parents=[common], help="write a synthetic multitrack set in MUSDB layout"
    )
    verb.add_argument("directory", type=Path, metavar="DIR")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--train-tracks", type=int, default=6)
    verb.add_argument("--test-tracks", type=int, default=3)
    verb.add_argument("--seconds", type=float, default=12.0, help="length of each track")
    verb.add_argument("--sample-rate", type=int, default=44100)

    verbs.add_parser("info", parents=[common], help="versions, kernels, devices, folders")
    _add_umss(verbs, common, device)
    return parser


def _add_settings(verb: argparse.ArgumentParser, example: str) -> None:
    """Where the settings of a run come from, besides a preset, and where it goes."""
    verb.add_argument("-c", "--config", type=Path, metavar="FILE.toml", help="settings")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"one setting, such as {example}; may be repeated",
    )
    verb.add_argument("-o", "--out", type=Path, metavar="RUN", help="default: runs/PRESET-NUMBER")


def _add_again(verb: argparse.ArgumentParser) -> None:
    """The ways to continue a run."""
    again = verb.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue the run in --out")
    again.add_argument(
        "--restartable",
        action="store_true",
        help="continue the run in --out if it is there, else begin it; for torchrun --max-restarts",
    )


def _voices(text: str) -> tuple[str, ...]:
    """Names of voices from their letters, or from their number."""
    letters = {"s": "soprano", "a": "alto", "t": "tenor", "b": "bass"}
    text = "satb" if text == "4" else text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 100:
        return tuple(f"voice{number + 1}" for number in range(int(text)))
    if not text or [letter for letter in letters if letter in text] != list(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected letters of satb, or a number")
    return tuple(letters[letter] for letter in text)


def _add_umss(verbs: argparse._SubParsersAction[_Parser], common: _Parser, device: _Parser) -> None:
    """The second family's commands; their verb is two words."""
    group = verbs.add_parser("umss", help="voices of singing ensembles").add_subparsers(
        metavar="COMMAND", required=True
    )
    weights = _Parser(add_help=False)
    weights.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder of the imported weights (default: RLSV_FAST_WEIGHTS, else in the user's data "
        "folder)",
    )

    verb = group.add_parser(
        "import-weights",
        parents=[common],
        help="read the published files of the pretrained f0 networks",
        description="Reads the .npz of both networks, the published .npy files (arrays only: a "
        "pickle that asks for anything else is refused) or the Keras file of VoasCNN, and writes "
        "safetensors with a small JSON beside them.",
    )
    verb.set_defaults(verb="umss import-weights")
    verb.add_argument("files", type=Path, nargs="+", metavar="FILE")
    verb.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="default: where --weights looks by default"
    )

    estimation = _Parser(add_help=False)
    estimation.add_argument("files", type=Path, nargs="+", metavar="FILE", help="wav or flac")
    estimation.add_argument(
        "--assignment",
        choices=("tracking", "network", "continuity"),
        default="tracking",
        help="tracking: best path through the salience (default); network: VoasCNN, four voices; "
        "continuity: as the Schulze-Forster baseline",
    )
    estimation.add_argument(
        "--voices",
        type=_voices,
        default=_voices("satb"),
        metavar="satb",
        help="which there are, by their letters from the highest on, or how many (default: satb)",
    )
    estimation.add_argument(
        "--precision",
        choices=("float32", "tf32", "bfloat16"),
        default="float32",
        help="of the networks; tf32: a GPU's tensor cores, nothing changes on a CPU "
        "(default: float32)",
    )
    estimation.add_argument("--no-picture", action="store_true", help="do not draw the f0")

    verb = group.add_parser(
        "f0",
        parents=[common, device, weights, estimation],
        help="estimate the f0 of every voice: a CSV and a picture for each recording",
    )
    verb.set_defaults(verb="umss f0")
    verb.add_argument("-o", "--out", type=Path, default=Path("f0"), metavar="DIR")

    verb = group.add_parser(
        "separate",
        parents=[common, device, weights, estimation],
        help="separate recordings of singing ensembles: a wav for each voice",
        description="Writes a wav for each voice, at the rate and with the channels of the "
        "recording, a CSV of the f0 and a picture of it. Without --model the masks are combs of "
        "harmonics at the f0 of each voice. A model with f0 networks of its own finds the f0 "
        "itself, unless --f0 gives it.",
    )
    verb.set_defaults(verb="umss separate")
    verb.add_argument("-o", "--out", type=Path, default=Path("separated"), metavar="DIR")
    verb.add_argument(
        "--f0", type=Path, metavar="CSV", help="tracks to use instead of estimating them"
    )
    verb.add_argument(
        "--model", type=Path, metavar="RUN", help="run folder of a trained separator to use"
    )
    _add_umss_runs(group, common, device)


def _add_umss_runs(
    group: argparse._SubParsersAction[_Parser], common: _Parser, device: _Parser
) -> None:
    songs = _Parser(add_help=False)
    songs.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of songs, see docs/choirs.md",
    )

    verb = group.add_parser(
        "train",
        parents=[common, device, songs],
        help="train a separator of ensembles",
        description="Variants by name: umss, umss-supervised, sf-sf, sf-sft, sft-sft, w-up-1, "
        "w-up-2, w-up-3, u-net, u-net-harmonics; those with built-in f0 need imported weights.",
    )
    verb.set_defaults(verb="umss train")
    verb.add_argument("--preset", help="a variant (default: umss)")
    _add_settings(verb, "data.singers=1,2")
    verb.add_argument("--seed", type=int, help="of weights, excerpts and noise")
    _add_again(verb)

    verb = group.add_parser(
        "evaluate",
        parents=[common, device, songs],
        help="measure a trained separator, or without RUN the untrained comb, on songs",
    )
    verb.set_defaults(verb="umss evaluate")
    verb.add_argument("run", type=Path, nargs="?", metavar="RUN")
    verb.add_argument(
        "--test-set",
        choices=("CSD", "BCBQ", "cantoria"),
        help="the published excerpts of a data set (default: all songs of the folder)",
    )
    verb.add_argument(
        "--f0-from-mix",
        action="store_true",
        help="give it the f0 that was estimated from mixtures, not that of the singers",
    )
    verb.add_argument(
        "--levels",
        choices=("synthesised", "fitted"),
        help="of the voices in the masks, instead of the run's setting model.levels",
    )
    verb.add_argument("--singer", type=int, metavar="N", help="which one of every voice")
    verb.add_argument(
        "--compute",
        default="all_mask",
        metavar="NAMES",
        help="measures with commas: all, all_mask (default), all_no_mask, f0_infos, SI-SDR_mask, "
        "sp_SNR_mask, sp_SI-SNR_mask, mel_cep_dist_mask, and these without _mask",
    )
    verb.add_argument(
        "--robustness",
        action="store_true",
        help="SI-SDR with shifted, transposed and muted f0 instead",
    )
    verb.add_argument("-o", "--out", type=Path, metavar="DIR", help="default: RUN/evaluation")

    verb = group.add_parser(
        "report",
        parents=[common, device, songs],
        help="write a page to hear and see what a trained separator does",
        description="DIR/index.html opens in any browser, without a server or a network. Excerpts "
        "are of the songs that the run validates on, or else of all songs of the folder.",
    )
    verb.set_defaults(verb="umss report")
    verb.add_argument("run", type=Path, metavar="RUN")
    verb.add_argument("-o", "--out", type=Path, metavar="DIR", help="default: RUN/report")
    verb.add_argument("--examples", type=int, default=4, metavar="N", help="default: 4")
    verb.add_argument(
        "--seconds", type=float, default=4.0, metavar="S", help="length of an excerpt, default: 4"
    )
    verb.add_argument("--singer", type=int, metavar="N", help="which one of every voice")
    verb.add_argument(
        "--f0-from-mix",
        action="store_true",
        help="give it the f0 that was estimated from mixtures, not that of the singers",
    )
