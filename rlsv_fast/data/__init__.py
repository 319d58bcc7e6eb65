"""Audio in: track folders, stems, the cache of decoded tracks, segments and a synthetic set."""

from rlsv_fast.data.cache import PreparedTrack, default_cache, prepare_tracks
from rlsv_fast.data.musdb_reader import read_musdb
from rlsv_fast.data.segments import (
    SILENCE_PEAK,
    SegmentBatch,
    SegmentStore,
    check_not_silent,
    test_segments,
)
from rlsv_fast.data.synthetic import synthesize
from rlsv_fast.data.tracks import (
    AccompanimentRule,
    Subset,
    Track,
    TrackAudio,
    find_tracks,
    load_track,
)

__all__ = [
    "SILENCE_PEAK",
    "AccompanimentRule",
    "PreparedTrack",
    "SegmentBatch",
    "SegmentStore",
    "Subset",
    "Track",
    "TrackAudio",
    "check_not_silent",
    "default_cache",
    "find_tracks",
    "load_track",
    "prepare_tracks",
    "read_musdb",
    "synthesize",
    "test_segments",
]
