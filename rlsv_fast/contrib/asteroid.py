"""The papers' encoder and decoder as filterbanks of asteroid-filterbanks.

.. code-block:: python

    from asteroid_filterbanks import make_enc_dec
    from rlsv_fast.contrib import asteroid  # registers the filterbank by its name

    encoder, decoder = make_enc_dec(
        "ModulatedCosineFB", n_filters=800, kernel_size=2048, stride=256, sample_rate=44100
    )

That package pads nothing: T = floor((N - L) / S) + 1 frames, and (T - 1) S + L samples come back,
where :class:`rlsv_fast.nn.RepresentationModel` gives ceil(N / S) frames and N samples.
:class:`EncoderFB` keeps the model's padding; ``Decoder(bank, padding=left)(spec, length=N)`` with
``left, _ = rlsv_fast.nn.padding(N, L, S)`` takes it off again.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from rlsv_fast.errors import require
from rlsv_fast.nn import Convention, Encoder, ModulatedCosineDecoder, padding
from rlsv_fast.nn.convolution import mix_context
from rlsv_fast.nn.encoders import CONTEXT_DILATION

_package: Any = require(
    "asteroid_filterbanks", extra="asteroid", purpose="use rlsv_fast.contrib.asteroid"
)


class ModulatedCosineFB(_package.Filterbank):  # type: ignore[misc]
    """Amplitude-modulated cosines, learnt; what an encoder makes of them is rectified.

    The parameters are those of ``decoder``, a :class:`rlsv_fast.nn.ModulatedCosineDecoder`, and so
    are their initial values: carriers on the mel grid up to half the sample rate, modulators of
    1 / (C + L). Rows stay with their carriers; ``decoder.carriers()`` has those.

    Args:
        n_filters: number of filters C.
        kernel_size: taps L.
        stride: step S between frames, half the kernel size by default.
        sample_rate: in Hz. asteroid-filterbanks' default of 8000 is seldom what music has.
        power: exponent of the carrier parameter, 1 or 2.
        modulator: one per filter (``"component"``), one for all (``"shared"``), or ``"none"``.
        convention: phases start at 0 (``"paper"``) or standard normal (``"code"``).

    Raises:
        ValueError: a size below 1 or an unknown choice.
    """

    def __init__(
        self,
        n_filters: int,
        kernel_size: int,
        stride: int | None = None,
        sample_rate: float = 8000.0,
        *,
        power: Literal[1, 2] = 2,
        modulator: Literal["component", "shared", "none"] = "component",
        convention: Convention = "paper",
    ) -> None:
        super().__init__(n_filters, kernel_size, stride=stride, sample_rate=sample_rate)
        self.decoder = ModulatedCosineDecoder(
            n_filters,
            kernel_size,
            self.stride,
            power=power,
            modulator=modulator,
            sample_rate=sample_rate,
            convention=convention,
        )

    @classmethod
    def of(cls, decoder: ModulatedCosineDecoder, sample_rate: float) -> ModulatedCosineFB:
        """The filterbank of a (trained) decoder, whose parameters it shares."""
        sizes = (decoder.components, decoder.kernel_size, decoder.hop)
        bank = cls(
            *sizes,
            sample_rate,
            power=decoder.power,
            modulator=decoder.modulation,
            convention=decoder.convention,
        )
        bank.decoder = decoder
        return bank

    def filters(self) -> Tensor:
        """The filters, shape (C, 1, L)."""
        return self.decoder.basis().unsqueeze(1)

    def post_analysis(self, spec: Tensor) -> Tensor:
        """Rectify: a representation is non-negative."""
        return torch.relu(spec)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make such a filterbank again."""
        config: dict[str, Any] = super().get_config()
        decoder = self.decoder
        return config | {
            "power": decoder.power,
            "modulator": decoder.modulation,
            "convention": decoder.convention,
        }


class EncoderFB(_package.Filterbank):  # type: ignore[misc]
    """A whole encoder of this library: padding, kernels, convolution over frames, rectifier.

    ``asteroid_filterbanks.Encoder(EncoderFB(model.encoder, 44100))(signal)`` of shape (B, 1, N) is
    ``model.encode(signal[:, 0])``, shape (B, C, ceil(N / S)). It shares the encoder's parameters,
    is made from an encoder rather than from numbers, and so is not for ``make_enc_dec``.

    Args:
        encoder: a (trained) encoder, such as ``model.encoder``.
        sample_rate: in Hz.
    """

    def __init__(self, encoder: Encoder, sample_rate: float) -> None:
        super().__init__(
            encoder.components, encoder.kernel_size, stride=encoder.hop, sample_rate=sample_rate
        )
        self.encoder = encoder

    def filters(self) -> Tensor:
        """The kernels of the first layer, shape (C, 1, L)."""
        return self.encoder.basis().unsqueeze(1)

    def pre_analysis(self, wav: Tensor) -> Tensor:
        """Add the model's zeros at both ends."""
        return functional.pad(wav, padding(wav.shape[-1], self.kernel_size, self.stride))

    def post_analysis(self, spec: Tensor) -> Tensor:
        """The second layer, and the rectifier."""
        hidden = spec.flatten(0, -3).transpose(1, 2)
        mixed = mix_context(hidden, self.encoder.context, CONTEXT_DILATION)
        return torch.relu(mixed + hidden).transpose(1, 2).reshape(spec.shape)


if not hasattr(_package, ModulatedCosineFB.__name__):  # also after a second import of this module
    _package.register_filterbank(ModulatedCosineFB)
