"""The auto-encoder: an encoder and a decoder that share components and hop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsv_fast.nn.decoders import Decoder
from rlsv_fast.nn.encoders import Encoder
from rlsv_fast.nn.padding import frame_count


class RepresentationModel(nn.Module):
    """Waveform to representation and back.

    Args:
        encoder: a :class:`ConvEncoder`, :class:`CosineEncoder` or :class:`SincEncoder`.
        decoder: a :class:`ModulatedCosineDecoder` or :class:`ConvDecoder` with as many components
            and the same hop; its kernels may have another length.

    Raises:
        ValueError: components or hop differ.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        for name in ("components", "hop"):
            if getattr(encoder, name) != getattr(decoder, name):
                raise ValueError(
                    f"RepresentationModel: encoder and decoder must have the same {name}, got "
                    f"{getattr(encoder, name)} and {getattr(decoder, name)}"
                )
        self.encoder = encoder
        self.decoder = decoder
        self._samples = 0

    @property
    def components(self) -> int:
        """Number of components C."""
        return self.decoder.components

    @property
    def hop(self) -> int:
        """Step S between frames, in samples."""
        return self.decoder.hop

    def encode(self, signal: Tensor) -> Tensor:
        """Encode waveforms (B, N) to a representation (B, C, ceil(N / S))."""
        representation: Tensor = self.encoder(signal)
        self._samples = signal.shape[1]
        return representation

    def decode(
        self, representation: Tensor, length: int | None = None, basis: Tensor | None = None
    ) -> Tensor:
        """Decode representations (B, C, T) to waveforms (B, N).

        Args:
            representation: shape (B, C, T).
            length: number of samples N. By default that of the last signal given to ``encode`` if
                it has T frames, else T S.
            basis: ``model.decoder.basis()``, to compute it once for several calls. (The rows of
                ``model.basis()`` are sorted, those of a representation need not be.)

        Returns:
            Waveforms, shape (B, N).
        """
        if length is None and frame_count(self._samples, self.hop) == representation.shape[-1]:
            length = self._samples
        signal: Tensor = self.decoder(representation, length, basis)
        return signal

    def order(self) -> Tensor:
        """Channels by ascending carrier, shape (C,), int64; 0 ... C - 1 where kernels are free.

        ``representation[:, model.order()]`` shows a representation in the order of ``basis()``.
        """
        carriers = self.decoder.carriers()
        if carriers is None:
            device = next(self.decoder.parameters()).device
            return torch.arange(self.components, device=device)
        return torch.argsort(carriers, stable=True)

    def basis(self) -> Tensor:
        """The decoder's kernels by ascending carrier, shape (C, L)."""
        return self.decoder.basis()[self.order()]

    def forward(self, signal: Tensor) -> Tensor:
        """Encode and decode waveforms (B, N), giving (B, N)."""
        return self.decode(self.encode(signal), length=signal.shape[1])
