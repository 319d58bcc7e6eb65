"""The Sinkhorn loss of a representation in plain PyTorch."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from rlsv_fast.reference.frame_distance import frame_distance
from rlsv_fast.reference.sinkhorn import sinkhorn_distance


def sinkhorn_loss(
    representation: Tensor,
    epsilon: float,
    *,
    p: int = 1,
    normalize: Literal["features", "time"] | None = "features",
    reduce: Literal["none", "mean"] = "mean",
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Tensor:
    """See :func:`rlsv_fast.ops.sinkhorn_loss`."""
    distance = frame_distance(representation, p=p, normalize=normalize, reduce=reduce)
    return sinkhorn_distance(
        distance, epsilon, max_iterations=max_iterations, tolerance=tolerance, symmetric=True
    )
