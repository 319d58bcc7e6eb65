from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlsv_fast import ops, reference

GRID: dict[str, Any] = {"lowest": 32.7, "bins_per_octave": 60}
METHODS = ("reconstruction", "soft", "ste", "sigmoid", "threshold", "amplitude")
SIZES = [(12, 5), (360, 37), (7, 600), (3, 16), (4, 1)]


def hertz(bins: Tensor) -> Tensor:
    return 32.7 * 2 ** (bins.double() / 60)


def decoded(
    salience: Tensor, thresholds: tuple[float, ...], upstream: Tensor | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """f0 and the gradient to the salience, on the CPU."""
    leaf = salience.detach().requires_grad_()
    f0 = ops.decode_f0(leaf, thresholds, **{**GRID, **options})
    upstream = torch.ones_like(f0) if upstream is None else upstream.to(f0)
    (gradient,) = torch.autograd.grad(f0, leaf, upstream)
    return f0.detach().cpu(), gradient.cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("bins", "frames"), SIZES)
def test_the_largest_bin_and_the_first_of_equal_ones(
    bins: int, frames: int, dtype: torch.dtype, device: str
) -> None:
    salience = torch.randint(0, 4, (2, 3, bins, frames)).to(dtype)  # many ties
    f0 = ops.decode_f0(salience.to(device), (0.5, 1.5, 2.5), **GRID).cpu()
    top = salience.amax(2)
    first = (salience == top[:, :, None]).int().argmax(2)  # argmax of 0 and 1: checked below
    steps = torch.arange(bins)[:, None]
    assert not ((salience == top[:, :, None]) & (steps < first[:, :, None])).any()
    voiced = (top > torch.tensor([0.5, 1.5, 2.5])[:, None]) & (first > 0)
    expected = torch.where(voiced, hertz(first), 0.0)
    torch.testing.assert_close(f0.double(), expected, rtol=1e-7, atol=0)


def test_a_threshold_that_is_reached_is_enough(device: str) -> None:
    """0.7 in float32 is less than 0.7 in double."""
    salience = torch.zeros(1, 2, 9, 4, device=device)
    salience[:, :, 5] = 0.7
    assert (ops.decode_f0(salience, (0.7, 0.7), **GRID) > 0).all()
    assert (ops.decode_f0(salience, (0.7, 0.7000001), **GRID)[:, 1] == 0).all()
    assert (ops.decode_f0(salience, (0.7, 0.7), method="ste", **GRID) == 0).all()  # not above


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("bins", "frames"), SIZES)
def test_a_nan_is_not_decoded(bins: int, frames: int, method: str, device: str) -> None:
    salience = torch.rand(1, 2, bins, frames)
    salience[0, 1, bins // 2, frames // 2] = math.nan
    leaf = salience.to(device).requires_grad_()
    f0 = ops.decode_f0(leaf, (2.0, 2.0), method=method, **GRID)  # type: ignore[arg-type]
    lost = torch.zeros(1, 2, frames, dtype=torch.bool)
    lost[0, 1, frames // 2] = True
    assert torch.equal(f0.isnan().cpu(), lost)
    twin = reference.decode_f0(salience, (2.0, 2.0), method=method, **GRID)
    assert torch.equal(twin.isnan(), lost)
    if method == "amplitude":
        assert not f0.requires_grad
        return
    (gradient,) = torch.autograd.grad(f0.sum(), leaf)
    assert torch.equal(gradient.isnan().any(2).cpu(), lost)


@pytest.mark.parametrize("convention", ["paper", "code"])
def test_reconstruction_passes_gradients_to_all_bins(convention: str, device: str) -> None:
    salience = torch.rand(2, 2, 30, 21, device=device)
    upstream = torch.randn(2, 2, 21)
    f0, gradient = decoded(salience, (0.97, 0.9), upstream, convention=convention)
    weight = torch.ones_like(f0) if convention == "code" else (f0 > 0).float()
    assert 0 < (f0 > 0).sum() < f0.numel()
    assert torch.equal(gradient, (upstream * weight)[:, :, None].expand(gradient.shape))


def test_the_code_sums_what_shares_its_hertz(device: str) -> None:
    salience = torch.eye(360, device=device)[None, None]  # frame t holds bin t
    f0 = ops.decode_f0(salience, (0.5,), convention="code", **GRID)[0, 0].cpu().double()
    grid = hertz(torch.arange(360))
    groups = (grid.floor()[:, None] == grid.floor()).double() @ grid
    torch.testing.assert_close(f0[1:], groups[1:], rtol=1e-6, atol=0)
    assert f0[0] == 0 and (groups > grid + 1).sum() > 20


@pytest.mark.parametrize("frames", [3, 16, 37])
@pytest.mark.parametrize("method", ["ste", "sigmoid", "threshold"])
def test_one_bin_gets_the_gradient(method: str, frames: int, device: str) -> None:
    salience = 0.5 + 0.004 * torch.rand(1, 2, 40, frames, dtype=torch.float64, device=device)
    upstream = 40 * torch.randn(1, 2, frames, dtype=torch.float64)
    f0, gradient = decoded(salience, (0.5035, 0.2), upstream, method=method)
    top, bins = salience.cpu().max(2)
    limit = torch.tensor([[0.5035], [0.2]], dtype=torch.float64)
    hard = torch.where((top >= limit) & (bins > 0), hertz(bins), 0.0)
    gate = torch.sigmoid(1000 * (top - limit))
    value, slope = {
        "ste": (hard, (upstream * hard).clamp(-1000, 1000)),
        "sigmoid": (gate * hard, upstream * 1000 * gate * (1 - gate) * hard),
        "threshold": (top * hard, upstream * hard),
    }[method]
    torch.testing.assert_close(f0, value)
    expected = torch.zeros_like(gradient).scatter(2, bins[:, :, None], slope[:, :, None])
    torch.testing.assert_close(gradient, expected)
    if method == "ste":
        assert (gradient.abs() == 1000).any()


@pytest.mark.parametrize("place", [1, 3, 50.0, 50.25, 97, 99])
def test_soft_is_the_mean_place_of_nine_bins(place: float, device: str) -> None:
    bins = torch.arange(100, dtype=torch.float64)
    column = torch.exp(-0.3 * (bins - place).abs())
    f0, gradient = decoded(column[None, None, :, None].to(device), (0.1,), method="soft")
    peak = round(place)
    near = [k for k in range(peak - 4, peak + 5) if 0 <= k < 100]
    total = float(column[near].sum())
    mean = float((column * bins)[near].sum()) / total
    assert float(f0) == pytest.approx(32.7 * 2 ** (mean / 60))
    expected = torch.zeros(100, dtype=torch.float64)
    for k in near:
        expected[k] = float(f0) * math.log(2) / 60 * (k - mean) / total
    torch.testing.assert_close(gradient[0, 0, :, 0], expected)


def test_reconstruction_keeps_nothing_of_the_salience() -> None:
    """Its gradient is a view of one number per frame, and so is what is saved for it."""
    salience = torch.rand(1, 1, 360, 50, requires_grad=True)
    f0 = ops.decode_f0(salience, (0.1,), **GRID)
    kept = f0.grad_fn.saved_tensors  # type: ignore[union-attr]
    assert sum(tensor.numel() for tensor in kept) <= 2 * f0.numel()
    (gradient,) = torch.autograd.grad(f0.sum(), salience)
    assert gradient.untyped_storage().nbytes() == 4 * f0.numel()


def test_bad_input() -> None:
    salience = torch.zeros(1, 2, 5, 3)
    with pytest.raises(ValueError, match=r"must have shape \(B, V, F, T\), got \(2, 5, 3\)"):
        ops.decode_f0(salience[0], (0.1, 0.1), **GRID)
    with pytest.raises(ValueError, match="at least one bin"):
        ops.decode_f0(salience[:, :, :0], (0.1, 0.1), **GRID)
    with pytest.raises(ValueError, match="at most 64 voices, got 65"):
        ops.decode_f0(torch.zeros(1, 65, 2, 1), (0.1,) * 65, **GRID)
    with pytest.raises(ValueError, match="one for each of 2 voices, got 3"):
        ops.decode_f0(salience, (0.1,) * 3, **GRID)
    with pytest.raises(ValueError, match="thresholds must not be NaN"):
        ops.decode_f0(salience, (0.1, math.nan), **GRID)
    with pytest.raises(TypeError, match="thresholds must be a sequence of numbers, got float"):
        ops.decode_f0(salience, 0.1, **GRID)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="thresholds must be a number, got str"):
        ops.decode_f0(salience, (0.1, "0.1"), **GRID)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lowest must be positive and finite, got -1"):
        ops.decode_f0(salience, (0.1, 0.1), lowest=-1, bins_per_octave=60)
    with pytest.raises(ValueError, match="bins_per_octave must be at least 1, got 0"):
        ops.decode_f0(salience, (0.1, 0.1), lowest=1, bins_per_octave=0)
    with pytest.raises(ValueError, match="method must be one of"):
        ops.decode_f0(salience, (0.1, 0.1), method="softmax", **GRID)  # type: ignore[arg-type]
