"""Separation without a trained model: each voice is a comb of harmonics at its pitch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from rlsv_fast.ops import _check
from rlsv_fast.umss.masks import soft_mask_separation
from rlsv_fast.umss.synthesis import SourceFilterSynthesizer

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
        self._f0 = torch.from_numpy(_held(f0.double().cpu().numpy())).to(f0)
        self._turns = self._advance(self._f0.double()).cumsum(1)

    def _advance(self, f0: Tensor) -> Tensor:
        """Turns that each frame adds to the phase.

        Frequencies are linear from the centre of one frame to the next, and constant before the
        first and behind the last; the weight of a neighbour is the sum of its shares in a frame.
        """
        hop = self.synthesizer.hop
        half = hop // 2
        neighbour = half / 2 - half * half / (2 * hop)
        before = torch.cat([f0[:, :1], f0[:, :-1]], 1)
        after = torch.cat([f0[:, 1:], f0[:, -1:]], 1)
        cycles = (hop - 2 * neighbour) * f0 + neighbour * (before + after)
        return cycles / self.synthesizer.sample_rate

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
        own = self._advance(f0.double())[:, : first - start].sum(1)
        reached = self._turns[:, first - 1] if first else torch.zeros_like(own)
        phase = 2 * torch.pi * (reached - own).remainder(1.0)
        part = self.synthesizer.source(
            f0, self._amplitude[:, start:stop], initial_phase=phase.to(f0.dtype)
        )
        return part[:, (first - start) * hop : (last - start) * hop]


def _held(f0: np.ndarray) -> np.ndarray:
    """Unvoiced frames with the pitch of the nearest voiced one; a voice that has none, 100 Hz."""
    held = np.full_like(f0, 100.0)
    frames = np.arange(f0.shape[1])
    for row, track in zip(held, f0, strict=True):
        voiced = np.flatnonzero(track)
        if len(voiced):
            following = np.searchsorted(voiced, frames).clip(0, len(voiced) - 1)
            previous = (following - 1).clip(0)
            nearer = frames - voiced[previous] < voiced[following] - frames
            row[:] = track[np.where(nearer, voiced[previous], voiced[following])]
    return held


def separate_in_blocks(
    mixture: Tensor,
    voices: Callable[[int, int], Tensor],
    *,
    hop: int = 256,
    n_fft: int = 2048,
    block: int = 2048,
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
        parts = soft_mask_separation(heard[None], made[None], n_fft=n_fft, hop=hop)[0]
        yield parts[:, :, (first - begin) * hop : (last - begin) * hop]
        if last == frames:
            return
