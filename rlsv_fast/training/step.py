"""The objective of one training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rlsv_fast.nn import RepresentationModel
from rlsv_fast.training.build import Losses
from rlsv_fast.training.config import Config
from rlsv_fast.training.precision import autocast

Mark: TypeAlias = Callable[[str], None]


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
    noise: Tensor,
    config: Config,
    mark: Mark | None = None,
) -> StepLosses:
    r"""Compute the objective of a batch.

    .. math::
        \tilde x_m = x_v + x_{ac}, \quad \tilde x_v = x_v + \sigma n, \quad
        A_v = E(\tilde x_v), \quad A_m = E(\tilde x_m)

        \mathcal{L} = \text{neg-SNR}(x_v, D(A_v)) + \omega \, \mathcal{L}_A(A_m)

    A model with a discriminator (``loss.discriminator``) also encodes the accompaniment, and its
    cross-entropy is added to the total. The published code makes a second optimiser step of that,
    on a graph whose weights the first has changed; here both are one step.

    Voice and mixture go through the encoder as one batch, and the decoder's kernels are generated
    once. The published code also subtracts from voice and mixture their means over the whole
    batch; so does ``convention = "code"``. With ``training.precision = "bfloat16"`` encoder and
    decoder run under autocast; the losses take the waveforms' own type.

    Args:
        model: encoder and decoder.
        losses: from :func:`rlsv_fast.training.build_losses`.
        voice: x_v, shape (B, N).
        accompaniment: x_ac, shape (B, N), of unrelated segments.
        noise: n, standard normal, shape (B, N).
        config: settings; of them ``convention``, ``training.noise``, ``training.precision``,
            ``loss.weight`` and ``loss.computed_on``.
        mark: called with "data", "encoder", "decoder" and "losses" at the end of each such part,
            in the forward and, but for the encoder's, in the backward pass.

    Returns:
        Total, reconstruction and representation loss.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, sections 2 and 3.
    """
    on_mixture = losses.representation is not None and config.loss.computed_on == "mixture"
    mixture = voice + accompaniment if on_mixture else None
    if config.convention == "code":
        voice = losses.centre(voice)
        mixture = None if mixture is None else losses.centre(mixture)
    discriminator = getattr(model, "discriminator", None)
    noisy = torch.add(voice, noise, alpha=config.training.noise)
    signals = [noisy] if mixture is None else [noisy, mixture]
    if discriminator is not None:
        signals.append(accompaniment)
    signal = noisy if len(signals) == 1 else torch.cat(signals)
    _ended("data", mark)
    with autocast(config.training.precision, voice.device):
        encoded = model.encode(signal)
        _ended("encoder", mark, encoded, before="decoder")
        parts = _parts(encoded, len(signals))
        of_voice, regularised = parts[0], parts[0 if mixture is None else 1]
        estimate = model.decode(of_voice, length=voice.shape[-1])
        _ended("decoder", mark, estimate, before="losses")
    reconstruction = losses.reconstruct(estimate.to(voice.dtype), voice)
    representation = losses.represent(regularised.to(voice.dtype), model)
    total = torch.add(reconstruction, representation, alpha=config.loss.weight)
    if discriminator is not None:
        pairs = (of_voice.to(voice.dtype), parts[-1].to(voice.dtype))
        judged = losses.discriminate(*pairs, voice, discriminator)
        total = torch.add(total, judged, alpha=config.loss.discriminator)
    _ended("losses", mark)
    return StepLosses(total, reconstruction, representation)


def _parts(representation: Tensor, count: int) -> tuple[Tensor, ...]:
    """Equal parts of a batch, in frames as they lie in memory.

    The backward pass of a chunk is one concatenation, where that of slices is a sum of padded ones;
    frames first, it writes what the encoder goes on with.
    """
    if count == 1:
        return (representation,)
    return tuple(part.transpose(1, 2) for part in representation.transpose(1, 2).chunk(count))


def _ended(part: str, mark: Mark | None, output: Tensor | None = None, before: str = "") -> None:
    """Mark the end of a part, and of the one whose backward pass comes ``before`` its own.

    The gradient of a part's output is whole when everything after it has been differentiated:
    autograd takes the operations in the reverse of the order in which they ran.
    """
    if mark is None:
        return
    mark(part)
    if output is not None:

        def differentiated(_: Tensor) -> None:
            mark(before)

        output.register_hook(differentiated)  # type: ignore[no-untyped-call]
