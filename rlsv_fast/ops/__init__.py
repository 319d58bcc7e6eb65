"""The operators: validated, fused, differentiable once, on CPU and CUDA tensors.

Every operator has a twin of the same name and signature in :mod:`rlsv_fast.reference`.
"""

from rlsv_fast.ops.frame_distance import frame_distance
from rlsv_fast.ops.modulated_cosines import modulated_cosines

__all__ = ["frame_distance", "modulated_cosines"]
