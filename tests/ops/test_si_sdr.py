from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rlsv_fast import ops, reference


def pair(device: str, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.randn(4, 9000, dtype=dtype, device=device)
    return 0.7 * target + 0.05 * torch.randn_like(target), target


def test_ignores_the_scale_of_either(device: str) -> None:
    estimate, target = pair(device)
    value = ops.si_sdr(estimate, target)
    for scale in (-1.0, 1e-3, 1e3):
        torch.testing.assert_close(ops.si_sdr(scale * estimate, target), value)
        torch.testing.assert_close(ops.si_sdr(estimate, scale * target), value)


def test_gradient_is_orthogonal_to_the_estimate(device: str) -> None:
    estimate, target = pair(device)
    estimate.requires_grad_()
    (grad,) = torch.autograd.grad(ops.si_sdr(estimate, target).sum(), estimate)
    along = (grad * estimate.detach()).sum(1).abs().max()
    assert float(along) < 1e-9 * float(grad.norm())


def test_known_level(device: str) -> None:
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64, device=device)
    estimate = torch.tensor([[10.0, 1.0]], dtype=torch.float64, device=device)
    assert ops.si_sdr(estimate, target).tolist() == [pytest.approx(20)]


def test_agrees_with_torchmetrics(device: str) -> None:
    audio = pytest.importorskip("torchmetrics.functional.audio", reason="torchmetrics is missing")
    estimate, target = pair(device)
    theirs = audio.scale_invariant_signal_distortion_ratio(estimate, target, zero_mean=False)
    torch.testing.assert_close(ops.si_sdr(estimate, target), theirs)


def test_high_ratios_are_exact_in_float32(device: str) -> None:
    target = torch.randn(2, 44100, device=device)
    estimate = target + 1e-5 * torch.randn_like(target)  # 100 dB: cancels in sums of squares
    exact = reference.si_sdr(estimate.double(), target.double())
    torch.testing.assert_close(ops.si_sdr(estimate, target).double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_the_rule_for_silence(module: object, dtype: torch.dtype, device: str) -> None:
    sound = torch.tensor([1.0, 2.0, 0.0, 0.0], dtype=dtype, device=device)
    other, silence = sound.flip(0), torch.zeros_like(sound)
    estimate = torch.stack([sound, silence, silence, other, sound]).requires_grad_()
    target = torch.stack([silence, silence, sound, sound, sound]).requires_grad_()
    value = module.si_sdr(estimate, target)  # type: ignore[attr-defined]
    assert value[:2].isnan().all()
    assert value[2:4].tolist() == [pytest.approx(-240)] * 2
    assert value[4].item() == pytest.approx(240 + 10 * np.log10(5), abs=1e-3)
    grads = torch.autograd.grad(value.nansum(), (estimate, target))
    for grad in grads:
        assert bool(grad.isfinite().all()) and not grad[:3].any()


def test_a_silent_item_leaves_the_others_alone(device: str) -> None:
    estimate, target = pair(device)
    estimate.requires_grad_()
    target[1] = 0
    value = ops.si_sdr(estimate, target)
    (grad,) = torch.autograd.grad(value.sum(), estimate)
    assert value.isnan().tolist() == [False, True, False, False]
    assert bool(grad.isfinite().all()) and not grad[1].any() and bool(grad[[0, 2, 3]].any())


def test_agrees_with_the_published_code(shared: Path, device: str) -> None:
    golden = np.load(shared / "golden/rlsv/08_losses.npz")
    estimate = torch.tensor(golden["xhat"].reshape(1, -1), device=device)
    target = torch.tensor(golden["x"].reshape(1, -1), device=device)
    estimate.requires_grad_()
    value = ops.si_sdr(estimate, target)
    (grad,) = torch.autograd.grad(value.sum(), estimate)
    assert value.item() == pytest.approx(float(golden["si_sdr_scale64"]), rel=1e-6)
    expected = torch.tensor(golden["g_si_sdr_scale"]).reshape(1, -1)
    torch.testing.assert_close(grad.cpu(), expected, rtol=1e-4, atol=1e-6)


def test_bad_inputs_are_named() -> None:
    x = torch.rand(2, 30)
    with pytest.raises(ValueError, match=r"si_sdr: estimate must have shape \(B, N\), got \(30,\)"):
        ops.si_sdr(x[0], x[0])
    with pytest.raises(ValueError, match=r"si_sdr: target .*\(2, 30\) as estimate, got \(1, 30\)"):
        ops.si_sdr(x, x[:1])
    with pytest.raises(TypeError, match="si_sdr: target must have the dtype of estimate"):
        ops.si_sdr(x, x.double())
