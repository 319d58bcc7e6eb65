"""The whole training step at P2 size: this library against the published mathematics in PyTorch.

A step is forward, backward and Adam on one batch. Both sides compute the published code's
conventions; L_A regularises by total variation, L_B by the Sinkhorn distance. Peak memory is that
of a process of its own (peak resident size minus the idle size after imports and model set-up).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from conftest import Measure
from shapes import P2

from rlsv_fast.data import PreparedTrack, SegmentStore
from rlsv_fast.training import Trainer, resolve

WEIGHT, EPSILON = 0.5, 1.3
OBJECTIVES = {"L_A": "total-variation", "L_B": "sinkhorn"}


def _voice_and_accompaniment() -> tuple[torch.Tensor, torch.Tensor]:
    noise = np.random.default_rng(218).standard_normal((2, P2["B"], P2["N"]))
    voice, accompaniment = torch.from_numpy(0.1 * noise).float()
    return voice, accompaniment


def fused_step(objective: str) -> Callable[[], Any]:
    """The trainer's own step, as `rlsv-fast train` runs it."""
    voice, accompaniment = _voice_and_accompaniment()
    config = resolve(
        "p2",
        overrides=[
            "convention=code",
            f"loss.representation={OBJECTIVES[objective]}",
            f"loss.weight={WEIGHT}",
            f"loss.epsilon={EPSILON}",
        ],
    )
    sources = [source.reshape(-1).numpy() for source in (voice, accompaniment)]
    track = PreparedTrack("noise", 44100, sources[0] + sources[1], *sources)
    store = SegmentStore([track], P2["N"], 0)
    trainer = Trainer(config, store, Path("unused"), device=torch.device("cpu"))
    return lambda: trainer.step(voice, accompaniment)


def published_step(objective: str) -> Callable[[], Any]:
    """The peer: see published.py."""
    voice, accompaniment = _voice_and_accompaniment()
    model = published.PublishedModel(P2["C"], P2["L"], P2["S"], P2["N"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    return lambda: published.step(
        model,
        optimizer,
        voice,
        accompaniment,
        weight=WEIGHT,
        epsilon=EPSILON if objective == "L_B" else None,
    )


PEERS = {"fused": fused_step, "published": published_step}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_step(measure: Measure, peer: str, objective: str) -> None:
    peak = float(
        subprocess.run(
            [sys.executable, __file__, peer, objective],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    measure(
        PEERS[peer](objective),
        group=f"training step {objective}",
        peer=peer,
        shape="P2",
        rounds=7,
        iterations=1,
        peak_memory_gb=peak,
    )


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _peak_memory(peer: str, objective: str) -> float:
    """GB that three steps need above the process at rest."""
    step = PEERS[peer](objective)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    idle = _resident("VmRSS")
    for _ in range(3):
        step()
    return (_resident("VmHWM") - idle) * 1024 / 1e9


if __name__ == "__main__":
    print(json.dumps(_peak_memory(*sys.argv[1:])))
