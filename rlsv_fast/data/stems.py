"""Decoding MUSDB18 ``.stem.mp4`` files through PyAV (package extra ``stems``, no ffmpeg needed)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlsv_fast.data.sound import check_rate
from rlsv_fast.errors import InputError, require
from rlsv_fast.files import opened

STREAM_ORDER = ("mixture", "drums", "bass", "other", "vocals")


def read_stem_file(path: Path) -> tuple[dict[str, npt.NDArray[np.float32]], int]:
    """Decode the five audio streams of a stem file and down-mix each to mono.

    Args:
        path: a ``.stem.mp4`` with the streams of ``STREAM_ORDER``; cover pictures are ignored.

    Returns:
        Mono arrays (N,) by stem name, as long as the decoder makes them (they may differ), and the
        sample rate in Hz.

    Raises:
        InputError: not a media file, another number of audio streams, or streams of unequal rate.
        MissingPackage: PyAV is not installed.
    """
    av = require("av", extra="stems", purpose="read .stem.mp4 files")
    try:
        # by descriptor: PyAV would wait for a pipe, and cannot take every file name
        with (
            opened(path) as handle,
            os.fdopen(handle, "rb", closefd=False) as file,
            av.open(file) as container,
        ):
            streams = container.streams.audio
            if len(streams) != len(STREAM_ORDER):
                raise InputError(
                    f"{path}: {len(streams)} audio stream(s), expected {len(STREAM_ORDER)} "
                    f"({', '.join(STREAM_ORDER)}); use a folder of wav files instead"
                )
            rates = {int(stream.rate) for stream in streams}
            if len(rates) != 1:
                raise InputError(f"{path}: streams of different rates {sorted(rates)} Hz")
            rate = rates.pop()
            check_rate(rate, path)
            decoded = _decode(av, container, streams)
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: cannot be decoded ({error.strerror}); replace or remove it"
        ) from error
    return dict(zip(STREAM_ORDER, decoded, strict=True)), rate


def _decode(av: Any, container: Any, streams: Any) -> list[npt.NDArray[np.float32]]:
    # Demultiplexed in one pass. Each frame is down-mixed at once, so that a song never lies in
    # memory with all channels. The resampler only converts sample formats (AAC passes through).
    parts: dict[int, list[npt.NDArray[np.float32]]] = {stream.index: [] for stream in streams}
    to_float = {stream.index: av.AudioResampler(format="fltp") for stream in streams}
    for packet in container.demux(streams):
        index = packet.stream.index
        for frame in packet.decode():
            for converted in to_float[index].resample(frame):
                parts[index].append(converted.to_ndarray().mean(axis=0, dtype=np.float32))
    empty = np.zeros(0, dtype=np.float32)
    return [np.concatenate(parts[stream.index] or [empty]) for stream in streams]
