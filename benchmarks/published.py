"""The published training step in plain PyTorch: the peer that the step benchmarks measure against.

Written from the papers' equations and the published code's documented behaviour (conventions,
per-item cost loop, exactly 1000 unrolled iterations in the exponential domain), nothing more.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cost_matrix(representation: Tensor, p: int = 1) -> Tensor:
    """Mean over the batch of the distances between frames normalised over time."""
    batch, components, frames = representation.shape
    total = representation.new_zeros((frames, frames))
    for item in representation:
        raised = item + 1 / components
        scaled = (raised / raised.sum(1, keepdim=True)).t()
        difference = scaled[:, None, :] - scaled[None, :, :]
        if p == 1:
            total = total + difference.abs().sum(-1)
        else:
            total = total + (difference**2).sum(-1).sqrt()
    return total / batch


def sinkhorn_distance(cost: Tensor, epsilon: float, iterations: int = 1000) -> Tensor:
    """<P, M> with P from exactly `iterations` unrolled iterations of K = exp(-M / epsilon)."""
    frames = len(cost)
    mass = cost.new_full((frames,), 1 / frames)
    kernel = torch.exp(-cost / epsilon)
    u = mass
    for _ in range(iterations):
        v = mass / (kernel.t() @ u)
        u = mass / (kernel @ v)
    return (u[:, None] * kernel * v * cost).sum()


def total_variation(representation: Tensor) -> Tensor:
    """The published code's form: l2 norms over the whole batch."""
    _, components, frames = representation.shape
    by_time = torch.norm(representation[:, :, 1:] - representation[:, :, :-1]) / frames
    by_channel = torch.norm(representation[:, 1:] - representation[:, :-1]) / components
    return by_time + by_channel


def neg_snr(estimate: Tensor, target: Tensor) -> Tensor:
    """The published code's form: one ratio over the whole batch."""
    ratio = (target**2).sum() / (((target - estimate) ** 2).sum() + 1e-24)
    return -10 * torch.log10(ratio + 1e-24)


class PublishedModel(nn.Module):
    """Convolutional encoder and modulated-cosine decoder as published, sorting in the forward."""

    def __init__(self, components: int, kernel_size: int, hop: int, length: int) -> None:
        super().__init__()
        self.hop = hop
        frames = math.ceil(length / hop)
        self.padding = ((frames - 1) * hop + kernel_size - length) // 2
        self.conv_a1 = nn.Conv1d(1, components, kernel_size, hop, self.padding, bias=False)
        self.conv_a2 = nn.Conv1d(components, components, 5, padding=20, dilation=10, bias=False)
        nn.init.kaiming_uniform_(self.conv_a1.weight)
        nn.init.kaiming_uniform_(self.conv_a2.weight)
        top = 2595 * math.log10(1 + 22050 / 700)
        mel = torch.linspace(2595 * math.log10(1 + 30 / 700), top, components)
        self.frequency = nn.Parameter((700 * (10 ** (mel / 2595) - 1) / 44100)[:, None, None])
        self.phase = nn.Parameter(torch.randn(components, 1, 1))
        self.modulator = nn.Parameter(
            torch.full((components, 1, kernel_size), 1 / (components + kernel_size))
        )
        self.register_buffer("time", torch.arange(kernel_size, dtype=torch.float32))

    def encode(self, signal: Tensor) -> Tensor:
        """Representation (B, C, T) of a signal (B, N)."""
        hidden = self.conv_a1(signal[:, None])
        return torch.relu(self.conv_a2(hidden) + hidden)

    def decode(self, representation: Tensor) -> Tensor:
        """Signal (B, N) of a representation, weights and rows sorted by carrier."""
        carrier, order = torch.sort(self.frequency**2, dim=0)
        order = order[:, 0, 0]
        weights = torch.cos(2 * math.pi * self.time * carrier + self.phase[order])
        weights = weights * self.modulator[order]
        return F.conv_transpose1d(
            representation[:, order], weights, stride=self.hop, padding=self.padding
        )[:, 0]


def step(
    model: PublishedModel,
    optimizer: torch.optim.Optimizer,
    voice: Tensor,
    accompaniment: Tensor,
    *,
    weight: float,
    epsilon: float | None,
) -> tuple[Tensor, Tensor]:
    """One training step: L_A where epsilon is None, else L_B; returns both losses."""
    mixture = voice + accompaniment
    voice = voice - voice.mean()
    mixture = mixture - mixture.mean()
    estimate = model.decode(model.encode(voice + 1e-4 * torch.randn_like(voice)))
    representation = model.encode(mixture)
    reconstruction = neg_snr(estimate, voice)
    if epsilon is None:
        regulariser = total_variation(representation)
    else:
        regulariser = sinkhorn_distance(cost_matrix(representation), epsilon)
    optimizer.zero_grad()
    (reconstruction + weight * regulariser).backward()
    optimizer.step()
    return reconstruction.detach(), regulariser.detach()
