"""harmonic_bank: fused against the published oscillator bank and plain PyTorch; time and memory.

Usage, for the table of time and memory: python benchmarks/bench_harmonic_bank.py [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import original_bank
import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from torch import Tensor

from rlsv_fast import ops, reference

UMSS = {"B": 4, "T": 250, "S": 256, "K": 101, "R": 16000}
"""One mixture of the original: four voices of four seconds."""
BATCH = {**UMSS, "B": 60}
"""A training batch of the original: 15 mixtures."""
SHORT = {**UMSS, "B": 1, "T": 50}
"""What pytest compares, so that a smoke test takes no seconds: 0.8 s of one voice."""


def _leaves(sizes: Sizes, device: str, general: bool) -> tuple[Tensor, Tensor]:
    """Sung notes with vibrato, a part of them unvoiced."""
    shape = (sizes["B"], sizes["T"])
    time_of = torch.linspace(0, 4, sizes["T"], device=device)
    note = torch.tensor([660.0, 440.0, 330.0, 165.0], device=device)[:, None]
    note = note.repeat(-(-shape[0] // 4), 1)[: shape[0]]
    f0 = note * 2 ** (0.03 * torch.sin(35 * time_of))
    f0[:, : sizes["T"] // 10] = 1e-5
    amplitude = torch.rand((*shape, sizes["K"]) if general else shape, device=device)
    return f0.requires_grad_(), amplitude.requires_grad_()


def _fused(f0: Tensor, amplitude: Tensor) -> Tensor:
    options = {"hop": UMSS["S"], "sample_rate": UMSS["R"], "harmonics": UMSS["K"]}
    return ops.harmonic_bank(f0, amplitude, **options)[0]


def _reference(f0: Tensor, amplitude: Tensor) -> Tensor:
    options = {"hop": UMSS["S"], "sample_rate": UMSS["R"], "harmonics": UMSS["K"]}
    return reference.harmonic_bank(f0, amplitude, **options)[0]


def _published(f0: Tensor, amplitude: Tensor) -> Tensor:
    return original_bank.harmonic_bank(f0, amplitude, UMSS["S"], UMSS["R"], UMSS["K"])


CLOSED = {"fused": _fused, "published": _published, "reference": _reference}
GENERAL = {"fused": _fused, "reference": _reference}


def _effort(peer: str) -> tuple[int, int]:
    return (10, 5) if peer == "fused" else (3, 1)


BENCHMARKS = [
    Benchmark(
        f"harmonic_bank {name}",
        "0.8 s of one voice",
        lambda device, general=general: _leaves(SHORT, device, general),
        peers,
        plain=_reference,
        effort=_effort,
    )
    for name, general, peers in (("flat", False, CLOSED), ("general", True, GENERAL))
]


def _arguments(general: bool) -> Callable[..., tuple[Any, ...]]:
    def make(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        f0, amplitude = (leaf.detach().to(dtype) for leaf in _leaves(sizes, device, general))
        return f0, amplitude, torch.zeros_like(f0[:, 0]), sizes["S"], sizes["R"], sizes["K"]

    return make


def _of_gradient(general: bool) -> Callable[..., tuple[Any, ...]]:
    def make(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        inputs = _arguments(general)(sizes, device, dtype)
        grads = torch.ops.rlsv_fast._harmonic_bank_forward(*inputs)
        return *(torch.randn_like(grad) for grad in grads), *inputs

    return make


def _samples(per_sample: float, per_harmonic: float, general: bool) -> Callable[[Sizes], float]:
    def count(sizes: Sizes) -> float:
        each = per_sample + (per_harmonic * sizes["K"] if general else 0)
        return each * sizes["B"] * sizes["T"] * sizes["S"]

    return count


def _numbers(general: bool, both_ways: int) -> Callable[[Sizes], float]:
    def count(sizes: Sizes) -> float:
        frame = 1 + (sizes["K"] if general else 1)
        return sizes["B"] * sizes["T"] * (sizes["S"] + both_ways * frame)

    return count


KERNELS = [
    kernel
    for name, general in (("flat", False), ("general", True))
    for kernel in (
        Kernel(
            "harmonic_bank_forward",
            {f"{name}, 15 mixtures": BATCH, f"{name}, one mixture": UMSS},
            _arguments(general),
            numbers=_numbers(general, 1),
            operations=_samples(130, 9, general),
            note="write the signal" + ("; 9 instructions per harmonic" if general else ""),
        ),
        Kernel(
            "harmonic_bank_backward",
            {f"{name}, 15 mixtures": BATCH, f"{name}, one mixture": UMSS},
            _of_gradient(general),
            numbers=_numbers(general, 2),
            operations=_samples(200, 30, general),
            note="read its gradient" + ("; 30 instructions per harmonic" if general else ""),
        ),
    )
]


def test_harmonic_bank(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)


# ---------------------------------------------------------------- time and memory in one table


def _once(call: Callable[..., Tensor], leaves: tuple[Tensor, ...]) -> None:
    torch.autograd.grad(call(*leaves).sum(), leaves)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def _peak_memory_here(kind: str, peer: str) -> float:
    """Megabytes above the idle process at the peak of one forward and backward pass."""
    general = kind == "general"
    leaves = _leaves(UMSS, "cpu", general)
    _once(_fused, tuple(leaf[:1, :2].detach().requires_grad_() for leaf in leaves))  # loads
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    idle = _resident("VmRSS")
    _once((GENERAL if general else CLOSED)[peer], leaves)
    return (_resident("VmHWM") - idle) / 1024


def _seconds(call: Callable[..., Tensor], leaves: tuple[Tensor, ...], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        _once(call, leaves)
    return (time.perf_counter() - begin) / calls


def main() -> None:
    """Print the table: all sides in turn, each in rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("flat", "general"), help="one kind of amplitudes")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(_peak_memory_here(*arguments.memory)))
        return
    facts = machine.facts()
    print(
        f"{facts['processor']}, {facts['cores']} cores, {torch.get_num_threads()} threads, "
        f"{facts['build_simd']}; torch {facts['torch']}; commit {facts['commit']}\n\n"
        "| what | who | median (ms) | least (ms) | times the fused | peak memory (MB) |\n"
        "|---|---|---|---|---|---|"
    )
    for kind, peers in (("flat", CLOSED), ("general", GENERAL)):
        if arguments.only not in (None, kind):
            continue
        leaves = _leaves(UMSS, "cpu", kind == "general")
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        for call in peers.values():
            _once(call, leaves)
        for _ in range(arguments.rounds):
            for peer, call in peers.items():
                times[peer].append(_seconds(call, leaves, 10 if peer == "fused" else 1))
        fused = statistics.median(times["fused"])
        for peer in peers:
            command = [sys.executable, __file__, "--memory", kind, peer]
            memory = float(subprocess.run(command, check=True, capture_output=True).stdout)
            median = statistics.median(times[peer])
            print(
                f"| {kind}, forward + backward | {peer} | {1e3 * median:.2f} | "
                f"{1e3 * min(times[peer]):.2f} | {median / fused:.1f} | {memory:.1f} |"
            )


if __name__ == "__main__":
    main()
