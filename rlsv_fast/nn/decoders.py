"""Decoders: every frame adds its components' kernels to the waveform."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.nn.convolution import synthesise
from rlsv_fast.nn.initial import CONVENTIONS, Convention, mel_frequencies
from rlsv_fast.nn.padding import frame_count, padding
from rlsv_fast.ops import _check


class Decoder(nn.Module):
    r"""Representation to waveform; subclasses say what the kernels are.

    .. math:: \hat{x}_n = \sum_{c,t} A_{c,t} \, W_{c, \, n + left - S t}

    Args:
        components: number of kernels C, the channels of the representation.
        kernel_size: taps L of a kernel.
        hop: step S between frames, in samples.

    Raises:
        ValueError: a size below 1.

    Reference:
        Mimilakis, Drossos, Schuller, "Unsupervised Interpretable Representation Learning for
        Singing Voice Separation", EUSIPCO 2020 (P1), section 2.
    """

    channel_axes: dict[str, tuple[int, ...]]
    """Axes that run over the representation's channels, by parameter name."""

    def __init__(self, components: int = 800, kernel_size: int = 2048, hop: int = 256) -> None:
        super().__init__()
        name = type(self).__name__
        self.components = _check.integer(name, "components", components, 1)
        self.kernel_size = _check.integer(name, "kernel_size", kernel_size, 1)
        self.hop = _check.integer(name, "hop", hop, 1)

    def basis(self) -> Tensor:
        """The synthesis kernels, shape (C, L), in the order of the representation's channels."""
        raise NotImplementedError

    def carriers(self) -> Tensor | None:
        """Carrier of every channel in cycles per sample, shape (C,); None where kernels are free.

        Times the sampling rate they are in Hz. They can be negative for a linear carrier.
        """
        return None

    def forward(
        self, representation: Tensor, length: int | None = None, basis: Tensor | None = None
    ) -> Tensor:
        """Decode representations.

        Args:
            representation: shape (B, C, T).
            length: number of samples N with ceil(N / S) = T; T S by default.
            basis: what ``basis()`` gave, to save computing it once more.

        Returns:
            Waveforms, shape (B, N).

        Raises:
            ValueError: a shape or length does not fit.
        """
        if representation.dim() != 3 or representation.shape[1] != self.components:
            raise ValueError(
                f"decode: representation must have shape (B, C, T) with C = {self.components}, "
                f"got {tuple(representation.shape)}"
            )
        count = representation.shape[2]
        samples = count * self.hop if length is None else length
        left, _ = padding(samples, self.kernel_size, self.hop)
        if frame_count(samples, self.hop) != count:
            raise ValueError(
                f"decode: length {samples} has {frame_count(samples, self.hop)} frames at hop "
                f"{self.hop}, but representation has {count}"
            )
        kernels = self.basis() if basis is None else basis
        if kernels.shape != (self.components, self.kernel_size):
            raise ValueError(
                f"decode: basis must have shape ({self.components}, {self.kernel_size}), "
                f"got {tuple(kernels.shape)}"
            )
        return synthesise(
            representation.transpose(1, 2), kernels, self.hop, left=left, length=samples
        )

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"components={self.components}, kernel_size={self.kernel_size}, hop={self.hop}"


class ModulatedCosineDecoder(Decoder):
    r"""Decoder whose kernels are amplitude-modulated cosines, cos(2 pi f^p l + phi) b[l].

    Sorting the kernels together with the channels of the representation, as the published code
    does at every call, changes nothing, so it is not done here: ``RepresentationModel.basis``
    sorts for the eye, ``sort_components`` sorts the model.

    Args:
        components: number of kernels C.
        kernel_size: taps L of a kernel.
        hop: step S between frames, in samples.
        power: exponent p of the carrier parameter, 1 or 2.
        modulator: ``"component"``: one learnt modulator each (the papers' "mod-cos");
            ``"shared"``: one learnt modulator for all (the published code's "cos");
            ``"none"``: the constant 1 / (C + L) (P1's "cos").
        sample_rate: in Hz; the carrier parameters start on the mel grid from 30 Hz to its half.
        convention: phases start at 0 ("paper") or standard normal ("code").

    Raises:
        ValueError: a size below 1 or an unknown choice.
    """

    modulator: Tensor

    def __init__(
        self,
        components: int = 800,
        kernel_size: int = 2048,
        hop: int = 256,
        *,
        power: Literal[1, 2] = 2,
        modulator: Literal["component", "shared", "none"] = "component",
        sample_rate: float = 44100.0,
        convention: Convention = "paper",
    ) -> None:
        super().__init__(components, kernel_size, hop)
        name = type(self).__name__
        _check.choice(name, "power", power, (1, 2))
        _check.choice(name, "modulator", modulator, ("component", "shared", "none"))
        _check.choice(name, "convention", convention, CONVENTIONS)
        self.power = power
        self.modulation = modulator
        self.convention = convention
        self.frequency = nn.Parameter(mel_frequencies(self.components, sample_rate))
        draw = torch.zeros if convention == "paper" else torch.randn
        self.phase = nn.Parameter(draw(self.components))
        rows = self.components if modulator == "component" else 1
        scale = torch.full((rows, self.kernel_size), 1.0 / (self.components + self.kernel_size))
        if modulator == "none":
            self.register_buffer("modulator", scale, persistent=False)
        else:
            self.modulator = nn.Parameter(scale)
        self.channel_axes = {"frequency": (0,), "phase": (0,)}
        if modulator == "component":
            self.channel_axes["modulator"] = (0,)

    def basis(self) -> Tensor:
        """The synthesis kernels, shape (C, L), in the order of the representation's channels."""
        weights: Tensor = ops.modulated_cosines(
            self.frequency, self.phase, self.modulator, power=self.power, sort=False
        )[0]
        return weights

    def carriers(self) -> Tensor:
        """Carrier f^p of every channel in cycles per sample, shape (C,)."""
        return self.frequency.detach() ** self.power

    def extra_repr(self) -> str:
        """Sizes and choices, for ``print(model)``."""
        return (
            f"{super().extra_repr()}, power={self.power}, modulator={self.modulation!r}, "
            f"convention={self.convention!r}"
        )


class ConvDecoder(Decoder):
    """Decoder with free kernels, as a transposed convolution.

    Args:
        components: number of kernels C.
        kernel_size: taps L of a kernel.
        hop: step S between frames, in samples.
        tanh: squash the output to (-1, 1), as the published code always does; P1 has both.
    """

    channel_axes = {"kernels": (0,)}

    def __init__(
        self,
        components: int = 800,
        kernel_size: int = 2048,
        hop: int = 256,
        *,
        tanh: bool = False,
    ) -> None:
        super().__init__(components, kernel_size, hop)
        self.tanh = tanh
        bound = self.kernel_size**-0.5  # that of torch.nn.ConvTranspose1d
        self.kernels = nn.Parameter(
            torch.empty(self.components, self.kernel_size).uniform_(-bound, bound)
        )

    def basis(self) -> Tensor:
        """The synthesis kernels, shape (C, L)."""
        return self.kernels

    def forward(
        self, representation: Tensor, length: int | None = None, basis: Tensor | None = None
    ) -> Tensor:
        """Decode representations; see :meth:`Decoder.forward`."""
        signal = super().forward(representation, length, basis)
        return torch.tanh(signal) if self.tanh else signal

    def extra_repr(self) -> str:
        """Sizes and choices, for ``print(model)``."""
        return f"{super().extra_repr()}, tanh={self.tanh}"
