"""Published results, to stand beside one's own.

Levels were read in the authors' notebooks, off their bar charts (± 0.2 dB), or in texts that quote
the papers; or measured here on the published audio. ``BC1song`` is training on one chorale of 2 min
40 s, ``BCBSQ`` on all chorales and barbershop quartets.

References: Richard, Chouteau, Torres, "A fully differentiable model for unsupervised singing voice
separation", ICASSP 2024; Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music
Source Separation Using Differentiable Parametric Source Models", TASLP 2023.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

TestSet: TypeAlias = Literal["CSD", "BCBQ", "cantoria"]
TEST_SETS = ("CSD", "BCBQ", "cantoria")

SINGERS = {"elrossinyol": 2, "locusiste": 3, "ninodios": 4}
"""The singer of every voice in the published test mixtures of the Choral Singing Dataset."""

CANTORIA = ("EJB1", "EJB2", "CEA")
"""The songs of Cantoría that were evaluated."""


@dataclass(frozen=True)
class Published:
    """One result.

    Attributes:
        test_set: the recordings.
        model: its name.
        training: what it was trained on; empty where nothing was trained.
        source: ``"notebook"``, ``"figure"``, ``"quoted"`` or ``"measured"``.
        mean: SI-SDR in dB after masking; None where unknown.
        median: likewise.
        std: likewise.
        voices: means of soprano to bass.
        others: other measures, by their names in :func:`~rlsv_fast.umss.evaluate_separator`.
        song: where it is of one song.
        sources: voices of a mixture.
    """

    test_set: TestSet
    model: str
    training: str
    source: Literal["notebook", "figure", "quoted", "measured"]
    mean: float | None = None
    median: float | None = None
    std: float | None = None
    voices: tuple[float, float, float, float] | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    song: str | None = None
    sources: int = 4


def _others(*values: float | None) -> dict[str, float]:
    names = (
        "sp_SNR_mask",
        "sp_SI-SNR_mask",
        "mel_cep_dist_mask",
        "f0_overall",
        "f0_raw_pitch",
        "f0_raw_chroma",
        "f0_f_measure",
    )
    return {name: v for name, v in zip(names, values, strict=True) if v is not None}


_ONE, _ALL = "BC1song", "BCBSQ"
_HEURISTIC = "UMSS, Late/Deep, heuristic assignment"

RESULTS: tuple[Published, ...] = (
    Published("CSD", "UMSS, CREPE", _ONE, "figure", 6.6, voices=(7.3, 7.2, 8.6, 3.3)),
    Published("CSD", "UMSS, CREPE", _ALL, "quoted", 6.91, 7.60, voices=(7.7, 7.6, 8.6, 3.6)),
    Published("CSD", "U-Net", _ALL, "quoted", 4.44, 5.71),
    Published(
        *("CSD", _HEURISTIC, _ONE, "notebook", 6.39, 7.24),
        others=_others(9.06, 9.08, 19.36, 0.855, 0.842, None, 0.857),
    ),
    Published(
        *("CSD", "Sf-Sf", "", "notebook", 2.81, 3.45),
        others=_others(6.15, 5.35, 20.15, 0.655, 0.715, 0.732, 0.713),
    ),
    Published("CSD", "Sft-Sft", _ONE, "figure", 5.0, voices=(6.9, 6.0, 5.4, 1.8)),
    Published(
        *("CSD", "Sft-Sft", _ALL, "notebook", 4.81, 6.08),
        others=_others(8.02, 7.64, 19.02, 0.729, 0.798, None, 0.789),
    ),
    Published(
        *("CSD", "Sf-Sft", _ONE, "notebook", 4.84, 6.06),
        others=_others(7.90, 7.61, 19.61, 0.757, 0.831, None, 0.827),
    ),
    Published("CSD", "Sf-Sft", _ALL, "figure", 5.8, voices=(7.4, 6.2, 6.7, 2.7)),
    Published("CSD", "W-Up", _ONE, "figure", 5.2, voices=(7.3, 6.0, 5.5, 2.1)),
    Published(
        *("CSD", "W-Up", _ALL, "notebook", 6.20, 6.91, 7.49),
        others={
            **_others(9.06, 8.85, 18.80, 0.790, 0.866, 0.875, 0.854),
            **{"sp_SNR": 3.67, "sp_SI-SNR": 3.39, "mel_cep_dist": 22.97},
        },
    ),
    Published("CSD", "UMSS of single voices, CREPE", _ALL, "notebook", 6.85, 7.88),
    Published("CSD", "UMSS of single voices, CREPE", _ONE, "notebook", 6.63, 7.62),
    Published("CSD", "UMSS of single voices, CREPE", _ALL, "notebook", 13.69, 14.03, sources=2),
    Published("CSD", "UMSS of single voices, CREPE", _ONE, "notebook", 13.42, 13.78, sources=2),
    Published("CSD", _HEURISTIC, "", "notebook", 13.50, 13.88, sources=2),
    Published("CSD", "W-Up of four voices", "", "notebook", 8.16, 8.72, sources=2),
    *(
        Published("CSD", "UMSS, CREPE", _ALL, "figure", voices=voices, song=song)
        for song, voices in (
            ("elrossinyol", (8.2, 8.1, 11.2, 6.8)),
            ("locusiste", (9.9, 10.4, 13.0, 5.4)),
            ("ninodios", (7.0, 9.0, 8.3, -0.8)),
        )
    ),
    *(
        Published("CSD", "Sf-Sf", "", "notebook", mean, song=song)
        for song, mean in (("elrossinyol", 5.70), ("locusiste", 1.91), ("ninodios", 0.45))
    ),
    Published(
        *("CSD", "mixture", "", "measured", -5.64),
        voices=(-6.39, -3.63, -2.35, -10.31),
        song="ninodios",
    ),
    Published(
        *("CSD", "oracle ratio mask", "", "measured", 10.56),
        voices=(11.23, 13.42, 12.79, 4.63),
        song="ninodios",
    ),
    Published(
        *("CSD", "untrained comb, f0 of the mixture", "", "measured", 5.45, 6.49),
        voices=(6.75, 8.77, 7.33, -1.23),
        song="ninodios",
    ),
    *(
        Published("cantoria", model, training, "notebook", mean, median)
        for model, training, mean, median in (
            ("UMSS, CREPE", _ONE, 0.31, 0.73),
            ("UMSS, CREPE", _ALL, 0.86, 1.38),
            ("U-Net", _ONE, -2.31, -2.07),
            ("U-Net", _ALL, 0.97, 1.47),
            ("Sf-Sf", "", -0.01, 1.14),
            ("Sft-Sft", _ONE, 1.63, 2.32),
            ("Sft-Sft", _ALL, 1.20, 2.07),
            ("Sf-Sft", _ONE, 0.85, 1.66),
            ("Sf-Sft", _ALL, 1.28, 2.25),
            ("W-Up", _ONE, 1.93, 2.61),
            ("W-Up, synthesis trained on single voices", _ALL, 3.01, 3.34),
        )
    ),
    Published(
        *("cantoria", "W-Up", _ALL, "notebook", 3.29, 3.77),
        voices=(8.15, 2.32, 0.83, 1.49),
        others={"f0_f_measure": 0.749},
    ),
)
"""The results."""


def plain_name(name: str) -> str:
    """Letters alone, without their accents: how published names are compared."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z]", "", letters)
