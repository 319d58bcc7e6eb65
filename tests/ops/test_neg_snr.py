from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rlsv_fast import ops, reference


def pair(device: str, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.randn(3, 5000, dtype=dtype, device=device)
    return target + 0.05 * torch.randn_like(target), target


@pytest.mark.parametrize("reduce", ["item", "batch"])
def test_scaling(reduce: str, device: str) -> None:
    estimate, target = pair(device)
    value = ops.neg_snr(estimate, target, reduce=reduce)
    both = ops.neg_snr(100 * estimate, 100 * target, reduce=reduce)
    torch.testing.assert_close(both, value)  # the ratio has no unit
    ten_times_the_error = ops.neg_snr(target + 10 * (estimate - target), target, reduce=reduce)
    torch.testing.assert_close(ten_times_the_error, value + 20)


def test_known_levels(device: str) -> None:
    target = torch.ones(2, 100, device=device)
    assert ops.neg_snr(torch.zeros_like(target), target).tolist() == [0, 0]
    assert ops.neg_snr(0.9 * target, target).tolist() == [pytest.approx(-20, rel=1e-6)] * 2


def test_one_item_is_the_batch(device: str) -> None:
    estimate, target = pair(device)
    batch = ops.neg_snr(estimate[:1], target[:1], reduce="batch")
    assert torch.equal(ops.neg_snr(estimate[:1], target[:1]), batch[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_silence_and_perfection_stay_finite(
    module: object, dtype: torch.dtype, device: str
) -> None:
    sound, silence = (
        torch.rand(1, 9, dtype=dtype, device=device),
        torch.zeros(1, 9, dtype=dtype, device=device),
    )
    estimate = torch.cat([sound, silence, sound, silence]).requires_grad_()
    target = torch.cat([silence, silence, sound, sound]).requires_grad_()
    value = module.neg_snr(estimate, target)  # type: ignore[attr-defined]
    perfect = -240 - 10 * float(torch.log10(sound.square().sum()))
    torch.testing.assert_close(value.detach().cpu(), torch.tensor([240, 240, perfect, 0]).to(dtype))
    grads = torch.autograd.grad(value.sum(), (estimate, target))
    assert all(bool(grad.isfinite().all()) for grad in grads)
    assert not grads[0][:3].any() and not grads[1][:2].any()


def test_long_items_are_summed_exactly(device: str) -> None:
    target = torch.rand(1, 1_000_000, device=device)
    estimate = target + 0.01
    exact = reference.neg_snr(estimate.double(), target.double())
    torch.testing.assert_close(ops.neg_snr(estimate, target).double(), exact, rtol=1e-7, atol=0)


def test_agrees_with_the_published_code(shared: Path, device: str) -> None:
    golden = np.load(shared / "golden/rlsv/08_losses.npz")
    estimate = torch.tensor(golden["xhat"], device=device, requires_grad=True)
    target = torch.tensor(golden["x"], device=device)
    value = ops.neg_snr(estimate, target, reduce="batch")
    (grad,) = torch.autograd.grad(value, estimate)
    assert value.item() == pytest.approx(float(golden["neg_snr64"]), rel=1e-6)
    torch.testing.assert_close(grad.cpu(), torch.tensor(golden["g_neg_snr"]), rtol=1e-4, atol=1e-6)
    silent = ops.neg_snr(estimate, torch.zeros_like(target), reduce="batch")
    assert silent.item() == pytest.approx(float(golden["neg_snr_x0"]))
    equal = ops.neg_snr(target, target, reduce="batch")
    assert equal.item() == pytest.approx(float(golden["neg_snr_equal"]), rel=1e-6)


def test_target_gradient_is_made_on_request_only(device: str) -> None:
    estimate, target = pair(device)
    estimate.requires_grad_()
    (alone,) = torch.autograd.grad(ops.neg_snr(estimate, target).sum(), estimate)
    target.requires_grad_()
    both = torch.autograd.grad(ops.neg_snr(estimate, target).sum(), (estimate, target))
    assert torch.equal(alone, both[0]) and both[1].shape == target.shape


def test_bad_inputs_are_named() -> None:
    x = torch.rand(2, 30)
    with pytest.raises(ValueError, match=r"neg_snr: estimate must have shape \(B, N\), got \(30,"):
        ops.neg_snr(x[0], x[0])
    with pytest.raises(ValueError, match=r"neg_snr: target .*\(2, 30\) as estimate, got \(2, 29\)"):
        ops.neg_snr(x, x[:, 1:])
    with pytest.raises(TypeError, match="neg_snr: target must have the dtype of estimate"):
        ops.neg_snr(x, x.double())
    with pytest.raises(ValueError, match="neg_snr: reduce must be one of 'item', 'batch'"):
        ops.neg_snr(x, x, reduce="mean")
