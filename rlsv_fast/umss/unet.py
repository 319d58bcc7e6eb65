"""The supervised baseline: a U-Net that masks a mixture for the voice of a given pitch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsv_fast import ops
from rlsv_fast.nn import Convention
from rlsv_fast.ops import _check
from rlsv_fast.umss.constant_q import BINS_PER_OCTAVE
from rlsv_fast.umss.decode import held_pitch, resample_tracks
from rlsv_fast.umss.hcqt import BINS, LOWEST
from rlsv_fast.umss.layers import evaluating
from rlsv_fast.umss.masks import soft_masks
from rlsv_fast.umss.separator import check_tracks

Conditioning: TypeAlias = Literal["one-hot", "harmonics"]

_NEAR = 4
"""Bins on either side of a pitch that its blur reaches."""
_KERNEL = 10
"""Frames that each convolution of the pitch sees."""


class BlurredPitch(nn.Module):
    """Scale and shift of every cell from the pitch's place on a grid of 20 cents.

    361 bins, the first for unvoiced frames, blurred by a Gaussian of one bin whose peak is 1;
    three convolutions over time with rectifiers, and a linear layer each for scale and shift.

    Args:
        bins: F, of the spectrogram.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        sizes = (BINS + 1, 16, 64, 256)
        self.layers = nn.ModuleList(
            nn.Conv1d(inputs, outputs, _KERNEL)
            for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.scale = nn.Linear(sizes[-1], bins)
        self.shift = nn.Linear(sizes[-1], bins)

    def forward(self, f0: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T) Hz to scale and shift, each (B, F, T)."""
        x = pitch_map(f0)
        for layer in self.layers:
            # one frame more on the right than on the left: the kernel is even
            x = layer(functional.pad(x, ((_KERNEL - 1) // 2, _KERNEL // 2))).relu()
        x = x.mT
        return self.scale(x).mT, self.shift(x).mT


def pitch_map(f0: Tensor) -> Tensor:
    """Where each pitch lies: the input of :class:`BlurredPitch`.

    Args:
        f0: in Hz, 0 where unvoiced, shape (B, T).

    Returns:
        Shape (B, 361, T): 1 at bin 0 if unvoiced, else at 1 + k for the frequency
        32.7 Hz 2^(k / 60) that is nearest (the last one for all above), falling off around it.
    """
    octaves = (f0.clamp(min=0) / LOWEST + 1e-8).log2()
    place = ((BINS_PER_OCTAVE * octaves).round() + 1).clamp(0, BINS)
    grid = torch.arange(BINS + 1, dtype=f0.dtype, device=f0.device)
    distance = (grid[:, None] - place.unsqueeze(1)).abs()
    return torch.where(distance <= _NEAR, (-distance.square() / 2).exp(), 0.0)


class HarmonicSpectrum(nn.Module):
    """Scale and shift of every cell from the spectrum of equal harmonics of the pitch.

    Each of the two is a linear layer, tanh, another layer and a rectifier; unvoiced frames are
    silent.

    Args:
        sample_rate: in Hz.
        n_fft: samples of a window.
        hop: samples from one frame to the next.
        harmonics: the most of them.
    """

    def __init__(self, *, sample_rate: int, n_fft: int, hop: int, harmonics: int = 101) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop = hop
        self.harmonics = harmonics
        bins = n_fft // 2 + 1
        self.scale, self.shift = (
            nn.Sequential(nn.Linear(bins, bins), nn.Tanh(), nn.Linear(bins, bins), nn.ReLU())
            for _ in range(2)
        )

    def magnitude(self, f0: Tensor) -> Tensor:
        """Map (B, T) Hz to magnitudes (B, F, T) of windows centred on where a frame's pitch is."""
        voiced = (f0 > 0).to(f0.dtype)
        signal, _ = ops.harmonic_bank(
            held_pitch(f0),
            voiced,
            hop=self.hop,
            sample_rate=self.sample_rate,
            harmonics=self.harmonics,
        )
        beyond = self.n_fft - self.hop
        padded = functional.pad(signal, (beyond // 2, beyond - beyond // 2))
        window = torch.hann_window(self.n_fft, dtype=f0.dtype, device=f0.device)
        return torch.stft(
            padded, self.n_fft, self.hop, window=window, center=False, return_complex=True
        ).abs()

    def forward(self, f0: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T) Hz to scale and shift, each (B, F, T)."""
        x = self.magnitude(f0).mT
        return self.scale(x).mT, self.shift(x).mT


class F0UNet(nn.Module):
    """A U-Net on magnitudes whose input is scaled and shifted by what the pitch of a voice says.

    Six halving convolutions and six doubling ones with the outputs of the former beside them, and
    a mask from 0 to 1 for the mixture. Its loss is the distance to the magnitude of the voice:
    unlike :class:`~rlsv_fast.umss.SourceFilterSeparator` it needs separate recordings. 10,319,171
    parameters, with ``"harmonics"`` 10,878,041.

    Args:
        conditioning: on the pitch as a place among 361 bins (``"one-hot"``, the original CU-Net),
            or on the spectrum of 101 equal ``"harmonics"``.
        convention: ``"paper"``: the encoder's rectifiers leak with slope 0.01, torch's own.
            ``"code"``: with slope 1, the identity, as ``LeakyReLU(True)`` has it.
        sample_rate: in Hz.
        n_fft: samples of a window, even.
        hop: samples from one window to the next, a divisor of n_fft.
        channels: of the six layers of the encoder.

    Reference:
        Petermann, Chandna, Cuesta, Bonada, Gómez, "Deep Learning Based Source Separation Applied to
        Choir Ensembles", ISMIR 2020; Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised
        Music Source Separation Using Differentiable Parametric Source Models", TASLP 2023.
    """

    def __init__(
        self,
        *,
        conditioning: Conditioning = "one-hot",
        convention: Convention = "paper",
        sample_rate: int = 16000,
        n_fft: int = 1024,
        hop: int = 256,
        channels: Sequence[int] = (16, 32, 64, 128, 256, 512),
    ) -> None:
        super().__init__()
        name = "F0UNet"
        _check.choice(name, "conditioning", conditioning, ("one-hot", "harmonics"))
        _check.choice(name, "convention", convention, ("paper", "code"))
        _check.integer(name, "sample_rate", sample_rate, 1)
        _check.integer(name, "n_fft", n_fft, 2)
        _check.integer(name, "hop", hop, 1)
        if n_fft % 2 or n_fft % hop or n_fft == hop:
            raise ValueError(
                f"{name}: n_fft must be even and at least twice the hop {hop}, a multiple of it, "
                f"got {n_fft}"
            )
        if len(channels) < 2:
            raise ValueError(f"{name}: channels must be of at least 2 layers, got {channels!r}")
        for count in channels:
            _check.integer(name, "channels", count, 1)
        self.convention = convention
        self.n_fft = n_fft
        self.hop = hop
        self.condition: nn.Module
        if conditioning == "one-hot":
            self.condition = BlurredPitch(n_fft // 2 + 1)
        else:
            self.condition = HarmonicSpectrum(sample_rate=sample_rate, n_fft=n_fft, hop=hop)
        self.slope = 0.01 if convention == "paper" else 1.0
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 5, stride=2, padding=2),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(self.slope),
            )
            for inputs, outputs in zip((1, *channels[:-1]), channels, strict=True)
        )
        self.doubling, self.decoder = nn.ModuleList(), nn.ModuleList()
        inputs = channels[-1]
        for number, outputs in enumerate(reversed(channels[:-1])):
            self.doubling.append(nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2))
            layers: list[nn.Module] = [nn.BatchNorm2d(outputs), nn.ReLU()]
            if number < 3:
                layers.append(nn.Dropout2d(0.5))
            self.decoder.append(nn.Sequential(*layers))
            inputs = 2 * outputs
        self.out = nn.ConvTranspose2d(inputs, 1, 5, stride=2, padding=2)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"n_fft={self.n_fft}, hop={self.hop}, convention={self.convention!r}"

    def forward(self, magnitude: Tensor, f0: Tensor) -> Tensor:
        """Mask the magnitude of a mixture for one voice.

        Args:
            magnitude: shape (B, F, T) with F = n_fft // 2 + 1.
            f0: of the voice at the centre of each frame, in Hz, 0 where unvoiced, shape (B, T).

        Returns:
            Shape (B, F, T): between 0 and the magnitude of the mixture.

        Raises:
            TypeError: an argument is not a floating tensor, or dtypes differ.
            ValueError: shapes or devices do not fit, or something is empty.
        """
        name = "F0UNet"
        magnitude = _check.floating(name, "magnitude", magnitude)
        f0 = _check.floating(name, "f0", f0)
        bins = self.n_fft // 2 + 1
        _check.shape(name, "magnitude", magnitude, f"(B, {bins}, T)", None, bins, None)
        items, _, frames = magnitude.shape
        _check.shape(name, "f0", f0, f"{(items, frames)} as magnitude", items, frames)
        _check.same_kind(name, "magnitude", magnitude, "f0", f0)
        if not f0.numel():
            raise ValueError(f"{name}: f0 must not be empty, got {tuple(f0.shape)}")
        scale, shift = self.condition(f0)
        least = torch.finfo(magnitude.dtype).tiny
        level = magnitude.amax((1, 2), keepdim=True).clamp(min=least)
        x = (magnitude / level * scale + shift).unsqueeze(1)
        inputs = []
        for layer in self.encoder:
            inputs.append(x)
            x = layer(x)
        for double, layer in zip(self.doubling, self.decoder, strict=True):
            beside = inputs.pop()
            x = torch.cat([layer(double(x, output_size=beside.shape[2:])), beside], 1)
        mask = self.out(x, output_size=magnitude.shape[1:]).sigmoid().squeeze(1)
        masked: Tensor = mask * magnitude
        return masked

    def spectrum(self, signal: Tensor) -> Tensor:
        """Short-time spectra, centred, with zeros behind the end until no window reaches past it.

        Args:
            signal: shape (B, N), N > 0.

        Returns:
            Complex, shape (B, F, T) with T = ceil(N / hop) + n_fft / hop; frame k is centred on
            sample k hop.

        Raises:
            TypeError: the signal is not a floating tensor.
            ValueError: another shape, or no samples.
        """
        name = "F0UNet"
        signal = _check.floating(name, "signal", signal)
        _check.shape(name, "signal", signal, "(B, N)", None, None)
        length = signal.shape[1]
        if not length:
            raise ValueError(f"{name}: signal must have samples, got {tuple(signal.shape)}")
        whole = -(-length // self.hop) * self.hop + self.n_fft - self.hop
        padded = functional.pad(signal, (0, whole - length))
        return torch.stft(
            padded, self.n_fft, self.hop, window=self._window(signal), return_complex=True
        )

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.n_fft, dtype=like.dtype, device=like.device)

    def _voices(self, cells: Tensor, f0: Tensor, frames: int) -> Tensor:
        """Magnitudes (B, V, F, T) of voices, of tracks over so many frames of the mixture."""
        items, voices = f0.shape[:2]
        tracks = resample_tracks(f0, frames)
        beyond = tracks[..., -1:].expand(items, voices, cells.shape[2] - frames)
        tracks = torch.cat([tracks, beyond], -1)  # the last windows begin in the last frame
        repeated = cells.abs().repeat_interleave(voices, 0)
        magnitudes: Tensor = self(repeated, tracks.flatten(0, 1))
        return magnitudes.reshape(items, voices, *magnitudes.shape[1:])

    def estimate(self, mixture: Tensor, f0: Tensor) -> Tensor:
        """Magnitude of one voice, for a loss with that of :meth:`spectrum` of the true one.

        Args:
            mixture: shape (B, N), N > 0.
            f0: of the voice in Hz, 0 where unvoiced, shape (B, T'), over the time of the mixture;
                resampled if T' is not ceil(N / hop).

        Returns:
            Shape (B, F, T), the frames of :meth:`spectrum`.

        Raises:
            TypeError: an argument is not a floating tensor, or dtypes differ.
            ValueError: shapes or devices do not fit, or something is empty.
        """
        f0 = _check.floating("F0UNet", "f0", f0)
        _check.shape("F0UNet", "f0", f0, "(B, T)", None, None)
        mixture, tracks = check_tracks("F0UNet", mixture, f0.unsqueeze(1))
        frames = -(-mixture.shape[1] // self.hop)
        return self._voices(self.spectrum(mixture), tracks, frames).squeeze(1)

    @torch.no_grad()
    def separate(self, mixture: Tensor, f0: Tensor) -> Tensor:
        """Share the mixture among the voices by their estimated magnitudes.

        Args:
            mixture: shape (B, N), N > 0.
            f0: of V voices in Hz, 0 where unvoiced, shape (B, V, T'), as for :meth:`estimate`.

        Returns:
            Shape (B, V, N), without gradients. The rule is that of
            :func:`~rlsv_fast.umss.soft_mask_separation`, with this module's windows.

        Raises:
            TypeError: as for :meth:`estimate`.
            ValueError: as for :meth:`estimate`.
        """
        mixture, f0 = check_tracks("F0UNet", mixture, f0)
        items, length = mixture.shape
        cells = self.spectrum(mixture)
        with evaluating(self):
            magnitudes = self._voices(cells, f0, -(-length // self.hop))
        separated = soft_masks(magnitudes) * cells.unsqueeze(1)
        signals = torch.istft(
            separated.flatten(0, 1),
            self.n_fft,
            self.hop,
            window=self._window(mixture),
            length=length,
        )
        return signals.reshape(items, -1, length)
