"""The operators: validated, fused, differentiable once, on CPU and CUDA tensors.

Every operator has a twin of the same name and signature in :mod:`rlsv_fast.reference`.
"""

from rlsv_fast.ops.modulated_cosines import modulated_cosines
from rlsv_fast.ops.sinkhorn import SinkhornResult, sinkhorn, sinkhorn_distance, sinkhorn_plan

__all__ = [
    "SinkhornResult",
    "modulated_cosines",
    "sinkhorn",
    "sinkhorn_distance",
    "sinkhorn_plan",
]
