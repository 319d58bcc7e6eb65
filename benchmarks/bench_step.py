"""The whole training step at P2 size: this library against the published mathematics in PyTorch.

A step is forward, backward and Adam on one batch. Both sides compute the published code's
conventions; L_A regularises by total variation, L_B by the Sinkhorn distance. On a GPU
"reference" is the library's own step on its plain PyTorch operators. Peak memory on the CPU is
that of a process of its own (peak resident size minus the idle size after imports and model
set-up), on a GPU that of the allocator above what the model holds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import published
import torch
from catalogue import Row
from shapes import P2
from timing import Timed

from rlsv_fast import ops, reference

WEIGHT, EPSILON = 0.5, 1.3
OBJECTIVES = {"L_A": "total-variation", "L_B": "sinkhorn"}
Step = Callable[[], Any]


def _voice_and_accompaniment(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(218)
    noise = 0.1 * torch.randn(2, P2["B"], P2["N"], generator=generator)
    voice, accompaniment = noise.to(device)
    return voice, accompaniment


def fused_step(objective: str, device: str) -> Step:
    """The trainer's own step, as `rlsv-fast train` runs it."""
    from rlsv_fast.data import PreparedTrack, SegmentStore  # needs soundfile
    from rlsv_fast.training import Trainer, resolve

    voice, accompaniment = _voice_and_accompaniment(device)
    config = resolve(
        "p2",
        overrides=[
            "convention=code",
            f"loss.representation={OBJECTIVES[objective]}",
            f"loss.weight={WEIGHT}",
            f"loss.epsilon={EPSILON}",
        ],
    )
    sources = [source.reshape(-1).cpu().numpy() for source in (voice, accompaniment)]
    track = PreparedTrack("noise", 44100, sources[0] + sources[1], *sources)
    store = SegmentStore([track], P2["N"], 0)
    trainer = Trainer(config, store, Path("unused"), device=torch.device(device))
    return lambda: trainer.step(voice, accompaniment)


def reference_step(objective: str, device: str) -> Step:
    """The same on the plain PyTorch operators."""
    step = fused_step(objective, device)
    plain = {name: getattr(reference, name) for name in reference.__all__}

    def run() -> Any:
        with patch.multiple(ops, **plain):
            return step()

    return run


def published_step(objective: str, device: str) -> Step:
    """The peer: see published.py."""
    voice, accompaniment = _voice_and_accompaniment(device)
    model = published.PublishedModel(P2["C"], P2["L"], P2["S"], P2["N"]).to(device)
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
CUDA_PEERS = {**PEERS, "reference": reference_step}


@dataclass(frozen=True)
class StepRow:
    """One side's step."""

    objective: str
    peer: str
    device: str
    shape: str = "P2"
    effort: tuple[int, int] = (7, 1)

    @property
    def group(self) -> str:
        """What is compared."""
        return f"training step {self.objective}"

    def prepare(self) -> Timed:
        """All float32: convolutions in TF32 would compare precisions, not programs."""
        torch.backends.cudnn.allow_tf32 = False
        return Timed(CUDA_PEERS[self.peer](self.objective, self.device))

    def facts(self) -> dict[str, Any]:
        """Peak memory."""
        if self.device != "cpu":
            run = self.prepare().run
            idle = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            for _ in range(3):
                run()
            return {"peak_memory_gb": (torch.cuda.max_memory_allocated() - idle) / 1e9}
        done = subprocess.run(
            [sys.executable, __file__, self.peer, self.objective],
            capture_output=True,
            text=True,
            check=True,
        )
        return {"peak_memory_gb": float(done.stdout)}

    def __str__(self) -> str:
        """Identify it in a list of tests."""
        return "-".join((self.device, self.peer, self.objective))


@dataclass(frozen=True)
class Steps:
    """All sides of one objective."""

    objective: str
    targets: tuple[Any, ...] = ()

    def rows(self, device: str) -> Iterator[Row]:
        """The sides on a device."""
        for peer in PEERS if device == "cpu" else CUDA_PEERS:
            yield StepRow(self.objective, peer, device)


BENCHMARKS = [Steps(objective) for objective in OBJECTIVES]


def test_step(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _peak_memory(peer: str, objective: str) -> float:
    """GB that three steps need above the process at rest."""
    step = PEERS[peer](objective, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    idle = _resident("VmRSS")
    for _ in range(3):
        step()
    return (_resident("VmHWM") - idle) * 1024 / 1e9


if __name__ == "__main__":
    print(json.dumps(_peak_memory(*sys.argv[1:])))
