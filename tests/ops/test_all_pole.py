from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast import ops, reference


def stable(batch: int, count: int, order: int, hop: int) -> tuple[Tensor, Tensor]:
    """A signal, and filters with resonances: made from line spectral frequencies."""
    steps = 0.1 + torch.rand(batch, count, order + 1, dtype=torch.float64)
    lsf = torch.pi * (steps / steps.sum(-1, keepdim=True)).cumsum(-1)[..., :-1]
    return torch.randn(batch, count * hop, dtype=torch.float64), ops.lsf_to_lpc(lsf)


SIZES = pytest.mark.parametrize(
    ("frame", "hop", "order"), [(64, 32, 10), (64, 32, 9), (40, 10, 20), (40, 40, 2), (34, 13, 33)]
)


@SIZES
def test_scipy_filters_the_frames_alike(frame: int, hop: int, order: int, device: str) -> None:
    scipy_signal = pytest.importorskip("scipy.signal", reason="scipy is not installed")
    x, a = stable(2, 7, order, hop)
    padded = torch.nn.functional.pad(x, (0, frame))
    window = torch.from_numpy(scipy_signal.get_window("hann", frame))
    expected = torch.zeros_like(padded)
    for item in range(2):
        for t in range(7):
            span = slice(t * hop, t * hop + frame)
            y = scipy_signal.lfilter([1.0], [1.0, *a[item, t].tolist()], padded[item, span].numpy())
            fade = window.clone()
            if t == 0:
                fade[: frame // 2] = 1
            expected[item, span] += fade * torch.from_numpy(y)
    result = ops.all_pole(x.to(device), a.to(device), frame=frame, hop=hop)
    torch.testing.assert_close(result.cpu(), expected[:, : 7 * hop])


@SIZES
def test_resonant_float32_errs_as_the_reference_does(
    frame: int, hop: int, order: int, device: str
) -> None:
    """Mostly: a filter close to the edge enlarges whatever rounding errors it happens to get."""
    leaves = [leaf.float().to(device).requires_grad_() for leaf in stable(4, 30, order, hop)]
    weight = torch.randn(4, 30 * hop)

    def outcome(module: object, inputs: list[Tensor]) -> list[Tensor]:
        output = module.all_pole(*inputs, frame=frame, hop=hop)  # type: ignore[attr-defined]
        grads = torch.autograd.grad((output * weight.to(output)).sum(), inputs)
        return [output.detach().cpu().double(), *(grad.cpu().double() for grad in grads)]

    plain = [leaf.detach().cpu().requires_grad_() for leaf in leaves]
    exact = [leaf.detach().cpu().double().requires_grad_() for leaf in leaves]
    results = (outcome(ops, leaves), outcome(reference, plain), outcome(reference, exact))
    for mine, eager, true in zip(*results, strict=True):
        tiny = torch.finfo(torch.float32).eps * true.abs().median()
        assert (mine - true).abs().median() <= 2 * (eager - true).abs().median() + tiny


def test_without_poles_the_signal_stays(device: str) -> None:
    x = torch.randn(3, 90, device=device)
    for order in (0, 4):
        y = ops.all_pole(x, torch.zeros(3, 9, order, device=device), frame=20, hop=10)
        torch.testing.assert_close(y[:, :10], x[:, :10], rtol=0, atol=0)
        torch.testing.assert_close(y, x)


def test_other_hops_add_up_to_what_the_windows_do(device: str) -> None:
    """Inside: L / 2S where L is a multiple of 2S."""
    x = torch.randn(1, 160, dtype=torch.float64, device=device)
    y = ops.all_pole(x, x.new_zeros(1, 40, 3), frame=32, hop=4)
    torch.testing.assert_close(y[:, 32:], 4 * x[:, 32:])


def test_it_is_linear_and_its_gradient_the_adjoint(device: str) -> None:
    x, a = (leaf.to(device) for leaf in stable(2, 6, 8, 16))
    x.requires_grad_()
    weight = torch.randn_like(x)
    y = ops.all_pole(x, a, frame=32, hop=16)
    (adjoint,) = torch.autograd.grad((y * weight).sum(), x)
    torch.testing.assert_close((y * weight).sum(), (x * adjoint).sum())


def test_a_frame_knows_nothing_of_the_others(device: str) -> None:
    """Changed filters or samples change what that frame covers, and nothing else to the bit."""
    x, a = (leaf.float().to(device) for leaf in stable(2, 20, 6, 16))
    y = ops.all_pole(x, a, frame=32, hop=16)
    other = a.clone()
    other[1, 7] = 0
    changed = ops.all_pole(x, other, frame=32, hop=16) != y
    assert changed.any() and not changed[0].any()
    assert not changed[1, : 7 * 16].any() and not changed[1, 9 * 16 :].any()


@pytest.mark.parametrize("value", [torch.nan, 3.0])
def test_overflow_stays_where_its_frame_is(value: float, device: str) -> None:
    """Coefficients that are NaN, or a pole at 3: 3^512 is beyond float32, not beyond double."""
    x = torch.randn(2, 20 * 256, device=device).requires_grad_()
    a = torch.zeros(2, 20, 4, device=device)
    a[1, 7, 0] = -value
    a.requires_grad_()
    y = ops.all_pole(x, a, frame=512, hop=256)
    lost = ~y.detach().isfinite()
    assert lost[1, 7 * 256 : 9 * 256].any()
    lost[1, 7 * 256 : 9 * 256] = False
    assert not lost.any()
    # what a loss of the other samples is worth is known
    weight = torch.ones_like(y)
    weight[1, 7 * 256 : 9 * 256] = 0
    y[weight.bool()].sum().backward()
    assert x.grad is not None and a.grad is not None
    unknown = ~a.grad.isfinite()
    assert unknown[1, 7].any()  # not unnoticed
    unknown[1, 7] = False
    assert not unknown.any()


def test_many_frames_have_the_bits_that_few_have(device: str) -> None:
    """Whatever lane and thread a frame gets."""
    x, a = (leaf.float().to(device) for leaf in stable(1, 67, 20, 8))
    y = ops.all_pole(x, a, frame=16, hop=8)
    for t in (0, 1, 30, 64):
        part = ops.all_pole(x[:, t * 8 :], a[:, t:], frame=16, hop=8)
        assert torch.equal(part[:, 8:], y[:, (t + 1) * 8 :])


def test_bad_inputs_are_named() -> None:
    x, a = torch.rand(2, 30), torch.rand(2, 3, 4)
    with pytest.raises(ValueError, match=r"all_pole: signal must have shape \(B, T \* hop\), got"):
        ops.all_pole(x[0], a, frame=20, hop=10)
    with pytest.raises(ValueError, match=r"signal must have shape .* = \(2, 24\), got \(2, 30\)"):
        ops.all_pole(x, a, frame=20, hop=8)
    with pytest.raises(ValueError, match=r"all_pole: coefficients must have shape \(B, T, P\)"):
        ops.all_pole(x, a[0], frame=20, hop=10)
    with pytest.raises(ValueError, match=r"all_pole: coefficients must have shape \(B, T, P\)"):
        ops.all_pole(x, a[:1], frame=20, hop=10)
    for frame in (21, 8):
        with pytest.raises(ValueError, match=rf"frame must be even and at least hop.*got {frame}"):
            ops.all_pole(x, a, frame=frame, hop=10)
    with pytest.raises(ValueError, match="all_pole: hop must be at least 1, got 0"):
        ops.all_pole(x, a, frame=20, hop=0)
    with pytest.raises(TypeError, match="all_pole: frame must be an int, got float"):
        ops.all_pole(x, a, frame=20.0, hop=10)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="all_pole: coefficients must have the dtype of signal"):
        ops.all_pole(x, a.double(), frame=20, hop=10)
    with pytest.raises(ValueError, match="coefficients must be at most 64 per frame, got 65"):
        ops.all_pole(x, torch.rand(2, 3, 65), frame=20, hop=10)


def test_the_originals_numbers(shared: Path, device: str) -> None:
    """UMSS, frames of 64, hop 32, order 10."""
    with np.load(shared / "golden" / "umss" / "allpole_frames_parallel.npz") as arrays:
        golden = {key: torch.from_numpy(np.array(arrays[key])).to(device) for key in arrays.files}
    x, a = (golden[key].clone().requires_grad_() for key in ("audio", "coeff"))
    frame = int(golden["block"])
    out = ops.all_pole(x, a, frame=frame, hop=frame // 2)
    grads = torch.autograd.grad(out, (x, a), golden["g"])
    for one, key in zip((out, *grads), ("out", "g_audio", "g_coeff"), strict=True):
        torch.testing.assert_close(one, golden[key], rtol=1e-4, atol=1e-5)
