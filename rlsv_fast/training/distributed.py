r"""The objective of a batch of which each of K processes holds B/K rows.

Everything in the objective that joins the rows of a batch is a function F of a mean over the
batch; as all shares are equal, that is the mean over the processes of the shares' own means:

.. math:: L = F(m), \qquad m = \frac1K \sum_k m_k(\theta)

- mean of a loss per item: m_k is the mean over the share, F the identity;
- the same where silent segments do not count (neg-SNR): sum and number, F their quotient;
- neg-SNR of a whole batch (published code): energies of target and error, F their ratio in dB;
- total variation in norms over the whole batch (published code): sums of squared differences along
  frames and along components, F the sum of their roots;
- Sinkhorn (both): the T x T distances of frames, F the transport between them;
- subtracting the mean of a batch (published code): the mean of waveforms, which has no gradient.

The chain rule gives

.. math:: \nabla L = \frac1K \sum_k \Big( \frac{\partial m_k}{\partial \theta} \Big)^T F'(m)

and DistributedDataParallel takes the mean of what each process computes, so process k has to
compute the k-th term: the derivative of F(m_k) with F' taken at m instead. :func:`average`
therefore gives m in the forward pass and lets the gradient through as it is. Nothing is sent in the
backward pass but DistributedDataParallel's own sums. Where F is the identity F' does not depend on
m, and the share's mean may stay what it is: the mean over the processes of all losses, which
``Update`` takes to decide and to report, is that of the whole batch in any case. Up to the order of
sums, gradient and loss are those of one process.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from rlsv_fast import nn
from rlsv_fast.errors import InputError
from rlsv_fast.processes import Processes
from rlsv_fast.reference.neg_snr import decibels
from rlsv_fast.training.build import Losses, build_losses
from rlsv_fast.training.config import Config
from rlsv_fast.training.step import Mark, StepLosses, training_losses


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, value)
        # Not one all-reduce: that may add in another order at another place. So every process gets
        # the same bits, by which all decide alike, and distances stay exactly symmetric.
        return reduce(torch.add, parts) / len(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def average(value: Tensor) -> Tensor:
    """Mean over the processes, whose gradient is passed on to each as it is; see above."""
    found: Tensor = _Average.apply(value.contiguous())  # type: ignore[no-untyped-call]
    return found


class SharedLosses(Losses):
    """Losses of the whole batch, or with its gradient and mean, in each process from its rows."""

    def centre(self, signal: Tensor) -> Tensor:
        """Waveforms without their mean over the whole batch."""
        return signal - average(signal.mean(1).mean())

    def reconstruct(self, estimate: Tensor, target: Tensor) -> Tensor:
        """The reconstruction loss of the whole batch."""
        processes = dist.get_world_size()
        if self.reconstruction.convention == "code":
            energies = _sums(target.square(), (target - estimate).square())
            signal, error = processes * average(energies)
            loss: Tensor = -decibels(signal, error)
            return loss.to(estimate.dtype)
        audible = (target != 0).any(1)
        ratios = nn.NegSNRLoss(reduction="sum")(estimate, target)
        ratio, count = average(torch.stack([ratios, audible.sum().to(ratios.dtype)]))
        found: Tensor = ratio / count.clamp(min=1 / processes)
        return found

    def represent(self, representation: Tensor, model: nn.RepresentationModel) -> Tensor:
        """The representation loss: of the whole batch, or of the rows if it is a mean over them."""
        loss = self.representation
        if isinstance(loss, nn.SinkhornLoss):
            return loss.transport(average(loss.distances(representation)))
        if loss is None or loss.convention == "paper":
            return super().represent(representation, model)
        if self.sort:
            representation = representation.index_select(1, model.order())
        squares = _sums(representation.diff(dim=2).square(), representation.diff(dim=1).square())
        along_frames, along_components = dist.get_world_size() * average(squares)
        _, components, frames = representation.shape
        norms = _root(along_frames) / frames + _root(along_components) / components
        return norms.to(representation.dtype)


class _Objective(torch.nn.Module):
    """The objective as a module, which is what DistributedDataParallel takes."""

    def __init__(self, model: nn.RepresentationModel, config: Config) -> None:
        super().__init__()
        losses = build_losses(config)
        self.model = model
        self.config = config
        self.losses = SharedLosses(losses.reconstruction, losses.representation, losses.sort)

    def forward(
        self, voice: Tensor, accompaniment: Tensor, noise: Tensor, mark: Mark | None
    ) -> StepLosses:
        return training_losses(
            self.model, self.losses, voice, accompaniment, noise, self.config, mark
        )


def shared_objective(model: nn.RepresentationModel, config: Config) -> DistributedDataParallel:
    """The objective of the whole batch, to be called in each process with its own rows.

    Its backward pass leaves the gradient of the whole batch in every process; the mean over the
    processes of what it returns are the losses of the whole batch.

    Args:
        model: on its device, the same in all processes.
        config: settings.

    Returns:
        A function of voice, accompaniment, noise and mark, as those of
        :func:`rlsv_fast.training.training_losses`.
    """
    return DistributedDataParallel(_Objective(model, config), gradient_as_bucket_view=True)


def check_processes(config: Config, processes: Processes) -> None:
    """Raise InputError where the settings do not go with so many processes."""
    count, training = processes.size, config.training
    if count == 1:
        return
    if training.batch_size % count:
        raise InputError(
            f"training.batch_size = {training.batch_size} is that of all processes together, and "
            f"{count} processes cannot share it equally; choose a multiple of {count}, or another "
            "number of processes"
        )
    if config.loss.discriminator > 0:
        raise InputError(
            "loss.discriminator does not go with several processes: it pairs the segments of a "
            "whole batch; train with one process"
        )
    if training.compile:
        raise InputError(
            "training.compile = true does not go with several processes, whose objective has to "
            "talk to the others in its midst; leave it out, or train with one process"
        )
    if training.cuda_graph == "on":
        raise InputError(
            "training.cuda_graph = 'on' does not go with several processes, whose step has to talk "
            "to the others in its midst; choose 'auto' or 'off'"
        )


def _sums(*values: Tensor) -> Tensor:
    return torch.stack([value.sum(dtype=torch.float64) for value in values])


def _root(value: Tensor) -> Tensor:
    """Square root with the subgradient 0 at 0."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1).sqrt(), 0)
