"""Total variation: fused against plain PyTorch, which writes two difference tensors."""

from __future__ import annotations

import pytest
import torch
from conftest import DIRECTIONS, Measure
from shapes import P2

from rlsv_fast import ops, reference

PEERS = {"fused": ops, "reference": reference}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_total_variation(measure_operator: Measure, peer: str, norm: int, direction: str) -> None:
    measure_operator(
        lambda representation: PEERS[peer].total_variation(representation, norm=norm),
        torch.rand(P2["B"], P2["C"], P2["T"]).requires_grad_(),
        op=f"total_variation norm={norm}",
        direction=direction,
        peer=peer,
        shape="P2",
    )
