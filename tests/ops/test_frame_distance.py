"""Distances of frames: every size and split of the work, ties, broken frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlsv_fast import ops, reference
from rlsv_fast._library import raw

# Fewer and more channels and frames than vectors, tiles, groups and chains have, and odd rests.
SIZES = [
    (1, 1, 2),
    (2, 0, 3),
    (9, 3, 16),
    (3, 16, 7),
    (2, 17, 65),
    (1, 40, 129),
    (4, 33, 130),
    (1, 1100, 5),
]


def _rectified(*sizes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(sizes))
    return torch.relu(torch.randn(*sizes, dtype=torch.float64, generator=generator)).to(dtype)


def _whole(*sizes: int, low: int = -2, high: int = 3) -> Tensor:
    """Small whole numbers, whose sums are exact in any order and any precision."""
    generator = torch.Generator().manual_seed(sum(sizes))
    return torch.randint(low, high, sizes, generator=generator).double()


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("normalize", ["features", "time", None])
def test_every_size(sizes: tuple[int, ...], p: int, normalize: str | None, device: str) -> None:
    leaf = _rectified(*sizes).to(device)
    frames = sizes[2]
    upstream = torch.randn(sizes[0], frames, frames, dtype=leaf.dtype, device=device)
    found = []
    for module in (ops, reference):
        own = leaf.clone().requires_grad_()
        distance = module.frame_distance(own, p=p, normalize=normalize)
        distance.backward(upstream)
        found.append((distance, own.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-11)
    assert torch.equal(found[0][0], found[0][0].transpose(1, 2))
    assert (found[0][0].diagonal(dim1=1, dim2=2) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("frames", [3, 20, 150])
def test_ties_have_no_direction(frames: int, dtype: torch.dtype, device: str) -> None:
    exact = _whole(2, 21, frames)
    exact[0, :, 1:3] = exact[0, :, :1]  # frames that coincide
    exact[1, ::2] *= -1  # zeros of both signs
    upstream = _whole(2, frames, frames, low=-4, high=9)
    difference = exact[:, :, :, None] - exact[:, :, None, :]
    distance = difference.abs().sum(1)
    weight = (upstream + upstream.transpose(1, 2)) * (distance != 0)
    expected = (weight[:, None] * difference.sign()).sum(3)

    representation = exact.to(dtype).to(device).requires_grad_()
    found = ops.frame_distance(representation, normalize=None)
    found.backward(upstream.to(dtype).to(device))
    assert representation.grad is not None
    assert torch.equal(found.detach().cpu().double(), distance)
    assert torch.equal(representation.grad.cpu().double(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalize", ["features", "time", None])
def test_silence_has_no_slope(normalize: str | None, dtype: torch.dtype, device: str) -> None:
    silent = torch.zeros(2, 19, 37, dtype=dtype, device=device, requires_grad=True)
    distance = ops.frame_distance(silent, normalize=normalize)
    distance.backward(torch.randn_like(distance))
    assert silent.grad is not None
    assert (distance == 0).all() and (silent.grad == 0).all()


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
@pytest.mark.parametrize("normalize", [0, 1, 2])
def test_same_bits_for_any_number_of_threads(batch: int, normalize: int) -> None:
    representation = _rectified(batch, 200, 90, dtype=torch.float32)
    upstream = torch.randn(batch, 90, 90)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            distance = raw._frame_distance_forward(representation, 1, normalize)
            saved = (upstream, representation, distance, 1, normalize)
            found.append((distance, raw._frame_distance_backward(*saved)))
    finally:
        torch.set_num_threads(before)
    for distance, slope in found[1:]:
        assert torch.equal(distance, found[0][0]) and torch.equal(slope, found[0][1])


@pytest.mark.parametrize("p", [1, 2])
def test_a_broken_frame_is_told(p: int, device: str) -> None:
    representation = _rectified(1, 30, 21, dtype=torch.float32).to(device)
    sound = ops.frame_distance(representation, p=p)
    representation[0, 4, 5] = torch.nan
    broken = ops.frame_distance(representation, p=p)
    others = torch.arange(21, device=device) != 5
    assert broken[0, 5].isnan().all() and broken[0, :, 5].isnan().all()
    assert torch.equal(broken[0][others][:, others], sound[0][others][:, others])
