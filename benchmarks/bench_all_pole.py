"""all_pole: fused against plain PyTorch (a loop over samples), and torchlpc where it is installed.

torchlpc is no dependency: `pip install torchlpc numba` (a source distribution; with
`--no-build-isolation` it is compiled against the torch that is there).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from shapes import UMSS, UMSS_BATCH
from torch import Tensor
from torch.nn import functional

from rlsv_fast import ops, reference
from rlsv_fast.reference.all_pole import fading

TORCHLPC = importlib.util.find_spec("torchlpc") is not None


def _problem(sizes: Sizes, device: str) -> tuple[Tensor, Tensor]:
    """Noise, and the filters of random line spectral frequencies."""
    steps = 0.5 + torch.rand(sizes["B"], sizes["T"], sizes["P"] + 1, device=device)
    lsf = torch.pi * (steps / steps.sum(-1, keepdim=True)).cumsum(-1)[..., :-1]
    signal = torch.randn(sizes["B"], sizes["T"] * sizes["S"], device=device)
    return signal, ops.lsf_to_lpc(lsf)


def _leaves(device: str) -> tuple[Tensor, ...]:
    return tuple(leaf.requires_grad_() for leaf in _problem(UMSS, device))


def _call(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda signal, filters: module.all_pole(signal, filters, frame=UMSS["L"], hop=UMSS["S"])


def _torchlpc(signal: Tensor, filters: Tensor) -> Tensor:
    """Its users' way: frames as a batch, filters repeated for every sample, window, fold."""
    from torchlpc import sample_wise_lpc

    frame, hop = UMSS["L"], UMSS["S"]
    batch, count, order = filters.shape
    cut = functional.pad(signal, (0, frame - hop)).unfold(-1, frame, hop)
    repeated = filters.reshape(-1, 1, order).expand(-1, frame, order)
    filtered = sample_wise_lpc(cut.reshape(-1, frame), repeated).view(batch, count, frame)
    faded = (filtered * fading(count, frame, signal)).transpose(1, 2)
    length = (count - 1) * hop + frame
    folded = functional.fold(faded, (1, length), (1, frame), stride=(1, hop))
    return folded[:, 0, 0, : count * hop]


_PEERS = {"fused": _call(ops), "reference": _call(reference)}

BENCHMARKS = [
    Benchmark(
        "all_pole",
        "UMSS",
        _leaves,
        {**_PEERS, "torchlpc": _torchlpc} if TORCHLPC else _PEERS,
        effort=lambda peer: (10, 5) if peer == "fused" else (5, 1),
        cuda_only={"reference": ("forward+backward",)},
    )
]

_SIZES = {"UMSS": UMSS, "UMSS, 15 mixtures": UMSS_BATCH}


def _forward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    signal, filters = _problem(sizes, device)
    return signal.to(dtype), filters.to(dtype), sizes["L"] + sizes["L"] % 2, sizes["S"]


def _backward(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    signal, filters, frame, hop = _forward(sizes, device, dtype)
    _, filtered = torch.ops.rlsv_fast._all_pole_forward(signal, filters, frame, hop)
    return torch.randn_like(signal), filters, filtered, hop


def _frames(sizes: Sizes) -> int:
    return sizes["B"] * sizes["T"]


KERNELS = [
    Kernel(
        "all_pole_forward",
        _SIZES,
        _forward,
        numbers=lambda n: _frames(n) * (2 * n["S"] + n["L"] + n["P"]),
        operations=lambda n: _frames(n) * n["L"] * n["P"],
        note="read signal and filters, write frames and signal; one multiply-add per pole",
    ),
    Kernel(
        "all_pole_backward",
        _SIZES,
        _backward,
        numbers=lambda n: _frames(n) * (2 * n["S"] + n["L"] + 2 * n["P"]),
        operations=lambda n: 2 * _frames(n) * n["L"] * n["P"],
        note="read the gradient and the frames, write both gradients",
    ),
]


def test_all_pole(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)


def test_torchlpc_is_among_the_peers() -> None:
    if not TORCHLPC:
        import pytest

        pytest.skip("torchlpc is not installed: pip install torchlpc numba")
    torch.manual_seed(218)
    signal, filters = _problem(UMSS, "cpu")
    torch.testing.assert_close(
        _torchlpc(signal, filters), _call(ops)(signal, filters), rtol=1e-3, atol=1e-3
    )
