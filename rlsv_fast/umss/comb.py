"""Separation without a trained model: each voice is a comb of harmonics at its pitch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsv_fast.ops import _check
from rlsv_fast.umss.decode import held_pitch
from rlsv_fast.umss.masks import FITTED_UPDATES, soft_mask_separation
from rlsv_fast.umss.synthesis import SourceFilterSynthesizer

Levels: TypeAlias = Literal["fitted", "constant"]

_CONTEXT = 2
"""Frames on both sides of a block that its samples depend on."""


class HarmonicComb:
    r"""Voices of constant amplitude, silent where they are unvoiced, a part at a time.

    A part has the samples that it has in the whole, phases included. Unvoiced frames hold the
    pitch of the nearest voiced one, so that no voice glides to 0 Hz while it fades.

    Args:
        f0: fundamental frequencies in Hz, 0 where unvoiced, shape (V, T).
        synthesizer: of the harmonics; its hop is that of the frames.

    Raises:
        ValueError: a frequency is negative or not finite, or there is no frame.
    """

    def __init__(self, f0: Tensor, synthesizer: SourceFilterSynthesizer) -> None:
        op = "HarmonicComb"
        f0 = _check.floating(op, "f0", f0)
        _check.shape(op, "f0", f0, "(V, T)", None, None)
        if not f0.shape[1] or not bool((f0.isfinite() & (f0 >= 0)).all()):
            raise ValueError(f"{op}: f0 must have frames, and be finite and at least 0 Hz")
        self.synthesizer = synthesizer
        self.frames = f0.shape[1]
        voiced = f0 > 0
        self._amplitude = voiced.to(f0.dtype)
        self._f0 = held_pitch(f0)
        self._turns = self.synthesizer.turns(self._f0.double()).cumsum(1)

    def signal(self, first: int, last: int) -> Tensor:
        """The samples of some frames.

        Args:
            first: number of the first frame.
            last: that of the frame behind the last one.

        Returns:
            Shape (V, (last - first) hop).
        """
        hop = self.synthesizer.hop
        start, stop = max(first - _CONTEXT, 0), min(last + _CONTEXT, self.frames)
        f0 = self._f0[:, start:stop]
        # phase before the block, less what the part's own frames add until there
        own = self.synthesizer.turns(f0.double())[:, : first - start].sum(1)
        reached = self._turns[:, first - 1] if first else torch.zeros_like(own)
        phase = 2 * torch.pi * (reached - own).remainder(1.0)
        part = self.synthesizer.source(
            f0, self._amplitude[:, start:stop], initial_phase=phase.to(f0.dtype)
        )
        return part[:, (first - start) * hop : (last - start) * hop]


def separate_in_blocks(
    mixture: Tensor,
    voices: Callable[[int, int], Tensor],
    *,
    hop: int = 256,
    n_fft: int = 2048,
    block: int = 2048,
    power: float = 1.0,
    level_updates: int = 0,
    known_bins: int | None = None,
) -> Iterator[Tensor]:
    """Separate a long recording in bounded memory, as :func:`soft_mask_separation` would at once.

    Blocks are computed with a window more on either side, so that they join without a seam.

    Args:
        mixture: shape (H, N), channels that share the masks.
        voices: gives the synthesised voices of frames ``first`` to ``last``, shape
            (V, (last - first) hop); asked for every frame that the mixture has a part of.
        hop: samples from one frame, and one window, to the next.
        n_fft: samples of a window, a multiple of the hop.
        block: frames at a time.
        power: as there.
        level_updates: as there.
        known_bins: as there.

    Yields:
        Shape (V, H, n): consecutive parts of the voices, together N samples.

    Raises:
        ValueError: the sizes do not fit.
    """
    op = "separate_in_blocks"
    mixture = _check.floating(op, "mixture", mixture)
    _check.shape(op, "mixture", mixture, "(H, N)", None, None)
    _check.integer(op, "hop", hop, 1)
    _check.integer(op, "block", block, 1)
    if n_fft < hop or n_fft % hop:
        raise ValueError(f"{op}: n_fft must be a multiple of the hop {hop}, got {n_fft}")
    length = mixture.shape[1]
    frames, margin = -(-length // hop), n_fft // hop
    for first in range(0, frames, block):
        last = min(first + block, frames)
        if frames - last <= margin:  # what is left is too short for a window of its own
            last = frames
        begin, end = max(first - margin, 0), min(last + margin, frames)
        heard = mixture[:, begin * hop : end * hop]
        made = voices(begin, end)[:, : heard.shape[1]]
        parts = soft_mask_separation(
            heard[None],
            made[None],
            n_fft=n_fft,
            hop=hop,
            power=power,
            level_updates=level_updates,
            known_bins=known_bins,
        )[0]
        yield parts[:, :, (first - begin) * hop : (last - begin) * hop]
        if last == frames:
            return


def on_grid(
    times: npt.NDArray[np.floating],
    f0: npt.NDArray[np.floating],
    wanted: npt.NDArray[np.floating],
) -> npt.NDArray[np.float64]:
    """Tracks of pitch at other times: a frame is voiced if the nearest one is.

    Between two voiced frames the pitch is linear; it never glides to or from 0 Hz.

    Args:
        times: ascending, in seconds, shape (T,), T >= 1.
        f0: in Hz, 0 where unvoiced, shape (V, T).
        wanted: in seconds, shape (K,).

    Returns:
        Shape (V, K).
    """
    after = np.searchsorted(times, wanted).clip(1, max(len(times) - 1, 1))
    before, after = (i.clip(0, len(times) - 1) for i in (after - 1, after))
    span = np.maximum(times[after] - times[before], np.finfo(np.float64).tiny)
    share = ((wanted - times[before]) / span).clip(0, 1)
    low, high = f0[:, before], f0[:, after]
    nearest = np.where(share < 0.5, low, high)
    return np.where((low > 0) & (high > 0), low + share * (high - low), nearest)


def separate_comb(
    mixture: Tensor,
    sample_rate: int,
    times: npt.NDArray[np.floating],
    f0: npt.NDArray[np.floating],
    *,
    levels: Levels = "fitted",
    seconds: float = 5.0,
) -> Iterator[Tensor]:
    """Separate voices of known pitch, at the rate and with the channels of the recording.

    Combs of equal harmonics that slope by 6 dB an octave, silent where their voice is unvoiced; at
    16 kHz windows of 2048 samples, a hop of 256 and up to 101 harmonics. At other rates all of
    these stay the same in seconds and hertz, but for the number of harmonics, which reach up to
    half the rate. With ``levels="constant"`` this is the untrained baseline of the literature.

    Args:
        mixture: shape (H, N).
        sample_rate: in Hz, at least 8000.
        times: of the frames of the tracks, in seconds, shape (T,).
        f0: in Hz, 0 where unvoiced, shape (V, T).
        levels: ``"fitted"``: each voice has the level in each window that explains the mixture
            best, and masks are ratios of powers; ``"constant"``: all voices are equally loud, and
            masks are ratios of magnitudes.
        seconds: of a block; memory grows with it, results do not depend on it.

    Yields:
        Shape (V, H, n): consecutive parts of the voices.

    Raises:
        ValueError: sizes do not fit, or the recording is shorter than half a window (64 ms).
    """
    op = "separate_comb"
    _check.integer(op, "sample_rate", sample_rate, 8000)
    _check.choice(op, "levels", levels, ("fitted", "constant"))
    f0 = np.asarray(f0, np.float64)
    if f0.ndim != 2 or f0.shape[1] != len(times) or not f0.size:
        raise ValueError(f"{op}: f0 must be (V, {len(times)}) and not empty, got {f0.shape}")
    hop = 32 * round(sample_rate / 2000)  # 16 ms; the windows' sizes have small factors
    frames = -(-mixture.shape[-1] // hop)
    centres = (np.arange(frames) + 0.5) * hop / sample_rate
    synthesizer = SourceFilterSynthesizer(
        sample_rate=sample_rate, hop=hop, harmonics=round(101 * sample_rate / 16000)
    )
    tracks = torch.from_numpy(on_grid(np.asarray(times, np.float64), f0, centres)).to(mixture)
    comb = HarmonicComb(tracks, synthesizer)
    block = max(round(seconds * sample_rate / hop), 1)
    power, updates = (2.0, FITTED_UPDATES) if levels == "fitted" else (1.0, 0)
    yield from separate_in_blocks(
        *(mixture, comb.signal),
        hop=hop,
        n_fft=8 * hop,
        block=block,
        power=power,
        level_updates=updates,
    )


def comb_separator(
    levels: Levels = "fitted", *, sample_rate: int = 16000, hop: int = 256
) -> Callable[[Tensor, Tensor], Tensor]:
    """The untrained comb as a separator of excerpts.

    Args:
        levels: as in :func:`separate_comb`.
        sample_rate: in Hz.
        hop: samples from one frame of the f0 to the next; frame i is that of the centre of hop i.

    Returns:
        From a mixture (B, N) and f0 in Hz (B, V, T) to the voices (B, V, N).
    """

    def separate(mixture: Tensor, f0: Tensor) -> Tensor:
        times = (np.arange(f0.shape[-1]) + 0.5) * hop / sample_rate
        return torch.stack(
            [
                torch.cat(
                    list(
                        separate_comb(
                            signal[None], sample_rate, times, f0_.cpu().numpy(), levels=levels
                        )
                    ),
                    2,
                )[:, 0]
                for signal, f0_ in zip(mixture, f0, strict=True)
            ]
        )

    return separate
