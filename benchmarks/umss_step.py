"""A training step of the source-filter separator: this library's beside the published algorithms'.

Usage: python benchmarks/umss_step.py --out benchmarks/results/<machine>/umss [--threads 1 2]

4 voices of 4 s at 16 kHz, float32, Adam included; the separator alone, whose f0 comes with the
data, and the full model, which finds it by the two f0 networks, the multi-f0 network frozen and the
assignment trained (their weights are random: the arithmetic is the same). Sides:

- "ours": the trainer's step, ``EnsembleUpdate`` on a batch that it gathers. Where a frozen network
  has seen an excerpt before, a run keeps its salience: "ours, salience kept" is that step. "ours,
  torch's recurrent layers" is ours but for those;
- "original": the same modules and weights with the published algorithms in eager PyTorch, and
  ``torch.optim.Adam`` as it is by default. original_umss.py says what is computed how; it is
  written from the published equations and is not the authors' files.

Both compute the published code's conventions, on the same data. That both compute one thing is
checked first: the first step's losses and gradients, from equal weights, noise and features. Times
are medians of samples in turn (peer_clock.py), memory is the peak above the process at rest after
set-up, over two steps in a process of its own. Freed memory is kept on both sides, as `rlsv-fast
train` does it, or returned to the system on both, as a C library does it that nobody asks. Stages
are those of the trainer's marks. Parts are measured by themselves, each from detached inputs. Needs
nnAudio (pip install nnAudio) for the original's transform, else both sides have this library's.
Writes step.json and step.md; --only REGEX on "separator 1 kept 1" (model, items, memory, threads)
measures some rows anew and leaves the others of a report that --out has.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import machine
import numpy as np
import original_umss
import peer_clock
import torch
from bench_step import _resident
from torch import Tensor
from umss_step_tables import ORIGINAL, OURS, text

from rlsv_fast.training import keep_freed_memory
from rlsv_fast.training.step import Mark
from rlsv_fast.umss import LateDeep, VoasCNN
from rlsv_fast.umss.choirs import find_songs
from rlsv_fast.umss.decode import resample_tracks
from rlsv_fast.umss.excerpts import ExcerptStore, Place
from rlsv_fast.umss.hcqt import resample
from rlsv_fast.umss.known_f0 import KnownF0
from rlsv_fast.umss.model import Known
from rlsv_fast.umss.separator import SourceFilterSeparator
from rlsv_fast.umss.settings import SCHEMA, EnsembleConfig
from rlsv_fast.umss.synthesis import VoiceParameters
from rlsv_fast.umss.update import EnsembleUpdate
from rlsv_fast.umss.weights import F0Networks

KEPT, TORCH = "ours, salience kept", "ours, torch's recurrent layers"
MODELS: dict[str, tuple[str, ...]] = {
    "separator": (),
    "full": ("model.f0=estimated", "model.assignment=trained", "model.reference=item"),
}
SAMPLES, RATE, VOICES = 64000, 16000, (400.0, 300.0, 200.0, 120.0)
RUNS = {  # model, items and what becomes of freed memory; sides
    ("separator", 1, "kept"): (OURS, TORCH, ORIGINAL),
    ("full", 1, "kept"): (OURS, KEPT, ORIGINAL),
    ("separator", 1, "returned"): (OURS, ORIGINAL),
    ("full", 1, "returned"): (OURS, KEPT, ORIGINAL),
    ("separator", 4, "kept"): (OURS, ORIGINAL),
    ("separator", 15, "kept"): (OURS,),
}
MAIN = (("separator", 1, "kept"), ("full", 1, "kept"))
"""Taken apart, and measured on every number of threads."""
BUDGET, ROUNDS = 21.0, 2
"""Seconds of samples per side, and rounds of the parts."""
AGREEMENT = 1e-3
"""Of the losses, relative."""


def write_song(folder: Path, samples: int) -> None:
    """Four voices with vibrato, harmonics and breath, and the f0 of each beside it."""
    import soundfile

    generator = np.random.default_rng(0)
    seconds = np.arange(samples) / RATE
    for name, pitch in zip("satb", VOICES, strict=True):
        vibrato = 0.3 * np.sin(2 * np.pi * (5 + generator.random()) * seconds)
        f0 = pitch * 2 ** (vibrato / 12)
        phase = 2 * np.pi * np.cumsum(f0) / RATE
        wave = sum(np.sin(k * phase) / k for k in range(1, 15))
        breath = 0.02 * generator.standard_normal(samples)
        soundfile.write(folder / f"{name}.wav", 0.1 * wave + breath, RATE, subtype="FLOAT")
        np.save(folder / f"{name}.npy", f0[::256])


def untrained() -> F0Networks:
    """In the place of the published weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return F0Networks(LateDeep(), VoasCNN())


@dataclass
class Problem:
    """A model and a batch of one of the sizes.

    Attributes:
        update: the trainer's step.
        store: the excerpts.
        places: those of the batch.
        config: settings.
    """

    update: EnsembleUpdate
    store: ExcerptStore
    places: list[Place]
    config: EnsembleConfig

    @classmethod
    def make(cls, model: str, items: int, samples: int = SAMPLES) -> Problem:
        """The same for every call."""
        settings = (
            "convention=code",
            f"data.segment_length={samples}",
            f"training.batch_size={items}",
            *MODELS[model],
        )
        config: EnsembleConfig = SCHEMA.resolve(overrides=settings)
        with patch("rlsv_fast.umss.model.load_networks", untrained):
            update = EnsembleUpdate(config, torch.device("cpu"), 1)
        with tempfile.TemporaryDirectory() as folder:
            write_song(Path(folder), 2 * samples)
            store = ExcerptStore(find_songs(Path(folder)), length=samples, passes=items)
        places = next(store.order(items, seed=0, epoch=0))
        return cls(update, store, places, config)

    def batch(self, known_f0: KnownF0) -> tuple[Tensor, Tensor, Known]:
        """As the trainer gathers it."""
        batch = self.store.gather(self.places)
        return batch.mixture, batch.sources, known_f0(self.places, batch)

    def known_f0(self) -> KnownF0:
        """That has seen nothing yet."""
        return KnownF0(self.update.model, self.config)

    def plain_batch(self) -> tuple[Tensor, Tensor, Known]:
        """With nothing known that the model has to find."""
        batch = self.store.gather(self.places)
        f0 = batch.f0 if self.update.model.tracker is None else None
        return batch.mixture, batch.sources, Known(f0=f0)


def around(side: str) -> AbstractContextManager[None]:
    """What is in force during a side's steps."""
    if side == ORIGINAL:
        return original_umss.original(transform=original_umss.has_nnaudio())
    return original_umss.joined_recurrence() if side == TORCH else nullcontext()


def step(problem: Problem, side: str) -> Callable[[Mark], None]:
    """A side's step, from gathering the batch to reading the loss."""
    update = problem.update
    kept = problem.known_f0()

    def ours(mark: Mark) -> None:
        with around(side):
            update(*problem.batch(kept if side == KEPT else problem.known_f0()), mark=mark)
            update.readings.fetch(1)

    if side != ORIGINAL:
        return ours
    training = problem.config.training
    optimizer = torch.optim.Adam(
        update.model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )

    def original(mark: Mark) -> None:
        with around(side):
            batch = problem.plain_batch()
            mark("data")
            optimizer.zero_grad()
            losses = update.objective(*batch, update.noise)
            mark("forward")
            losses.total.backward()
            mark("backward")
            optimizer.step()
            losses.total.item()
            mark("optimiser")

    return original


def agreement(
    model: str, items: int = 1, samples: int = SAMPLES, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """How far both sides' first losses and gradients are apart, relative.

    From equal weights, noise and features of the networks; gradients of all parameters together.
    """
    losses, gradients = [], []
    for computing in (nullcontext(), original_umss.original(transform=False)):
        problem = Problem.make(model, items, samples)
        with computing:
            update = problem.update
            update.model.to(dtype)
            mixture, sources, known = problem.plain_batch()
            known = Known(*(None if x is None else x.to(dtype) for x in known))
            batch = mixture.to(dtype), sources.to(dtype), known
            total = update.objective(*batch, update.noise).total
            total.backward()
        losses.append(total.item())
        found = [p.grad.flatten() for p in update.model.parameters() if p.grad is not None]
        gradients.append(torch.cat(found))
    return {
        "loss": losses[0],
        "loss_apart": abs(losses[1] / losses[0] - 1),
        "gradient_apart": float((gradients[1] - gradients[0]).norm() / gradients[0].norm()),
    }


@contextmanager
def _timing(spans: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spans[part] = time.perf_counter() - start


def in_parts(problem: Problem, side: str) -> dict[str, float]:
    """Seconds of each part, "NAME" forward and "NAME, backward", each from detached inputs."""
    model, loss = problem.update.model, problem.update.objective
    separator, tracker = model.separator, model.tracker
    assert isinstance(separator, SourceFilterSeparator)
    spans: dict[str, float] = {}
    part = partial(_timing, spans)
    with around(side):
        mixture, sources, known = problem.plain_batch()
        found: Tensor | None = None
        if tracker is None:
            assert known.f0 is not None
            f0_leaf = known.f0
        else:
            with part("harmonic CQT"), torch.no_grad():
                features = tracker.transform(resample(mixture, tracker.sample_rate))
            with part("multi-f0 network"):
                salience = tracker.multif0(features.magnitude, features.phase)
            with part("assignment"):
                found = tracker.assign(salience).f0
            f0_leaf = found.detach().requires_grad_()
        with part("encoder"):
            embedding = separator.encoder(mixture)
        embedding_leaf = embedding.detach().requires_grad_()
        with part("decoder"):
            f0 = resample_tracks(f0_leaf, -(-mixture.shape[1] // separator.hop), convention="code")
            parameters, _ = separator.decoder(embedding_leaf, f0)
        leaves = VoiceParameters(*(value.detach().requires_grad_() for value in parameters))
        pitch_leaf = f0.detach().requires_grad_(f0.requires_grad)
        with part("synthesiser"):
            signals = separator.synthesizer(pitch_leaf.flatten(0, 1), leaves)
            estimate = signals[:, : mixture.shape[1]].reshape(sources.shape).sum(1)
        estimate_leaf = estimate.detach().requires_grad_()
        with part("loss"):
            made = _Made(estimate_leaf, sources)
            with patch.object(type(separator), "forward", lambda *_, **__: made):
                value = loss.reconstruct(mixture, sources, f0_leaf, problem.update.noise)
        with part("loss, backward"):
            value.backward()  # type: ignore[no-untyped-call]
        with part("synthesiser, backward"):
            estimate.backward(estimate_leaf.grad)
        outputs, gradients = list(parameters), [leaf.grad for leaf in leaves]
        if found is not None:
            outputs.append(f0)
            gradients.append(pitch_leaf.grad)
        with part("decoder, backward"):
            torch.autograd.backward(outputs, gradients)
        with part("encoder, backward"):
            embedding.backward(embedding_leaf.grad)
        if found is not None:
            with part("assignment, backward"):
                found.backward(f0_leaf.grad)
        problem.update.optimizer.zero_grad()
    return spans


@dataclass
class _Made:
    """What the loss reads of a synthesis."""

    mixture: Tensor
    sources: Tensor


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each key."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def measure(
    model: str,
    items: int,
    sides: tuple[str, ...],
    samples: int = SAMPLES,
    *,
    budget: float = BUDGET,
    apart: bool = True,
) -> dict[str, Any]:
    """Seconds of every side in turn, of the stages of each step, and of the parts."""
    stages: dict[str, list[dict[str, float]]] = defaultdict(list)
    calls = {}
    for side in sides:
        run = step(Problem.make(model, items, samples), side)

        def staged(run: Callable[[Mark], None] = run, side: str = side) -> None:
            spans: dict[str, float] = {}
            last = time.perf_counter()

            def mark(stage: str) -> None:
                nonlocal last
                now = time.perf_counter()
                spans[stage] = spans.get(stage, 0.0) + now - last
                last = now

            run(mark)
            stages[side].append(spans)

        calls[side] = (staged, peer_clock.sample(staged, 1))  # allocates what is kept
        stages[side].clear()
    taken = peer_clock.interleaved(calls, budget)
    parts: dict[str, list[dict[str, float]]] = defaultdict(list)
    parted = (OURS, ORIGINAL) if apart else ()
    problems = {side: Problem.make(model, items, samples) for side in parted}
    for _ in range(ROUNDS):
        for side, problem in problems.items():
            parts[side].append(in_parts(problem, side))
    return {
        side: {
            **taken[side],
            "stages": medians(stages[side]),
            **({"parts": medians(parts[side])} if side in parts else {}),
        }
        for side in sides
    }


def peak_memory(model: str, items: int, side: str, samples: int = SAMPLES) -> float:
    """MiB that two steps need above this process at rest."""
    run = step(Problem.make(model, items, samples), side)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    idle = _resident("VmRSS")
    for _ in range(2):
        run(lambda _: None)
    return (_resident("VmHWM") - idle) / 1024


def _child(threads: int, *arguments: str) -> Any:
    """What this script prints with these arguments on so many threads."""
    command = [sys.executable, __file__, "--threads", str(threads), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _print_run(model: str, items: int, memory: str, side: str | None) -> None:
    """All sides of a row, or the memory of one, in this process."""
    if memory == "kept":
        keep_freed_memory()
    key = model, items, memory
    found: Any
    if side:
        found = peak_memory(model, items, side)
    else:
        found = measure(model, items, RUNS[key], apart=key in MAIN)
    print(json.dumps(found))


def _agreements() -> dict[str, dict[str, float]]:
    """Of each model; ends the process where losses are too far apart."""
    found = {model: agreement(model) for model in MODELS}
    found["separator in float64"] = agreement("separator", dtype=torch.float64)
    for model, apart in found.items():
        if apart["loss_apart"] > AGREEMENT:
            sys.exit(f"{model}: the sides do not compute one thing: {apart}")
    return found


def _row(key: tuple[str, int, str], threads: int, with_memory: bool) -> dict[str, Any]:
    """Everything about one model, in processes of their own."""
    model, items, memory = key
    run = ("--run", model, str(items), memory)
    row = {"model": model, "items": items, "memory": memory, "threads": threads}
    sides = _child(threads, *run)
    for side in sides if with_memory else ():
        sides[side]["peak_mib"] = _child(threads, *run, "--peak", side)
    return {**row, "commit": machine.commit(), "date": str(date.today()), "sides": sides}


def _name(row: dict[str, Any]) -> str:
    return f"{row['model']} {row['items']} {row['memory']} {row['threads']}"


def main() -> None:
    """Measure and write step.json and step.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("umss-step"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="regex on 'separator 1 kept 1'")
    parser.add_argument("--run", nargs=3, metavar=("MODEL", "ITEMS", "MEMORY"), help="print a row")
    parser.add_argument("--peak", metavar="SIDE", help="of that row, the memory of a side alone")
    options = parser.parse_args()
    if options.run:
        peer_clock.pin(options.threads[0])
        torch.set_num_threads(options.threads[0])
        model, items, memory = options.run
        _print_run(model, int(items), memory, options.peak)
        return
    path = options.out / "step.json"
    done = json.loads(path.read_text())["runs"] if options.only and path.exists() else []
    rows = {_name(row): row for row in done}
    report: dict[str, Any] = {
        "machine": machine.facts(),
        "transform": "nnAudio's, made for every call"
        if original_umss.has_nnaudio()
        else "this library's, as nnAudio is not installed",
        "agreement": _agreements(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for threads in options.threads:
        first = threads == options.threads[0]
        for key in RUNS if first else MAIN:  # the others take minutes
            name = " ".join(map(str, (*key, threads)))
            if not re.search(options.only, name):
                continue
            rows[name] = _row(key, threads, with_memory=first)  # hardly depends on threads
            sides = rows[name]["sides"]
            seconds = {side: round(one["median"], 3) for side, one in sides.items()}
            print(name, seconds, flush=True)
            report["runs"] = list(rows.values())
            path.write_text(json.dumps(report, indent=1) + "\n")
            (options.out / "step.md").write_text(text(report, len(VOICES)))


if __name__ == "__main__":
    main()
