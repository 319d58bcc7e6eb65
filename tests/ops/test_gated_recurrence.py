from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rlsv_fast import ops


def problem(items: int, frames: int, size: int, device: str = "cpu") -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    scale = size**-0.5
    inputs = (
        torch.randn(items, frames, 3 * size),
        scale * torch.randn(3 * size, size),
        scale * torch.randn(3 * size),
    )
    return tuple(value.to(device) for value in inputs)


@pytest.mark.parametrize("size", [1, 8, 31, 64, 100])
@pytest.mark.parametrize("items", [1, 3, 4, 9])
def test_float64_agrees_with_torchs_layer(items: int, size: int, device: str) -> None:
    torch.manual_seed(0)
    layer = nn.GRU(3, size, batch_first=True).double().to(device)
    x = torch.randn(items, 6, 3, dtype=torch.float64, device=device)
    flow = torch.randn(items, 6, size, dtype=torch.float64, device=device)
    projected = linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
    states = ops.gated_recurrence(projected, layer.weight_hh_l0, layer.bias_hh_l0)
    expected = layer(x)[0]
    torch.testing.assert_close(states, expected)
    weights = list(layer.parameters())
    for found, true in zip(
        torch.autograd.grad(states, weights, flow),
        torch.autograd.grad(expected, weights, flow),
        strict=True,
    ):
        torch.testing.assert_close(found, true)


def test_large_layers_stay_within_the_error_budget_of_torchs(device: str) -> None:
    torch.manual_seed(0)
    layer = nn.GRU(16, 512, batch_first=True).to(device)
    x = torch.randn(5, 100, 16, device=device)
    projected = linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
    states = ops.gated_recurrence(projected, layer.weight_hh_l0, layer.bias_hh_l0)
    plain = layer(x)[0]
    exact = layer.double()(x.double())[0]
    assert (states - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_an_item_has_the_same_bits_among_any_others(device: str) -> None:
    projected, weight, bias = problem(11, 7, 40, device)
    together = ops.gated_recurrence(projected, weight, bias)
    for item in range(11):
        alone = ops.gated_recurrence(projected[item : item + 1], weight, bias)
        assert torch.equal(alone[0], together[item])


def test_the_same_bits_whether_or_not_a_gradient_is_wanted(device: str) -> None:
    projected, weight, bias = problem(2, 7, 40, device)
    wanted = ops.gated_recurrence(projected.requires_grad_(), weight, bias)
    with torch.no_grad():
        assert torch.equal(ops.gated_recurrence(projected, weight, bias), wanted)


def test_states_for_any_number_of_threads() -> None:
    inputs = [value.requires_grad_() for value in problem(3, 20, 300)]
    threads, results = torch.get_num_threads(), []
    try:
        for count in (4, 1):
            torch.set_num_threads(count)
            states = ops.gated_recurrence(*inputs)
            results.append((states, torch.autograd.grad(states.sum(), inputs[0])[0]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_that_are_open_or_shut(dtype: torch.dtype, device: str) -> None:
    """Of any size, infinite ones too: 0 and 1 exactly, or the next number to them."""
    for extreme in (40.0, 1e4, 1e30, torch.inf):
        projected = torch.tensor([[[-extreme, extreme, 0.3], [-extreme, -extreme, extreme]]])
        projected = projected.to(device, dtype).requires_grad_()
        nothing = torch.zeros(3, 1, dtype=dtype, device=device)
        states = ops.gated_recurrence(projected, nothing, nothing[:, 0])
        expected = torch.tensor([[[0.0], [1.0]]], dtype=dtype, device=device)
        torch.testing.assert_close(states.detach(), expected, rtol=0, atol=1e-15)
        (gradient,) = torch.autograd.grad(states.sum(), projected)
        assert gradient.abs().max() <= 1e-15


def test_small_candidates_keep_their_digits(device: str) -> None:
    """tanh x = x, where 1 - e^-2x has lost all."""
    small = torch.tensor([1e-3, 1e-6, 1e-12, 1e-30, 0.0], device=device)
    projected = torch.zeros(5, 1, 3, device=device)
    projected[:, 0, 2] = small
    projected[:, 0, 1] = -100  # the candidate alone
    nothing = torch.zeros(3, 1, device=device)
    states = ops.gated_recurrence(projected, nothing, nothing[:, 0])
    torch.testing.assert_close(states[:, 0, 0], small.double().tanh().float(), rtol=2e-7, atol=0)


@pytest.mark.parametrize("gate", [0, 1, 2])
def test_a_nan_stays_in_its_item_from_its_frame_on(gate: int, device: str) -> None:
    projected, weight, bias = problem(5, 6, 20, device)
    expected = ops.gated_recurrence(projected, weight, bias)
    projected[2, 3, gate * 20 + 7] = torch.nan
    states = ops.gated_recurrence(projected, weight, bias)
    assert states[2, 3, 7].isnan() and states[2, 4:].isnan().all()
    touched = torch.zeros_like(states, dtype=torch.bool)
    touched[2, 3, 7] = True
    touched[2, 4:] = True
    assert torch.equal(states[~touched], expected[~touched])


def test_bad_input() -> None:
    projected, weight, bias = problem(2, 3, 4)
    with pytest.raises(ValueError, match=r"weight must have shape \(3H, H\) with H > 0"):
        ops.gated_recurrence(projected, weight[:11], bias)
    with pytest.raises(ValueError, match=r"H > 0, got \(0, 0\)"):
        ops.gated_recurrence(projected[..., :0], weight[:0, :0], bias[:0])
    with pytest.raises(ValueError, match=r"projected must have shape \(B, T, 12\)"):
        ops.gated_recurrence(projected[..., :9], weight, bias)
    with pytest.raises(ValueError, match=r"bias must have shape \(12,\), got \(9,\)"):
        ops.gated_recurrence(projected, weight, bias[:9])
    with pytest.raises(TypeError, match="bias must have the dtype of projected"):
        ops.gated_recurrence(projected, weight, bias.double())
    with pytest.raises(TypeError, match="weight must be of a floating type"):
        ops.gated_recurrence(projected, weight.int(), bias)
