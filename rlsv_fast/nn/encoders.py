"""Encoders: a bank of analysis kernels, then a dilated convolution over neighbouring frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.nn.convolution import analyse, mix_context
from rlsv_fast.nn.initial import (
    CONVENTIONS,
    Convention,
    mel_frequencies,
    mel_grid,
    mel_to_hertz,
    uniform_kernels,
)
from rlsv_fast.nn.padding import frame_count, padding
from rlsv_fast.ops import _check

CONTEXT_TAPS = 5
CONTEXT_DILATION = 10


class Encoder(nn.Module):
    r"""Waveform to non-negative representation; subclasses say what the kernels are.

    .. math::
        h_{c,t} &= \sum_l K_{c,l} \, x_{S t + l - left} \\
        A_{c,t} &= \max\Bigl(0, h_{c,t} + \sum_{c',l'} K'_{c,c',l'} \, h_{c', t + 10 (l' - 2)}\Bigr)

    ``h`` has no rectifier of its own. Samples and frames beyond the ends are zero.

    Args:
        components: number of kernels C, the channels of the representation.
        kernel_size: taps L of a kernel.
        hop: step S between frames, in samples.
        convention: initial values of the papers or of their published code.

    Raises:
        ValueError: a size below 1 or an unknown convention.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020 (P2), equations 1 and 2, centred.
    """

    channel_axes: dict[str, tuple[int, ...]]
    """Axes that run over the representation's channels, by parameter name."""

    def __init__(
        self,
        components: int = 800,
        kernel_size: int = 2048,
        hop: int = 256,
        *,
        convention: Convention = "paper",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.components = _check.integer(name, "components", components, 1)
        self.kernel_size = _check.integer(name, "kernel_size", kernel_size, 1)
        self.hop = _check.integer(name, "hop", hop, 1)
        _check.choice(name, "convention", convention, CONVENTIONS)
        self.convention = convention

    def _add_context(self) -> None:
        self.context = nn.Parameter(
            uniform_kernels(
                self.components, self.components, CONTEXT_TAPS, convention=self.convention
            )
        )

    def basis(self) -> Tensor:
        """The analysis kernels, shape (C, L), in the order of the representation's channels."""
        raise NotImplementedError

    def forward(self, signal: Tensor) -> Tensor:
        """Encode waveforms.

        Args:
            signal: shape (B, N).

        Returns:
            The representation, shape (B, C, ceil(N / S)), non-negative. It lies in memory as
            (B, T, C).

        Raises:
            ValueError: not of shape (B, N), or a length that the kernels cannot cover.
        """
        if signal.dim() != 2:
            raise ValueError(f"encode: signal must have shape (B, N), got {tuple(signal.shape)}")
        samples = signal.shape[1]
        left, _ = padding(samples, self.kernel_size, self.hop)
        count = frame_count(samples, self.hop)
        hidden = analyse(signal, self.basis(), self.hop, left=left, count=count)
        mixed = mix_context(hidden, self.context, CONTEXT_DILATION)
        return torch.relu(mixed + hidden).transpose(1, 2)

    def extra_repr(self) -> str:
        """Sizes and convention, for ``print(model)``."""
        return (
            f"components={self.components}, kernel_size={self.kernel_size}, hop={self.hop}, "
            f"convention={self.convention!r}"
        )


class ConvEncoder(Encoder):
    """Encoder with free kernels, the one of both papers. Arguments as :class:`Encoder`.

    Kernels start uniform within sqrt(3 / C) ("paper") or sqrt(6 / fan_in) ("code").
    """

    channel_axes = {"kernels": (0,), "context": (0, 1)}

    def __init__(
        self,
        components: int = 800,
        kernel_size: int = 2048,
        hop: int = 256,
        *,
        convention: Convention = "paper",
    ) -> None:
        super().__init__(components, kernel_size, hop, convention=convention)
        self.kernels = nn.Parameter(
            uniform_kernels(self.components, self.kernel_size, convention=convention)
        )
        self._add_context()

    def basis(self) -> Tensor:
        """The analysis kernels, shape (C, L)."""
        return self.kernels


class CosineEncoder(Encoder):
    r"""Encoder with modulated cosines, cos(2 pi f^2 l + phi) b[l], as kernels.

    The published code orders the kernels by carrier at every call, so that its channels follow the
    carriers of the moment while the second convolution stays; ``convention="code"`` does so too,
    ``"paper"`` keeps every channel with its own carrier.

    Args:
        components: number of kernels C.
        kernel_size: taps L of a kernel.
        hop: step S between frames, in samples.
        shared_modulator: one modulator for all kernels instead of one each.
        sample_rate: in Hz; the carrier parameters start on the mel grid from 30 Hz to its half.
        convention: phases start at 0 ("paper") or standard normal ("code"); ordering as above.
    """

    def __init__(
        self,
        components: int = 800,
        kernel_size: int = 2048,
        hop: int = 256,
        *,
        shared_modulator: bool = False,
        sample_rate: float = 44100.0,
        convention: Convention = "paper",
    ) -> None:
        super().__init__(components, kernel_size, hop, convention=convention)
        self.frequency = nn.Parameter(mel_frequencies(self.components, sample_rate))
        draw = torch.zeros if convention == "paper" else torch.randn
        self.phase = nn.Parameter(draw(self.components))
        rows = 1 if shared_modulator else self.components
        self.modulator = nn.Parameter(torch.ones(rows, self.kernel_size))
        self._add_context()
        self.channel_axes = {"frequency": (0,), "phase": (0,), "context": (0, 1)}
        if not shared_modulator:
            self.channel_axes["modulator"] = (0,)

    def basis(self) -> Tensor:
        """The analysis kernels, shape (C, L)."""
        weights: Tensor = ops.modulated_cosines(
            self.frequency, self.phase, self.modulator, power=2, sort=self.convention == "code"
        )[0]
        return weights


class SincEncoder(Encoder):
    r"""Encoder with band-pass kernels after SincNet, differences of two sinc functions.

    .. math:: K_{c,l} = \frac{\sin(2 \pi f_{1,c} t_l) - \sin(2 \pi f_{2,c} t_l)}{\pi t_l} \, g_l,
        \quad t_l = l - \lfloor L / 2 \rfloor, \; t_{\lfloor L / 2 \rfloor} = 0.1

    This is 2 f sin(2 pi f t) / (2 pi f t) without the division by f, so it needs no small constant
    and holds at f = 0. At t = 0 the limit would be 2 (f1 - f2); the published code evaluates at
    0.1 instead, and so does this module, to give the same kernels. Each f2 stays with its f1: the
    published code mixes them up when it sorts.

    Args:
        components: number of kernels C.
        kernel_size: taps L of a kernel.
        hop: step S between frames, in samples.
        sample_rate: in Hz; ``low`` starts on the mel grid from 80 Hz to its half, ``high`` a
            standard normal step in mel away from it.
        convention: initial values of the second convolution, as :class:`Encoder`.
    """

    channel_axes = {"low": (0,), "high": (0,), "context": (0, 1)}

    def __init__(
        self,
        components: int = 800,
        kernel_size: int = 2048,
        hop: int = 256,
        *,
        sample_rate: float = 44100.0,
        convention: Convention = "paper",
    ) -> None:
        super().__init__(components, kernel_size, hop, convention=convention)
        dtype = torch.get_default_dtype()
        grid = mel_grid(self.components, sample_rate, low=80.0)
        high = mel_to_hertz(grid + torch.randn(self.components)) / sample_rate
        self.low = nn.Parameter(mel_frequencies(self.components, sample_rate, low=80.0))
        self.high = nn.Parameter(high.to(dtype))
        self.modulator = nn.Parameter(torch.ones(1, self.kernel_size))
        self._add_context()

    def basis(self) -> Tensor:
        """The analysis kernels, shape (C, L)."""
        centre = self.kernel_size // 2
        time = torch.arange(self.kernel_size, device=self.low.device, dtype=torch.float64) - centre
        time = torch.where(time == 0, 0.1, time)
        difference = self._sine(self.low, time) - self._sine(self.high, time)
        return difference / (math.pi * time).to(difference.dtype) * self.modulator

    @staticmethod
    def _sine(frequency: Tensor, time: Tensor) -> Tensor:
        # Hundreds of turns: reduced in float64, the sine keeps float32 accuracy at any tap.
        turns = frequency.double().unsqueeze(1) * time
        turns = turns - turns.detach().round()
        return torch.sin(2 * math.pi * turns.to(frequency.dtype))
