"""gated_recurrence: layers of the source-filter separator, projection included, beside torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from torch import Tensor
from torch.nn.functional import linear

from rlsv_fast import ops, reference

LAYERS = {
    "decoder, 60 voices": {"B": 60, "T": 250, "C": 1024, "H": 512},  # of the original's batch
    "decoder, 4 voices": {"B": 4, "T": 250, "C": 1024, "H": 512},
    "encoder, 1 mixture": {"B": 1, "T": 250, "C": 257, "H": 256},
}


def _layer(sizes: Sizes, device: str) -> tuple[Tensor, ...]:
    """Inputs, and the weights and biases of a layer as it begins."""
    inputs, size = sizes["C"], sizes["H"]
    shapes = ((3 * size, inputs), (3 * size, size), (3 * size,), (3 * size,))
    weights = ((2 * torch.rand(shape) - 1) * size**-0.5 for shape in shapes)
    x = torch.randn(sizes["B"], sizes["T"], inputs)
    return tuple(tensor.to(device).requires_grad_() for tensor in (x, *weights))


def _by(module: Any) -> Callable[..., Tensor]:
    def call(x: Tensor, input_weight: Tensor, weight: Tensor, *biases: Tensor) -> Tensor:
        projected = linear(x, input_weight, biases[0])
        states: Tensor = module.gated_recurrence(projected, weight, biases[1])
        return states

    return call


def _by_torch(x: Tensor, *weights: Tensor) -> Tensor:
    """What ``torch.nn.GRU`` calls: oneDNN or plain loops on the CPU, cuDNN on CUDA."""
    initial = x.new_zeros(1, x.shape[0], weights[1].shape[1])
    states: Tensor = torch.gru(x, initial, weights, True, 1, 0.0, True, False, True)[0]
    return states


BENCHMARKS = [
    Benchmark(
        "gated_recurrence",
        shape,
        lambda device, sizes=sizes: _layer(sizes, device),  # type: ignore[misc]
        {"fused": _by(ops), "torch.nn.GRU": _by_torch, "reference": _by(reference)},
        plain=_by(reference),
        effort=lambda peer: (10, 1),
        cuda_only={"torch.compile": ()},  # inductor unrolls 250 frames
    )
    for shape, sizes in LAYERS.items()
]


def _forward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    _, _, weight, _, bias = (tensor.detach().to(dtype) for tensor in _layer(sizes, device))
    projected = torch.randn(sizes["B"], sizes["T"], 3 * sizes["H"], device=device, dtype=dtype)
    return projected, weight, bias, True


def _backward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    inputs = _forward(sizes, device, dtype)
    saved = torch.ops.rlsv_fast._gated_recurrence_forward(*inputs)
    return torch.randn_like(saved[0]), inputs[1], *saved


def _units(sizes: Sizes) -> int:
    return sizes["B"] * sizes["T"] * sizes["H"]


def _products(sizes: Sizes) -> int:
    return 3 * _units(sizes) * sizes["H"]


KERNELS = [
    Kernel(
        "gated_recurrence_forward",
        LAYERS,
        _forward,
        numbers=lambda n: 8 * _units(n) + 3 * n["H"] ** 2,
        operations=_products,
        special=lambda n: 3 * _units(n),
        note="read the weights once and projections, write states and what the gradient needs; "
        "frames wait for each other, which no floor counts",
    ),
    Kernel(
        "gated_recurrence_backward",
        LAYERS,
        _backward,
        numbers=lambda n: 10 * _units(n) + 3 * n["H"] ** 2,
        operations=_products,
        note="read those and the gradient, write that of projections and products",
    ),
]


def test_gated_recurrence(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
