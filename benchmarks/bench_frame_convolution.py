"""frame_convolution: fused against torch's convolution, at the papers' three layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from catalogue import Benchmark, Kernel, Row, Sizes
from shapes import P2
from torch import Tensor

from rlsv_fast import ops, reference
from rlsv_fast.ops.frame_convolution import _FRAMES, _OUTPUTS, _make_plan, _Plan

_HOPS = P2["L"] // P2["S"]


@dataclass(frozen=True)
class _Layer:
    """A convolution: O outputs, J taps d frames apart, the first s frames before the output.

    Attributes:
        sizes: B, T, C, O, J, d, s and the number N of output frames.
        stored: axes of the weight in memory, of (O, J, C).
        to_frames: whether frames want a gradient.
    """

    sizes: Sizes
    stored: tuple[int, int, int] = (0, 1, 2)
    to_frames: bool = True

    def by(self, module: Any) -> Callable[[Tensor, Tensor], Tensor]:
        n, axes = self.sizes, self.stored  # each order is its own inverse
        return lambda frames, weight: module.frame_convolution(
            frames, weight.permute(axes), count=n["N"], dilation=n["d"], offset=n["s"]
        )

    def leaves(self, device: str) -> tuple[Tensor, ...]:
        n = self.sizes
        frames = torch.randn(n["B"], n["T"], n["C"], device=device)
        shape = [(n["O"], n["J"], n["C"])[axis] for axis in self.stored]
        weight = torch.randn(shape, device=device) / (n["J"] * n["C"]) ** 0.5
        return frames.requires_grad_(self.to_frames), weight.requires_grad_()


_B, _T, _C, _S = 2 * P2["B"], P2["T"], P2["C"], P2["S"]
_LAYERS = {
    "first layer": _Layer(
        {"B": _B, "T": _T + _HOPS - 1, "C": _S, "O": _C, "J": _HOPS, "d": 1, "s": 0, "N": _T},
        to_frames=False,
    ),
    "context layer": _Layer(
        {"B": _B, "T": _T, "C": _C, "O": _C, "J": 5, "d": 10, "s": 20, "N": _T},
        stored=(0, 2, 1),
    ),
    "decoder": _Layer(
        {
            **{"B": P2["B"], "T": _T, "C": _C, "O": _S, "J": _HOPS},
            **{"d": -1, "s": 0, "N": _T + _HOPS - 1},
        },
        stored=(2, 1, 0),
    ),
}

BENCHMARKS = [
    Benchmark(
        "frame_convolution",
        f"P2, {name}",
        layer.leaves,
        {"fused": layer.by(ops), "reference": layer.by(reference)},
        plain=layer.by(reference),
    )
    for name, layer in _LAYERS.items()
]


def _plan(n: Sizes) -> _Plan:
    return _make_plan(n["B"], n["T"], n["J"], n["N"], n["d"], n["s"])


def _windows(n: Sizes) -> int:
    plan = _plan(n)
    return n["B"] * plan.tiles * plan.dilation


def _of_frames(n: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    plan = _plan(n)
    frames = torch.randn(n["B"], n["T"], n["C"], device=device, dtype=dtype)
    transform = (_FRAMES, plan.points, plan.window, 0, plan.products)
    return frames, *transform, plan.dilation, plan.tiles, plan.advance, plan.offset


def _of_weights(n: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    plan = _plan(n)
    taps = torch.randn(n["O"] * n["C"], n["J"], 1, device=device, dtype=dtype)
    return taps, plan.weights, plan.points, plan.taps, 0, plan.products, 1, 1, 0, 0


def _to(side: str) -> Callable[..., tuple[Any, ...]]:
    """Arguments of a synthesis of "outputs", or of a gradient to "frames" or "weights"."""

    def make(n: Sizes, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
        plan = _plan(n)
        windows = (plan.dilation, plan.tiles, plan.advance)
        shape, transform, result = {
            "outputs": (
                (_windows(n), n["O"]),
                (_OUTPUTS, plan.points, plan.advance, 0),
                (n["B"], n["N"], *windows, 0),
            ),
            "frames": (
                (_windows(n), n["C"]),
                (_FRAMES, plan.points, plan.window, 0),
                (n["B"], n["T"], *windows, plan.offset),
            ),
            "weights": (
                (n["O"] * n["C"], 1),
                (plan.weights, plan.points, plan.taps, 0),
                (n["O"] * n["C"], n["J"], 1, 1, 0, 0),
            ),
        }[side]
        spectrum = torch.randn(plan.products, *shape, device=device, dtype=dtype)
        return spectrum, spectrum.new_empty(0, 0, 0), *transform, *result

    return make


def _counts(side: str) -> dict[str, Callable[[Sizes], float]]:
    """Numbers moved, and coefficients times what they are multiplied with."""

    def sums(n: Sizes) -> int:
        channels = {"frames": n["C"], "outputs": n["O"]}.get(side)
        return n["O"] * n["C"] if channels is None else _windows(n) * channels

    def numbers(n: Sizes) -> float:
        frames = n["B"] * (n["N"] * n["O"] if side == "outputs" else n["T"] * n["C"])
        one = n["J"] * sums(n) if side == "weights" else frames
        return one + _plan(n).products * sums(n)

    def operations(n: Sizes) -> float:
        plan = _plan(n)
        terms = {"frames": plan.window, "outputs": plan.advance, "weights": plan.taps}[side]
        return plan.products * terms * sums(n)

    return {"numbers": numbers, "operations": operations}


_CONTEXT, _DECODER = (_LAYERS[name].sizes for name in ("context layer", "decoder"))


def _at(sizes: Sizes, what: str) -> Mapping[str, Sizes]:
    return {f"P2, {what}": sizes, f"8 x P2, {what}": {**sizes, "B": 8 * sizes["B"]}}


KERNELS = [
    Kernel(
        "frame_convolution_analysis",
        _at(_CONTEXT, "context frames"),
        _of_frames,
        **_counts("frames"),
        note="read frames, write the spectra of their windows; one instruction per coefficient",
    ),
    Kernel(
        "frame_convolution_analysis",
        {"P2, context weights": _CONTEXT},
        _of_weights,
        **_counts("weights"),
        note="read weights, write their spectra, all products at once",
    ),
    Kernel(
        "frame_convolution_synthesis",
        _at(_CONTEXT, "context outputs"),
        _to("outputs"),
        **_counts("outputs"),
        note="read the products, write the outputs",
    ),
    Kernel(
        "frame_convolution_synthesis",
        {"P2, context weights": _CONTEXT},
        _to("weights"),
        **_counts("weights"),
        note="the gradient to the weights, all products at once",
    ),
    Kernel(
        "frame_convolution_synthesis",
        _at(_DECODER, "decoder frames"),
        _to("frames"),
        **_counts("frames"),
        note="the gradient to the frames of windows that overlap",
    ),
]


def test_frame_convolution(measure: Callable[[Row], None], row: Row) -> None:
    measure(row)
