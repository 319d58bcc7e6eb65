"""Separation of singing ensembles: f0 of every voice, synthesis, masks and measures."""

from rlsv_fast.umss.assignment import VOICES, VoasCNN
from rlsv_fast.umss.choirs import (
    Singer,
    Song,
    find_songs,
    read_f0,
    read_mixture_f0,
    read_singer,
    split_songs,
)
from rlsv_fast.umss.comb import (
    HarmonicComb,
    comb_separator,
    on_grid,
    separate_comb,
    separate_in_blocks,
)
from rlsv_fast.umss.decode import (
    BANDS,
    THRESHOLDS,
    band_masks,
    decode_f0,
    held_pitch,
    pitch_peaks,
    resample_tracks,
)
from rlsv_fast.umss.encoder import MixtureEncoder
from rlsv_fast.umss.evaluation import COMPUTE, evaluate, evaluate_separator, test_songs
from rlsv_fast.umss.excerpts import ChoirBatch, ExcerptStore, Place
from rlsv_fast.umss.f0 import estimate_f0
from rlsv_fast.umss.f0_metrics import melody_scores, multipitch_scores
from rlsv_fast.umss.filters import filter_frames, impulse_response, roll_off_response
from rlsv_fast.umss.hcqt import HCQT, Features, frequencies, resample
from rlsv_fast.umss.heuristic import assign_by_continuity
from rlsv_fast.umss.masks import soft_mask_separation
from rlsv_fast.umss.metrics import (
    mel_cepstral_distance_frames,
    si_sdr_frames,
    spectral_snr_frames,
)
from rlsv_fast.umss.model import EnsembleModel, EnsembleObjective
from rlsv_fast.umss.multif0 import LateDeep
from rlsv_fast.umss.parameter_decoder import ParameterDecoder
from rlsv_fast.umss.published import RESULTS, TEST_SETS, Published
from rlsv_fast.umss.recordings import separate_trained, track_trained
from rlsv_fast.umss.report import EnsembleReport, write_report
from rlsv_fast.umss.result import EnsembleResult, ExcerptScores, read_result, write_result
from rlsv_fast.umss.robustness import (
    Perturbation,
    RobustnessRow,
    RobustnessTable,
    mute_frames,
    mute_voices,
    published_perturbations,
    robustness_table,
    shift_f0,
    transpose_f0,
)
from rlsv_fast.umss.runs import load_separator
from rlsv_fast.umss.separator import SourceFilterSeparator, Synthesis
from rlsv_fast.umss.settings import EnsembleConfig
from rlsv_fast.umss.synthesis import (
    SourceFilterSynthesizer,
    VoiceParameters,
    exp_sigmoid,
    line_spectral_frequencies,
)
from rlsv_fast.umss.tracker import F0Tracker, TrackedVoices
from rlsv_fast.umss.tracking import TrackingCosts, track_voices
from rlsv_fast.umss.tracks import F0Tracks, read_csv, write_csv
from rlsv_fast.umss.trainer import EnsembleTrainer, choose_songs, train_separator
from rlsv_fast.umss.unet import F0UNet
from rlsv_fast.umss.weights import F0Networks, default_weights, import_weights, load_networks

__all__ = [
    "BANDS",
    "COMPUTE",
    "HCQT",
    "RESULTS",
    "TEST_SETS",
    "THRESHOLDS",
    "VOICES",
    "ChoirBatch",
    "EnsembleConfig",
    "EnsembleModel",
    "EnsembleObjective",
    "EnsembleReport",
    "EnsembleResult",
    "EnsembleTrainer",
    "ExcerptScores",
    "ExcerptStore",
    "F0Networks",
    "F0Tracker",
    "F0Tracks",
    "F0UNet",
    "Features",
    "HarmonicComb",
    "LateDeep",
    "MixtureEncoder",
    "ParameterDecoder",
    "Perturbation",
    "Place",
    "Published",
    "RobustnessRow",
    "RobustnessTable",
    "Singer",
    "Song",
    "SourceFilterSeparator",
    "SourceFilterSynthesizer",
    "Synthesis",
    "TrackedVoices",
    "TrackingCosts",
    "VoasCNN",
    "VoiceParameters",
    "assign_by_continuity",
    "band_masks",
    "choose_songs",
    "comb_separator",
    "decode_f0",
    "default_weights",
    "estimate_f0",
    "evaluate",
    "evaluate_separator",
    "exp_sigmoid",
    "filter_frames",
    "find_songs",
    "frequencies",
    "held_pitch",
    "import_weights",
    "impulse_response",
    "line_spectral_frequencies",
    "load_networks",
    "load_separator",
    "mel_cepstral_distance_frames",
    "melody_scores",
    "multipitch_scores",
    "mute_frames",
    "mute_voices",
    "on_grid",
    "pitch_peaks",
    "published_perturbations",
    "read_csv",
    "read_f0",
    "read_mixture_f0",
    "read_result",
    "read_singer",
    "resample",
    "resample_tracks",
    "robustness_table",
    "roll_off_response",
    "separate_comb",
    "separate_in_blocks",
    "separate_trained",
    "shift_f0",
    "si_sdr_frames",
    "soft_mask_separation",
    "spectral_snr_frames",
    "split_songs",
    "test_songs",
    "track_trained",
    "track_voices",
    "train_separator",
    "transpose_f0",
    "write_csv",
    "write_report",
    "write_result",
]
