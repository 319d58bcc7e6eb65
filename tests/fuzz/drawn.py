"""The call of a seed; a third of them have an argument that does not belong there."""

from __future__ import annotations

import math
from typing import Any

import torch
from fuzz.calls import OPERATORS, Call, Draw
from fuzz.tensors import FLOATS, NOT_FLOATS
from torch import Tensor

SIZES_OF_ABSURDITY = (-1, -(2**40), 2**31, 2**40, 2**41, 2**62, 2**64, 10**30)
ABSURD: tuple[Any, ...] = (
    *SIZES_OF_ABSURDITY,
    *(0, 1, 3, True, 1.5, math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324),
    *(None, "", "features", "zzz", "1", b"x", (), [1, 2], {}, object, 1 + 2j, slice(None)),
)


def draw_call(seed: int, op: str | None = None) -> Call:
    """The call of a seed; a third of them have an argument that does not belong there."""
    draw = Draw(seed)
    name = op or draw.pick(tuple(OPERATORS))
    call = Call(name)
    OPERATORS[name](draw, call)
    if draw.chance(0.33):
        _spoil(draw, call)
    return call


def _spoil(draw: Draw, call: Call) -> None:
    """Put something else in the place of one argument."""
    # masses that rounding makes unlike never meet, for as many iterations as are allowed
    names = [name for name in call.arguments if name != "max_iterations" or not call.lenient]
    name = draw.pick(names)
    old = call.arguments[name]
    if isinstance(old, Tensor) and draw.chance(0.8):
        call.arguments[name] = _other_tensor(draw, old)
    else:
        call.arguments[name] = draw.pick(ABSURD)
    shown = call.arguments[name]
    if isinstance(shown, Tensor):
        shown = f"{tuple(shown.shape)} {shown.dtype} {shown.device} {shown.layout}"
    call.what.append(f"spoilt {name} = {shown!r}"[:200])
    call.shapes, call.tame = None, False


def _other_tensor(draw: Draw, old: Tensor) -> Any:
    """A tensor (or nearly one) like another one, but for one property."""
    plain = old.detach()
    shape = list(old.shape)
    kind = int(draw.random.integers(10))
    if kind == 0:
        return plain.to(draw.pick(NOT_FLOATS))
    if kind == 1:
        return plain.to(draw.pick(FLOATS))  # perhaps unlike the others
    if kind == 2 and shape:
        shape[int(draw.random.integers(len(shape)))] += draw.pick((-1, 1, 2, 7))
        return torch.rand([max(size, 0) for size in shape]).to(old.dtype)
    if kind == 3:
        return torch.rand([*shape, 1]).to(old.dtype)
    if kind == 4 and shape:
        return plain.sum(0)
    if kind == 5:
        return plain.to("meta")
    if kind == 6:
        return plain.to_sparse() if old.dtype in FLOATS[:2] and shape else None
    if kind == 7:
        return plain.float().resolve_neg().numpy()
    if kind == 8:
        return plain.float().tolist()
    return torch.rand(draw.pick(((), (1,), (0,), (1, 1), (2, 3, 4, 5)))).to(old.dtype)
