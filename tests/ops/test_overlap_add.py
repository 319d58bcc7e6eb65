from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from rlsv_fast import ops

SIZES = pytest.mark.parametrize(
    ("samples", "taps", "hop", "count", "offset"),
    [
        (4410, 512, 64, 69, 223),
        (4410, 512, 96, 46, 0),
        (100, 7, 3, 40, 5),
        (100, 3, 8, 9, -4),
        (50, 64, 1, 20, 30),
    ],
)


@SIZES
def test_adjoint(samples: int, taps: int, hop: int, count: int, offset: int, device: str) -> None:
    x = torch.randn(2, samples, dtype=torch.float64, device=device)
    y = torch.randn(2, count, taps, dtype=torch.float64, device=device)
    left = (ops.frames(x, hop, kernel_size=taps, count=count, offset=offset) * y).sum()
    right = (x * ops.overlap_add(y, hop, length=samples, offset=offset)).sum()
    torch.testing.assert_close(left, right)


@SIZES
def test_overlap_add_is_a_transposed_convolution(
    samples: int, taps: int, hop: int, count: int, offset: int, device: str
) -> None:
    x = torch.randn(2, count, taps, dtype=torch.float64, device=device)
    unit = torch.eye(taps, dtype=torch.float64, device=device)[:, None]
    support = functional.conv_transpose1d(x.transpose(1, 2), unit, stride=hop)[:, 0]
    expected = functional.pad(support, (max(-offset, 0), samples))[:, max(offset, 0) :]
    result = ops.overlap_add(x, hop, length=samples, offset=offset)
    torch.testing.assert_close(result, expected[:, :samples])


@pytest.mark.parametrize("hop", [64, 96])
def test_frames_are_what_a_convolution_sees(hop: int, device: str) -> None:
    x = torch.randn(2, 1000, dtype=torch.float64, device=device)
    kernels = torch.randn(5, 1, 256, dtype=torch.float64, device=device)
    expected = functional.conv1d(x[:, None], kernels, stride=hop, padding=100)
    seen = ops.frames(x, hop, kernel_size=256, count=expected.shape[2], offset=100)
    torch.testing.assert_close(torch.einsum("btl,cl->bct", seen, kernels[:, 0]), expected)


def test_each_is_the_backward_of_the_other(device: str) -> None:
    x = torch.randn(2, 90, device=device, requires_grad=True)
    y = torch.randn(2, 11, 16, device=device, requires_grad=True)
    (by_signal,) = torch.autograd.grad(
        ops.frames(x, 8, kernel_size=16, count=11, offset=3), x, y.detach()
    )
    assert torch.equal(by_signal, ops.overlap_add(y, 8, length=90, offset=3))
    (by_frames,) = torch.autograd.grad(ops.overlap_add(y, 8, length=90, offset=3), y, x.detach())
    assert torch.equal(by_frames, ops.frames(x, 8, kernel_size=16, count=11, offset=3))


def test_adding_back_counts_the_cover(device: str) -> None:
    ones = torch.ones(1, 64, device=device)
    cover = ops.overlap_add(
        ops.frames(ones, 4, kernel_size=16, count=19, offset=12), 4, length=64, offset=12
    )
    assert torch.equal(cover, torch.full_like(ones, 4))


def test_far_offsets_give_zeros(device: str) -> None:
    for offset in (-(10**12), 10**12):
        seen = ops.frames(torch.ones(1, 9, device=device), 2, kernel_size=4, count=3, offset=offset)
        added = ops.overlap_add(torch.ones(1, 3, 4, device=device), 2, length=9, offset=offset)
        assert not seen.any() and not added.any()


def test_bad_inputs_are_named() -> None:
    signal, some = torch.rand(2, 30), torch.rand(2, 3, 4)
    with pytest.raises(ValueError, match=r"frames: signal must have shape \(B, N\), got \(30,\)"):
        ops.frames(signal[0], 2, kernel_size=4, count=3)
    with pytest.raises(ValueError, match="frames: kernel_size must be at least 1, got 0"):
        ops.frames(signal, 2, kernel_size=0, count=3)
    with pytest.raises(ValueError, match="frames: hop must be at least 1, got 0"):
        ops.frames(signal, 0, kernel_size=4, count=3)
    with pytest.raises(ValueError, match="frames: count must be at least 0, got -1"):
        ops.frames(signal, 2, kernel_size=4, count=-1)
    with pytest.raises(TypeError, match="frames: offset must be an int, got float"):
        ops.frames(signal, 2, kernel_size=4, count=3, offset=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"overlap_add: frames must .*\(B, T, L\).*\(2, 30\)"):
        ops.overlap_add(signal, 2, length=9)
    with pytest.raises(ValueError, match="overlap_add: length must be at least 0, got -9"):
        ops.overlap_add(some, 2, length=-9)
    with pytest.raises(TypeError, match="overlap_add: hop must be an int, got str"):
        ops.overlap_add(some, "2", length=9)  # type: ignore[arg-type]
