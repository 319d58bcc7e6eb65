"""Sizes up to 65,536 in every place, and tensors of more than 2^31 elements, on a large GPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import Case
from test_contract import TINY, magnitude, value_and_grads
from torch import Tensor

from rlsv_fast import ops, reference
from rlsv_fast._library import raw

MOST = 65_536
SUMMED = 2e-5
ROWS = 40_000  # times MOST: 2.6e9 elements, 10.5 GB


def uniform(op: str, name: str, *shapes: tuple[int, ...], **options: Any) -> Case:
    return Case(op, name, lambda: tuple(torch.rand(shape).double() for shape in shapes), options)


IN_EVERY_PLACE = [
    uniform("modulated_cosines", "many-components", (MOST,), (MOST,), (MOST, 3), sort=False),
    uniform("modulated_cosines", "many-taps", (3,), (3,), (3, MOST)),
    uniform("modulated_cosines", "many-taps-shared", (3,), (3,), (1, MOST)),
    *(
        uniform("frame_convolution", name, frames, weight, **options)
        for name, frames, weight, options in (
            ("many-items", (MOST, 4, 2), (3, 2, 2), {"count": 3}),
            ("many-frames", (2, MOST, 2), (3, 5, 2), {"count": MOST, "offset": 2}),
            ("many-phases", (1, MOST, 2), (3, 3, 2), {"count": MOST, "dilation": MOST // 2}),
            ("many-channels", (2, 5, MOST), (2, 2, MOST), {"count": 4}),
            ("many-outputs", (2, 5, 3), (MOST, 2, 3), {"count": 4}),
        )
    ),
    uniform("frame_distance", "many-items", (MOST, 2, 3)),
    uniform("frame_distance", "many-components", (1, MOST, 5), normalize="time"),
    uniform("frame_distance", "many-components-2", (1, MOST, 5), p=2),
    *(
        uniform("total_variation", f"{name}-{norm}", shape, norm=norm)
        for norm in (1, 2)
        for name, shape in (
            ("many-items", (MOST, 3, 4)),
            ("many-components", (2, MOST, 3)),
            ("many-frames", (2, 3, MOST)),
        )
    ),
    uniform("frames", "many-items", (MOST, 9), kernel_size=4, hop=3, count=3, offset=1),
    uniform("frames", "many-frames", (1, MOST), kernel_size=3, hop=1, count=MOST, offset=1),
    uniform("frames", "many-taps", (2, MOST), kernel_size=MOST, hop=7, count=3, offset=9),
    uniform("overlap_add", "many-items", (MOST, 3, 4), hop=3, length=9, offset=1),
    uniform("overlap_add", "many-frames", (1, MOST, 3), hop=1, length=MOST, offset=1),
    uniform("overlap_add", "many-taps", (2, 3, MOST), hop=7, length=MOST, offset=9),
    *(
        uniform(op, name, shape, shape)
        for op in ("neg_snr", "si_sdr")
        for name, shape in (("many-items", (MOST, 7)), ("many-samples", (2, 50 * MOST)))
    ),
    uniform("harmonic_bank", "many-items", (MOST, 2), (MOST, 2), hop=3, sample_rate=4),
    uniform("harmonic_bank", "many-frames", (1, MOST), (1, MOST), hop=2, sample_rate=4),
    uniform("harmonic_bank", "long-frames", (1, 2), (1, 2), hop=MOST, sample_rate=40),
    uniform("harmonic_bank", "many-harmonics", (1, 2), (1, 2, MOST), hop=3, sample_rate=2**18),
    *(
        uniform("decode_f0", name, shape, thresholds=(0.5,), method="soft", **fine)
        for fine in [{"lowest": 32.7, "bins_per_octave": MOST}]
        for name, shape in (
            ("many-items", (MOST, 1, 5, 2)),
            ("many-bins", (1, 1, MOST, 3)),
            ("many-frames", (2, 1, 5, MOST)),
        )
    ),
    uniform("spectral_loss", "many-items", (MOST, 5), (MOST, 5), fft_sizes=(4,)),
    uniform("spectral_loss", "many-samples", (2, 50 * MOST), (2, 50 * MOST), fft_sizes=(64,)),
    *(
        uniform("sinkhorn_distance", f"{name}{tag}", shape, epsilon=0.5, **options)
        for tag, options in (
            ("", {"tolerance": 0, "max_iterations": 100}),
            ("-unrolled", {"gradient": "unrolled", "max_iterations": 5}),
        )
        for name, shape in (
            ("many-items", (MOST, 3, 4)),
            ("many-rows", (1, MOST, 2)),
            ("many-columns", (1, 2, MOST)),
        )
    ),
]


@pytest.mark.parametrize("case", IN_EVERY_PLACE, ids=str)
def test_65536_in_every_place(case: Case, cuda: str) -> None:
    """As exact as the CPU kernels, which other tests compare with the reference."""
    mine = value_and_grads(case, ops, case.inputs(torch.float32, cuda))
    exact = [leaf.detach().double().requires_grad_() for leaf in case.inputs(torch.float32)]
    truth = value_and_grads(case, ops, exact)
    on_cpu = value_and_grads(case, ops, case.inputs(torch.float32))
    for fused, plain, true in zip(mine, on_cpu, truth, strict=True):
        # sums of 65536 terms in cuBLAS's order, not in ours
        small = SUMMED if case.op == "frame_convolution" else TINY
        budget = 2 * magnitude(plain.double() - true) + small * magnitude(true)
        assert magnitude(fused.cpu().double() - true) <= budget


@pytest.fixture
def large(cuda: str) -> Iterator[str]:
    """A GPU with memory for tensors of 10 GB, left empty."""
    memory = torch.cuda.get_device_properties(0).total_memory
    if memory < 64e9:
        pytest.skip(f"needs a GPU with 64 GB, this one has {memory / 1e9:.0f}")
    yield cuda
    gc.collect()
    torch.cuda.empty_cache()


def close(mine: Tensor, exact: Tensor) -> bool:
    return magnitude(mine.double() - exact) <= 4 * TINY * magnitude(exact)


def test_frames_beyond_2_31_elements(large: str) -> None:
    hop, offset = 3, 100
    signal = torch.randn(1, (ROWS - 1) * hop + MOST - 2 * offset, device=large)
    frames = ops.frames(signal, hop, kernel_size=MOST, count=ROWS, offset=offset)
    assert frames.numel() > 2**31
    padded = torch.nn.functional.pad(signal, (offset, offset))
    for row in (0, 1, ROWS // 2, 2**31 // MOST, ROWS - 1):
        assert torch.equal(frames[0, row], padded[0, row * hop : row * hop + MOST])


def test_overlap_add_beyond_2_31_elements(large: str) -> None:
    hop = MOST // 4
    frames = torch.randn(1, ROWS, MOST, device=large)
    signal = ops.overlap_add(frames, hop, length=(ROWS - 1) * hop + MOST, offset=0)
    for row in (3, ROWS // 2, 2**31 // MOST, ROWS - 1):  # the stretch where frame `row` begins
        parts = [frames[0, row - back, back * hop : (back + 1) * hop] for back in range(4)]
        exact = torch.stack(parts).double().sum(0)
        assert close(signal[0, row * hop : (row + 1) * hop], exact)
    assert torch.equal(signal[0, -hop:], frames[0, -1, -hop:])


@pytest.mark.parametrize(
    "shape", [(1, ROWS, MOST), (ROWS * MOST // 2, 2, 1)], ids=["frames", "taps"]
)
def test_frame_convolution_beyond_2_31_elements(shape: tuple[int, ...], large: str) -> None:
    """Circles of two points: sum and difference of neighbours, and back."""
    items, count, channels = shape
    tiles, advance = (count // 2, 2) if items == 1 else (1, 0)
    signal = torch.randn(shape, device=large)
    spectrum = raw._frame_convolution_analysis(signal, 2, 2, 2, 0, 2, 1, tiles, advance, 0)
    assert spectrum.numel() > 2**31
    none = signal.new_empty(0, 0, 0)
    back = raw._frame_convolution_synthesis(
        spectrum, none, 3, 2, 2, 0, items, count, 1, tiles, advance, 0
    )
    pairs, returned = signal.view(-1, 2, channels), back.view(-1, 2, channels)
    for pair in (0, len(pairs) // 2, 2**31 // (2 * channels), len(pairs) - 1):
        first, second = pair_of = pairs[pair].double()
        exact = torch.stack([first + second, first - second])
        allowed = 4 * TINY * magnitude(pair_of)
        assert magnitude(spectrum[:, pair].double() - exact) <= allowed
        assert magnitude(returned[pair].double() - pair_of) <= allowed


def test_modulated_cosines_beyond_2_31_elements(large: str) -> None:
    frequency = 0.7 * torch.rand(ROWS, device=large)
    phase = torch.randn(ROWS, device=large)
    modulator = torch.randn(ROWS, MOST, device=large).requires_grad_()
    leaves = frequency.requires_grad_(), phase.requires_grad_(), modulator
    weights, _ = ops.modulated_cosines(*leaves, sort=False)
    upstream = torch.randn_like(weights)
    grads = torch.autograd.grad(weights, leaves, upstream)
    for row in (0, 2**31 // MOST, ROWS - 1):
        here = slice(row, row + 1)
        some = [leaf.detach()[here].double().cpu().requires_grad_() for leaf in leaves]
        exact, _ = reference.modulated_cosines(*some, sort=False)
        gradient = torch.autograd.grad(exact, some, upstream[here].double().cpu())
        # f^2 l counts up to 32,000 turns here
        assert magnitude(weights[here].detach().cpu().double() - exact.detach()) <= 1e-4
        for mine, true in zip(grads, gradient, strict=True):
            assert magnitude(mine[here].cpu().double() - true) <= 1e-3 * magnitude(true)


def test_total_variation_beyond_2_31_elements(large: str) -> None:
    # 0, 1, 2, 3, 0, ...: per item 64 rows of steps 1, 1, 1, 3 and no difference between rows
    row = (torch.arange(MOST, device=large) % 4).float()
    representation = row.expand(ROWS // 64, 64, MOST).contiguous().requires_grad_()
    assert representation.numel() > 2**31 - 2**28
    value = ops.total_variation(representation)
    expected = float(row.diff().abs().double().sum()) / MOST
    assert torch.allclose(value, torch.full_like(value, expected), rtol=1e-6)
    (grad,) = torch.autograd.grad(value.sum(), representation)
    small = row.expand(1, 64, MOST).contiguous().requires_grad_()
    (expected_grad,) = torch.autograd.grad(ops.total_variation(small).sum(), small)
    for item in (0, ROWS // 128, ROWS // 64 - 1):
        assert torch.equal(grad[item], expected_grad[0])


@pytest.mark.parametrize("p", [1, 2])
def test_65536_frames(p: int, large: str) -> None:
    representation = torch.rand(1, 3, MOST, device=large).requires_grad_()
    distance = ops.frame_distance(representation, p=p, normalize=None)
    assert distance.numel() > 2**31
    a = representation.detach()[0].double()
    for row in (0, MOST // 2, MOST - 1):
        exact = torch.linalg.vector_norm(a[:, row, None] - a, ord=p, dim=0)
        assert close(distance[0, row], exact) and torch.equal(distance[0, row], distance[0, :, row])
    (grad,) = torch.autograd.grad(distance.sum(), representation)
    column = MOST - 1
    difference = a[:, column, None] - a
    slope = difference.sign() if p == 1 else difference / exact.clamp_min(1e-300)
    assert magnitude(grad[0, :, column].double() - 2 * slope.sum(1)) <= 1e-4 * magnitude(grad)
