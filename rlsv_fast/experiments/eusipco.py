"""P1's tables: Mimilakis, Drossos, Schuller, EUSIPCO 2020."""

from __future__ import annotations

from rlsv_fast.experiments.experiment import (
    ADDITIVITY,
    MASK,
    RECONSTRUCTION,
    Cell,
    Experiment,
    Published,
)
from rlsv_fast.experiments.scale import Scale
from rlsv_fast.training.config import Value

_TV: dict[str, Value] = {"loss.representation": "total-variation", "loss.weight": 0.5}

_TABLE1: tuple[tuple[str, str, bool, float, str, dict[str, Value]], ...] = (
    ("conv / cos", "linear", True, 20.83, "6.483M",
     {"model.power": 1, "model.modulator": "none"}),
    ("conv / cos", "squared", True, 22.34, "6.483M", {"model.modulator": "none"}),
    ("conv / conv", "none", False, 31.25, "6.476M", {"model.decoder": "conv"}),
    ("conv / conv", "tanh", False, 30.50, "6.476M",
     {"model.decoder": "conv", "model.tanh": True}),
    ("conv / mod-cos", "linear", False, 28.72, "6.478M", {"model.power": 1}),
    ("conv / mod-cos", "squared", False, 32.62, "6.478M", {}),
    ("sinc / mod-cos", "squared", True, 26.82, "6.487M",
     {"model.encoder": "sinc"}),
)  # fmt: skip

_TABLE2 = (
    (400, "A_v", 30.46, 3.66, "2.439M"),
    (400, "A_m", 30.73, 5.93, "2.439M"),
    (800, "A_v", 32.28, 4.39, "6.478M"),
    (800, "A_m", 32.11, 6.28, "6.478M"),
    (1600, "A_v", 31.94, 4.68, "19.356M"),
    (1600, "A_m", 31.54, 6.68, "19.356M"),
)


def table1(scale: Scale) -> Experiment:
    """Reconstruction by seven pairs of encoder and decoder of equally many parameters."""
    cells = []
    for pair, carrier, wide, decibels, parameters, settings in _TABLE1:
        components = scale.fewer_parameters() if wide else scale.components(800)
        cells.append(
            Cell(
                (pair, carrier, components),
                {
                    **scale.eusipco,
                    **_TV,
                    "data.random_mixing": False,
                    "training.early_stopping": True,
                    "training.sort": "none",
                    **settings,
                    "model.components": components,
                },
                {RECONSTRUCTION: Published(decibels)},
                parameters,
            )
        )
    return Experiment(
        name="eusipco-table1",
        title="P1, Table 1: reconstruction of the voice, median SI-SDR",
        columns=("encoder / decoder", "carrier or non-linearity", "C"),
        cells=tuple(cells),
        statistic="median",
        quantities=(RECONSTRUCTION,),
        seeds=scale.table_seeds,
        notes=(
            "Each voice with its own accompaniment (no random mixing), early stopping, total "
            "variation of A_m with ω = 0.5 between unsorted components.",
            "C of the first, second and last row has been chosen for equally many parameters, as "
            "the paper's 952.",
        ),
    )


def table2(scale: Scale) -> Experiment:
    """Separation by the oracle's binary mask: number of components, and where TV is taken."""
    return Experiment(
        name="eusipco-table2",
        title="P1, Table 2: reconstruction, and separation by the oracle's binary mask, medians",
        columns=("C of the paper", "C", "TV of"),
        cells=tuple(
            Cell(
                (papers, scale.components(papers), source),
                {
                    **scale.eusipco,
                    **_TV,
                    "model.components": scale.components(papers),
                    "loss.computed_on": "voice" if source == "A_v" else "mixture",
                },
                {RECONSTRUCTION: Published(decibels), MASK: Published(masked)},
                parameters,
            )
            for papers, source, decibels, masked, parameters in _TABLE2
        ),
        statistic="median",
        quantities=(RECONSTRUCTION, MASK, ADDITIVITY),
        seeds=scale.table_seeds,
        stft={MASK: Published(8.80)},
        notes=(
            "Random mixing; ω = 0.5. The kernels count as sorted after every update (P1, section "
            "3): total variation is taken between neighbours by carrier. The published code's "
            "sorting, inside the decoder, changes nothing.",
        ),
    )
