"""Sorted modulated cosines: fused against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from conftest import SHAPES, Measure

from rlsv_fast import ops, reference

PEERS = {"fused": ops.modulated_cosines, "reference": reference.modulated_cosines}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("shape", ["P2", "small"])
@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
def test_modulated_cosines(measure: Measure, peer: str, shape: str, direction: str) -> None:
    components, taps = SHAPES[shape]["C"], SHAPES[shape]["L"]
    leaves = [torch.rand(components), torch.randn(components), torch.rand(components, taps)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    upstream = torch.randn(components, taps)
    function = PEERS[peer]

    def forward() -> None:
        with torch.no_grad():
            function(*leaves)

    def both() -> None:
        torch.autograd.grad(function(*leaves)[0], leaves, upstream)

    measure(
        forward if direction == "forward" else both,
        group=f"modulated_cosines {direction}",
        peer=peer,
        shape=shape,
    )
