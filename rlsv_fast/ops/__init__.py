"""The operators: validated, fused, differentiable once, on CPU and CUDA tensors.

Every operator has a twin of the same name and signature in :mod:`rlsv_fast.reference`.
"""

from rlsv_fast.ops.all_pole import all_pole
from rlsv_fast.ops.decode_f0 import decode_f0
from rlsv_fast.ops.frame_convolution import frame_convolution
from rlsv_fast.ops.frame_distance import frame_distance
from rlsv_fast.ops.gated_recurrence import gated_recurrence
from rlsv_fast.ops.harmonic_bank import harmonic_bank
from rlsv_fast.ops.lsf_to_lpc import lsf_to_lpc
from rlsv_fast.ops.modulated_cosines import modulated_cosines
from rlsv_fast.ops.neg_snr import neg_snr
from rlsv_fast.ops.overlap_add import frames, overlap_add
from rlsv_fast.ops.si_sdr import si_sdr
from rlsv_fast.ops.sinkhorn import SinkhornResult, sinkhorn, sinkhorn_plan
from rlsv_fast.ops.sinkhorn_distance import sinkhorn_distance
from rlsv_fast.ops.sinkhorn_divergence import sinkhorn_divergence
from rlsv_fast.ops.sinkhorn_loss import sinkhorn_loss
from rlsv_fast.ops.spectral_loss import spectral_loss
from rlsv_fast.ops.total_variation import total_variation

__all__ = [
    "SinkhornResult",
    "all_pole",
    "decode_f0",
    "frame_convolution",
    "frame_distance",
    "frames",
    "gated_recurrence",
    "harmonic_bank",
    "lsf_to_lpc",
    "modulated_cosines",
    "neg_snr",
    "overlap_add",
    "si_sdr",
    "sinkhorn",
    "sinkhorn_distance",
    "sinkhorn_divergence",
    "sinkhorn_loss",
    "sinkhorn_plan",
    "spectral_loss",
    "total_variation",
]
