"""The tall convolutions of the f0 networks: transform, oneDNN, and products with columns.

Usage: python benchmarks/tall_conv.py --out benchmarks/results/<machine>/umss

Layers of Late/Deep on a 4-s mixture (344 frames), float32, inference, on pinned threads
(OMP_NUM_THREADS), in turn in one process; then the whole network with the transform and with plain
convolutions in its place. Errors are the largest deviation from float64 over the largest value.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch
from torch import Tensor
from torch.nn import functional

from rlsv_fast.umss import LateDeep
from rlsv_fast.umss.tall_conv import SameConv2d, transformed

FRAMES = 344
LAYERS = {  # channels in and out, kernel
    "70 x 3, 32 to 32": (32, 32, 70, 3),
    "360 x 1, 64 to 8": (64, 8, 360, 1),
    "5 x 5, 32 to 32": (32, 32, 5, 5),
    "3 x 3, 64 to 64": (64, 64, 3, 3),
}


def padded(x: Tensor, kernel: tuple[int, int]) -> Tensor:
    """With the zeros of a "same" convolution."""
    height, width = kernel
    above = (height - 1) // 2
    return functional.pad(x, (width // 2, width // 2, above, height - 1 - above))


def plain(x: Tensor, weight: Tensor) -> Tensor:
    """PyTorch's convolution: oneDNN on a CPU, cuDNN on CUDA."""
    return functional.conv2d(padded(x, (weight.shape[2], weight.shape[3])), weight)


def columns(x: Tensor, weight: Tensor) -> Tensor:
    """One matrix product for each output row, of the kernel with the columns that it covers."""
    taps, width = weight.shape[2:]
    wide = padded(x, (taps, width))[0].unfold(2, width, 1)  # C, F', T, J
    matrix = weight.permute(0, 1, 2, 3).reshape(len(weight), -1)
    rows = [
        matrix @ wide[:, row : row + taps].permute(0, 1, 3, 2).reshape(matrix.shape[1], -1)
        for row in range(x.shape[2])
    ]
    return torch.stack(rows, 1)[None]


def medians(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median processor seconds of calls taken in turn, after one of each."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if number:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def layer(sizes: tuple[int, int, int, int], rounds: int) -> dict[str, Any]:
    """Seconds and errors of the three ways on one layer."""
    inputs, outputs, height, width = sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, inputs, 360, FRAMES, generator=generator).relu()
    weight = torch.randn(outputs, inputs, height, width, generator=generator)
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "transform": lambda x, w: transformed(x, w, None),
        "oneDNN": plain,
        "columns": columns,
    }
    part = x[..., :40]
    exact = plain(part.double(), weight.double())
    errors = {
        name: float((way(part, weight) - exact).abs().max() / exact.abs().max())
        for name, way in ways.items()
    }
    seconds = medians({n: lambda way=way: way(x, weight) for n, way in ways.items()}, rounds)
    gflop = 2e-9 * inputs * outputs * height * width * 360 * FRAMES
    return {"seconds": seconds, "errors": errors, "gflop_of_the_sum": gflop}


def network(rounds: int) -> dict[str, float]:
    """Seconds of Late/Deep with the transform and without."""
    with_it, without = LateDeep().eval(), LateDeep().eval()
    for module in without.modules():
        if isinstance(module, SameConv2d):
            module._tall = False
    maps = torch.randn(1, 5, 360, FRAMES)
    return medians(
        {
            "transform": lambda: with_it(maps, maps),
            "plain convolutions": lambda: without(maps, maps),
        },
        rounds,
    )


def main() -> None:
    """Measure and write tall_conv.json and tall_conv.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    with torch.inference_mode():
        layers = {name: layer(sizes, options.rounds) for name, sizes in LAYERS.items()}
        whole = network(options.rounds)
    facts, threads = machine.facts(), torch.get_num_threads()
    lines = [
        "# Tall convolutions",
        "",
        f"`python benchmarks/tall_conv.py`, {facts['processor']}, {threads} thread(s), torch "
        f"{facts['torch']}, commit {facts['commit']}; 344 frames, float32, median processor "
        f"seconds of {options.rounds} rounds; error relative to the largest value.",
        "",
        "| layer | GFLOP of the sum | transform | oneDNN | columns | transform is faster by "
        "| errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in layers.items():
        seconds, errors = row["seconds"], row["errors"]
        best = min(seconds["oneDNN"], seconds["columns"])
        cells = [f"{row['gflop_of_the_sum']:.1f}", *(f"{s:.3f}" for s in seconds.values())]
        cells.append(f"{best / seconds['transform']:.1f}")
        cells.append(", ".join(f"{error:.0e}" for error in errors.values()))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ratio = whole["plain convolutions"] / whole["transform"]
    lines += [
        "",
        f"Late/Deep as a whole: {whole['transform']:.2f} s, with plain convolutions "
        f"{whole['plain convolutions']:.2f} s, {ratio:.1f} times as long.",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": facts, "threads": threads, "layers": layers, "late_deep": whole}
    (options.out / "tall_conv.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "tall_conv.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
