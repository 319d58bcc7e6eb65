from __future__ import annotations

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from rlsv_fast import ops, reference

# the function has the name of its module
module = importlib.import_module("rlsv_fast.ops.frame_convolution")

# What the papers' model computes: frames, stored weight, its permutation, options.
LAYERS = {
    "first": ((2, 180, 32), (48, 8, 32), (0, 1, 2), {"count": 173}),
    "context": (
        (2, 173, 40),
        (40, 40, 5),
        (0, 2, 1),
        {"count": 173, "dilation": 10, "offset": 20},
    ),
    "decoder": ((2, 173, 48), (48, 8, 32), (2, 1, 0), {"count": 180, "dilation": -1}),
}


def results(layer: str, operators: object, dtype: torch.dtype, device: str) -> list[Tensor]:
    frames_shape, weight_shape, axes, options = LAYERS[layer]
    torch.manual_seed(1)
    frames = torch.randn(frames_shape, dtype=torch.float64)
    weight = torch.randn(weight_shape, dtype=torch.float64) / math.sqrt(weight_shape[1])
    leaves = [leaf.float().to(device, dtype).requires_grad_() for leaf in (frames, weight)]
    value = operators.frame_convolution(leaves[0], leaves[1].permute(axes), **options)
    upstream = torch.randn(value.shape, generator=torch.Generator().manual_seed(2))
    return [value, *torch.autograd.grad(value, leaves, upstream.to(value))]


def rms(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())


@pytest.mark.parametrize("layer", LAYERS)
def test_rounding_errors_are_those_of_a_sum(layer: str, device: str) -> None:
    """Value and gradients of the papers' layers: within 8 float32 epsilons, root mean square."""
    exact = results(layer, reference, torch.float64, "cpu")
    for mine, true in zip(results(layer, ops, torch.float32, device), exact, strict=True):
        assert rms(mine.cpu() - true) <= 8 * torch.finfo(torch.float32).eps * rms(true)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_papers_layers_are_transformed(layer: str) -> None:
    frames, weight, axes, options = LAYERS[layer]
    taps, count = weight[axes[1]], options["count"]
    dilation, offset = options.get("dilation", 1), options.get("offset", 0)
    plan = module._make_plan(16, frames[1], taps, count, dilation, offset)
    assert plan.points > 0
    multiplications = plan.products * plan.tiles * plan.dilation
    assert multiplications <= 0.42 * taps * count


@given(
    frames=st.integers(0, 40),
    taps=st.integers(1, 9),
    count=st.integers(0, 60),
    dilation=st.integers(-12, 12).filter(bool),
    offset=st.integers(-30, 60),
    batch=st.integers(1, 200),
)
@settings(max_examples=150, deadline=None)
def test_any_geometry(
    frames: int, taps: int, count: int, dilation: int, offset: int, batch: int
) -> None:
    """Against the plain sum, at batches that are and are not worth a transform."""
    generator = torch.Generator().manual_seed(frames + 100 * taps)
    x = torch.randn(batch, frames, 2, dtype=torch.float64, generator=generator)
    w = torch.randn(3, taps, 2, dtype=torch.float64, generator=generator)
    options = {"count": count, "dilation": dilation, "offset": offset}
    mine, true = (m.frame_convolution(x, w, **options) for m in (ops, reference))
    torch.testing.assert_close(mine, true, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("points", [0, *range(1, 24), 64])
@pytest.mark.parametrize("taps", [1, 2, 5, 8])
def test_every_length_of_the_circle(points: int, taps: int, monkeypatch: object) -> None:
    """Windows of each length that a plan could choose, whether or not it would."""
    advance = max(points - taps + 1, 1)
    if points and points < taps:
        pytest.skip("a window is at least as long as its kernel")
    x = torch.randn(2, 50, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, taps, 3, dtype=torch.float64, requires_grad=True)
    tiles = -(-50 // advance)
    plan = module._Plan(taps, points, tiles, advance, 1, 2, module._WEIGHTS)
    monkeypatch.setattr(module, "_make_plan", lambda *_: plan)
    mine = ops.frame_convolution(x, w, count=50, offset=2)
    true = reference.frame_convolution(x, w, count=50, offset=2)
    torch.testing.assert_close(mine, true, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(true)
    for one, other in zip(
        *(torch.autograd.grad(value, (x, w), upstream) for value in (mine, true)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_it_is_a_strided_convolution_of_a_waveform(device: str) -> None:
    signal = torch.randn(2, 640, dtype=torch.float64, device=device)
    kernels = torch.randn(7, 64, dtype=torch.float64, device=device)
    value = ops.frame_convolution(signal.view(2, 40, 16), kernels.view(7, 4, 16), count=37)
    expected = functional.conv1d(signal[:, None], kernels[:, None], stride=16)
    torch.testing.assert_close(value.transpose(1, 2), expected)


def test_negative_dilation_is_its_adjoint(device: str) -> None:
    x = torch.randn(3, 30, 5, dtype=torch.float64, device=device)
    w = torch.randn(4, 3, 5, dtype=torch.float64, device=device)
    y = torch.randn(3, 26, 4, dtype=torch.float64, device=device)
    left = (ops.frame_convolution(x, w, count=26, dilation=2, offset=1) * y).sum()
    back = ops.frame_convolution(y, w.permute(2, 1, 0), count=30, dilation=-2, offset=-1)
    torch.testing.assert_close(left, (x * back).sum())


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (2, 1, 0)])
def test_stored_weights_are_not_copied(axes: tuple[int, ...]) -> None:
    weight = torch.randn(*(torch.tensor((6, 5, 4))[list(axes)].tolist())).permute(axes)
    assert weight.shape == (6, 5, 4)
    assert module._stored(weight)[0].data_ptr() == weight.data_ptr()


def test_gradients_only_where_wanted(device: str) -> None:
    x, w = torch.randn(2, 9, 3, device=device), torch.randn(4, 3, 3, device=device)
    for wanted in (x, w):
        wanted.requires_grad_()
        ops.frame_convolution(x, w, count=9, offset=1).sum().backward()
        assert wanted.grad is not None
        wanted.requires_grad_(False)


def test_autocast_leaves_it_in_float32() -> None:
    x, w = torch.randn(4, 60, 8), torch.randn(8, 5, 8, requires_grad=True)
    plain = ops.frame_convolution(x, w, count=60, offset=2)
    with torch.autocast("cpu", torch.bfloat16):
        value = ops.frame_convolution(x, w, count=60, offset=2)
        (grad,) = torch.autograd.grad(value.sum(), w)
    assert torch.equal(value, plain)
    assert torch.equal(grad, torch.autograd.grad(plain.sum(), w)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": torch.zeros(3, 4)}, r"frames must have shape \(B, T, C\), got \(3, 4\)"),
        ({"weight": torch.zeros(4, 3, 2)}, r"weight must have shape \(O, J, C\).*got \(4, 3, 2\)"),
        ({"weight": torch.zeros(4, 0, 3)}, "weight must have at least one tap"),
        ({"count": -1}, "count must be at least 0, got -1"),
        ({"dilation": 0}, "dilation must not be 0"),
        ({"offset": 2**50}, "offset must be at most"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    arguments = {"frames": torch.zeros(2, 9, 3), "weight": torch.zeros(4, 3, 3), "count": 9}
    with pytest.raises(ValueError, match=f"frame_convolution: {message}"):
        ops.frame_convolution(**{**arguments, **change})
