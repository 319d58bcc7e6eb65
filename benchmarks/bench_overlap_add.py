"""frames and overlap_add: fused against plain PyTorch, overlap_add also against fold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import DIRECTIONS, Measure
from shapes import P2
from torch import Tensor
from torch.nn import functional

from rlsv_fast import ops, reference

OFFSET = ((P2["T"] - 1) * P2["S"] + P2["L"] - P2["N"]) // 2


def _fold(frames: Tensor, hop: int, *, length: int, offset: int) -> Tensor:
    """Torch's own overlap-add, for frames stored as (B, L, T): its preferred layout."""
    support = (frames.shape[2] - 1) * hop + frames.shape[1]
    folded = functional.fold(frames, (1, support), (1, frames.shape[1]), stride=(1, hop))
    return folded[:, 0, 0, offset : offset + length]


OVERLAP_ADD: dict[str, Callable[..., Tensor]] = {
    "fused": ops.overlap_add,
    "reference": reference.overlap_add,
    "torch fold": _fold,
}
FRAMES = {"fused": ops.frames, "reference": reference.frames}


@pytest.mark.parametrize("peer", FRAMES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_frames(measure_operator: Measure, peer: str, direction: str) -> None:
    measure_operator(
        lambda signal: FRAMES[peer](
            signal, P2["S"], kernel_size=P2["L"], count=P2["T"], offset=OFFSET
        ),
        torch.randn(P2["B"], P2["N"]).requires_grad_(),
        op="frames",
        direction=direction,
        peer=peer,
        shape="P2",
    )


@pytest.mark.parametrize("peer", OVERLAP_ADD)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_overlap_add(measure_operator: Measure, peer: str, direction: str) -> None:
    layout = "BLT" if peer == "torch fold" else "BTL"
    measure_operator(
        lambda frames: OVERLAP_ADD[peer](frames, P2["S"], length=P2["N"], offset=OFFSET),
        torch.randn([P2[axis] for axis in layout]).requires_grad_(),
        op="overlap_add",
        direction=direction,
        peer=peer,
        shape="P2",
    )
