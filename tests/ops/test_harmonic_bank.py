from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast import ops, reference

RATE = 16000
both = pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])


def golden(shared: Path, name: str) -> dict[str, Tensor]:
    with np.load(shared / "golden" / "umss" / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}


def gliding(frames: int, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Tensor:
    """A tone with vibrato and one that becomes unvoiced."""
    time = torch.linspace(0, 1, frames, dtype=dtype, device=device)
    vibrato = 220 * 2 ** (0.05 * torch.sin(40 * time))
    edge = torch.where(time < 0.6, 430 + 80 * time, 1e-5)
    return torch.stack([vibrato, edge])


def spread(f0: Tensor, amplitude: Tensor, harmonics: int) -> Tensor:
    """The amplitudes that the flat distribution gives to each harmonic."""
    number = torch.arange(1, harmonics + 1).to(f0)
    audible = (f0[..., None] * number < RATE / 2).to(f0)
    return amplitude[..., None] * audible / audible.sum(-1, keepdim=True).clamp(min=1)


def gradients(module: object, f0: Tensor, amplitude: Tensor, **options: int) -> list[Tensor]:
    """Signal, final phase, and the gradients of a weighted sum of both."""
    leaves = [f0.clone().requires_grad_(), amplitude.clone().requires_grad_()]
    signal, phase = module.harmonic_bank(*leaves, **options)  # type: ignore[attr-defined]
    weight = torch.randn(signal.shape, generator=torch.Generator().manual_seed(3))
    total = (signal * weight.to(signal)).sum() + (phase * torch.arange(1, 3).to(phase)).sum()
    return [signal.detach(), phase.detach(), *torch.autograd.grad(total, leaves)]


@both
def test_the_original_synthesiser(module: object, shared: Path, device: str) -> None:
    # The twin's phase in float32 is no better than the original's: it is compared in float64.
    dtype = torch.float32 if module is ops else torch.float64
    arrays = {
        key: value.to(device, dtype) for key, value in golden(shared, "harmonic_synth").items()
    }
    f0 = arrays["f0_hz"][..., 0].clone().requires_grad_()
    net = arrays["amp_net"][..., 0].clone().requires_grad_()
    amplitude = 2 * torch.sigmoid(net) ** math.log(10) + 1e-7
    torch.testing.assert_close(amplitude, arrays["amplitudes"][..., 0], rtol=1e-5, atol=1e-6)
    signal, _ = module.harmonic_bank(  # type: ignore[attr-defined]
        f0, amplitude, hop=256, sample_rate=RATE
    )
    # 5e-5: the float32 phase of the original.
    torch.testing.assert_close(signal, arrays["out"], rtol=0, atol=5e-5)
    found = torch.autograd.grad(signal, (f0, net), arrays["g"])
    # Gradients sum over many samples what that phase is off by; here they are those of float64.
    for gradient, key, share in ((found[0], "g_f0", 1e-3), (found[1], "g_amp", 2e-4)):
        expected = arrays[key][..., 0]
        assert (gradient - expected).abs().max() <= share * expected.abs().max()


def test_the_original_distribution_as_amplitudes_per_harmonic(shared: Path, device: str) -> None:
    arrays = {key: value.to(device) for key, value in golden(shared, "harmonic_synth").items()}
    amplitude = arrays["amplitudes"] * arrays["harmonic_distribution"]
    signal, _ = ops.harmonic_bank(arrays["f0_hz"][..., 0], amplitude, hop=256, sample_rate=RATE)
    torch.testing.assert_close(signal, arrays["out"], rtol=0, atol=5e-5)


def test_the_original_frequencies(shared: Path, device: str) -> None:
    """Interpolated f0 as it is in the phases of one harmonic: half-pixel, held at both ends."""
    arrays = golden(shared, "resample_bilinear")
    f0, expected = arrays["x"].double().mT.flatten(0, 1), arrays["y"].double().mT.flatten(0, 1)
    hop = expected.shape[1] // f0.shape[1]
    f0, expected = (1000 + 100 * f0).to(device), (1000 + 100 * expected).to(device)
    signal, _ = ops.harmonic_bank(f0, torch.ones_like(f0), hop=hop, sample_rate=RATE, harmonics=1)
    phase = (2 * math.pi / RATE * expected).cumsum(1)
    torch.testing.assert_close(signal, phase.sin(), rtol=0, atol=1e-5)


def test_the_original_envelopes(shared: Path, device: str) -> None:
    """The cross-fade of amplitudes, seen through a sine that stays at its maximum."""
    arrays = golden(shared, "resample_window")
    amplitude = arrays["x"].double().mT.flatten(0, 1).to(device)
    expected = arrays["y"].double().mT.flatten(0, 1).to(device)
    hop = expected.shape[1] // amplitude.shape[1]
    phase = torch.full_like(amplitude[:, 0], math.pi / 2)
    signal, _ = ops.harmonic_bank(
        torch.zeros_like(amplitude),
        amplitude,
        hop=hop,
        sample_rate=RATE,
        harmonics=1,
        initial_phase=phase,
    )
    torch.testing.assert_close(signal, expected, rtol=0, atol=1e-6)


def test_oscillators_of_the_original(shared: Path, device: str) -> None:
    """A bank of independent oscillators is a sum of banks of one harmonic, frames of a sample."""
    arrays = {key: value.to(device) for key, value in golden(shared, "oscillator_bank").items()}
    frequency, amplitude = (
        arrays[key].mT.flatten(0, 1)[..., None].requires_grad_() for key in ("freq", "amp")
    )
    signal, _ = ops.harmonic_bank(frequency[..., 0], amplitude, hop=1, sample_rate=RATE)
    signal = signal.view(2, 7, 400).sum(1)
    largest = float(arrays["out"].abs().max())
    assert (signal - arrays["out"]).abs().max() <= 5e-5 * largest
    found = torch.autograd.grad(signal, (frequency, amplitude), arrays["g"])
    for gradient, key in zip(found, ("g_freq", "g_amp"), strict=True):
        expected = arrays[key].mT.flatten(0, 1)[..., None]
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-3 * expected.abs().max())


def test_closed_form_is_the_general_sum(device: str) -> None:
    f0 = gliding(40, device=device)
    amplitude = torch.rand_like(f0)
    closed = gradients(ops, f0, amplitude, hop=64, sample_rate=RATE)
    leaves = [f0.clone().requires_grad_(), amplitude.clone().requires_grad_()]
    signal, phase = ops.harmonic_bank(leaves[0], spread(*leaves, 101), hop=64, sample_rate=RATE)
    weight = torch.randn(signal.shape, generator=torch.Generator().manual_seed(3)).to(signal)
    total = (signal * weight).sum() + (phase * torch.arange(1, 3).to(phase)).sum()
    general = [signal, phase, *torch.autograd.grad(total, leaves)]
    for one, other in zip(closed, general, strict=True):
        assert (one - other).abs().max() <= 1e-10 * other.abs().max()


def test_phases_near_whole_turns(device: str) -> None:
    """Where the closed form divides by nearly nothing, in value and in slope."""
    phase = torch.tensor([0, 1e-300, 1e-17, -1e-12, 1e-9, -1e-7, 1e-4, 2 * math.pi, -6 * math.pi])
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        start = phase.to(device, dtype).requires_grad_()
        f0, amplitude = torch.zeros_like(start)[:, None], torch.ones_like(start)[:, None]
        signal, final = ops.harmonic_bank(
            f0, amplitude, hop=3, sample_rate=RATE, initial_phase=start
        )
        number = torch.arange(1, 102, device=device).double()
        exact = start.detach().double()[:, None] * number
        value, slope = exact.sin().mean(1), (number * exact.cos()).mean(1)
        assert (signal - value[:, None]).abs().max() <= 101 * tolerance
        (grad,) = torch.autograd.grad(signal[:, 0].sum(), start)
        assert (grad - slope).abs().max() <= 51 * tolerance * (1 if dtype == torch.float64 else 10)
        assert (final.abs() <= 1e-3).all()


def test_float32_is_exact_after_many_samples(device: str) -> None:
    """A minute: nothing drifts, where a float32 sum would be off by radians."""
    f0 = gliding(3750, torch.float32, device)
    amplitude = torch.ones_like(f0)
    signal, phase = ops.harmonic_bank(f0, amplitude, hop=256, sample_rate=RATE)
    exact, wide = ops.harmonic_bank(f0.double(), amplitude.double(), hop=256, sample_rate=RATE)
    assert (signal - exact).abs().max() <= 2e-6
    assert (phase - wide).abs().max() <= 1e-6
    plain = reference.harmonic_bank(
        f0.double(), amplitude[..., None].double()[..., :0], hop=256, sample_rate=RATE
    )[1]
    apart = torch.remainder(wide - plain + 1, 2 * math.pi) - 1
    assert apart.abs().max() <= 1e-6


def test_a_signal_goes_on_where_the_last_one_ended(device: str) -> None:
    f0 = torch.full((2, 8), 311.13, dtype=torch.float64, device=device)
    amplitude = torch.full_like(f0, 0.5)
    options = {"hop": 50, "sample_rate": RATE}
    whole, end = ops.harmonic_bank(f0, amplitude, **options)
    first, middle = ops.harmonic_bank(f0[:, :3], amplitude[:, :3], **options)
    second, last = ops.harmonic_bank(f0[:, 3:], amplitude[:, 3:], initial_phase=middle, **options)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=1e-11)
    torch.testing.assert_close(last, end, rtol=0, atol=1e-11)
    assert (end.abs() <= math.pi).all()


def test_final_phase_has_gradients(device: str) -> None:
    def call(f0: Tensor, phase: Tensor) -> Tensor:
        amplitude = torch.ones_like(f0)
        return ops.harmonic_bank(f0, amplitude, hop=5, sample_rate=RATE, initial_phase=phase)[1]

    f0 = gliding(4, device=device).requires_grad_()
    phase = torch.tensor([0.3, -2.0], dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(call, (f0, phase), eps=1e-4)


def test_nothing_above_half_the_sampling_rate(device: str) -> None:
    f0 = torch.tensor([[7999.0, 8000.0, 8001.0, 160.0, 0.0]], device=device).mT.contiguous()
    amplitude = torch.ones_like(f0)
    signal, _ = ops.harmonic_bank(f0, amplitude, hop=64, sample_rate=RATE)
    assert signal[0].any() and not signal[1:3].any() and not signal[4].any()
    general, _ = ops.harmonic_bank(f0, spread(f0, amplitude, 101), hop=64, sample_rate=RATE)
    torch.testing.assert_close(signal, general, rtol=0, atol=1e-5)
    # Of 160 Hz the 49 harmonics below 8000 Hz are heard, and not the 50th.
    each = amplitude[..., None].expand(5, 1, 60)
    all_of_them, most, fewer = (
        ops.harmonic_bank(f0, each[..., :count], hop=64, sample_rate=RATE)[0][3]
        for count in (60, 49, 48)
    )
    assert torch.equal(all_of_them, most) and not torch.equal(most, fewer)


@both
def test_what_is_not_finite_is_not_hidden(module: object, device: str) -> None:
    f0 = torch.full((3, 6), 200.0, device=device)
    f0[1, 3], f0[2, 4] = math.nan, math.inf
    amplitude = torch.ones_like(f0).requires_grad_()
    f0.requires_grad_()
    signal, phase = module.harmonic_bank(  # type: ignore[attr-defined]
        f0, amplitude, hop=4, sample_rate=RATE
    )
    # From where the frame takes part in the interpolation: half a frame before its first sample.
    bad = signal.isnan()
    assert not bad[0].any()
    assert bad[1].tolist() == [False] * 10 + [True] * 14
    assert bad[2].tolist() == [False] * 14 + [True] * 10
    assert phase.isnan().tolist() == [False, True, True]
    grads = torch.autograd.grad(signal.sum(), (f0, amplitude))
    assert all(grad[0].isfinite().all() and grad[1].isnan().any() for grad in grads)


def test_no_memory_of_samples_by_harmonics(device: str) -> None:
    f0 = gliding(500, torch.float32, device).requires_grad_()
    amplitude = torch.ones_like(f0).requires_grad_()
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        ops.harmonic_bank(f0, amplitude, hop=256, sample_rate=RATE)
    assert sum(kept) == 2 * f0.numel() + 2  # f0, amplitude, initial phase


def test_bad_inputs_are_named() -> None:
    f0 = torch.rand(2, 5)
    good = {"hop": 4, "sample_rate": RATE}
    with pytest.raises(ValueError, match=r"harmonic_bank: f0 must have shape \(B, T\), got \(5,\)"):
        ops.harmonic_bank(f0[0], f0, **good)
    with pytest.raises(ValueError, match=r"amplitude must have shape \(2, 5\) or \(2, 5, K\)"):
        ops.harmonic_bank(f0, f0[:, 1:], **good)
    with pytest.raises(TypeError, match="amplitude must have the dtype of f0"):
        ops.harmonic_bank(f0, f0.double(), **good)
    with pytest.raises(ValueError, match="hop must be at least 1, got 0"):
        ops.harmonic_bank(f0, f0, hop=0, sample_rate=RATE)
    with pytest.raises(TypeError, match="sample_rate must be an int, got float"):
        ops.harmonic_bank(f0, f0, hop=4, sample_rate=16e3)
    with pytest.raises(ValueError, match="harmonics must be at least 1"):
        ops.harmonic_bank(f0, f0, harmonics=0, **good)
    with pytest.raises(ValueError, match=r"harmonics must be at most 2\*\*20"):
        ops.harmonic_bank(f0, f0, harmonics=2**20 + 1, **good)
    with pytest.raises(ValueError, match=r"initial_phase must have shape \(2,\)"):
        ops.harmonic_bank(f0, f0, initial_phase=torch.zeros(3), **good)
