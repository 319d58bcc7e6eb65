"""frames and overlap_add: fused against plain PyTorch, overlap_add also against fold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from shapes import LARGE_BATCH, P2
from torch import Tensor
from torch.nn import functional

from rlsv_fast import ops, reference


def _offset(sizes: Sizes) -> int:
    return ((sizes["T"] - 1) * sizes["S"] + sizes["L"] - sizes["N"]) // 2


def _frames(module: Any) -> Callable[[Tensor], Tensor]:
    return lambda signal: module.frames(
        signal, P2["S"], kernel_size=P2["L"], count=P2["T"], offset=_offset(P2)
    )


def _overlap_add(module: Any) -> Callable[[Tensor], Tensor]:
    return lambda frames: module.overlap_add(frames, P2["S"], length=P2["N"], offset=_offset(P2))


def _fold(frames: Tensor) -> Tensor:
    """Torch's own overlap-add, for frames stored as (B, L, T): its preferred layout."""
    hop, offset = P2["S"], _offset(P2)
    support = (frames.shape[2] - 1) * hop + frames.shape[1]
    folded = functional.fold(frames, (1, support), (1, frames.shape[1]), stride=(1, hop))
    return folded[:, 0, 0, offset : offset + P2["N"]]


def _normal(axes: str) -> Callable[[str], tuple[Tensor]]:
    return lambda device: (
        torch.randn([P2[axis] for axis in axes], device=device).requires_grad_(),
    )


BENCHMARKS = [
    Benchmark(
        "frames",
        "P2",
        _normal("BN"),
        {"fused": _frames(ops), "reference": _frames(reference)},
        plain=_frames(reference),
    ),
    Benchmark(
        "overlap_add",
        "P2",
        _normal("BTL"),
        {"fused": _overlap_add(ops), "reference": _overlap_add(reference)},
        plain=_overlap_add(reference),
    ),
    Benchmark("overlap_add", "P2", _normal("BLT"), {"torch fold": _fold}),
]


def _signal(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    signal = torch.randn(sizes["B"], sizes["N"], device=device, dtype=dtype)
    return signal, sizes["L"], sizes["S"], sizes["T"], _offset(sizes)


def _cut(sizes: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    frames = torch.randn(sizes["B"], sizes["T"], sizes["L"], device=device, dtype=dtype)
    return frames, sizes["S"], sizes["N"], _offset(sizes)


def _numbers(sizes: Sizes) -> int:
    return sizes["B"] * (sizes["N"] + sizes["T"] * sizes["L"])


_SIZES = {"P2": P2, "8 x P2": LARGE_BATCH}

KERNELS = [
    Kernel(
        "frames",
        _SIZES,
        _signal,
        numbers=_numbers,
        operations=lambda n: 0,
        target=0.7,
        target_at=list(_SIZES),
        note="read the signal, write the frames; also the backward of overlap_add",
    ),
    Kernel(
        "overlap_add",
        _SIZES,
        _cut,
        numbers=_numbers,
        operations=lambda n: n["B"] * n["T"] * n["L"],
        target=0.7,
        target_at=list(_SIZES),
        note="read the frames, write the signal; also the backward of frames",
    ),
]


def test_frames_and_overlap_add(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
