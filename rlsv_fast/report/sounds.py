"""Audio for the page: lossless, in scripts, as a page from a file may load no other data."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

Array: TypeAlias = npt.NDArray[np.floating[Any]]

_LOUDEST = 0.98


def gain(signals: Iterable[Array]) -> float:
    """The one gain, at most 1, with which none of the signals clips."""
    peak = max(float(np.abs(signal).max()) for signal in signals)
    return min(1.0, _LOUDEST / peak) if peak else 1.0


def flac(signal: Array, sample_rate: int) -> bytes:
    """A mono signal (N,) within ±1 as FLAC of 16 bits."""
    file = io.BytesIO()
    soundfile.write(file, signal, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def data_script(key: str, content: Mapping[str, object]) -> str:
    """A script that hands data to the page; bytes go as base64."""

    def plain(value: object) -> str:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        raise TypeError(f"cannot hand {type(value).__name__} to the page")

    return f"pageData[{json.dumps(key)}] = {json.dumps(content, default=plain)};\n"
