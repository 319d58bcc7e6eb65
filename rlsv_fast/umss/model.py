"""What is trained and saved: a separator, and the networks that find its f0 where it has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.training.precision import autocast
from rlsv_fast.training.step import StepLosses
from rlsv_fast.umss.separator import SourceFilterSeparator
from rlsv_fast.umss.settings import EnsembleConfig
from rlsv_fast.umss.tracker import (
    F0Tracker,
    TrackedVoices,
    band_loss,
    commitment_loss,
    consistency_loss,
)
from rlsv_fast.umss.unet import F0UNet
from rlsv_fast.umss.weights import load_networks


class Known(NamedTuple):
    """What is known of the excerpts before the separator sees them."""

    f0: Tensor | None = None
    """(B, V, T)"""
    salience: Tensor | None = None
    """(B, 1, 360, T), of a frozen multi-f0 network"""


class EnsembleModel(nn.Module):
    """A separator of ensembles as a run trains it.

    Args:
        config: settings.

    Attributes:
        sample_rate: in Hz.
        separator: the source-filter model or the U-Net.
        tracker: the f0 networks; None where the f0 comes with the data.
    """

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__()
        model, convention = config.model, config.convention
        rate = self.sample_rate = config.data.sample_rate
        self.separator: SourceFilterSeparator | F0UNet
        if model.kind == "u-net":
            self.separator = F0UNet(
                conditioning=model.conditioning, convention=convention, sample_rate=rate
            )
        else:
            roll_off = 6.0 if model.roll_off == "fixed" else model.roll_off
            self.separator = SourceFilterSeparator(
                sample_rate=rate, roll_off=roll_off, levels=model.levels, convention=convention
            )
        self.tracker: F0Tracker | None = None
        if model.f0 == "estimated":
            self.tracker = F0Tracker(
                sample_rate=rate,
                train_multif0=model.multif0 == "trained",
                train_assignment=model.assignment == "trained",
                method=model.decoding,
                reference=model.reference,
                convention=convention,
            )

    def track(self, mixture: Tensor, known: Known) -> tuple[Tensor, TrackedVoices | None]:
        """The f0 of the voices, and what it was decoded from if the model has just found it."""
        if known.f0 is not None:
            return known.f0, None
        if self.tracker is None:
            raise ValueError("EnsembleModel: f0 must be given, the model finds none by itself")
        if known.salience is None:
            found = self.tracker(mixture)
        else:
            found = self.tracker.assign(known.salience)
        return found.f0, found

    @torch.no_grad()
    def separate(self, mixture: Tensor, f0: Tensor | None = None) -> Tensor:
        """Voices (B, V, N) of mixtures (B, N), by masks.

        Args:
            mixture: shape (B, N).
            f0: shape (B, V, T); None where the model finds it by itself.
        """
        return self.separator.separate(mixture, self.track(mixture, Known(f0))[0])


def build_model(
    config: EnsembleConfig, device: torch.device | str = "cpu", *, imported: bool = True
) -> EnsembleModel:
    """The untrained model; its weights depend on the settings and on the imported networks alone.

    Args:
        config: settings.
        device: where the model goes.
        imported: put the imported weights into the f0 networks.

    Raises:
        InputError: the weights of the f0 networks have not been imported.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = EnsembleModel(config)
    if config.loss.reconstruction == 0:  # its parameters would wait for gradients that never come
        model.separator.requires_grad_(False)
    if imported and model.tracker is not None:
        networks = load_networks()
        model.tracker.multif0.load_state_dict(networks.multif0.state_dict())
        model.tracker.assignment.load_state_dict(networks.assignment.state_dict())
    return model.to(device)


class EnsembleObjective(nn.Module):
    r"""The objective of a batch, as a module.

    .. math::
        L = \lambda \, d\Big(\sum_j \hat s_j, x\Big) + L_{f_0}

    with d the spectral distance (:func:`rlsv_fast.ops.spectral_loss`) of the synthesised voices'
    sum from the mixture; supervised, its mean over the voices, each from its recording. A U-Net's
    is the mean absolute difference of the magnitudes of one random voice of each item.

    Args:
        model: to be trained.
        config: settings.
    """

    def __init__(self, model: EnsembleModel, config: EnsembleConfig) -> None:
        super().__init__()
        self.model = model
        self._loss = config.loss
        self._precision = config.training.precision

    def forward(
        self, mixture: Tensor, sources: Tensor, known: Known, generator: torch.Generator
    ) -> StepLosses:
        """The losses.

        Args:
            mixture: shape (B, N).
            sources: shape (B, V, N).
            known: what is known of their f0.
            generator: of the noise and the choice of voices, on the device.

        Returns:
            Total, what separates, and the losses of the f0 networks.
        """
        with autocast(self._precision, mixture.device):
            f0, found = self.model.track(mixture, known)
        representation = mixture.new_zeros(())
        if found is not None:
            terms: tuple[tuple[float, Callable[[TrackedVoices], Tensor]], ...] = (
                (self._loss.consistency, consistency_loss),
                (self._loss.band, band_loss),
                (self._loss.commitment, commitment_loss),
            )
            for weight, term in terms:
                if weight > 0:
                    representation = representation + weight * term(found)
        if self._loss.reconstruction == 0:
            return StepLosses(representation, representation.new_zeros(()), representation)
        reconstruction = self.reconstruct(mixture, sources, f0, generator)
        total = self._loss.reconstruction * reconstruction + representation
        return StepLosses(total, reconstruction, representation)

    def reconstruct(
        self, mixture: Tensor, sources: Tensor, f0: Tensor, generator: torch.Generator
    ) -> Tensor:
        """What validation looks at, too: the distance that the separator leaves."""
        separator = self.model.separator
        if isinstance(separator, F0UNet):
            items, voices = sources.shape[:2]
            chosen = torch.randint(
                voices, (items,), generator=generator, device=generator.device
            ).to(mixture.device)
            which = torch.arange(items, device=mixture.device), chosen
            with autocast(self._precision, mixture.device):
                estimate = separator.estimate(mixture, f0[which])
            true = separator.spectrum(sources[which]).abs()
            return (estimate.to(true.dtype) - true).abs().mean()
        with autocast(self._precision, mixture.device):
            made = separator(mixture, f0, generator=generator)
        pair = (made.sources.flatten(0, 1), sources.flatten(0, 1))
        if not self._loss.supervised:
            pair = (made.mixture, mixture)
        return ops.spectral_loss(
            *pair,
            magnitude_weight=self._loss.magnitude,
            log_magnitude_weight=self._loss.log_magnitude,
            reduce="mean",
        )
