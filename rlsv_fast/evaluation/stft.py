"""The short-time Fourier transform as the papers' baseline."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlsv_fast.errors import InputError

Window: TypeAlias = Literal["hamming", "hann"]

_WINDOWS = {"hamming": torch.hamming_window, "hann": torch.hann_window}


class STFT:
    """Centred STFT and its exact inverse.

    The papers use a Hamming window and do not name the padding: zeros here, as in the encoder, so
    that any length works. The published code uses a Hann window and reflects the signal at its
    ends. Coefficients are divided by the square root of the window length, as in that code.

    Args:
        window_length: samples, 2048 in both papers.
        hop: samples; at most half the window, or the frames could not cover the signal.
        window: ``"hamming"`` (zero padding) or ``"hann"`` (reflect padding); periodic.

    Raises:
        InputError: the window or hop cannot work.
    """

    def __init__(self, window_length: int, hop: int, *, window: Window = "hamming") -> None:
        if window_length < 2:
            raise InputError(f"the STFT window must be at least 2 samples, got {window_length}")
        if not 1 <= hop <= window_length // 2:
            raise InputError(
                f"the STFT hop must be between 1 and half the window ({window_length // 2} "
                f"samples), got {hop}"
            )
        self.window_length = window_length
        self.hop = hop
        self.window: Window = window

    def analyze(self, signal: Tensor) -> Tensor:
        """Complex coefficients (B, window_length // 2 + 1, N // hop + 1) of a signal (B, N).

        Raises:
            InputError: the signal is too short to be reflected (Hann window only).
        """
        if self.window == "hann" and signal.shape[-1] <= self.window_length // 2:
            raise InputError(
                f"a segment of {signal.shape[-1]} samples is too short for a reflecting STFT of "
                f"{self.window_length} samples; choose a window shorter than twice the segment"
            )
        return torch.stft(
            signal,
            self.window_length,
            self.hop,
            window=self._window(signal.dtype, signal.device),
            center=True,
            pad_mode="reflect" if self.window == "hann" else "constant",
            normalized=True,
            return_complex=True,
        )

    def synthesize(self, coefficients: Tensor, length: int) -> Tensor:
        """The signal (B, length) of complex coefficients from :meth:`analyze`, masked or not."""
        return torch.istft(
            coefficients,
            self.window_length,
            self.hop,
            window=self._window(coefficients.real.dtype, coefficients.device),
            center=True,
            normalized=True,
            length=length,
        )

    def _window(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return _WINDOWS[self.window](self.window_length, dtype=dtype, device=device)
