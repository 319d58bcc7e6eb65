"""The padding rule: any signal, kernel and hop give ceil(N / S) frames and N samples back."""

from __future__ import annotations


def frame_count(samples: int, hop: int) -> int:
    """Number of frames of a signal, T = ceil(N / S)."""
    return -(-samples // hop)


def padding(samples: int, kernel_size: int, hop: int) -> tuple[int, int]:
    r"""Zeros that the encoder adds, and samples that the decoder removes, at both ends.

    .. math:: P = (T - 1) S + L - N, \quad left = \lfloor P / 2 \rfloor, \quad right = P - left

    Equal to the published code's rule where that one is right (P even), and one sample longer at
    the right end where it loses a frame (P odd).

    Args:
        samples: length N of the signal, at least 1.
        kernel_size: taps L of a kernel.
        hop: step S between frames.

    Returns:
        ``(left, right)``, each at least 0.

    Raises:
        ValueError: the signal is empty, or frames of L samples at a step S > L would leave the end
            of the signal uncovered (P < 0).
    """
    if samples < 1:
        raise ValueError(f"a signal needs at least 1 sample, got N = {samples}")
    total = (frame_count(samples, hop) - 1) * hop + kernel_size - samples
    if total < 0:
        raise ValueError(
            f"kernels of L = {kernel_size} samples at a hop of S = {hop} leave {-total} of "
            f"N = {samples} samples uncovered: choose a hop of at most {kernel_size}"
        )
    return total // 2, total - total // 2
