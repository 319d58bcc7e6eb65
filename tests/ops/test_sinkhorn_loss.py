"""The loss in one operator: it is its parts, and nothing is made that is not asked for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast._library import raw
from rlsv_fast.ops import _sinkhorn_problem


def representation(batch: int = 3, frames: int = 37) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 24, frames, generator=generator) ** 3


@pytest.mark.parametrize("reduce", ["mean", "none"])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("normalize", ["features", "time", None])
def test_it_is_distance_and_transport(reduce: str, p: int, normalize: str | None) -> None:
    leaves = [representation().requires_grad_() for _ in range(2)]
    # Where distances are many epsilons, the roundings of two means are told apart by the plan.
    epsilon = 2.0 if normalize is None else 0.1
    one = ops.sinkhorn_loss(leaves[0], epsilon, p=p, normalize=normalize, reduce=reduce)
    distance = ops.frame_distance(leaves[1], p=p, normalize=normalize, reduce=reduce)
    other = ops.sinkhorn_distance(distance, epsilon, symmetric=True)
    upstream = torch.rand_like(one.detach())
    one.backward(upstream)
    other.backward(upstream)
    torch.testing.assert_close(one, other, rtol=5e-6, atol=0)
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-4, atol=1e-8)


def test_a_silent_item_and_a_single_frame() -> None:
    silent = representation()
    silent[1] = 0
    for leaf in (silent, representation(frames=1)):
        leaf = leaf.requires_grad_()
        loss = ops.sinkhorn_loss(leaf, 0.1, reduce="none")
        loss.sum().backward()
        assert loss[1] == 0 and leaf.grad is not None and leaf.grad.isfinite().all()
        assert (leaf.grad[1] == 0).all()


def test_no_derivative_without_need() -> None:
    leaf = representation()
    settings = (0.1, 1, 1, True, 100, 1e-6)
    for wanted in (False, True):
        _, _, distance, slope = raw._sinkhorn_loss_forward(leaf, *settings, wanted)
        assert distance.shape == (3, 37, 37) and slope.shape == (int(wanted), 37, 37)
    with torch.no_grad():
        assert ops.sinkhorn_loss(leaf.requires_grad_(), 0.1).grad_fn is None


def test_an_unfinished_problem_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sinkhorn_problem, "_warned", False)
    with pytest.warns(UserWarning, match="sinkhorn_loss: marginals met to"):
        ops.sinkhorn_loss(representation(), 0.5, max_iterations=0)


def test_messages() -> None:
    whole = representation()
    cases = [
        ({"representation": whole[0]}, ValueError, r"representation must have shape \(B, C, T\)"),
        ({"representation": whole.long()}, TypeError, "representation must be of a floating"),
        ({"representation": whole[..., :0]}, ValueError, "at least one frame"),
        ({"representation": whole[:0]}, ValueError, "a batch of at least 1"),
        ({"epsilon": 0.0}, ValueError, "epsilon must be positive"),
        ({"epsilon": math.nan}, ValueError, "epsilon must be positive"),
        ({"epsilon": torch.ones(3)}, TypeError, "epsilon must be a number"),
        ({"p": 3}, ValueError, "p must be one of"),
        ({"normalize": "frames"}, ValueError, "normalize must be one of"),
        ({"reduce": "sum"}, ValueError, "reduce must be one of"),
        ({"max_iterations": -1}, ValueError, "max_iterations must be at least 0"),
        ({"tolerance": -1.0}, ValueError, "tolerance must be at least 0"),
    ]
    for change, error, message in cases:
        arguments = {"representation": whole, "epsilon": 0.1, **change}
        with pytest.raises(error, match=f"^sinkhorn_loss: .*{message}"):
            ops.sinkhorn_loss(
                arguments.pop("representation"), arguments.pop("epsilon"), **arguments
            )
