"""The objective of one training step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rlsv_fast.nn import RepresentationModel
from rlsv_fast.training.build import Losses
from rlsv_fast.training.config import Config


class StepLosses(NamedTuple):
    """Scalars: what is minimised, and its two terms (the second before weighting)."""

    total: Tensor
    reconstruction: Tensor
    representation: Tensor


def training_losses(
    model: RepresentationModel,
    losses: Losses,
    voice: Tensor,
    accompaniment: Tensor,
    noise_generator: Generator,
    config: Config,
) -> StepLosses:
    r"""Compute the objective of a batch.

    .. math::
        \tilde x_m = x_v + x_{ac}, \quad \tilde x_v = x_v + \sigma n, \quad
        A_v = E(\tilde x_v), \quad A_m = E(\tilde x_m)

        \mathcal{L} = \text{neg-SNR}(x_v, D(A_v)) + \omega \, \mathcal{L}_A(A_m)

    Voice and mixture go through the encoder as one batch, and the decoder's kernels are generated
    once. The published code also subtracts from voice and mixture their means over the whole
    batch; so does ``convention = "code"``.

    Args:
        model: encoder and decoder.
        losses: from :func:`rlsv_fast.training.build_losses`.
        voice: x_v, shape (B, N).
        accompaniment: x_ac, shape (B, N), of unrelated segments.
        noise_generator: of the noise n, on the device of the voice.
        config: settings; of them ``convention``, ``training.noise``, ``loss.weight`` and
            ``loss.computed_on``.

    Returns:
        Total, reconstruction and representation loss.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, sections 2 and 3.
    """
    on_mixture = losses.representation is not None and config.loss.computed_on == "mixture"
    mixture = voice + accompaniment if on_mixture else None
    if config.convention == "code":
        voice = voice - voice.mean()
        mixture = None if mixture is None else mixture - mixture.mean()
    noise = torch.randn(
        voice.shape, generator=noise_generator, device=voice.device, dtype=voice.dtype
    )
    noisy = torch.add(voice, noise, alpha=config.training.noise)
    if mixture is None:
        of_voice = regularised = model.encode(noisy)
    else:
        # chunk, not two slices: its backward is one concatenation, theirs two padded sums; frames
        # first, as they lie in memory
        halves = model.encode(torch.cat([noisy, mixture])).transpose(1, 2).chunk(2)
        of_voice, regularised = (half.transpose(1, 2) for half in halves)
    estimate = model.decode(of_voice, length=voice.shape[-1])
    reconstruction = losses.reconstruction(estimate, voice)
    representation = losses.represent(regularised, model)
    total = torch.add(reconstruction, representation, alpha=config.loss.weight)
    return StepLosses(total, reconstruction, representation)
