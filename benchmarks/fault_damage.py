"""Damaging the files of a run, byte by byte, and seeing who notices."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from fault_commands import STOP
from fault_runs import Bench, same

from rlsv_fast.errors import InputError
from rlsv_fast.training import load_run_config, read_checkpoint, read_log
from rlsv_fast.training.build import build_model
from rlsv_fast.training.checkpoint import check_settings, load_model
from rlsv_fast.training.checkpoint_files import Checkpoint, verified
from rlsv_fast.training.log import RunLog
from rlsv_fast.training.run import _CHANGEABLE
from rlsv_fast.training.run_files import CHECKPOINT, CONFIG, LOG, PREVIOUS, STATE
from rlsv_fast.training.settings import flatten

_PER_TENSOR = 200

Range = tuple[str, int, int]


def damage(bench: Bench, chance: random.Random) -> None:
    """Make a run of two checkpoints, and damage each of its files in many ways."""
    run = bench.folder / "bytes"
    bench.trained(run, f"training.max_steps={STOP}")
    heard = _Heard()
    logging.getLogger("rlsv_fast").addHandler(heard)
    logging.getLogger("rlsv_fast").propagate = False
    _checkpoints(bench, run, chance)
    _state(bench, run, heard, chance)
    _config(bench, run, heard, chance)
    _log(bench, run, heard, chance)


class _Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


def ranges(content: bytes) -> Iterator[Range]:
    """Name, first byte and end of each part of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    begin = content.index(b"{", 9)
    text = content[begin : 8 + size].decode("latin-1")  # a character per byte
    metadata = begin + json.JSONDecoder().raw_decode(text)[1]
    yield "header length", 0, 8
    yield "header: metadata", 8, metadata
    end = 8 + len(content[8 : 8 + size].rstrip())
    yield "header: names, types, shapes, offsets", metadata, end
    if end < 8 + size:
        yield "header: padding", end, 8 + size
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            yield f"tensor {name}", 8 + size + first, 8 + size + last


def _checkpoints(bench: Bench, run: Path, chance: random.Random) -> None:
    newest, previous = verified(run / CHECKPOINT), verified(run / PREVIOUS)
    path = run / CHECKPOINT
    content = path.read_bytes()

    def attempt(fault: str, changed: bytes) -> None:
        path.write_bytes(changed)
        try:
            found = read_checkpoint(run)
            if found.path.name == PREVIOUS and same(found, previous):
                outcome = "previous one taken"
            else:
                outcome = "means the same" if same(found, newest) else "unnoticed"
        except InputError:
            outcome = "refused"
        fine = outcome in ("previous one taken", "means the same")
        promises = {"noticed and the previous one taken, unless it means the same": fine}
        bench.ledger.check("checkpoint", fault, promises, fault, outcome)

    parts = list(ranges(content))
    for name, first, last in parts:
        tensor = name.startswith("tensor")
        places: Sequence[int] = range(first, last)
        if tensor and len(places) > _PER_TENSOR:
            places = sorted(chance.sample(places, _PER_TENSOR))
        for place in places:
            flipped = bytes([content[place] ^ chance.randint(1, 255)])
            changed = content[:place] + flipped + content[place + 1 :]
            attempt(f"bytes changed: {'tensors' if tensor else name}", changed)
        zeroed = content[:first] + bytes(last - first) + content[last:]
        if zeroed != content:
            attempt("each range zeroed", zeroed)
    for fault, changes in (
        ("truncated", [content[:keep] for keep in _lengths(content, parts)]),
        ("extended", [content + bytes(more) for more in (1, 7, 8, 4096, len(content))]),
        ("empty", [b""]),
        ("of something else", [b"dear reader" * 99, (2).to_bytes(8, "little") + b"{}"]),
    ):
        for changed in changes:
            attempt(fault, changed)
    path.write_bytes(content)


def _lengths(content: bytes, parts: list[Range]) -> list[int]:
    """Many lengths, the borders of all ranges among them."""
    borders = {first + shift for _, first, _ in parts for shift in (0, 1)}
    borders |= set(range(1, len(content), max(1, len(content) // 400))) | {len(content) - 1}
    return sorted(keep for keep in borders if 0 < keep < len(content))


def _flips(content: bytes, chance: random.Random, most: int) -> Iterator[bytes]:
    """The content with one byte changed, at all places or at a sample of them."""
    places = range(len(content))
    for place in places if len(content) <= most else chance.sample(places, most):
        flipped = bytes([content[place] ^ chance.randint(1, 255)])
        yield content[:place] + flipped + content[place + 1 :]


def _digits(content: bytes) -> Iterator[bytes]:
    """The content with one digit changed into the next: it still reads well."""
    for place, byte in enumerate(content):
        if byte in b"0123456789":
            yield content[:place] + b"1234567890"[byte - 48 : byte - 47] + content[place + 1 :]


def _state(bench: Bench, run: Path, heard: _Heard, chance: random.Random) -> None:
    path = run / STATE
    content, newest = path.read_bytes(), verified(run / CHECKPOINT)
    cases = [*_flips(content, chance, 2000), *_digits(content), b"", content[:99]]
    for changed in cases:
        path.write_bytes(changed)
        heard.lines.clear()
        unharmed = same(read_checkpoint(run), newest)
        named = any(f"{STATE}: damaged" in line for line in heard.lines)
        outcome = "named" if named else "means the same, or taken for an older one"
        promises = {"the checkpoint is read without it": unharmed}
        bench.ledger.check("other files", f"{STATE} changed", promises, repr(changed[:40]), outcome)
    path.write_bytes(content)


def _config(bench: Bench, run: Path, heard: _Heard, chance: random.Random) -> None:
    path, found = run / CONFIG, verified(run / CHECKPOINT)
    content, settings = path.read_bytes(), flatten(load_run_config(run))
    fault = f"{CONFIG} changed"
    cases = [*_flips(content, chance, 2000), *_digits(content), b"", content[:99]]
    for changed in cases:
        path.write_bytes(changed)
        heard.lines.clear()
        outcome = _config_outcome(run, found, settings, heard)
        promises = {"refused, told, or nothing changed": outcome != "unnoticed"}
        bench.ledger.check("other files", fault, promises, repr(changed[:40]), outcome)
    path.write_bytes(content)


def _config_outcome(
    run: Path, found: Checkpoint, settings: dict[str, object], heard: _Heard
) -> str:
    """What resuming makes of a damaged settings file."""
    try:
        config = load_run_config(run)
        load_model(build_model(config), found, config)
        check_settings(found, config, {f"training.{key}" for key in _CHANGEABLE})
    except InputError as error:
        return "refused" if CONFIG in str(error) else "unnoticed"
    if flatten(config) == settings:
        return "means the same"
    return "told" if heard.lines else "unnoticed"


def _log(bench: Bench, run: Path, heard: _Heard, chance: random.Random) -> None:
    path = run / LOG
    content = path.read_bytes()
    fault = f"{LOG} changed"
    cases = [*_flips(content, chance, 1000), b"", content[:999], bytes(99) + content[99:]]
    for changed in cases:
        path.write_bytes(changed)
        heard.lines.clear()
        with RunLog(path, after_step=STOP):
            pass
        records = list(read_log(path))
        told = bool(heard.lines)
        outcome = "told" if told else "a value changed, which nothing guards, or no meaning"
        steps = [record["step"] for record in records if record["kind"] == "step"]
        promises = {"gaps are told": told or steps == list(range(1, STOP + 1))}
        bench.ledger.check("other files", fault, promises, str(steps[:5]), outcome)
    path.write_bytes(content)
