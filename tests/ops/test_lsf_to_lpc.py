from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast import ops, reference


def frequencies(*shape: int) -> Tensor:
    """Ascending within (0, pi), none closer than a twentieth of the mean distance."""
    steps = 0.05 + torch.rand(*shape[:-1], shape[-1] + 1, dtype=torch.float64)
    return torch.pi * (steps / steps.sum(-1, keepdim=True)).cumsum(-1)[..., :-1]


def line_polynomials(lpc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and difference of A(z) and its mirror image z^-(P+1) A(1/z)."""
    forward = np.concatenate([[1.0], lpc, [0.0]])
    return forward + forward[::-1], forward - forward[::-1]


@pytest.mark.parametrize("order", [1, 2, 3, 10, 11, 20])
def test_numpy_multiplies_to_the_same_filter(order: int, device: str) -> None:
    for row in frequencies(5, order):
        kinds = []
        for start in (0, 1):
            kinds.append(np.array([1.0]))
            for w in row[start::2].tolist():
                kinds[-1] = np.polymul(kinds[-1], [1.0, -2.0 * np.cos(w), 1.0])
        first, second = kinds
        if order % 2 == 0:
            first, second = np.polymul(first, [1.0, 1.0]), np.polymul(second, [1.0, -1.0])
        else:
            second = np.polymul(second, [1.0, 0.0, -1.0])
        expected = torch.from_numpy((first + second)[1 : order + 1] / 2)
        result = ops.lsf_to_lpc(row.to(device)).cpu()
        torch.testing.assert_close(result, expected, atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 9, 20, 64])
def test_the_frequencies_are_found_again_on_the_unit_circle(order: int, device: str) -> None:
    """Without the product formula: by where A(z) and its mirror image agree or cancel."""
    for row in frequencies(4, order):
        lpc = ops.lsf_to_lpc(row.to(device)).cpu().numpy()
        for polynomial, start in zip(line_polynomials(lpc), (0, 1), strict=True):
            for w in row[start::2].tolist():
                value = np.polyval(polynomial, np.exp(1j * w))
                assert abs(value) <= 1e-10 * np.abs(polynomial).sum()


def test_roots_on_the_unit_circle_are_the_frequencies(device: str) -> None:
    for row in frequencies(4, 10):
        first, second = line_polynomials(ops.lsf_to_lpc(row.to(device)).cpu().numpy())
        roots = np.concatenate([np.roots(first), np.roots(second)])
        assert np.allclose(np.abs(roots), 1, atol=1e-6)
        angles = np.angle(roots)
        inside = np.sort(angles[(angles > 1e-3) & (angles < np.pi - 1e-3)])
        assert np.allclose(inside, row.numpy(), atol=1e-6)


@pytest.mark.parametrize("order", [1, 8, 15, 20])
def test_ascending_frequencies_make_stable_filters(order: int, device: str) -> None:
    for lpc in ops.lsf_to_lpc(frequencies(20, order).to(device)).cpu().numpy():
        assert np.abs(np.roots([1.0, *lpc])).max() < 1


def test_evenly_spaced_frequencies_are_no_filter(device: str) -> None:
    """Of any order: a product in the wrong order would lose all digits of the largest."""
    for order in range(1, 65):
        w = torch.pi * torch.arange(1, order + 1, dtype=torch.float64, device=device) / (order + 1)
        w.requires_grad_()
        lpc = ops.lsf_to_lpc(w)
        assert float(lpc.detach().abs().max()) < 1e-10
        (grad,) = torch.autograd.grad(lpc.sum(), w)
        plain = w.detach().cpu().requires_grad_()
        (expected,) = torch.autograd.grad(reference.lsf_to_lpc(plain).sum(), plain)
        torch.testing.assert_close(grad.cpu(), expected, atol=1e-8, rtol=0)


def test_float32_is_rounded_once(device: str) -> None:
    w = frequencies(50, 20).float().to(device)
    assert torch.equal(ops.lsf_to_lpc(w), ops.lsf_to_lpc(w.double()).float())


def test_values_that_are_no_numbers_stay_in_their_row(device: str) -> None:
    w = frequencies(9, 6).to(device)
    bad = w.clone()
    bad[4, 2] = torch.nan
    result, expected = ops.lsf_to_lpc(bad), ops.lsf_to_lpc(w)
    assert result[4].isnan().any()
    others = [row for row in range(9) if row != 4]
    assert torch.equal(result[others], expected[others])


def test_no_frequencies_make_no_coefficients(device: str) -> None:
    w = torch.rand(3, 0, device=device, requires_grad=True)
    lpc = ops.lsf_to_lpc(w)
    assert lpc.shape == (3, 0)
    lpc.sum().backward()


def test_bad_inputs_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"lsf_to_lpc: lsf must have shape \(\.\.\., P\), got \(\)"
    ):
        ops.lsf_to_lpc(torch.tensor(1.0))
    with pytest.raises(ValueError, match="lsf_to_lpc: lsf must have at most 64 .*, got 65"):
        ops.lsf_to_lpc(torch.rand(2, 65))


def test_the_originals_numbers(shared: Path, device: str) -> None:
    """UMSS, order 10: coefficients, and gradients alone and through the activation before them."""
    with np.load(shared / "golden" / "umss" / "lsf_order10.npz") as arrays:
        golden = {key: torch.from_numpy(np.array(arrays[key])).to(device) for key in arrays.files}
    net, lsf = (golden[key].clone().requires_grad_() for key in ("net", "lsf"))
    lpc = ops.lsf_to_lpc(lsf)
    torch.testing.assert_close(lpc, golden["coeff"], rtol=1e-4, atol=1e-5)
    (by_lsf,) = torch.autograd.grad(lpc, lsf, golden["g_coeff"])
    torch.testing.assert_close(by_lsf, golden["g_w"], rtol=1e-4, atol=1e-5)
    steps = 2 * torch.sigmoid(net) ** math.log(10) + 1e-7
    made = math.pi * (steps / steps.sum(-1, keepdim=True)).cumsum(-1)[..., :-1]
    torch.testing.assert_close(made, golden["lsf"], rtol=1e-4, atol=1e-5)
    (by_net,) = torch.autograd.grad(ops.lsf_to_lpc(made), net, golden["g_coeff"])
    torch.testing.assert_close(by_net, golden["g_in"], rtol=1e-4, atol=1e-5)
