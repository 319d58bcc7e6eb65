"""What ``training.precision`` means: autocast for the model, and when TF32 is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.backends import cuda, cudnn


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context for the model: bfloat16 where the settings say so."""
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def matrix_products(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Context for a whole step: TF32 on a GPU exactly where the settings say so.

    Otherwise the flags are the process's own, and cuDNN's default allows TF32 in convolutions.
    """
    if device.type == "cpu":
        return nullcontext()
    return tf32(precision == "tf32")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in cuBLAS and cuDNN, then put the former flags back."""
    newer: list[Any] = [cuda.matmul, cudnn.conv, cudnn.rnn]  # type: ignore[attr-defined]
    former = [flags.fp32_precision for flags in newer]
    older = _older_flags()
    _set_older_flags((allowed, allowed))
    try:
        yield
    finally:
        if older is not None:
            _set_older_flags(older)
        for flags, value in zip(newer, former, strict=True):
            flags.fp32_precision = value


# torch has two sets of flags for one thing and refuses to read the older one where they differ.
# Setting the older one sets both; both are put back, as others may read either.


def _older_flags() -> tuple[bool, bool] | None:
    try:
        return cuda.matmul.allow_tf32, cudnn.allow_tf32
    except RuntimeError:  # a program that uses the newer flags alone
        return None


def _set_older_flags(allowed: tuple[bool, bool]) -> None:
    cuda.matmul.allow_tf32, cudnn.allow_tf32 = allowed
