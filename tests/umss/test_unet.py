"""The supervised U-Net: its conditions, its sizes, its gradients and its voices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlsv_fast.umss import F0UNet, frequencies
from rlsv_fast.umss.unet import BlurredPitch, HarmonicSpectrum, pitch_map
from umss.small import assert_slope_is_that_of_differences

close = torch.testing.assert_close
HOP = 16
CONDITIONINGS = ("one-hot", "harmonics")


def tiny(**settings: Any) -> F0UNet:
    torch.manual_seed(0)
    model = F0UNet(n_fft=4 * HOP, hop=HOP, channels=(3, 4, 5), **settings).double()
    with torch.no_grad():  # as if trained: norms that do something
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.1, 0.1)
                part.running_var.uniform_(0.5, 2.0)
    return model.eval()


def song(items: int = 2, voices: int = 3, length: int = 7 * HOP) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mixture = torch.randn(items, length, generator=generator, dtype=torch.float64)
    shape = (items, voices, -(-length // HOP))
    return mixture, 100 + 300 * torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("conditioning", "size"), [("one-hot", 10_319_171), ("harmonics", 10_878_041)]
)
def test_sizes_are_the_published_ones(conditioning: Any, size: int) -> None:
    model = F0UNet(conditioning=conditioning)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


def test_layers_are_of_the_published_shapes() -> None:
    model, shapes = F0UNet().eval(), []
    for layer in (*model.encoder, *model.decoder):
        layer.register_forward_hook(lambda m, x, y: shapes.append(tuple(y.shape[2:])))
    with torch.inference_mode():
        masked = model.estimate(torch.randn(1, 64000), torch.full((1, 250), 200.0))
    halves = [(257, 127), (129, 64), (65, 32), (33, 16), (17, 8), (9, 4)]
    assert shapes == halves + halves[-2::-1]
    assert masked.shape == (1, 513, 254)


def test_pitch_lies_at_its_bin() -> None:
    grid = frequencies().double()
    found = pitch_map(grid[None])
    assert found.shape == (1, 361, 360)
    assert found.argmax(1)[0].tolist() == list(range(1, 361))
    close(found.amax(1), torch.ones(1, 360, dtype=torch.float64))
    column = torch.zeros(361, dtype=torch.float64)
    column[96:105] = (-torch.arange(-4.0, 5.0, dtype=torch.float64).square() / 2).exp()
    close(found[0, :, 99], column)
    assert pitch_map(torch.tensor([[0.0, 5.0, 9000.0]])).argmax(1).tolist() == [[0, 0, 360]]


def test_the_condition_sees_four_frames_before_and_five_behind_in_each_layer() -> None:
    condition = BlurredPitch(33).eval()
    f0 = torch.full((1, 60), 200.0)
    changed = f0.clone()
    changed[:, 30] = 300.0
    before, after = condition(f0)[0], condition(changed)[0]
    assert before.shape == (1, 33, 60)
    seen = (before != after).any(1)[0].nonzero().flatten()
    assert 30 - 15 <= seen.min() < 30 - 5 and 30 + 4 < seen.max() <= 30 + 12


def test_the_spectrum_has_the_harmonics_of_its_frame() -> None:
    condition = HarmonicSpectrum(sample_rate=16000, n_fft=1024, hop=256).double()
    f0 = torch.full((1, 12), 500.0, dtype=torch.float64)
    f0[:, 8:] = 0
    magnitude = condition.magnitude(f0)[0]
    assert magnitude.shape == (513, 12)
    assert magnitude[:, 4].topk(15).indices.sort().values.tolist() == list(range(32, 512, 32))
    assert magnitude[:, 11].max() < 1e-6 < magnitude[:, 4].max()


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 17])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_a_mask_of_any_length(conditioning: Any, frames: int) -> None:
    magnitude = torch.rand(2, 33, frames, dtype=torch.float64)
    f0 = torch.full((2, frames), 200.0, dtype=torch.float64)
    f0[:, ::3] = 0
    masked = tiny(conditioning=conditioning)(magnitude, f0)
    assert masked.shape == magnitude.shape
    assert (masked > 0).all() and (masked < magnitude).all()


def test_level_is_no_matter() -> None:
    magnitude = torch.rand(2, 33, 9, dtype=torch.float64)
    f0 = torch.full((2, 9), 200.0, dtype=torch.float64)
    model = tiny()
    level = torch.tensor([3.0, 5.0], dtype=torch.float64)[:, None, None]
    close(model(level * magnitude, f0), level * model(magnitude, f0))
    assert not model(torch.zeros_like(magnitude), f0).any()


def test_activations_are_the_identity_in_the_published_code() -> None:
    x = torch.tensor([-2.0, 3.0])
    for convention, expected in (("paper", [-0.02, 3.0]), ("code", [-2.0, 3.0])):
        for layer in F0UNet(convention=convention, n_fft=64, hop=16, channels=(2, 2)).encoder:
            close(layer[-1](x), torch.tensor(expected))


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_gradients_reach_everything_and_are_differences(conditioning: Any) -> None:
    model = tiny(conditioning=conditioning)
    mixture, f0 = song()
    inputs = [mixture.requires_grad_(), *model.parameters()]

    def value() -> Tensor:
        return model.estimate(mixture, f0[:, 0]).square().mean()

    assert_slope_is_that_of_differences(value, inputs, 1e-7)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("length", [1, HOP, 6 * HOP + 5, 200])
def test_voices_add_up_and_know_no_order_and_no_neighbours(conditioning: Any, length: int) -> None:
    model = tiny(conditioning=conditioning)
    mixture, f0 = song(length=length)
    separated = model.separate(mixture, f0)
    assert separated.shape == (2, 3, length)
    close(separated.sum(1), mixture)
    close(model.separate(mixture, f0[:, [2, 0, 1]]), separated[:, [2, 0, 1]])
    close(model.separate(mixture[1:], f0[1:]), separated[1:])


def test_separation_is_by_the_estimates_and_leaves_the_module_as_it_was() -> None:
    model = tiny().train()
    model.condition.eval()
    mixture, f0 = song()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    separated = model.separate(mixture, f0)
    assert model.training and model.encoder.training and not model.condition.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not separated.requires_grad
    model.eval()
    magnitudes = torch.stack([model.estimate(mixture, track) for track in f0.unbind(1)], 1)
    cells = model.spectrum(mixture)
    masked = magnitudes / magnitudes.sum(1, keepdim=True) * cells.unsqueeze(1)
    window = torch.hann_window(4 * HOP, dtype=torch.float64)
    for voice, cell in zip(separated.unbind(1), masked.unbind(1), strict=True):
        found = torch.istft(cell, 4 * HOP, HOP, window=window, length=mixture.shape[1])
        close(voice, found)


def test_tracks_are_resampled_over_the_time_of_the_mixture() -> None:
    model = tiny()
    mixture, f0 = song()
    wide = f0.repeat_interleave(3, -1)  # the middle one of three frames lies where theirs does
    close(model.estimate(mixture, wide[:, 0]), model.estimate(mixture, f0[:, 0]))


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: m(zeros(1, 32, 9), zeros(1, 9)),
            ValueError,
            r"magnitude must have shape \(B, 3",
        ),
        (lambda m: m(zeros(1, 33, 9), zeros(1, 8)), ValueError, r"f0 must have shape \(1, 9\)"),
        (lambda m: m(zeros(1, 33, 0), zeros(1, 0)), ValueError, "f0 must not be empty"),
        (lambda m: m(zeros(1, 33, 9), zeros(1, 9).float()), TypeError, "f0 must have the dtype"),
        (lambda m: m.estimate(zeros(1, 9), zeros(1, 2, 3)), ValueError, r"shape \(B, T\)"),
        (lambda m: m.separate(zeros(1, 9), zeros(1, 3)), ValueError, r"f0 must have shape \(1, V"),
        (lambda m: m.separate(zeros(1, 9), zeros(1, 0, 3)), ValueError, "f0 must not be empty"),
        (lambda m: m.spectrum(zeros(1, 0)), ValueError, "signal must have samples"),
        (lambda m: F0UNet(conditioning="x"), ValueError, "conditioning must be one of"),
        (lambda m: F0UNet(convention="x"), ValueError, "convention must be one of"),
        (lambda m: F0UNet(n_fft=1000), ValueError, "n_fft must be even and at least twice"),
        (lambda m: F0UNet(channels=(4,)), ValueError, "channels must be of at least 2 layers"),
    ],
)
def test_bad_input(call: Callable[[F0UNet], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(tiny())
