"""si_sdr: fused against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from conftest import DIRECTIONS, Measure
from shapes import P2

from rlsv_fast import ops, reference

PEERS = {"fused": ops, "reference": reference}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_si_sdr(measure_operator: Measure, peer: str, direction: str) -> None:
    target = torch.randn(P2["B"], P2["N"])
    estimate = (target + 0.1 * torch.randn_like(target)).requires_grad_()
    measure_operator(
        PEERS[peer].si_sdr,
        estimate,
        target,
        op="si_sdr",
        direction=direction,
        peer=peer,
        shape="P2",
    )
