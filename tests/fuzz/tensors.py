"""Tensors as hostile callers make them: any layout, any values, and memory around them watched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

GUARD = 16  # elements before and after, which must stay as they are

LAYOUTS = (
    *("plain", "plain", "offset", "transposed", "stepped", "flipped", "permuted"),
    *("expanded", "overlapping", "negated"),
)
TAME = ("normal", "positive", "zeros", "ones", "integers", "mixed-signs-of-zero", "one-hot")
TINY = ("denormal", "tiny")
WILD = ("huge", "largest", "nan", "all-nan", "inf", "minus-inf", "all-inf", "mixture-of-all")
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NOT_FLOATS = (
    *(torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.int8),
)


@dataclass
class Watched:
    """A tensor that an operator is given, and the memory that it lies in.

    Attributes:
        tensor: the argument.
        buffer: the flat storage with guards at both ends.
        before: a copy of its bytes.
    """

    tensor: Tensor
    buffer: Tensor
    before: bytes

    def unchanged(self) -> bool:
        """Whether neither the argument nor what lies beside it was written to."""
        return as_bytes(self.buffer) == self.before


def as_bytes(tensor: Tensor) -> bytes:
    """The memory of a contiguous tensor; NaN is compared by its bits, too."""
    return tensor.detach().view(-1).view(torch.uint8).numpy().tobytes()


def values(
    random: np.random.Generator, count: int, kind: str, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Flat float64 values of one kind, as large or small as ``dtype`` allows."""
    limits = torch.finfo(dtype if dtype.is_floating_point else torch.float32)
    normal = random.standard_normal(count)
    if kind == "positive":
        normal = random.random(count)
    elif kind == "zeros":
        normal[:] = 0
    elif kind == "ones":
        normal[:] = 1
    elif kind == "integers":
        normal = np.round(3 * normal)
    elif kind == "mixed-signs-of-zero":
        normal = np.where(normal > 0, 0.0, -0.0)
    elif kind == "one-hot":
        normal[:] = 0
        normal[: min(count, 1)] = 1
    elif kind == "denormal":
        normal = normal * limits.tiny / 8
    elif kind == "tiny":
        normal = normal * limits.tiny * 64
    elif kind == "huge":
        normal = normal * math.sqrt(limits.max)
    elif kind == "largest":
        normal = np.sign(normal) * limits.max
    elif kind in ("all-nan", "all-inf"):
        normal[:] = math.nan if kind == "all-nan" else math.inf
    elif kind in ("nan", "inf", "minus-inf"):
        if count:
            normal[random.integers(count)] = float(kind.replace("minus-", "-"))
    elif kind == "mixture-of-all":
        special = [math.nan, math.inf, -math.inf, 0.0, limits.max, limits.tiny / 4, 1.0, -0.0]
        normal = random.choice(special, count)
    elif kind != "normal":
        raise ValueError(kind)
    return torch.from_numpy(np.ascontiguousarray(normal, dtype=np.float64))


def watched(
    random: np.random.Generator,
    shape: Sequence[int],
    *,
    kind: str = "normal",
    dtype: torch.dtype = torch.float32,
    layout: str = "plain",
    data: Tensor | None = None,
) -> Watched:
    """Make a tensor of a shape in some layout, within guarded memory.

    Args:
        random: where values come from.
        shape: of the argument.
        kind: of its values.
        dtype: of the argument.
        layout: one of ``LAYOUTS``; those that repeat elements repeat values, too.
        data: values to use in place of drawn ones; layouts that repeat elements then do not apply.
    """
    shape = tuple(shape)
    if data is not None and layout in ("expanded", "overlapping"):
        layout = "plain"
    stored, strides, offset = _geometry(random, shape, layout)
    total = GUARD + offset + stored + GUARD
    flat = values(random, total, kind, dtype)
    if not dtype.is_complex:
        flat = flat if dtype.is_floating_point else flat.nan_to_num(0, 1, -1).clamp(-100, 100)
    buffer = flat.to(dtype).contiguous()
    tensor = buffer.as_strided(shape, strides, GUARD + offset)
    if data is not None:
        tensor.copy_(data)
    if layout == "negated" and dtype in (torch.float32, torch.float64):
        # the imaginary part of a conjugate: its sign is a bit of the tensor, not of its memory
        pairs = torch.complex(torch.zeros_like(tensor), -tensor).contiguous()
        buffer = torch.view_as_real(pairs).reshape(-1)
        tensor = pairs.conj().imag
    return Watched(tensor, buffer, as_bytes(buffer))


def _geometry(
    random: np.random.Generator, shape: tuple[int, ...], layout: str
) -> tuple[int, list[int], int]:
    """Elements stored, strides, and first element."""
    order = list(range(len(shape)))
    step, offset = 1, 0
    if layout == "transposed" and len(shape) > 1:
        order[-1], order[-2] = order[-2], order[-1]
    elif layout in ("permuted", "flipped"):
        # torch copies where numpy would step back; a reversed order of axes is what is left of it
        order = order[::-1] if layout == "flipped" else list(random.permutation(len(shape)))
    elif layout == "stepped":
        step = int(random.integers(2, 4))
    elif layout == "offset":
        offset = int(random.integers(1, 8))
    strides = [0] * len(shape)
    size = step
    for axis in reversed(order):
        strides[axis] = size
        size *= max(shape[axis], 1)
    if layout == "expanded" and shape:
        strides[int(random.integers(len(shape)))] = 0
    elif layout == "overlapping" and len(shape) > 1:
        strides = [1 + int(random.integers(2)) for _ in shape]
    last = sum(stride * max(length - 1, 0) for stride, length in zip(strides, shape, strict=True))
    return last + 1, strides, offset
