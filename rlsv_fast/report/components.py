"""The components of a model, in the order in which they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from rlsv_fast import ops
from rlsv_fast.nn import ModulatedCosineDecoder, RepresentationModel, mel_frequencies

Array: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Components:
    """The decoder's basis, lowest frequency first.

    Attributes:
        basis: signals, shape (C, L).
        order: number of each of them in the model, shape (C,).
        frequencies: shape (C,), in Hz: those of the carriers, or of the spectral peaks where the
            kernels are free.
        carriers: cosines without modulator, shape (C, L), where there are any.
        modulators: shape (C, L), likewise.
        initial: frequencies of the carriers before training in Hz, shape (C,), likewise.
    """

    basis: Array
    order: npt.NDArray[np.int64]
    frequencies: Array
    carriers: Array | None = None
    modulators: Array | None = None
    initial: Array | None = None

    @property
    def carrier_frequencies(self) -> Array | None:
        """The frequencies where they are those of carriers, else None."""
        return None if self.carriers is None else self.frequencies


def sorted_components(model: RepresentationModel, sample_rate: int) -> Components:
    """Sort the basis by carrier, or by spectral peak if there are no carriers."""
    decoder = model.decoder
    with torch.inference_mode():
        basis = decoder.basis().double().cpu().numpy()
        if not isinstance(decoder, ModulatedCosineDecoder):
            peaks = np.abs(np.fft.rfft(basis, axis=-1)).argmax(axis=-1)
            order = np.argsort(peaks, kind="stable")
            return Components(basis[order], order, peaks[order] * sample_rate / basis.shape[-1])
        order = model.order().cpu().numpy()
        frequencies = decoder.carriers().double().cpu().numpy()[order] * sample_rate
        modulators = decoder.modulator.expand(decoder.components, decoder.kernel_size)
        cosines, _ = ops.modulated_cosines(
            decoder.frequency,
            decoder.phase,
            torch.ones_like(modulators[:1]),
            power=decoder.power,
            sort=False,
        )
        initial = mel_frequencies(decoder.components, sample_rate).double() ** decoder.power
    return Components(
        basis[order],
        order,
        frequencies,
        cosines.double().cpu().numpy()[order],
        modulators.detach().double().cpu().numpy()[order],
        initial.numpy() * sample_rate,
    )
