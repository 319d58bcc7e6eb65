"""How large an experiment is: the papers' size, or one for an afternoon on two cores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rlsv_fast import nn
from rlsv_fast.errors import InputError
from rlsv_fast.training.config import Config, Value
from rlsv_fast.training.settings import from_flat

_PAPER_COMPONENTS = 800
_PAPER_FRAMES = 173
_FIRST_SEED = 218
_THREE = tuple(range(_FIRST_SEED, _FIRST_SEED + 3))
_OWN = {"convention", "model.components", "training.seed", "training.threads"}


@dataclass(frozen=True)
class Scale:
    """Sizes, amount of training and seeds of all experiments.

    Attributes:
        name: of the preset.
        common: settings of every run.
        eusipco: further settings of P1's experiments.
        sinkhorn: further settings of P2's.
        shrink: the papers' numbers of components are divided by it.
        table_seeds: of P1's tables, which are medians over three runs.
        grid_seeds: of P2's grids.
    """

    name: str
    common: Mapping[str, Value]
    eusipco: Mapping[str, Value]
    sinkhorn: Mapping[str, Value]
    shrink: float
    table_seeds: tuple[int, ...]
    grid_seeds: tuple[int, ...]

    def changed(self, settings: Mapping[str, Value]) -> Scale:
        """With other settings of every run.

        Raises:
            InputError: a key or value that does not exist, or that is the cells' own.
        """
        for key in settings:
            if key in _OWN:
                raise InputError(f"--set {key}: differs between the cells of an experiment")
        scale = replace(self, common={**self.common, **settings})
        scale.config({})
        return scale

    def with_seeds(self, count: int) -> Scale:
        """With so many seeds, of which the first are the same for any count."""
        seeds = tuple(range(_FIRST_SEED, _FIRST_SEED + count))
        return replace(self, table_seeds=seeds, grid_seeds=seeds)

    def config(self, settings: Mapping[str, Value]) -> Config:
        """The resolved settings of a run."""
        return from_flat({**self.common, **settings}, f"preset {self.name}")

    def components(self, papers: int) -> int:
        """The number of components that stands for the paper's."""
        return round(papers / self.shrink)

    def fewer_parameters(self) -> int:
        """Components of models without a modulator each that have as many parameters in all.

        From 5 C'² + L C' = 5 C² + 2 L C, which for the papers' C = 800 gives their 952.
        """
        components, taps = self.components(_PAPER_COMPONENTS), self._number("model.kernel_size")
        total = 5 * components**2 + 2 * taps * components
        return round((math.sqrt(taps**2 + 20 * total) - taps) / 10)

    def epsilon(self, papers: float, convention: nn.Convention, p: int) -> float:
        """The epsilon that stands to the distances of frames as the paper's λ to its own.

        The mean distance depends on the sizes, but for the paper's normalisation with p = 1: with
        the published one it goes as C / T and, for p = 2, as sqrt(C) / T; with the paper's and
        p = 2 as 1 / sqrt(C) (measured at three sizes, docs/sinkhorn.md). At the papers' sizes this
        is λ itself.
        """
        frames = nn.frame_count(
            self._number("data.segment_length"), self._number("model.hop", self.sinkhorn)
        )
        components = self.components(_PAPER_COMPONENTS)
        ratio, time = components / _PAPER_COMPONENTS, _PAPER_FRAMES / frames
        if convention == "code":
            factor = (ratio if p == 1 else math.sqrt(ratio)) * time
        else:
            factor = 1.0 if p == 1 else 1 / math.sqrt(ratio)
        return float(f"{papers * factor:.4g}")

    def _number(self, key: str, further: Mapping[str, Value] | None = None) -> int:
        section, _, name = key.partition(".")
        default = getattr(getattr(Config(), section), name)
        return int({**self.common, **(further or {})}.get(key, default))


FULL = Scale(
    name="full",
    common={"training.checkpoint_every": 500},
    eusipco={"model.hop": 384},
    sinkhorn={"model.hop": 256},
    shrink=1,
    table_seeds=_THREE,
    grid_seeds=_THREE[:1],
)
"""The papers' sizes and ten epochs of whatever lies under the root: meant for MUSDB18 and a GPU."""

SMALL = Scale(
    name="small",
    common={
        "data.sample_rate": 16000,
        "data.segment_length": 16000,
        "data.overlap": 8000,
        "model.kernel_size": 512,
        "model.hop": 128,
        "training.batch_size": 4,
        "training.learning_rate": 1e-3,
        "training.epochs": 1000,
        "training.max_steps": 1500,
        "training.checkpoint_every": 200,
    },
    eusipco={},
    sinkhorn={},
    shrink=12.5,
    table_seeds=_THREE,
    grid_seeds=_THREE[:1],
)
"""C = 64 at 16 kHz and 1500 short steps: some fifteen seconds of one core a run."""

SCALES = {scale.name: scale for scale in (FULL, SMALL)}
