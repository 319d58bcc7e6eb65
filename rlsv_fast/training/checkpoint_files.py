"""The two newest checkpoints of a run, each whole and verifiable by itself.

``checkpoint.safetensors`` is the newest, ``checkpoint.previous.safetensors`` the one before. Each
holds tensors, and in its metadata the version, the state (step, position in the epoch, running
sums, settings) as JSON, and a SHA-256 over that JSON and all tensors. Whoever reads gets the newest
that is whole. A new one is first written beside them, then the newest gets its second name, then
the new one the first name: at every moment each name stands for a whole file, and there are never
more than three files.

``state.json``, written last, repeats state and checksum of the newest in readable form; after a
kill just before, it is older. Nothing is read from it that the checkpoint does not say.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.files import read_bytes
from rlsv_fast.training.run_files import (
    CHECKPOINT,
    PREVIOUS,
    STATE,
    commit,
    flush,
    unwritable,
    write_text,
    writing,
)

VERSION = 1
_MOST_STATE = 1 << 20

_FORMAT = "rlsv_fast checkpoint"
_REMEDY = "restore it from a copy, or train anew"

logger = logging.getLogger(__name__)


class _Damaged(InputError):
    """A checkpoint that is missing or not what was written; another one may do."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        path: of the safetensors file.
        tensors: all of them, on the CPU.
        state: step, epoch, batch, running sums, settings.
        checksum: over both.
    """

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    checksum: str

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name begins with ``prefix.``, without it."""
        start = prefix + "."
        return {
            name[len(start) :]: tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }


def write_checkpoint(run: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Add a checkpoint to a run, of which the newest two are kept.

    Args:
        run: run folder.
        tensors: contiguous, on the CPU.
        state: what JSON can hold; ``step`` is an integer.

    Raises:
        InputError: the folder cannot be written, for example because the disk is full.
    """
    text = json.dumps(dict(state), ensure_ascii=False)
    checksum = _checksum(text, tensors)
    metadata = {"format": _FORMAT, "version": str(VERSION), "state": text, "sha256": checksum}
    newest = run / CHECKPOINT
    try:
        with writing(run) as folder:
            temporary = folder / CHECKPOINT
            save_file(dict(tensors), temporary, metadata)
            temporary.chmod(0o644)  # safetensors' 0o600 would keep it from the user's group
            flush(temporary)  # before the previous one goes
            if newest.exists():
                _keep(newest, folder / PREVIOUS)
            commit(temporary, newest)
    except (OSError, SafetensorError) as error:
        raise unwritable(newest, error) from error
    _write_state(run, state, checksum)


def has_checkpoint(run: Path) -> bool:
    """Whether a run has come to its first checkpoint."""
    return (run / CHECKPOINT).exists() or (run / PREVIOUS).exists()


def read_checkpoint(run: Path) -> Checkpoint:
    """Read the newest checkpoint of a run that is whole, and say so where it is not the last.

    Raises:
        InputError: there is none, both are truncated or damaged, or the newest is not one of this
            release's.
    """
    newest, previous = run / CHECKPOINT, run / PREVIOUS
    if not has_checkpoint(run):
        raise InputError(f"{newest}: missing, the run has no checkpoint yet; train it first")
    try:
        found = verified(newest)
    except _Damaged as damage:
        if not previous.exists():
            raise InputError(f"{damage}; {_REMEDY}") from damage
        try:
            found = verified(previous)
        except _Damaged as second:
            raise InputError(f"{damage}, and the one before it, {second}; {_REMEDY}") from second
        # an error, which is told even to those who want to hear nothing else: it was survived
        logger.error("%s; taking %s, of step %d", damage, previous, found.state["step"])
        return found
    _compare(run / STATE, found)
    return found


def verified(path: Path) -> Checkpoint:
    """Read one checkpoint file and make sure that it is what was written.

    Raises:
        InputError: it is missing, truncated, damaged, or not one of this release's.
    """
    if not path.is_file():
        raise _Damaged(f"{path}: missing")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise _Damaged(f"{path}: not a checkpoint of rlsv_fast")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        text, version = metadata["state"], metadata["version"]
        checksum = _checksum(text, tensors)
        whole = checksum == metadata["sha256"]
        # whole by the rules of this version: then it is one of this version, and the number damaged
        if version != str(VERSION) and not whole:
            raise InputError(
                f"{path}: has format version {version}, this release reads {VERSION}; use the "
                "release that wrote it"
            )
        state = json.loads(text)
        whole = whole and version == str(VERSION) and isinstance(state["step"], int)
    except InputError:
        raise
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _Damaged(f"{path}: truncated or damaged ({error})") from error
    if not whole:
        raise _Damaged(f"{path}: damaged, its checksum does not agree")
    return Checkpoint(path, tensors, state, checksum)


def settle(found: Checkpoint) -> None:
    """Make the checkpoint that a run continues from its newest.

    Otherwise the next one would push out the previous, whole one and keep the damaged one.
    """
    run = found.path.parent
    if found.path.name == PREVIOUS:
        # first, as a state.json that is newer than the newest checkpoint belongs elsewhere
        _write_state(run, found.state, found.checksum)
        try:
            os.replace(found.path, run / CHECKPOINT)
            flush(run)
        except OSError as error:
            raise unwritable(run / CHECKPOINT, error) from error


def _keep(newest: Path, spare: Path) -> None:
    """Give the newest checkpoint the name of the previous one, beside its own if that can be."""
    previous = newest.with_name(PREVIOUS)
    try:
        os.link(newest, spare)
        # nothing happens where a kill has left both names on one file
        os.replace(spare, previous)
    except OSError:
        # no hard links on this file system: for a moment there is no newest, only a previous one
        os.replace(newest, previous)


def _write_state(run: Path, state: Mapping[str, Any], checksum: str) -> None:
    readable = {"version": VERSION, "sha256": checksum, **state}
    write_text(run / STATE, json.dumps(readable, indent=2, ensure_ascii=False) + "\n")


def _compare(path: Path, found: Checkpoint) -> None:
    """Tell an older state.json, which a kill leaves behind, from one that belongs elsewhere."""
    if not path.exists():
        return
    try:
        readable = json.loads(read_bytes(path, _MOST_STATE))
        checksum, step = readable["sha256"], readable["step"]
        state = {key: value for key, value in readable.items() if key in found.state}
        same = checksum == found.checksum
        damage = "it does not say what its checkpoint does" if same and state != found.state else ""
        older = same or step <= found.state["step"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        damage, older = str(error), True
    if damage:
        logger.warning("%s: damaged (%s); %s is whole and used", path, damage, found.path.name)
    if not older:
        raise InputError(
            f"{path}: is at step {step}, {found.path.name} at step {found.state['step']}; they do "
            "not belong together: restore both from one copy"
        )


def _checksum(state: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
