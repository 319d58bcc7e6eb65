"""A representation with known properties, and tracks to go with it."""

import numpy as np
import torch
from torch import Tensor, nn

from rlsv_fast.data import PreparedTrack

KERNEL = 8


class _Part(nn.Module):
    components = 2 * KERNEL
    kernel_size = KERNEL
    hop = KERNEL


class _Decoder(_Part):
    def __init__(self) -> None:
        super().__init__()
        self.bases_made = 0
        self.unit = nn.Parameter(torch.ones(()))

    def basis(self) -> Tensor:
        self.bases_made += 1
        identity = torch.eye(KERNEL) * self.unit
        return torch.cat([identity, -identity])


class PerfectModel(nn.Module):
    """Positive and negative parts of each sample: non-negative and exactly invertible."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Part()
        self.decoder = _Decoder()
        self.batches: list[int] = []

    def encode(self, signal: Tensor) -> Tensor:
        self.batches.append(len(signal))
        padded = nn.functional.pad(signal, (0, -signal.shape[-1] % KERNEL))
        frames = padded.unflatten(-1, (-1, KERNEL)).mT
        return torch.cat([frames.relu(), (-frames).relu()], dim=1)

    def decode(self, coefficients: Tensor, length: int, basis: Tensor) -> Tensor:
        return torch.einsum("bct,cl->btl", coefficients, basis).flatten(1)[:, :length]


def track(
    name: str, voice: np.ndarray, accompaniment: np.ndarray, rate: int = 100
) -> PreparedTrack:
    mixture = (voice + accompaniment).astype(np.float32)
    return PreparedTrack(
        name, rate, mixture, voice.astype(np.float32), accompaniment.astype(np.float32)
    )


def noise_track(name: str, samples: int, seed: int = 0) -> PreparedTrack:
    random = np.random.default_rng(seed)
    return track(name, random.standard_normal(samples), random.standard_normal(samples))
