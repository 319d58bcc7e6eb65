"""A page whose sounds tell where they are, for tests that listen to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlsv_fast import nn
from rlsv_fast.report.components import sorted_components
from rlsv_fast.report.curves import read_curves, read_validation, validated_panels
from rlsv_fast.report.ensemble import EnsembleExample, EnsemblePage
from rlsv_fast.report.examples import SOURCES, VERSIONS, Example
from rlsv_fast.report.page import Page

RATE = 8000
SECONDS = 8.0
EXAMPLES = 11
HOSTILE = '<script>window.hostile = 1</script><img src=x onerror="hostile=2">&amp;\'{{ 7 * 7 }}'

LEVELS = {
    ("mixture", "input"): 0.2,
    ("mixture", "decoded"): 0.8,
    ("voice", "input"): 0.4,
    ("voice", "decoded"): 0.6,
}
"""All versions are one rising tone; these have an amplitude of their own, the others 0.3."""

LOWEST, HIGHEST = 300.0, 900.0


def tone() -> np.ndarray:
    """A tone that rises from LOWEST to HIGHEST Hz: its frequency tells the place."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    turns = LOWEST * time + (HIGHEST - LOWEST) / (2 * SECONDS) * time**2
    return np.sin(2 * np.pi * turns)


def example(number: int, components: int) -> Example:
    """The same sounds and other pictures in each."""
    signals = {
        (source, version): np.float32(LEVELS.get((source, version), 0.3) * tone())
        for source in SOURCES
        for version in VERSIONS
        if source != "mixture" or version in ("input", "decoded")
    }
    random = np.random.default_rng(number)
    frames = round(SECONDS * RATE) // 80
    images = {source: random.random((components, frames)) ** 4 for source in SOURCES}
    scores = {key: 12.3 for key in signals if key[1] != "input"}
    name = HOSTILE if number == 1 else f"song {number}"
    return Example(name, RATE, 1.5, signals, scores, images)


def write_page(out: Path) -> Path:
    """A page with everything on it; returns its file."""
    components, kernel_size, hop = 40, 160, 80
    model = nn.RepresentationModel(
        nn.ConvEncoder(components, kernel_size, hop),
        nn.ModulatedCosineDecoder(components, kernel_size, hop, sample_rate=RATE),
    )
    page = Page(out, sorted_components(model, RATE), RATE, hop, HOSTILE)
    for number in range(1, EXAMPLES + 1):
        page.add_example(example(number, components))
    losses = ({"kind": "step", "step": s, "total": 9 / s} for s in range(1, 300))
    page.write(
        curves=read_curves(losses),
        evaluation=None,
        settings={"convention": HOSTILE, "model.hop": hop},
        figures=[],
        notes=[HOSTILE],
        step=300,
    )
    return page.files[-1]


VOICES = ("soprano", "bass")
VOICE_LEVELS = {
    ("mixture", "input"): 0.2,
    ("soprano", "true"): 0.4,
    ("soprano", "separated"): 0.6,
    ("bass", "true"): 0.3,
    ("bass", "synthesis"): 0.8,
}
"""Likewise; the others have 0.5."""


def ensemble_example(name: str) -> EnsembleExample:
    """Two voices and all their versions; the upper one pauses in the middle."""
    signals = {
        (voice, version): np.float32(VOICE_LEVELS.get((voice, version), 0.5) * tone())
        for voice in VOICES
        for version in ("true", "separated", "synthesis")
    }
    f0 = np.stack([np.linspace(LOWEST, HIGHEST, 500), np.full(500, 110.0)])
    f0[0, 200:300] = 0
    scores = {"soprano": 12.3, "bass": float("nan")}
    return EnsembleExample(name, RATE, 1.5, np.float32(0.2 * tone()), VOICES, signals, scores, f0)


def write_ensemble_page(out: Path) -> Path:
    """A page of a separator with everything on it; returns its file."""
    page = EnsemblePage(out, HOSTILE)
    for name in (HOSTILE, "another song"):
        page.add_example(ensemble_example(name))
    records = [{"kind": "step", "step": s, "reconstruction": 9 / s} for s in range(1, 300)]
    records += [{"kind": "epoch", "step": s, "validation": 10 / s} for s in range(10, 300, 10)]
    return page.write(
        facts={"voices": "2"},
        losses=validated_panels(read_curves(records), read_validation(records)),
        table=(["", "mean"], [["mixture", "-1.00"], [HOSTILE, "2.00"]]),
        table_note=HOSTILE,
        own=1,
        settings={"convention": HOSTILE, "model.kind": "source-filter"},
        notes=[HOSTILE],
        step=300,
    )
