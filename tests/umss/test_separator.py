"""The separator that learns from mixtures: its parts, its sizes, its gradients and its voices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.umss import (
    MixtureEncoder,
    ParameterDecoder,
    SourceFilterSeparator,
    Synthesis,
    VoiceParameters,
    held_pitch,
    resample_tracks,
    soft_mask_separation,
)
from rlsv_fast.umss.encoder import ItemNorm
from rlsv_fast.umss.parameter_decoder import unit_pitch
from umss.small import assert_slope_is_that_of_differences

close = torch.testing.assert_close
HOP = 32


def tiny(**settings: Any) -> SourceFilterSeparator:
    torch.manual_seed(0)
    small = dict(encoder_hidden=6, embedding=4, decoder_hidden=8, order=4, noise_bins=5)
    module = SourceFilterSeparator(hop=HOP, harmonics=5, **small, **settings)
    return module.double()


def song(items: int = 2, voices: int = 3, length: int = 7 * HOP) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mixture = torch.randn(items, length, generator=generator, dtype=torch.float64)
    shape = (items, voices, -(-length // HOP))
    return mixture, 100 + 300 * torch.rand(shape, generator=generator, dtype=torch.float64)


def seeded(module: SourceFilterSeparator, mixture: Tensor, f0: Tensor) -> Synthesis:
    result: Synthesis = module(mixture, f0, generator=torch.Generator().manual_seed(2))
    return result


def quiet(module: SourceFilterSeparator) -> SourceFilterSeparator:
    """Without noise but for what the activation leaves of it, 1e-7."""
    with torch.no_grad():
        module.decoder.noise_gain.bias.fill_(-1e4)
    return module


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_are_the_published_ones() -> None:
    model = SourceFilterSeparator()
    assert size(model) == 5_573_961
    assert size(model.encoder) == size(MixtureEncoder()) == 1_218_434
    decoder = model.decoder
    trunk = (decoder.pitch, decoder.sound, decoder.recurrent, decoder.shared)
    assert sum(size(part) for part in trunk) == 4_277_248
    assert size(decoder) == size(ParameterDecoder()) == 4_277_248 + 78_279
    assert size(ParameterDecoder(roll_off="frame")) - size(decoder) == 513
    assert size(ParameterDecoder(roll_off="excerpt")) - size(decoder) == 3 * (512 + 1 + 2)


@pytest.mark.parametrize("length", [1, 256, 300, 512, 1537])
def test_features_are_logarithms_of_frames_that_begin_in_the_signal(length: int) -> None:
    signal = torch.randn(2, length, generator=torch.Generator().manual_seed(0)).double()
    padded = torch.nn.functional.pad(signal, (0, 512))
    window = torch.hann_window(512, dtype=torch.float64)
    spectrum = torch.stft(padded, 512, 256, window=window, center=False, return_complex=True)
    count = -(-length // 256)
    found = MixtureEncoder().features(signal)
    assert found.shape == (2, count, 257)
    magnitudes = spectrum.abs()[..., :count].mT
    close(found.exp(), torch.where(magnitudes > 0, magnitudes, 1e-5))


def test_silence_is_a_hundred_thousandth() -> None:
    close(MixtureEncoder().features(torch.zeros(1, 600)), torch.full((1, 3, 257), 1e-5).log())
    assert MixtureEncoder()(torch.zeros(1, 600)).isfinite().all()


def test_the_norm_is_that_of_an_item_with_a_scale_for_each_bin() -> None:
    norm = ItemNorm(3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.0, 0.0, 5.0]))
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = torch.stack([(i - i.mean()) / (i.var(correction=0) + 1e-5).sqrt() for i in x])
    close(norm(x), plain * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor([0.0, 0.0, 5.0]))


def test_the_second_layer_is_added_to_the_third() -> None:
    encoder = MixtureEncoder(frame=64, hop=32, hidden=5, embedding=3)
    mixture = torch.randn(2, 200, generator=torch.Generator().manual_seed(0))
    x = encoder.norm(encoder.features(mixture))
    second = encoder.second(encoder.first(x)[0])[0]
    third = encoder.third(second)[0]
    close(encoder(mixture), encoder.out(second + third))


def test_pitch_on_its_scale() -> None:
    f0 = torch.tensor([20.0, 8000.0, 400.0, 0.0, 1e-5], dtype=torch.float64)
    expected = torch.tensor([0.0, 1.0, 0.5, -0.149, -2.42], dtype=torch.float64)
    close(unit_pitch(f0), expected, rtol=0, atol=2e-3)
    voiced = f0[:3].requires_grad_()
    assert torch.autograd.gradcheck(unit_pitch, (voiced,))


def test_pitch_is_held_where_there_is_none() -> None:
    f0 = torch.tensor([[0, 0, 1.0, 0, 0, 0, 2.0, 0, 0, 3.0, 0], [0.0] * 11])
    f0.requires_grad_()
    held = held_pitch(f0, default=9.0)
    close(held, torch.tensor([[1.0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3], [9.0] * 11]))
    (gradient,) = torch.autograd.grad(held.sum(), f0)
    assert gradient[0].tolist() == [0, 0, 4, 0, 0, 0, 4, 0, 0, 3, 0] and not gradient[1].any()


@pytest.mark.parametrize("roll_off", [None, "frame", "excerpt"])
def test_what_voices_share_is_what_each_would_compute(roll_off: Any) -> None:
    torch.manual_seed(0)
    decoder = ParameterDecoder(
        embedding=4, hidden=8, order=4, noise_bins=5, roll_off=roll_off
    ).double()
    embedding = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    f0 = 100 + 300 * torch.rand(2, 3, 6, dtype=torch.float64)

    def both(embedding: Tensor, f0: Tensor) -> tuple[Tensor, ...]:
        parameters, slope = decoder(embedding, f0)
        return (*parameters, *(() if slope is None else (slope,)))

    shared = both(embedding, f0)
    plain = both(embedding.repeat_interleave(3, 0), f0.reshape(6, 1, 6))
    shapes = [(6, 6), (6, 6), (6, 6, 5), (6, 5)] + {"frame": [(6, 6)], "excerpt": [(6, 1)]}.get(
        roll_off, []
    )
    assert [tuple(value.shape) for value in shared] == shapes
    for found, expected in zip(shared, plain, strict=True):
        close(found, expected)
    weights = [embedding, *decoder.parameters()]
    for found, expected in zip(
        torch.autograd.grad(sum(x.square().sum() for x in shared), weights),
        torch.autograd.grad(sum(x.square().sum() for x in plain), weights),
        strict=True,
    ):
        close(found, expected)


@pytest.mark.parametrize("convention", ["paper", "code"])
@pytest.mark.parametrize("roll_off", [6.0, "frame", "excerpt"])
def test_gradients_reach_everything_and_are_differences(roll_off: Any, convention: Any) -> None:
    model = tiny(roll_off=roll_off, convention=convention)
    mixture, f0 = song()
    inputs = [f0.requires_grad_(), *model.parameters()]

    def value() -> Tensor:
        result = seeded(model, mixture, f0)
        return ops.spectral_loss(result.mixture, mixture, fft_sizes=(64, 32), reduce="mean")

    assert_slope_is_that_of_differences(value, inputs, 1e-6)


def test_a_permutation_of_voices_permutes_what_is_made_of_them() -> None:
    model = quiet(tiny(roll_off="excerpt"))
    mixture, f0 = song()
    order = [2, 0, 1]
    first, second = seeded(model, mixture, f0), seeded(model, mixture, f0[:, order])
    close(second.sources, first.sources[:, order], rtol=0, atol=1e-5)
    for a, b in zip(first.parameters, second.parameters, strict=True):
        close(b.unflatten(0, (2, 3)), a.unflatten(0, (2, 3))[:, order])


def test_items_of_a_batch_do_not_hear_each_other() -> None:
    model = tiny()
    mixture, f0 = song()
    both, alone = seeded(model, mixture, f0), seeded(model, mixture[:1], f0[:1])
    for all_of_it, part in zip(both.parameters, alone.parameters, strict=True):
        close(all_of_it[:3], part)
    close(both.sources[:1], alone.sources)
    close(both.mixture, both.sources.sum(1))


@pytest.mark.parametrize("length", [1, HOP - 1, HOP, 2 * HOP + 1])
def test_any_length(length: int) -> None:
    mixture, f0 = song(length=length)
    result = seeded(tiny(), mixture, f0)
    assert result.sources.shape == (2, 3, length) and result.mixture.shape == (2, length)
    assert result.sources.isfinite().all()


def test_tracks_are_resampled_over_the_time_of_the_mixture() -> None:
    mixture, f0 = song()
    f0[:, 1, 3:] = 0
    for convention in ("paper", "code"):
        model = tiny(convention=convention)
        wide = resample_tracks(f0, 12)
        expected = seeded(model, mixture, resample_tracks(wide, 7, convention=convention))
        close(seeded(model, mixture, wide).sources, expected.sources)


def test_conventions_differ_where_a_voice_is_silent_and_nowhere_else() -> None:
    mixture, f0 = song(items=1, voices=1, length=12 * HOP)
    models = {name: quiet(tiny(convention=name)) for name in ("paper", "code")}
    paper, code = (seeded(model, mixture, f0).sources for model in models.values())
    assert torch.equal(paper, code)
    f0[..., 4:] = 0
    paper, code = (seeded(model, mixture, f0).sources for model in models.values())
    # the tail of the roll-off filter, half a frame's fade, and the last of the all-pole frames
    silent = slice(8 * HOP, None)
    assert paper[..., silent].abs().max() < 1e-5 < 1e-2 < code[..., silent].abs().max()
    assert paper[..., : 3 * HOP].abs().max() > 1e-2


def test_a_silent_voice_has_finite_gradients() -> None:
    model = tiny()
    mixture, f0 = song()
    f0[:, 0] = 0
    f0[:, 1, ::2] = 0
    inputs = [f0.requires_grad_(), *model.parameters()]
    gradients = torch.autograd.grad(seeded(model, mixture, f0).mixture.square().sum(), inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][:, 0].any()


def test_separation_is_by_masks_of_what_is_synthesised() -> None:
    model = tiny().train()
    model.encoder.eval()
    mixture, f0 = song(length=1100)
    found = model.separate(mixture, f0, generator=torch.Generator().manual_seed(2))
    expected = soft_mask_separation(
        mixture, seeded(model, mixture, f0).sources.detach(), n_fft=2048, hop=HOP
    )
    assert torch.equal(found, expected) and not found.requires_grad
    assert model.training and model.decoder.training and not model.encoder.training
    close(found.sum(1), mixture)


def test_it_learns() -> None:
    model = tiny().float()
    times = torch.arange(16 * HOP) / 16000
    mixture = 0.3 * torch.sin(2 * torch.pi * 500 * times)[None]
    f0 = torch.full((1, 1, 16), 500.0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(15):
        estimate = seeded(model, mixture, f0).mixture
        loss = ops.spectral_loss(estimate, mixture, fft_sizes=(256, 64), reduce="mean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_parameters_are_what_the_synthesiser_takes() -> None:
    model = tiny()
    mixture, f0 = song()
    result = seeded(model, mixture, f0)
    assert isinstance(result.parameters, VoiceParameters)
    again = model.synthesizer(
        f0.flatten(0, 1), result.parameters, generator=torch.Generator().manual_seed(2)
    )
    close(again.unflatten(0, (2, 3)), result.sources)


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(zeros(9), zeros(1, 2, 3)), ValueError, r"mixture must have shape \(B, N\)"),
        (lambda m: m(zeros(2, 9), zeros(1, 2, 3)), ValueError, r"f0 must have shape \(2, V, T\)"),
        (lambda m: m(zeros(1, 0), zeros(1, 2, 3)), ValueError, "mixture must not be empty"),
        (lambda m: m(zeros(1, 9), zeros(1, 0, 3)), ValueError, "f0 must not be empty"),
        (lambda m: m(zeros(1, 9), zeros(1, 2, 0)), ValueError, "f0 must not be empty"),
        (lambda m: m(zeros(1, 9), zeros(1, 2, 3).int()), TypeError, "f0 must be of a floating"),
        (lambda m: m(zeros(1, 9), zeros(1, 2, 3).float()), TypeError, "f0 must have the dtype"),
        (lambda m: m.separate(zeros(1, 99), zeros(1, 2, 3)), ValueError, "too few"),
        (lambda m: m.encoder(zeros(9)), ValueError, r"mixture must have shape \(B, N\)"),
        (lambda m: m.encoder(zeros(1, 0)), ValueError, "mixture must have samples"),
        (lambda m: m.decoder(zeros(1, 9, 4), zeros(1, 2, 8)), ValueError, r"\(1, V, 9\)"),
        (lambda m: m.decoder(zeros(1, 0, 4), zeros(1, 2, 0)), ValueError, "must have frames"),
        (lambda m: SourceFilterSeparator(roll_off="no"), ValueError, "roll_off must be one of"),
        (lambda m: SourceFilterSeparator(roll_off=None), TypeError, "roll_off must be a number"),
        (lambda m: SourceFilterSeparator(convention="x"), ValueError, "convention must be one of"),
        (lambda m: MixtureEncoder(frame=8, hop=9), ValueError, "hop must be at most frame"),
        (lambda m: ParameterDecoder(roll_off=6.0), ValueError, "roll_off must be one of"),
    ],
)
def test_bad_input(
    call: Callable[[SourceFilterSeparator], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(tiny())
