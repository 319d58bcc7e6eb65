"""Pairwise frame distance: fused against the published cost matrix and torch.cdist."""

from __future__ import annotations

from collections.abc import Callable

import published
import pytest
import torch
from conftest import DIRECTIONS, Measure
from shapes import P2
from torch import Tensor

from rlsv_fast import ops


def _cdist(representation: Tensor, p: int) -> Tensor:
    raised = representation + 1 / representation.shape[1]
    scaled = (raised / raised.sum(2, keepdim=True)).transpose(1, 2)
    return torch.cdist(scaled, scaled, p=p).mean(0)


def _fused(representation: Tensor, p: int) -> Tensor:
    return ops.frame_distance(representation, p=p, normalize="time", reduce="mean")


PEERS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "fused": _fused,
    "published loop": published.cost_matrix,
    "torch.cdist": _cdist,
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_frame_distance(measure_operator: Measure, peer: str, p: int, direction: str) -> None:
    slow = peer == "published loop"
    measure_operator(
        lambda representation: PEERS[peer](representation, p),
        torch.relu(torch.randn(P2["B"], P2["C"], P2["T"])).requires_grad_(),
        op=f"frame_distance p={p}",
        direction=direction,
        peer=peer,
        shape="P2",
        rounds=3 if slow else 10,
        iterations=1 if slow else 3,
    )
