"""The matrix products of a training step and nothing else: the floor that steps are held against.

Shapes are those of the plain convolutions written as products, one a layer and direction: encoder
forward on the stacked batch of 2B items, no gradient to the audio; decoder on B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

TAPS = 5
"""Of the encoder's second convolution."""


def shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, int, int]]:
    """(rows, terms, columns) of every product."""
    components, length = sizes["C"], sizes["L"]
    rows = sizes["B"] * -(-sizes["N"] // sizes["S"])
    return {
        "first layer": (2 * rows, length, components),
        "first layer, kernels' gradient": (components, 2 * rows, length),
        "context": (2 * rows, TAPS * components, components),
        "context, weights' gradient": (components, 2 * rows, TAPS * components),
        "context, input's gradient": (2 * rows, components, TAPS * components),
        "decoder": (rows, components, length),
        "decoder, kernels' gradient": (components, rows, length),
        "decoder, input's gradient": (rows, length, components),
    }


def operations(sizes: Mapping[str, int]) -> float:
    """Multiplications and additions of all products."""
    return sum(2.0 * m * k * n for m, k, n in shapes(sizes).values())


def products(sizes: Mapping[str, int], dtype: torch.dtype, device: str) -> Callable[[], Any]:
    """A call that makes all of them, of operands stored as the layers store them."""
    calls = []
    for name, (rows, terms, columns) in shapes(sizes).items():
        first = torch.randn(rows, terms, dtype=dtype, device=device)
        second = torch.randn(terms, columns, dtype=dtype, device=device)
        if "gradient" in name and "kernels" in name or "weights" in name:
            first = first.t().contiguous().t()  # columns of it are rows of the layer's output
        elif name in ("first layer", "context", "decoder, input's gradient"):
            second = second.t().contiguous().t()  # rows of it are kernels
        calls.append((first, second, torch.empty(rows, columns, dtype=dtype, device=device)))

    def run() -> Tensor:
        for first, second, out in calls:
            torch.mm(first, second, out=out)
        return calls[-1][-1]

    return run
