"""Every operator of :mod:`rlsv_fast.ops` in plain PyTorch: specification, oracle and baseline."""

from rlsv_fast.reference.modulated_cosines import modulated_cosines
from rlsv_fast.reference.sinkhorn import sinkhorn, sinkhorn_distance, sinkhorn_plan

__all__ = ["modulated_cosines", "sinkhorn", "sinkhorn_distance", "sinkhorn_plan"]
