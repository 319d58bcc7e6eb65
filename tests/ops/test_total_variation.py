from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rlsv_fast import ops


@pytest.mark.parametrize("norm", [1, 2])
def test_a_constant_has_none(norm: int, device: str) -> None:
    representation = torch.full((2, 5, 7), 3.0, device=device, requires_grad=True)
    value = ops.total_variation(representation, norm=norm)
    assert torch.equal(value, torch.zeros_like(value))
    (grad,) = torch.autograd.grad(value.sum(), representation)
    assert torch.equal(grad, torch.zeros_like(grad))


def test_single_cell_by_hand(device: str) -> None:
    representation = torch.zeros(1, 3, 4, device=device)
    representation[0, 1, 1] = 6.0  # four neighbours, each 6 away
    assert ops.total_variation(representation).tolist() == [4 * 6 / 12]
    expected = 72**0.5 / 4 + 72**0.5 / 3
    assert float(ops.total_variation(representation, norm=2)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("norm", [1, 2])
def test_scales_and_ignores_shifts_and_reversals(norm: int, device: str) -> None:
    representation = torch.rand(3, 20, 33, dtype=torch.float64, device=device)
    value = ops.total_variation(representation, norm=norm)
    for same in (
        representation + 5,
        -representation,
        representation.flip(1),
        representation.flip(2),
    ):
        torch.testing.assert_close(ops.total_variation(same, norm=norm), value)
    torch.testing.assert_close(ops.total_variation(3 * representation, norm=norm), 3 * value)


def test_norm_one_is_per_item(device: str) -> None:
    representation = torch.rand(4, 30, 21, device=device)
    alone = torch.cat([ops.total_variation(item[None]) for item in representation])
    assert torch.equal(ops.total_variation(representation), alone)


def test_long_rows_are_summed_exactly(device: str) -> None:
    steps = torch.arange(200_000, device=device) % 2
    representation = steps.float()[None, None]
    assert ops.total_variation(representation).tolist() == [
        pytest.approx(199_999 / 200_000, rel=1e-7)
    ]


def test_agrees_with_the_published_code(shared: Path, device: str) -> None:
    golden = np.load(shared / "golden/rlsv/08_losses.npz")
    representation = torch.tensor(golden["A"], device=device, requires_grad=True)
    value = ops.total_variation(representation, norm=2)
    (grad,) = torch.autograd.grad(value, representation)
    assert value.item() == pytest.approx(float(golden["tv64"]), rel=1e-6)
    torch.testing.assert_close(grad.cpu(), torch.tensor(golden["g_tv"]), rtol=1e-5, atol=1e-7)


def test_bad_inputs_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"total_variation: representation must .*\(B, C, T\).*\(3, 4\)"
    ):
        ops.total_variation(torch.rand(3, 4))
    with pytest.raises(ValueError, match="total_variation: norm must be one of 1, 2, got 3"):
        ops.total_variation(torch.rand(1, 3, 4), norm=3)
