"""Unsupervised separation of singing ensembles."""

from rlsv_fast.umss.comb import HarmonicComb, on_grid, separate_comb, separate_in_blocks
from rlsv_fast.umss.filters import filter_frames, impulse_response, roll_off_response
from rlsv_fast.umss.masks import soft_mask_separation
from rlsv_fast.umss.synthesis import (
    SourceFilterSynthesizer,
    VoiceParameters,
    exp_sigmoid,
    line_spectral_frequencies,
)

__all__ = [
    "HarmonicComb",
    "SourceFilterSynthesizer",
    "VoiceParameters",
    "exp_sigmoid",
    "filter_frames",
    "impulse_response",
    "line_spectral_frequencies",
    "on_grid",
    "roll_off_response",
    "separate_comb",
    "separate_in_blocks",
    "soft_mask_separation",
]
