"""Every operator of :mod:`rlsv_fast.ops` in plain PyTorch: specification, oracle and baseline."""

from rlsv_fast.reference.all_pole import all_pole
from rlsv_fast.reference.decode_f0 import decode_f0
from rlsv_fast.reference.frame_convolution import frame_convolution
from rlsv_fast.reference.frame_distance import frame_distance
from rlsv_fast.reference.gated_recurrence import gated_recurrence
from rlsv_fast.reference.harmonic_bank import harmonic_bank
from rlsv_fast.reference.lsf_to_lpc import lsf_to_lpc
from rlsv_fast.reference.modulated_cosines import modulated_cosines
from rlsv_fast.reference.neg_snr import neg_snr
from rlsv_fast.reference.overlap_add import frames, overlap_add
from rlsv_fast.reference.si_sdr import si_sdr
from rlsv_fast.reference.sinkhorn import sinkhorn, sinkhorn_distance, sinkhorn_plan
from rlsv_fast.reference.sinkhorn_divergence import sinkhorn_divergence
from rlsv_fast.reference.sinkhorn_loss import sinkhorn_loss
from rlsv_fast.reference.spectral_loss import spectral_loss
from rlsv_fast.reference.total_variation import total_variation

__all__ = [
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
