"""Every operator of :mod:`rlsv_fast.ops` in plain PyTorch: specification, oracle and baseline."""

from rlsv_fast.reference.frame_distance import frame_distance
from rlsv_fast.reference.modulated_cosines import modulated_cosines

__all__ = ["frame_distance", "modulated_cosines"]
