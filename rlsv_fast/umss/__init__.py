"""Separation of singing ensembles: f0 of every voice, with the published networks."""

from rlsv_fast.umss.assignment import VOICES, VoasCNN
from rlsv_fast.umss.decode import (
    BANDS,
    THRESHOLDS,
    band_masks,
    decode_f0,
    pitch_peaks,
    resample_tracks,
)
from rlsv_fast.umss.f0 import estimate_f0
from rlsv_fast.umss.hcqt import HCQT, Features, frequencies, resample
from rlsv_fast.umss.heuristic import assign_by_continuity
from rlsv_fast.umss.multif0 import LateDeep
from rlsv_fast.umss.tracking import TrackingCosts, track_voices
from rlsv_fast.umss.tracks import F0Tracks, read_csv, write_csv
from rlsv_fast.umss.weights import F0Networks, default_weights, import_weights, load_networks

__all__ = [
    "BANDS",
    "HCQT",
    "THRESHOLDS",
    "VOICES",
    "TrackingCosts",
    "track_voices",
    "F0Networks",
    "F0Tracks",
    "Features",
    "LateDeep",
    "VoasCNN",
    "assign_by_continuity",
    "band_masks",
    "decode_f0",
    "default_weights",
    "estimate_f0",
    "frequencies",
    "import_weights",
    "load_networks",
    "pitch_peaks",
    "read_csv",
    "resample",
    "resample_tracks",
    "write_csv",
]
