"""Sorted modulated cosines: fused against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from conftest import DIRECTIONS, Measure
from shapes import SHAPES

from rlsv_fast import ops, reference

PEERS = {"fused": ops, "reference": reference}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_modulated_cosines(
    measure_operator: Measure, peer: str, shape: str, direction: str
) -> None:
    components, taps = SHAPES[shape]["C"], SHAPES[shape]["L"]
    leaves = [torch.rand(components), torch.randn(components), torch.rand(components, taps)]
    measure_operator(
        lambda *inputs: PEERS[peer].modulated_cosines(*inputs)[0],
        *(leaf.requires_grad_() for leaf in leaves),
        op="modulated_cosines",
        direction=direction,
        peer=peer,
        shape=shape,
    )
