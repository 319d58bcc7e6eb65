"""The separator that learns from mixtures alone: it synthesises voices whose sum is the mixture."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, TypedDict

import torch
from torch import Tensor, nn

from rlsv_fast.nn import Convention
from rlsv_fast.ops import _check
from rlsv_fast.umss.decode import held_pitch, resample_tracks
from rlsv_fast.umss.encoder import MixtureEncoder
from rlsv_fast.umss.layers import evaluating
from rlsv_fast.umss.masks import FITTED_UPDATES, soft_mask_separation
from rlsv_fast.umss.parameter_decoder import ParameterDecoder
from rlsv_fast.umss.synthesis import SourceFilterSynthesizer, VoiceParameters

RollOff: TypeAlias = float | Literal["frame", "excerpt"]
SynthesisLevels: TypeAlias = Literal["synthesised", "fitted"]
LEVELS = ("synthesised", "fitted")

_MASK_FFT = 2048


class MaskOptions(TypedDict):
    """What levels mean for masks."""

    power: float
    level_updates: int


class Synthesis(NamedTuple):
    """What :class:`SourceFilterSeparator` makes of a mixture."""

    mixture: Tensor
    """(B, N), the sum of the sources: what a loss compares with the true mixture"""
    sources: Tensor
    """(B, V, N)"""
    parameters: VoiceParameters
    """as decoded, of B V signals: voice v of item b is number b V + v"""


class SourceFilterSeparator(nn.Module):
    """An encoder of the mixture, a decoder of each voice's parameters and a synthesiser.

    Trained so that the sum of the voices resembles the mixture, it needs no separate recordings:
    the pitch tracks tell the voices apart. 5,573,961 parameters with a constant roll-off.

    Args:
        sample_rate: in Hz.
        hop: samples from one frame to the next; frames of the encoder have twice as many.
        harmonics: the most of them.
        roll_off: of the glottal source above 200 Hz: so many dB an octave, or decoded for each
            ``"frame"`` or whole ``"excerpt"``.
        order: of the all-pole filter.
        noise_bins: of the response of the filter of the noise.
        encoder_hidden: units of each recurrent layer of the encoder.
        embedding: values that it gives to each frame.
        decoder_hidden: units of each layer of the decoder.
        levels: of the voices in the masks: as they were ``"synthesised"``, masks being ratios of
            magnitudes, as published; or ``"fitted"``: each voice has the level in each window that
            explains the mixture best, and masks are ratios of powers.
        convention: of frames of 0 Hz. ``"paper"``: an unvoiced frame has no harmonics, whatever
            their decoded amplitude, and its pitch is taken from the nearest voiced frame, so that
            no voice glides to 0 Hz while it fades. ``"code"``, where frames count as voiced
            throughout: 0 Hz is raised to 1e-5 Hz, for the decoder too, before tracks are resampled;
            voices do glide, and in unvoiced frames the harmonics stand still, a constant offset
            that the decoder must learn to turn down. Where every frame is voiced and tracks have
            as many frames as the mixture, the two are one.

    Reference:
        Schulze-Forster, Richard, Kelley, Doire, Badeau, "Unsupervised Music Source Separation Using
        Differentiable Parametric Source Models", TASLP 2023.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        hop: int = 256,
        harmonics: int = 101,
        roll_off: RollOff = 6.0,
        order: int = 20,
        noise_bins: int = 40,
        encoder_hidden: int = 256,
        embedding: int = 128,
        decoder_hidden: int = 512,
        levels: SynthesisLevels = "synthesised",
        convention: Convention = "paper",
    ) -> None:
        super().__init__()
        name = "SourceFilterSeparator"
        _check.choice(name, "levels", levels, LEVELS)
        _check.choice(name, "convention", convention, ("paper", "code"))
        decoded: Literal["frame", "excerpt"] | None = None
        constant = 0.0
        if isinstance(roll_off, str):
            _check.choice(name, "roll_off", roll_off, ("frame", "excerpt"))
            decoded = roll_off
        else:
            constant = _check.real(name, "roll_off", roll_off)
        self.convention = convention
        self.levels: SynthesisLevels = levels
        self.hop = _check.integer(name, "hop", hop, 1)
        self.encoder = MixtureEncoder(
            frame=2 * hop, hop=hop, hidden=encoder_hidden, embedding=embedding
        )
        self.decoder = ParameterDecoder(
            embedding=embedding,
            hidden=decoder_hidden,
            order=order,
            noise_bins=noise_bins,
            roll_off=decoded,
        )
        self.synthesizer = SourceFilterSynthesizer(
            sample_rate=sample_rate, hop=hop, harmonics=harmonics, roll_off=constant
        )

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"hop={self.hop}, convention={self.convention!r}"

    def pitch(self, f0: Tensor) -> Tensor:
        """What the harmonics follow, also where a voice is unvoiced: (..., T) Hz for (..., T)."""
        return held_pitch(f0) if self.convention == "paper" else f0.clamp_min(1e-5)

    def forward(
        self,
        mixture: Tensor,
        f0: Tensor,
        *,
        initial_phase: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Synthesis:
        """Synthesise the voices of a mixture.

        Args:
            mixture: shape (B, N), N > 0.
            f0: of V voices in Hz, 0 where unvoiced, shape (B, V, T), over the time of the mixture;
                if T is not ceil(N / hop), the tracks are resampled to that.
            initial_phase: of each voice's fundamental before the first sample, in radians, shape
                (B, V); 0 without it.
            generator: of the noise, on the device of the mixture.

        Returns:
            The voices, their sum and their parameters.

        Raises:
            TypeError: an argument is not a floating tensor, or dtypes differ.
            ValueError: shapes or devices do not fit, or something is empty.
        """
        mixture, f0 = check_tracks("SourceFilterSeparator", mixture, f0)
        items, length = mixture.shape
        voices = f0.shape[1]
        f0 = resample_tracks(f0, -(-length // self.hop), convention=self.convention)
        parameters, roll_off = self.decoder(self.encoder(mixture), f0)
        # under autocast the networks alone compute in half precision
        parameters = VoiceParameters(*(x.to(mixture.dtype) for x in parameters))
        roll_off = None if roll_off is None else roll_off.to(mixture.dtype)
        pitch, sounding = f0.flatten(0, 1), parameters
        if self.convention == "paper":
            amplitude = parameters.harmonic_amplitude.masked_fill(pitch <= 0, -torch.inf)
            sounding = parameters._replace(harmonic_amplitude=amplitude)
        with torch.autocast(mixture.device.type, enabled=False):
            signals = self.synthesizer(
                self.pitch(pitch),
                sounding,
                roll_off=roll_off,
                initial_phase=None if initial_phase is None else initial_phase.flatten(),
                generator=generator,
            )
        sources = signals[:, :length].reshape(items, voices, length)
        return Synthesis(sources.sum(1), sources, parameters)

    @torch.no_grad()
    def separate(
        self, mixture: Tensor, f0: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Share the mixture among the voices by the magnitudes of their synthesis.

        Args:
            mixture: shape (B, N), N > 1024.
            f0: as for the call.
            generator: of the noise.

        Returns:
            Shape (B, V, N), without gradients: see :func:`~rlsv_fast.umss.soft_mask_separation`.

        Raises:
            TypeError: as for the call.
            ValueError: as for the call, or fewer samples.
        """
        with evaluating(self):
            sources = self(mixture, f0, generator=generator).sources
        return soft_mask_separation(
            mixture, sources, n_fft=_MASK_FFT, hop=self.hop, **self.mask_options
        )

    @property
    def mask_options(self) -> MaskOptions:
        """Arguments of :func:`~rlsv_fast.umss.soft_mask_separation` for these levels."""
        if self.levels == "fitted":
            return {"power": 2.0, "level_updates": FITTED_UPDATES}
        return {"power": 1.0, "level_updates": 0}


def check_tracks(module: str, mixture: Tensor, f0: Tensor) -> tuple[Tensor, Tensor]:
    """Check a mixture (B, N) and tracks (B, V, T) of its voices; half types are upcast.

    Raises:
        TypeError: one of them is not a floating tensor, or dtypes differ.
        ValueError: shapes or devices do not fit, or there are no samples, voices or frames.
    """
    mixture = _check.floating(module, "mixture", mixture)
    f0 = _check.floating(module, "f0", f0)
    _check.shape(module, "mixture", mixture, "(B, N)", None, None)
    items = mixture.shape[0]
    _check.shape(module, "f0", f0, f"({items}, V, T) as mixture", items, None, None)
    _check.same_kind(module, "mixture", mixture, "f0", f0)
    for name, tensor in (("mixture", mixture), ("f0", f0)):
        if not tensor.numel():
            raise ValueError(f"{module}: {name} must not be empty, got {tuple(tensor.shape)}")
    return mixture, f0
