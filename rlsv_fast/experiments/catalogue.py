"""All experiments by name."""

from __future__ import annotations

from collections.abc import Callable

from rlsv_fast.experiments import beyond, eusipco, sinkhorn
from rlsv_fast.experiments.beyond import SignChange
from rlsv_fast.experiments.experiment import Experiment
from rlsv_fast.experiments.scale import Scale

_PLAIN: dict[str, Callable[[Scale], Experiment]] = {
    "eusipco-table1": eusipco.table1,
    "eusipco-table2": eusipco.table2,
    "sinkhorn-table1": sinkhorn.table1,
    "sinkhorn-table2": sinkhorn.table2,
    "sinkhorn-figure3": sinkhorn.figure3,
    "sinkhorn-figure5": sinkhorn.figure5,
    "sinkhorn-figure6": sinkhorn.figure6,
    "discriminator": beyond.discriminator,
}
_MEASURED: dict[str, Callable[[Scale, SignChange], Experiment]] = {
    "sinkhorn-sign-flip": beyond.sign_flip,
    "closing-question": beyond.closing_question,
}
NAMES = (*_PLAIN, *_MEASURED)


def build(name: str, scale: Scale, sign_change: SignChange) -> Experiment:
    """An experiment at a scale.

    Args:
        name: out of ``NAMES``.
        scale: its size.
        sign_change: asked only by experiments that place epsilon relative to it.
    """
    if name in _PLAIN:
        return _PLAIN[name](scale)
    return _MEASURED[name](scale, sign_change)
