"""frames and overlap_add against eager PyTorch, and overlap_add against fold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from shapes import P2
from torch import Tensor
from torch.nn import functional

from rlsv_fast import ops, reference

B, T, L, S, N = (P2[name] for name in "BTLSN")
OFFSET = ((T - 1) * S + L - N) // 2


def fold(frames: Tensor, hop: int, *, length: int, offset: int) -> Tensor:
    """Torch's own overlap-add, for frames stored as (B, L, T): its preferred layout."""
    support = (frames.shape[2] - 1) * hop + frames.shape[1]
    folded = functional.fold(frames, (1, support), (1, frames.shape[1]), stride=(1, hop))
    return folded[:, 0, 0, offset : offset + length]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("module", [ops, reference], ids=["fused", "eager"])
@pytest.mark.benchmark(group="frames")
def bench_frames(measure: Callable[..., None], module: Any, backward: bool) -> None:
    def call(leaf: Tensor) -> Tensor:
        return module.frames(leaf, L, S, count=T, offset=OFFSET)

    measure(call, torch.randn(B, N), backward=backward, shape=f"({B}, {N}) -> ({B}, {T}, {L})")


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize(
    ("overlap_add", "layout"),
    [
        pytest.param(ops.overlap_add, (B, T, L), id="fused"),
        pytest.param(reference.overlap_add, (B, T, L), id="eager"),
        pytest.param(fold, (B, L, T), id="fold"),
    ],
)
@pytest.mark.benchmark(group="overlap_add")
def bench_overlap_add(
    measure: Callable[..., None],
    overlap_add: Callable[..., Tensor],
    layout: tuple[int, ...],
    backward: bool,
) -> None:
    def call(leaf: Tensor) -> Tensor:
        return overlap_add(leaf, S, length=N, offset=OFFSET)

    measure(call, torch.randn(layout), backward=backward, shape=f"{layout} -> ({B}, {N})")
