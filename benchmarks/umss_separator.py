"""Where a training step of the source-filter separator spends its time, and what it keeps.

Usage: python benchmarks/umss_separator.py --out benchmarks/results/<machine>/umss [--items 1]

Forward and backward of the multi-resolution spectral loss on the sum of 4 voices of 4 s at 16 kHz,
float32, on pinned threads (OMP_NUM_THREADS): encoder, decoder, synthesiser and loss, each by
itself; then the same with torch's recurrent layers on joined inputs in place of the module's own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path
from unittest import mock

import machine
import torch
from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.umss import SourceFilterSeparator
from rlsv_fast.umss.synthesis import VoiceParameters

VOICES, SAMPLES, FRAMES = 4, 64000, 250
PARTS = ("encoder", "decoder", "synthesiser", "loss")


def joined(layer: nn.GRU, *inputs: Tensor) -> Tensor:
    """What ``recurrent`` computes, by torch's layer."""
    whole = torch.broadcast_shapes(*(x.shape[:-1] for x in inputs))
    together = torch.cat([x.expand(*whole, x.shape[-1]) for x in inputs], -1)
    return layer(together.flatten(0, -3))[0].reshape(*whole, -1)


def loss(estimate: Tensor, mixture: Tensor) -> Tensor:
    """The published one."""
    return ops.spectral_loss(estimate, mixture, reduce="mean")


def in_parts(
    model: SourceFilterSeparator, mixture: Tensor, f0: Tensor
) -> dict[str, tuple[float, float]]:
    """Processor seconds of each part, forward and backward."""
    marks = [time.process_time()]

    def mark() -> None:
        marks.append(time.process_time())

    embedding = model.encoder(mixture)
    mark()
    embedding_leaf = embedding.detach().requires_grad_()
    parameters, _ = model.decoder(embedding_leaf, f0)
    mark()
    leaves = VoiceParameters(*(value.detach().requires_grad_() for value in parameters))
    signals = model.synthesizer(f0.flatten(0, 1), leaves)
    estimate = signals.reshape(len(mixture), VOICES, SAMPLES).sum(1)
    mark()
    estimate_leaf = estimate.detach().requires_grad_()
    value = loss(estimate_leaf, mixture)
    mark()
    value.backward()
    mark()
    estimate.backward(estimate_leaf.grad)
    mark()
    torch.autograd.backward(list(parameters), [leaf.grad for leaf in leaves])
    mark()
    embedding.backward(embedding_leaf.grad)
    mark()
    model.zero_grad()
    spans = [after - before for before, after in zip(marks[:-1], marks[1:], strict=True)]
    return dict(zip(PARTS, zip(spans[:4], spans[:3:-1], strict=True), strict=True))


def step(model: SourceFilterSeparator, mixture: Tensor, f0: Tensor) -> None:
    """Forward and backward at once."""
    loss(model(mixture, f0).mixture, mixture).backward()
    model.zero_grad()


def peak() -> float:
    """Most MiB that the process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and write a JSON file and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    generator = torch.Generator().manual_seed(0)
    mixture = 0.1 * torch.randn(options.items, SAMPLES, generator=generator)
    f0 = 100 + 300 * torch.rand(options.items, VOICES, FRAMES, generator=generator)
    model = SourceFilterSeparator()
    idle = peak()
    step(model, mixture, f0)
    memory = peak() - idle
    rounds: dict[str, list[dict[str, tuple[float, float]]]] = {"own": [], "torch": []}
    whole: dict[str, list[float]] = {"own": [], "torch": []}
    for number in range(options.rounds + 1):
        for name in rounds:
            patches = [
                mock.patch(f"rlsv_fast.umss.{module}.recurrent", joined)
                for module in (("encoder", "parameter_decoder") if name == "torch" else ())
            ]
            for patch in patches:
                patch.start()
            seconds = in_parts(model, mixture, f0)
            start = time.process_time()
            step(model, mixture, f0)
            if number:
                rounds[name].append(seconds)
                whole[name].append(time.process_time() - start)
            for patch in patches:
                patch.stop()
    facts, threads = machine.facts(), torch.get_num_threads()
    medians = {
        name: {
            part: [statistics.median(r[part][way] for r in found) for way in (0, 1)]
            for part in PARTS
        }
        for name, found in rounds.items()
    }
    steps = {name: statistics.median(values) for name, values in whole.items()}
    total = sum(sum(spans) for spans in medians["own"].values())
    lines = [
        f"# A step of the source-filter separator, {options.items} item(s) of {VOICES} voices",
        "",
        f"`python benchmarks/umss_separator.py --items {options.items}`, {facts['processor']}, "
        f"{threads} thread(s), torch {facts['torch']}, commit {facts['commit']}; median processor "
        f"seconds of {options.rounds} rounds.",
        "",
        "| part | forward | backward | share | with torch's GRU: forward | backward |",
        "|---|---|---|---|---|---|",
    ]
    for part in PARTS:
        own, other = medians["own"][part], medians["torch"][part]
        share = f"{100 * sum(own) / total:.0f} %"
        cells = [f"{own[0]:.4f}", f"{own[1]:.4f}", share, f"{other[0]:.4f}", f"{other[1]:.4f}"]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Whole step: {steps['own']:.3f} s; with torch's GRU on joined inputs "
        f"{steps['torch']:.3f} s, {steps['torch'] / steps['own']:.2f} times as long. "
        f"The first step took {memory:.0f} MiB "
        "above the idle process, gradients of all parameters (21 MiB) among them.",
        "",
    ]
    report = {
        **{"machine": facts, "threads": threads, "items": options.items},
        **{"seconds": medians, "step": steps, "peak_mib": memory},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = f"separator_{options.items}x{VOICES}_{threads}_threads"
    (options.out / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / f"{stem}.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
