"""From a recording of any length to the f0 of every voice."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rlsv_fast.errors import InputError, require
from rlsv_fast.ops._check import choice, integer
from rlsv_fast.training.precision import tf32
from rlsv_fast.umss.assignment import VOICES
from rlsv_fast.umss.decode import METHODS, THRESHOLDS, Method, decode_f0, pitch_peaks
from rlsv_fast.umss.hcqt import HCQT, HOP, SAMPLE_RATE, SHORTEST, frame_count
from rlsv_fast.umss.heuristic import assign_by_continuity
from rlsv_fast.umss.tracking import MOST_VOICES, track_voices
from rlsv_fast.umss.tracks import F0Tracks
from rlsv_fast.umss.weights import F0Networks

Assignment: TypeAlias = Literal["tracking", "network", "continuity"]
ASSIGNMENTS = ("tracking", "network", "continuity")
Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]
PRECISIONS = ("float32", "tf32", "bfloat16")

Network = TypeVar("Network", bound=nn.Module)

PEAK_THRESHOLD = 0.5
_CHUNK = 512


@torch.inference_mode()
def estimate_f0(
    audio: npt.ArrayLike | Tensor,
    sample_rate: int,
    networks: F0Networks,
    *,
    assignment: Assignment = "tracking",
    voices: int = 4,
    method: Method = "soft",
    thresholds: tuple[float, ...] = THRESHOLDS,
    precision: Precision = "float32",
    keep_salience: bool = False,
    chunk: int = _CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> F0Tracks:
    """Estimate the f0 of every voice of a recording.

    Works through the file in chunks with as much context as the networks see, so that the result
    is that of the whole file and the memory grows by a few kB a frame: for the
    common salience and, with ``"tracking"``, the path.

    Args:
        audio: samples (N,), or (N, channels), which are averaged; ±1 or any other scale.
        sample_rate: in Hz.
        networks: from :func:`~rlsv_fast.umss.load_networks`; they work where their weights are.
        assignment: how voices are told apart. ``"tracking"``: the best path through the peaks of
            the common salience (:func:`~rlsv_fast.umss.track_voices`), the most accurate;
            ``"network"``: VoasCNN, as published: four voices, soprano to bass; ``"continuity"``:
            peaks from 0.5 on given to voices as the Schulze-Forster baseline does
            (:func:`~rlsv_fast.umss.assign_by_continuity`).
        voices: number of voices, for ``"tracking"`` (1 to 5) and ``"continuity"``.
        method: of :func:`~rlsv_fast.umss.decode_f0`, for ``"network"``.
        thresholds: of the voices, for ``"network"``.
        precision: of the networks: ``"tf32"`` lets a GPU's tensor cores round the factors of
            their products to 11 bits (on a CPU nothing changes), which ``"float32"`` forbids;
            ``"bfloat16"`` computes them in that type.
        keep_salience: whether the result holds the salience of all pitches.
        chunk: frames at a time.
        progress: called with (frames done, frames in all) after each chunk.

    Returns:
        Tracks on the grid of 256 / 22,050 s, with the seconds that each stage took.

    Raises:
        InputError: the recording is too short, empty, not finite or of no sensible rate.
        MissingPackage: another rate than 22,050 Hz, and soxr is not installed.
        ValueError: an unknown option.
    """
    choice("estimate_f0", "assignment", assignment, ASSIGNMENTS)
    if assignment == "network" and voices != len(VOICES):
        raise ValueError(f"estimate_f0: assignment='network' finds 4 voices, got voices={voices}")
    if assignment == "tracking" and not 1 <= voices <= MOST_VOICES:
        raise ValueError(
            f"estimate_f0: voices must be from 1 to {MOST_VOICES} for assignment='tracking', got "
            f"{voices}"
        )
    choice("estimate_f0", "method", method, METHODS)
    choice("estimate_f0", "precision", precision, PRECISIONS)
    chunk = integer("estimate_f0", "chunk", chunk, 1)
    clock = _Clock()
    with clock("resample"):
        samples = _at_network_rate(audio, sample_rate)
    total = frame_count(len(samples))
    found = _Found([], [], [])
    for done, common, assigned in _saliences(
        samples, networks, clock, chunk=chunk, precision=precision, assign=assignment == "network"
    ):
        if assigned is not None:
            with clock("decode"):
                found.f0.append(decode_f0(assigned, thresholds, method=method)[0].T.cpu())
                found.confidence.append(assigned[0].amax(1).T.cpu())
        if keep_salience or assigned is None:
            found.salience.append(common.cpu())
        if progress is not None:
            progress(done, total)
    salience = torch.cat(found.salience, 1) if found.salience else None
    confidence = torch.cat(found.confidence).numpy() if found.confidence else None
    if salience is None or assignment == "network":
        frequency = torch.cat(found.f0).double().numpy()
    elif assignment == "tracking":
        with clock("tracking"):
            frequency, heights = track_voices(salience, voices)
            confidence = heights.astype(np.float32)
    else:
        with clock("assignment by continuity"):
            peaks = pitch_peaks(salience, PEAK_THRESHOLD)
            frequency = assign_by_continuity([frame.numpy() for frame in peaks], voices)
    names = VOICES if voices == len(VOICES) else tuple(f"voice{n + 1}" for n in range(voices))
    return F0Tracks(
        time=np.arange(total, dtype=np.float64) * HOP / SAMPLE_RATE,
        frequency=frequency,
        voices=names,
        confidence=confidence,
        salience=salience.numpy() if salience is not None and keep_salience else None,
        seconds=clock.seconds,
    )


class _Found(NamedTuple):
    """What each chunk gave."""

    f0: list[Tensor]
    confidence: list[Tensor]
    salience: list[Tensor]


def _saliences(
    samples: npt.NDArray[np.float32],
    networks: F0Networks,
    clock: _Clock,
    *,
    chunk: int,
    precision: Precision,
    assign: bool,
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Frames done, salience of all pitches (360, T) and of each voice (1, 4, 360, T), by chunks."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    multif0 = _in_type(networks.multif0, dtype)
    voas = _in_type(networks.assignment, dtype)
    device = next(multif0.parameters()).device
    signal = torch.from_numpy(samples)[None].to(device)
    transform = HCQT().to(device)
    with clock("hcqt"), _tf32(False, device):
        reference = transform.reference(signal)
    total = frame_count(len(samples))
    context = voas.CONTEXT if assign else 0
    for start in range(0, total, chunk):
        core = range(start, min(start + chunk, total))
        # frames whose salience the assignment needs, and those that this salience needs
        inner = _widened(core, context, total)
        outer = _widened(inner, multif0.CONTEXT, total)
        with clock("hcqt"), _tf32(False, device):
            features = transform(signal, outer, reference)
        with clock("multi-f0 network"), _tf32(precision == "tf32", device):
            salience = multif0(features.magnitude.to(dtype), features.phase.to(dtype))
            salience = _cut(salience, outer, inner)
        assigned = None
        if assign:
            with clock("assignment network"), _tf32(precision == "tf32", device):
                assigned = _cut(voas(salience), inner, core).float()
        yield core.stop, _cut(salience, inner, core)[0, 0].float(), assigned


def _tf32(allowed: bool, device: torch.device) -> AbstractContextManager[None]:
    """Never left to the process's flags: cuDNN's default allows TF32 in convolutions."""
    return nullcontext() if device.type == "cpu" else tf32(allowed)


class _Clock:
    """Seconds by stage, added up; on a GPU without waiting, so its stages tell of launches."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _at_network_rate(audio: npt.ArrayLike | Tensor, sample_rate: int) -> npt.NDArray[np.float32]:
    """Finite mono float32 samples at 22,050 Hz, long enough."""
    if isinstance(audio, Tensor):
        audio = audio.detach().cpu().numpy()
    samples = np.asarray(audio)
    if samples.dtype.kind != "f":
        raise TypeError(f"estimate_f0: audio must be of a floating type, got {samples.dtype}")
    if samples.ndim not in (1, 2):
        raise ValueError(
            f"estimate_f0: audio must have shape (N,) or (N, channels), got {samples.shape}"
        )
    sample_rate = integer("estimate_f0", "sample_rate", sample_rate, 1)
    samples = samples.mean(1) if samples.ndim == 2 else samples
    if not np.isfinite(samples).all():
        raise InputError("estimate_f0: audio holds samples that are not finite")
    needed = SHORTEST / SAMPLE_RATE
    if len(samples) < needed * sample_rate:
        raise InputError(
            f"the recording lasts {len(samples) / sample_rate:.2f} s; at least {needed:.2f} s are "
            "needed, for the lowest octave"
        )
    samples = samples.astype(np.float32)
    if sample_rate != SAMPLE_RATE:
        soxr = require(
            "soxr", extra="umss", purpose=f"resample from {sample_rate} to {SAMPLE_RATE} Hz"
        )
        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE)
    return np.ascontiguousarray(np.pad(samples, (0, max(SHORTEST - len(samples), 0))))


def _in_type(network: Network, dtype: torch.dtype) -> Network:
    """The network, or a copy of it in another type."""
    if next(network.parameters()).dtype == dtype:
        return network
    return copy.deepcopy(network).to(dtype)


def _widened(frames: range, context: int, total: int) -> range:
    return range(max(frames.start - context, 0), min(frames.stop + context, total))


def _cut(maps: Tensor, have: range, want: range) -> Tensor:
    return maps[..., want.start - have.start : want.stop - have.start]
