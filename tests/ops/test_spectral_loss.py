from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast import ops, reference
from rlsv_fast._library import raw
from rlsv_fast.nn import SpectralLoss
from rlsv_fast.reference.spectral_loss import magnitudes

both = pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
SIZES = (2048, 1024, 512, 256, 128, 64)


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "golden" / "umss" / "spectral_loss.npz") as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}


def pair(device: str = "cpu") -> tuple[Tensor, Tensor]:
    target = torch.randn(2, 900, dtype=torch.float64, device=device)
    return target + 0.3 * torch.randn_like(target), target


@both
def test_the_original_loss_and_gradient(
    module: object, golden: dict[str, Tensor], device: str
) -> None:
    value = golden["value"].to(device).requires_grad_()
    target = golden["target"].to(device)
    loss = module.spectral_loss(value, target, reduce="mean")  # type: ignore[attr-defined]
    (grad,) = torch.autograd.grad(loss, value)
    torch.testing.assert_close(loss.cpu(), golden["loss"], rtol=1e-5, atol=0)
    largest = float(golden["g_value"].abs().max())
    torch.testing.assert_close(grad.cpu(), golden["g_value"], rtol=1e-3, atol=1e-4 * largest)


@both
def test_each_scale_of_the_original(module: object, golden: dict[str, Tensor], device: str) -> None:
    value, target = golden["value"].double().to(device), golden["target"].double().to(device)
    for size, expected in zip(SIZES, golden["per_scale"].tolist(), strict=True):
        for weights, want in (((1, 0), expected[0]), ((0, 1), expected[1])):
            found = module.spectral_loss(  # type: ignore[attr-defined]
                value,
                target,
                fft_sizes=[size],
                magnitude_weight=weights[0],
                log_magnitude_weight=weights[1],
                reduce="mean",
            )
            assert found.item() == pytest.approx(want, rel=1e-4)


def test_same_bits_for_any_number_of_threads(device: str) -> None:
    """Of what follows the transforms; those are torch's and depend on the number of threads."""
    spectra = torch.randn(2, 3, 20_000, 2, device=device)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (4, 1):
            torch.set_num_threads(count)
            results.append(raw._spectral_loss_forward(*spectra, 0.7, 0.3, True, True))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_known_distances(device: str) -> None:
    estimate, target = pair(device)
    for louder in (1, -1):  # a sign is no difference of magnitudes
        assert ops.spectral_loss(louder * target, target).tolist() == pytest.approx(
            [0, 0], abs=1e-9
        )
    doubled = ops.spectral_loss(2 * target, target, fft_sizes=[64], magnitude_weight=0)
    assert doubled.tolist() == pytest.approx([math.log(2)] * 2, rel=1e-6)
    apart = ops.spectral_loss(estimate, target)
    torch.testing.assert_close(ops.spectral_loss(target, estimate), apart)
    torch.testing.assert_close(ops.spectral_loss(estimate, target, reduce="mean"), apart.mean())
    scales = [ops.spectral_loss(estimate, target, fft_sizes=[size]) for size in SIZES]
    torch.testing.assert_close(sum(scales), apart)


def test_equal_magnitudes_teach_nothing(device: str) -> None:
    signal = torch.randn(2, 500, device=device).requires_grad_()
    target = signal.detach().clone().requires_grad_()
    loss = ops.spectral_loss(signal, target).sum()
    assert loss == 0 and not any(g.any() for g in torch.autograd.grad(loss, (signal, target)))


@both
def test_silence_stays_finite_and_nan_does_not_hide(module: object, device: str) -> None:
    estimate = torch.zeros(3, 100, device=device)
    estimate[1] = torch.randn(100, device=device)
    estimate[2, 50] = math.nan
    target = torch.zeros_like(estimate)
    target[0] = estimate[1]
    estimate.requires_grad_()
    value = module.spectral_loss(estimate, target, fft_sizes=[32])  # type: ignore[attr-defined]
    assert value.isfinite().tolist() == [True, True, False]
    (grad,) = torch.autograd.grad(value[:2].sum(), estimate)
    assert grad[:2].isfinite().all()


def test_gradients_are_made_where_they_are_wanted(device: str) -> None:
    estimate, target = pair(device)
    estimate.requires_grad_()
    (alone,) = torch.autograd.grad(ops.spectral_loss(estimate, target).sum(), estimate)
    target.requires_grad_()
    both_ways = torch.autograd.grad(ops.spectral_loss(estimate, target).sum(), (estimate, target))
    assert torch.equal(alone, both_ways[0])
    (swapped,) = torch.autograd.grad(ops.spectral_loss(target, estimate).sum(), target)
    torch.testing.assert_close(both_ways[1], swapped, rtol=0, atol=1e-12)


def test_frames_as_documented() -> None:
    """ceil(N / hop) frames, the first at sample 0, zeros at the end."""
    signal = torch.randn(1, 1000, dtype=torch.float64)
    assert magnitudes(signal, 256, 0.75).shape == (1, 16, 129)
    window = torch.hann_window(256, dtype=torch.float64)
    last = torch.nn.functional.pad(signal[0, 960:], (0, 216))
    exact = (torch.fft.rfft(last * window).abs().square() + 1e-10).sqrt()
    torch.testing.assert_close(magnitudes(signal, 256, 0.75)[0, -1], exact)


def test_module(device: str) -> None:
    estimate, target = pair(device)
    values = ops.spectral_loss(estimate, target, fft_sizes=(64, 32), overlap=0.5)
    for reduction, expected in (("none", values), ("mean", values.mean()), ("sum", values.sum())):
        loss = SpectralLoss([64, 32], overlap=0.5, reduction=reduction)  # type: ignore[arg-type]
        assert torch.equal(loss(estimate, target), expected)
    with pytest.raises(ValueError, match="SpectralLoss: reduction must be one of"):
        SpectralLoss(reduction="item")  # type: ignore[arg-type]


def test_bad_inputs_are_named() -> None:
    x = torch.rand(2, 30)
    with pytest.raises(ValueError, match=r"spectral_loss: estimate must have shape \(B, N\)"):
        ops.spectral_loss(x[0], x[0])
    with pytest.raises(ValueError, match=r"target must have shape \(2, 30\) as estimate"):
        ops.spectral_loss(x, x[:, 1:])
    with pytest.raises(TypeError, match="target must have the dtype of estimate"):
        ops.spectral_loss(x, x.double())
    for sizes in ((), "64", 64):
        with pytest.raises(ValueError, match="fft_sizes must be one or more numbers"):
            ops.spectral_loss(x, x, fft_sizes=sizes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fft_sizes must be at least 2, got 1"):
        ops.spectral_loss(x, x, fft_sizes=[1])
    for overlap in (1, -0.1, math.nan):
        with pytest.raises(ValueError, match="overlap must be at least 0 and below 1"):
            ops.spectral_loss(x, x, overlap=overlap)
    for weight in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="log_magnitude_weight must be finite and not neg"):
            ops.spectral_loss(x, x, log_magnitude_weight=weight)
    with pytest.raises(ValueError, match="reduce='mean' needs at least one item"):
        ops.spectral_loss(x[:0], x[:0], reduce="mean")
