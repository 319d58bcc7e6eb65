"""spectral_loss: fused against plain PyTorch, behind torch's transforms and by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from torch import Tensor

from rlsv_fast import ops, reference

UMSS = {"B": 4, "N": 64000}
BATCH = {"B": 60, "N": 64000}
"""The original's training batch, supervised: 15 mixtures of four voices."""


def _leaves(device: str) -> tuple[Tensor, Tensor]:
    target = torch.randn(UMSS["B"], UMSS["N"], device=device)
    return (target + 0.3 * torch.randn_like(target)).requires_grad_(), target


def _through(spectra: Tensor, target: Tensor) -> Tensor:
    """The pass that is fused, in plain PyTorch, on given spectra."""
    x, y = (s.square().sum(-1).add(1e-10).sqrt() for s in (spectra, target))
    return ((x - y).abs() + (x.log() - y.log()).abs()).mean(1)


def _pass(spectra: Tensor, target: Tensor) -> Tensor:
    return _Pass.apply(spectra, target)


class _Pass(torch.autograd.Function):
    """The raw operator with its gradient, without the transforms."""

    @staticmethod
    def forward(ctx: Any, spectra: Tensor, target: Tensor) -> Tensor:
        value, slope, _ = torch.ops.rlsv_fast._spectral_loss_forward(
            spectra, target, 1.0, 1.0, spectra.requires_grad, False
        )
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * grads[0][:, None, None], None


def _spectra(device: str) -> tuple[Tensor, Tensor]:
    target = torch.randn(4, _bins(UMSS) // 6, 2, device=device)  # of one size
    return (target + 0.3 * torch.randn_like(target)).requires_grad_(), target


def _bins(sizes: Sizes) -> int:
    """Of all six sizes of an item."""
    return sum(-(-sizes["N"] // (n // 4)) * (n // 2 + 1) for n in (2048, 1024, 512, 256, 128, 64))


BENCHMARKS = [
    Benchmark(
        "spectral_loss",
        "one mixture",
        _leaves,
        {"fused": ops.spectral_loss, "reference": reference.spectral_loss},
        plain=reference.spectral_loss,
    ),
    Benchmark(
        "spectral_loss behind the transform",
        "one size",
        _spectra,
        {"fused": _pass, "reference": _through},
        plain=_through,
    ),
]


def _arguments(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    spectra = torch.randn(2, sizes["B"], _bins(sizes), 2, device=device, dtype=dtype)
    return spectra[0], spectra[1], 1.0, 1.0, True, False


KERNELS = [
    Kernel(
        "spectral_loss_forward",
        {"15 mixtures": BATCH, "one mixture": UMSS},
        _arguments,
        numbers=lambda n: 6 * n["B"] * _bins(n),
        operations=lambda n: 90 * n["B"] * _bins(n),
        note="read both spectra, write the derivative by one; all six sizes at once",
    )
]


def test_spectral_loss(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
