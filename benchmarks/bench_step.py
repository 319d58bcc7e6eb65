"""The whole training step at P2 size: this library against the published mathematics in PyTorch.

A step is forward, backward and Adam on one batch. All sides compute the published code's
conventions; L_A regularises by total variation, L_B by the Sinkhorn distance. "plain convolutions"
is this library without its short convolutions by transform, "bfloat16" with its matrix products in
that type; "products" are the step's matrix products alone (products.py). On a GPU "graph" is the
step as `rlsv-fast train` replays it there, batches gathered and losses fetched included; TF32 is
allowed where the name says so and nowhere else; "reference" is the library's own step on its plain
PyTorch operators. Peak memory on the CPU is that of a process of its own (peak resident size minus
the idle size after imports and model set-up), on a GPU that of the allocator above what the model
holds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import products
import published
import torch
from catalogue import Row, Target
from shapes import P2
from timing import Timed

from rlsv_fast import ops, reference

WEIGHT, EPSILON = 0.5, 1.3
EPOCH = 50  # batches: the losses of so many steps are fetched together
OBJECTIVES = {"L_A": "total-variation", "L_B": "sinkhorn"}
Sizes = Mapping[str, int]
Step = Callable[[], Any]


def _voice_and_accompaniment(
    sizes: Sizes, device: str, batches: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(218)
    noise = 0.1 * torch.randn(2, batches * sizes["B"], sizes["N"], generator=generator)
    voice, accompaniment = noise.to(device)
    return voice, accompaniment


def _trainer(objective: str, device: str, sizes: Sizes, precision: str, batches: int = 1) -> Any:
    """A trainer on as many batches of noise."""
    from rlsv_fast.data import PreparedTrack, SegmentStore  # needs soundfile
    from rlsv_fast.training import Trainer, resolve

    voice, accompaniment = _voice_and_accompaniment(sizes, "cpu", batches)
    config = resolve(
        "p2",
        overrides=[
            "convention=code",
            f"loss.representation={OBJECTIVES[objective]}",
            f"loss.weight={WEIGHT}",
            f"loss.epsilon={EPSILON}",
            f"model.components={sizes['C']}",
            f"model.kernel_size={sizes['L']}",
            f"model.hop={sizes['S']}",
            f"data.segment_length={sizes['N']}",
            "data.overlap=0",
            f"training.batch_size={sizes['B']}",
            f"training.precision={precision}",
        ],
    )
    sources = [source.reshape(-1).numpy() for source in (voice, accompaniment)]
    track = PreparedTrack("noise", 44100, sources[0] + sources[1], *sources)
    store = SegmentStore([track], sizes["N"], 0, device=device)
    return Trainer(config, store, Path("unused"), device=torch.device(device))


def fused_step(objective: str, device: str, sizes: Sizes = P2, precision: str = "float32") -> Step:
    """The trainer's own step on one batch, as `rlsv-fast train` runs it on a CPU."""
    voice, accompaniment = _voice_and_accompaniment(sizes, device)
    trainer = _trainer(objective, device, sizes, precision)
    return lambda: trainer.step(voice, accompaniment)


def graphed_epoch(
    objective: str, device: str, sizes: Sizes = P2, precision: str = "float32"
) -> Step:
    """An epoch of EPOCH batches, as `rlsv-fast train` runs it on a GPU."""
    trainer = _trainer(objective, device, sizes, precision, EPOCH)

    def run() -> None:
        for _ in trainer.epoch_steps():
            pass
        trainer.position.batch = 0

    return run


def plain_step(objective: str, device: str, sizes: Sizes = P2) -> Step:
    """The same with every multiplication of the convolutions."""
    step = fused_step(objective, device, sizes)

    def run() -> Any:
        with patch("rlsv_fast.nn.convolution._transforms", lambda *_: False):
            return step()

    return run


def half_step(objective: str, device: str, sizes: Sizes = P2) -> Step:
    """The same in bfloat16."""
    return fused_step(objective, device, sizes, "bfloat16")


def reference_step(objective: str, device: str, sizes: Sizes = P2) -> Step:
    """The same on the plain PyTorch operators."""
    step = fused_step(objective, device, sizes)
    plain = {name: getattr(reference, name) for name in reference.__all__}

    def run() -> Any:
        with patch.multiple(ops, **plain):
            return step()

    return run


def published_step(objective: str, device: str, sizes: Sizes = P2) -> Step:
    """The peer: see published.py."""
    voice, accompaniment = _voice_and_accompaniment(sizes, device)
    model = published.PublishedModel(*(sizes[axis] for axis in "CLSN")).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    return lambda: published.step(
        model,
        optimizer,
        voice,
        accompaniment,
        weight=WEIGHT,
        epsilon=EPSILON if objective == "L_B" else None,
    )


def floor(objective: str, device: str, sizes: Sizes = P2) -> Step:
    """The matrix products of either objective in float32."""
    return products.products(sizes, torch.float32, device)


def half_floor(objective: str, device: str, sizes: Sizes = P2) -> Step:
    """The same in bfloat16."""
    return products.products(sizes, torch.bfloat16, device)


PEERS: dict[str, Callable[..., Step]] = {
    "fused": fused_step,
    "fused, plain convolutions": plain_step,
    "fused, bfloat16": half_step,
    "published": published_step,
    "products": floor,
    "products, bfloat16": half_floor,
}
CUDA_PEERS: dict[str, Callable[..., Step]] = {
    "fused": fused_step,
    "graph": graphed_epoch,
    "graph, TF32": partial(graphed_epoch, precision="tf32"),
    "graph, bfloat16": partial(graphed_epoch, precision="bfloat16"),
    "reference": reference_step,
    "published": published_step,
    "published, TF32": published_step,
    "products": floor,
    "products, TF32": floor,
    "products, bfloat16": half_floor,
}


def peak_memory(peer: str, objective: str) -> float:
    """GB that steps need above the process at rest, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, peer, objective], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


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
        """TF32 where the name says so: else precisions would be compared, not programs."""
        allowed = "TF32" in self.peer
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        if self.device == "cpu":
            return Timed(PEERS[self.peer](self.objective, self.device))
        step = CUDA_PEERS[self.peer](self.objective, self.device)
        return Timed(step, EPOCH if self.peer.startswith("graph") else 1)

    def facts(self) -> dict[str, Any]:
        """Peak memory."""
        if self.device != "cpu":
            run = self.prepare().run
            idle = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            for _ in range(3):
                run()
            return {"peak_memory_gb": (torch.cuda.max_memory_allocated() - idle) / 1e9}
        return {"peak_memory_gb": peak_memory(self.peer, self.objective)}

    def __str__(self) -> str:
        """Identify it in a list of tests."""
        return "-".join((self.device, self.peer, self.objective))


@dataclass(frozen=True)
class Steps:
    """All sides of one objective."""

    objective: str
    targets: Sequence[Target] = ()
    shape: str = "P2"

    @property
    def op(self) -> str:
        """With a target's direction, the group that is compared."""
        return "training step"

    def rows(self, device: str) -> Iterator[Row]:
        """The sides on a device."""
        for peer in PEERS if device == "cpu" else CUDA_PEERS:
            yield StepRow(self.objective, peer, device)


BENCHMARKS = [
    Steps("L_A"),
    Steps(
        "L_B",
        targets=(
            Target("L_B", "graph, TF32", seconds=1e-3),
            Target("L_B", "graph, TF32", than="published, TF32", times=30),
            Target("L_B", "graph", than="published", times=30),
        ),
    ),
]


def test_step(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _peak_memory_here(peer: str, objective: str) -> float:
    """What three steps need in this process."""
    step = PEERS[peer](objective, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    idle = _resident("VmRSS")
    for _ in range(3):
        step()
    return (_resident("VmHWM") - idle) * 1024 / 1e9


if __name__ == "__main__":
    print(json.dumps(_peak_memory_here(*sys.argv[1:])))
