"""Recurrent layers of shared inputs against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rlsv_fast.umss.recurrence import recurrent

close = torch.testing.assert_close


def plain(layer: nn.GRU, *inputs: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(*(x.shape[:-1] for x in inputs))
    joined = torch.cat([x.expand(*shape, x.shape[-1]) for x in inputs], -1)
    return layer(joined.flatten(0, -3))[0].reshape(*shape, -1)


@pytest.mark.parametrize(
    "shapes", [[(2, 7, 5)], [(2, 3, 7, 3), (2, 1, 7, 2)], [(1, 1, 5)], [(2, 7, 1), (7, 4)]]
)
def test_values_and_gradients_are_those_of_the_layer(shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    layer = nn.GRU(5, 4, batch_first=True).double()
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    found, expected = recurrent(layer, *inputs), plain(layer, *inputs)
    close(found, expected)
    weights = [*inputs, *layer.parameters()]
    flow = torch.randn(found.shape, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(found, weights, flow),
        torch.autograd.grad(expected, weights, flow),
        strict=True,
    ):
        close(a, b)


def test_float32_is_as_exact_as_the_layer() -> None:
    torch.manual_seed(0)
    layer = nn.GRU(8, 16, batch_first=True)
    x = torch.randn(3, 200, 8)
    values = [plain(layer, x), recurrent(layer, x)]
    exact = plain(layer.double(), x.double())
    errors = [(value - exact).abs().max() for value in values]
    assert errors[1] <= 2 * errors[0] + 1e-7


def test_the_last_step_alone_has_a_gradient() -> None:
    torch.manual_seed(0)
    layer = nn.GRU(3, 2, batch_first=True).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: recurrent(layer, x)[:, -1], (x,))


def test_it_is_differentiable_once() -> None:
    layer = nn.GRU(3, 2, batch_first=True)
    x = torch.randn(1, 4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(recurrent(layer, x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_under_autocast_the_state_keeps_its_precision() -> None:
    torch.manual_seed(0)
    layer = torch.nn.GRU(5, 4, batch_first=True)
    x = torch.randn(2, 30, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = recurrent(layer, x)
    assert found.dtype == torch.float32
    found.sum().backward()
    gradients = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad()
    exact = recurrent(layer, x)
    exact.sum().backward()
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-2)
    for one, parameter in zip(gradients, layer.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=2e-2, atol=2e-2 * len(x) * 30)
