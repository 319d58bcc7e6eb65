"""The multi-resolution spectral loss as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.nn.losses import Reduction, _check_reduction, _reduce


class SpectralLoss(nn.Module):
    """Distance of magnitude spectra at several resolutions (UMSS), see ``ops.spectral_loss``.

    Args:
        fft_sizes: samples per frame of each resolution.
        overlap: of neighbouring frames.
        magnitude_weight: weight of the magnitudes' distance.
        log_magnitude_weight: weight of the distance of their logarithms.
        reduction: over the items.

    Raises:
        ValueError: an unknown reduction; other settings are checked by the first call.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64),
        *,
        overlap: float = 0.75,
        magnitude_weight: float = 1.0,
        log_magnitude_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_reduction("SpectralLoss", reduction, True, "")
        self.fft_sizes = tuple(fft_sizes)
        self.overlap = overlap
        self.magnitude_weight = magnitude_weight
        self.log_magnitude_weight = log_magnitude_weight
        self.reduction = reduction

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare waveforms.

        Args:
            estimate: shape (B, N).
            target: shape (B, N).

        Returns:
            A scalar, or shape (B,) for ``reduction="none"``.
        """
        values = ops.spectral_loss(
            estimate,
            target,
            fft_sizes=self.fft_sizes,
            overlap=self.overlap,
            magnitude_weight=self.magnitude_weight,
            log_magnitude_weight=self.log_magnitude_weight,
        )
        return _reduce(values, self.reduction)

    def extra_repr(self) -> str:
        """Settings that matter, for ``print(model)``."""
        return f"fft_sizes={self.fft_sizes}, overlap={self.overlap}"
