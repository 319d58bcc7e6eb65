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

    Voice and mixture go through the encoder as one batch, and the decoder's kernels are generated
    once. The published code also subtracts from voice and mixture their means over the whole
    batch; so does ``convention = "code"``. With ``training.precision = "bfloat16"`` encoder and
    decoder run under autocast; the losses always take float32.

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
        # row by row: one sum over everything depends on the number of threads
        voice = voice - voice.mean(1).mean()
        mixture = None if mixture is None else mixture - mixture.mean(1).mean()
    noisy = torch.add(voice, noise, alpha=config.training.noise)
    signal = noisy if mixture is None else torch.cat([noisy, mixture])
    _ended("data", mark)
    with autocast(config, voice.device):
        encoded = model.encode(signal)
        _ended("encoder", mark, encoded, before="decoder")
        of_voice, regularised = (encoded, encoded) if mixture is None else _halves(encoded)
        estimate = model.decode(of_voice, length=voice.shape[-1])
        _ended("decoder", mark, estimate, before="losses")
    reconstruction = losses.reconstruction(estimate.float(), voice)
    representation = losses.represent(regularised.float(), model)
    total = torch.add(reconstruction, representation, alpha=config.loss.weight)
    _ended("losses", mark)
    return StepLosses(total, reconstruction, representation)


def _halves(representation: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of a batch, in frames as they lie in memory.

    The backward pass of a chunk is one concatenation, where that of two slices is two padded sums;
    frames first, it writes what the encoder goes on with.
    """
    first, second = representation.transpose(1, 2).chunk(2)
    return first.transpose(1, 2), second.transpose(1, 2)


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
