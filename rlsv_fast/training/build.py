"""From settings to modules."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlsv_fast import nn
from rlsv_fast.training.config import Config

_ACTIVE_ENERGY = 0.01
"""Of a segment with singing, in the published code, from which the discriminator comes."""


@dataclass(frozen=True)
class Losses:
    """The two terms of the objective.

    Attributes:
        reconstruction: of (estimate, target), each (B, N).
        representation: of a representation (B, C, T); None where its weight is 0.
        sort: whether components are neighbours by carrier rather than by number.
    """

    reconstruction: nn.NegSNRLoss
    representation: nn.TotalVariationLoss | nn.SinkhornLoss | None

    sort: bool

    def centre(self, signal: Tensor) -> Tensor:
        """Waveforms (B, N) without their mean over the whole batch, as the published code's."""
        # row by row: one sum over everything depends on the number of threads
        return signal - signal.mean(1).mean()

    def reconstruct(self, estimate: Tensor, target: Tensor) -> Tensor:
        """The reconstruction loss of waveforms (B, N)."""
        loss: Tensor = self.reconstruction(estimate, target)
        return loss

    def discriminate(
        self,
        of_voice: Tensor,
        of_accompaniment: Tensor,
        voice: Tensor,
        discriminator: nn.Discriminator,
    ) -> Tensor:
        """The discriminator's cross-entropy on the segments of a batch with singing.

        Each is paired with its neighbour in the batch, whose order is random, and with an
        accompaniment. Without more than two such segments the loss is zero, as in the published
        code. Nothing depends on values of the device, so that no host waits.

        Args:
            of_voice: A_v, shape (B, C, T).
            of_accompaniment: A_ac, same shape.
            voice: waveforms (B, N).
            discriminator: judges the pairs.
        """
        active = voice.square().sum(-1) > _ACTIVE_ENERGY
        of_other, other_active = of_voice.roll(1, 0), active.roll(1, 0)
        loss = discriminator.loss(
            discriminator(of_voice, of_other),
            discriminator(of_voice, of_accompaniment),
            positive_weight=(active & other_active).to(of_voice.dtype),
            negative_weight=active.to(of_voice.dtype),
        )
        return torch.where(active.sum() > 2, loss, 0)

    def represent(self, representation: Tensor, model: nn.RepresentationModel) -> Tensor:
        """The representation loss, zero where there is none."""
        if self.representation is None:
            return representation.new_zeros(())
        loss: Tensor
        if isinstance(self.representation, nn.TotalVariationLoss):
            # the same training as with kernels sorted after each update, and nothing to move
            loss = self.representation(representation, model.order() if self.sort else None)
        else:
            loss = self.representation(representation)
        return loss


def build_model(config: Config) -> nn.RepresentationModel:
    """Build the untrained model; its weights depend on the settings alone (``training.seed``)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = nn.RepresentationModel(_encoder(config), _decoder(config))
        if config.loss.discriminator > 0:
            # a part of the model to optimiser and checkpoint; encode and decode do not know it
            model.add_module("discriminator", nn.Discriminator(config.model.components))
        return model


def _encoder(config: Config) -> nn.Encoder:
    model, convention = config.model, config.convention
    sizes = (model.components, model.kernel_size, model.hop)
    if model.encoder == "conv":
        return nn.ConvEncoder(*sizes, convention=convention)
    variant = nn.CosineEncoder if model.encoder == "cosine" else nn.SincEncoder
    return variant(*sizes, convention=convention, sample_rate=config.data.sample_rate)


def _decoder(config: Config) -> nn.Decoder:
    model = config.model
    sizes = (model.components, model.kernel_size, model.hop)
    if model.decoder == "conv":
        return nn.ConvDecoder(*sizes, tanh=model.tanh)
    return nn.ModulatedCosineDecoder(
        *sizes,
        power=model.power,
        modulator=model.modulator,
        convention=config.convention,
        sample_rate=config.data.sample_rate,
    )


def build_losses(config: Config) -> Losses:
    """Build the two losses of the objective."""
    loss = config.loss
    representation: nn.TotalVariationLoss | nn.SinkhornLoss | None = None
    if loss.weight > 0 and loss.representation == "total-variation":
        representation = nn.TotalVariationLoss(convention=config.convention)
    elif loss.weight > 0 and loss.representation == "sinkhorn":
        representation = nn.SinkhornLoss(
            loss.epsilon,
            p=loss.p,
            convention=config.convention,
            marginal_mass="T" if loss.marginals == "unit" else 1.0,
        )
    sort = config.training.sort == "update" and config.model.decoder == "modulated-cosine"
    return Losses(nn.NegSNRLoss(convention=config.convention), representation, sort)
