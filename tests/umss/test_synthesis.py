"""The source-filter synthesiser: the published code's numbers, and its own laws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast.umss import (
    SourceFilterSynthesizer,
    VoiceParameters,
    exp_sigmoid,
    filter_frames,
    impulse_response,
    line_spectral_frequencies,
    roll_off_response,
    soft_mask_separation,
)

Golden = Callable[[str], dict[str, Tensor]]
close = torch.testing.assert_close


@pytest.mark.parametrize(("exponent", "maximum"), [(10, 2), (10, 1), (2, 15)])
def test_exp_sigmoid_is_the_published_one(golden: Golden, exponent: int, maximum: int) -> None:
    arrays = golden("exp_sigmoid")
    y = exp_sigmoid(arrays["x"], exponent=exponent, maximum=maximum)
    close(y, arrays[f"y_{exponent}_{maximum}"], rtol=1e-5, atol=1e-7)


def test_gradient_of_exp_sigmoid_is_the_published_one(golden: Golden) -> None:
    arrays = golden("exp_sigmoid")
    x = arrays["x"].requires_grad_()
    (gradient,) = torch.autograd.grad(exp_sigmoid(x).sum(), x)
    close(gradient, arrays["g_10_2"], rtol=1e-4, atol=1e-6)


def test_line_spectral_frequencies_are_the_published_ones(golden: Golden) -> None:
    arrays = golden("lsf_order10")
    net = arrays["net"].requires_grad_()
    angles = line_spectral_frequencies(net)
    close(angles, arrays["lsf"], rtol=1e-5, atol=1e-6)
    (activation,) = torch.autograd.grad(angles, net, arrays["gl"], retain_graph=True)
    close(activation, arrays["g_act"], rtol=1e-4, atol=1e-5)
    coefficients = ops.lsf_to_lpc(angles)
    close(coefficients, arrays["coeff"], rtol=1e-4, atol=1e-5)
    (through_both,) = torch.autograd.grad(coefficients, net, arrays["g_coeff"])
    close(through_both, arrays["g_in"], rtol=1e-4, atol=1e-4)


def test_roll_off_is_the_published_one(golden: Golden) -> None:
    arrays = golden("rolloff_fir")
    roll_off = arrays["roll_off"].squeeze(-1).requires_grad_()
    audio = arrays["audio"].requires_grad_()
    response = roll_off_response(roll_off)
    close(response, arrays["magnitudes"], rtol=1e-4, atol=1e-5)
    taps = impulse_response(response)
    close(taps, arrays["impulse_response"], rtol=1e-4, atol=1e-5)
    out = filter_frames(audio, taps)
    close(out, arrays["out"], rtol=1e-4, atol=1e-5)
    of_slope, of_audio = torch.autograd.grad(out, (roll_off, audio), arrays["g"])
    close(of_slope, arrays["g_roll_off"].squeeze(-1), rtol=1e-4, atol=1e-4)
    close(of_audio, arrays["g_audio"], rtol=1e-4, atol=1e-5)


def test_noise_filter_is_the_published_one(golden: Golden) -> None:
    arrays = golden("noise_fir_time_invariant")
    magnitudes, audio = (arrays[name].requires_grad_() for name in ("magnitudes", "audio"))
    out = filter_frames(audio, impulse_response(magnitudes))
    close(out, arrays["out"], rtol=1e-4, atol=1e-5)
    of_magnitudes, of_audio = torch.autograd.grad(out, (magnitudes, audio), arrays["g"])
    close(of_magnitudes, arrays["g_magnitudes"], rtol=1e-4, atol=1e-4)
    close(of_audio, arrays["g_audio"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 256), (512, 128)])
def test_masks_are_the_published_ones(golden: Golden, n_fft: int, hop: int) -> None:
    arrays = golden("mask_separation")
    out = soft_mask_separation(arrays["mix"], arrays["sources"], n_fft=n_fft, hop=hop)
    close(out[0], arrays[f"out_{n_fft}_{hop}"], rtol=1e-4, atol=1e-5)


def test_masked_voices_add_up_and_channels_share_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    voices = torch.randn(2, 3, 4000, generator=generator, dtype=torch.float64)
    stereo = torch.randn(2, 2, 4000, generator=generator, dtype=torch.float64)
    both = soft_mask_separation(stereo, voices)
    close(both.sum(1), stereo)
    close(both[:, :, 1], soft_mask_separation(stereo[:, 1], voices))


def test_one_filter_is_a_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(2, 96, generator=generator, dtype=torch.float64)
    taps = torch.randn(1, 1, 9, generator=generator, dtype=torch.float64)
    expected = scipy.signal.convolve(signal.numpy(), taps[0].numpy())[:, 3 : 3 + 96]
    close(filter_frames(signal, taps), torch.from_numpy(expected))
    every = filter_frames(signal, taps.expand(2, 8, 9))
    close(every, torch.from_numpy(expected))


def test_filters_are_differentiable() -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(2, 24, generator=generator, dtype=torch.float64).requires_grad_()
    slope = (6 * torch.rand(2, 3, generator=generator, dtype=torch.float64)).requires_grad_()

    def filtered(signal: Tensor, slope: Tensor) -> Tensor:
        return filter_frames(signal, impulse_response(roll_off_response(slope, bins=5)))

    assert torch.autograd.gradcheck(filtered, (signal, slope))


def parameters(frames: int, seed: int = 0) -> VoiceParameters:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    return VoiceParameters(draw(2, frames), draw(2, frames), draw(2, frames, 21), draw(2, 40))


def test_synthesis_depends_on_every_parameter_and_repeats_its_noise() -> None:
    synthesizer, given = SourceFilterSynthesizer(), parameters(6)
    f0 = torch.tensor([[220.0] * 6, [110.0] * 3 + [0.0] * 3], dtype=torch.float64)
    f0.requires_grad_()

    def make() -> Tensor:
        return synthesizer(f0, given, generator=torch.Generator().manual_seed(1))

    signal = make()
    assert signal.shape == (2, 6 * 256) and signal.isfinite().all()
    assert torch.equal(signal, make())
    gradients = torch.autograd.grad(signal.square().sum(), (f0, *given))
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in gradients)


def test_a_frames_slope_is_the_modules() -> None:
    synthesizer = SourceFilterSynthesizer(roll_off=9.0)
    f0 = torch.full((1, 8), 200.0)
    every = synthesizer.source(f0, torch.ones(1, 8))
    each = synthesizer.source(f0, torch.ones(1, 8), roll_off=torch.full((1, 8), 9.0))
    close(every, each, rtol=1e-4, atol=1e-5)


def test_the_slope_is_in_the_spectrum() -> None:
    f0 = torch.full((1, 125), 200.0, dtype=torch.float64)
    source = SourceFilterSynthesizer().source(f0, torch.ones_like(f0))[0]
    # one second inside: bins are hertz, and harmonics lie on them
    spectrum = np.abs(np.fft.rfft(source[8000:24000].numpy() * np.hanning(16000)))
    levels = 20 * np.log10(spectrum[[400, 800, 1600, 3200]])
    np.testing.assert_allclose(np.diff(levels), -6.0, atol=0.5)


def test_noise_has_the_asked_colour_and_loudness() -> None:
    magnitudes = torch.zeros(1, 40, dtype=torch.float64)
    magnitudes[:, 10:20] = 1.0  # 2 to 4 kHz
    gain = torch.ones(1, 100, dtype=torch.float64)
    gain[:, 50:] = 0.1
    noise = SourceFilterSynthesizer().noise(
        magnitudes, gain, generator=torch.Generator().manual_seed(0)
    )[0]
    assert noise.shape == (25600,)
    frequency, power = scipy.signal.welch(noise[:12000].numpy(), 16000, nperseg=1024)
    inside = (frequency > 2200) & (frequency < 3800)
    outside = (frequency < 1500) | (frequency > 4500)
    assert power[inside].min() > 100 * power[outside].max()
    ratio = noise[13500:].square().mean() / noise[:12000].square().mean()
    assert 0.008 < ratio < 0.0125


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: filter_frames(torch.ones(1, 10), torch.ones(1, 3, 4)), "do not divide"),
        (lambda: filter_frames(torch.ones(2, 9), torch.ones(3, 3, 4)), "do not divide"),
        (lambda: impulse_response(torch.ones(1)), "at least 2 bins"),
        (lambda: soft_mask_separation(torch.ones(1, 99), torch.ones(1, 2, 99)), "too few"),
        (lambda: soft_mask_separation(torch.ones(9), torch.ones(1, 2, 9)), r"\(B, N\)"),
        (lambda: soft_mask_separation(torch.ones(1, 9), torch.ones(1, 2, 8)), "voices"),
    ],
)
def test_arguments_that_do_not_fit(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
