import math
from dataclasses import replace

import pytest
import torch
from scipy.special import lambertw
from torch import Tensor

from rlsv_fast import ops, reference
from rlsv_fast.nn import SinkhornLoss


def music(batch: int = 3, components: int = 12, frames: int = 20) -> Tensor:
    """Sparse and non-negative, with neighbouring frames more alike than distant ones."""
    walk = torch.randn(batch, components, frames, dtype=torch.float64).cumsum(2)
    return torch.relu(walk - 0.5)


def two_frames(distance: float) -> Tensor:
    """Frames whose paper-normalised l1 distance is the given one (at most 1)."""
    frames = torch.zeros(1, 2, 2, dtype=torch.float64)
    frames[0, 0, 0] = frames[0, 1, 1] = distance / (2 - distance)
    return frames


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.2784645427610738, 2.0, 10.0])
def test_two_frames_in_closed_form(ratio: float) -> None:
    distance = 0.8
    found = SinkhornLoss(distance / ratio).diagnose(two_frames(distance))
    power = math.exp(ratio)
    slope = 1 / (1 + power) - ratio * power / (1 + power) ** 2  # of m / (1 + exp(m / epsilon))
    assert found.mean_distance == pytest.approx(distance / 2)
    assert found.relative_loss == pytest.approx(2 / (1 + power))
    assert found.mean_gradient == pytest.approx(2 * slope, abs=1e-9)
    assert found.gradient_norm == pytest.approx(math.sqrt(2) * abs(slope), abs=1e-9)
    # the root of x = 1 + exp(-x)
    assert found.sign_change == pytest.approx(distance / 1.2784645427610738, rel=1e-8)


@pytest.mark.parametrize("frames", [3, 40, 173])
def test_equal_distances_follow_the_model(frames: int) -> None:
    representation = torch.eye(frames, dtype=torch.float64)[None]  # all distances are 1
    found = SinkhornLoss(0.5).diagnose(representation)
    assert found.sign_change == pytest.approx(
        1 / (1 + lambertw((frames - 1) / math.e).real), rel=1e-8
    )


@pytest.mark.parametrize("convention", ["paper", "code"])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("per_item", [False, True])
def test_the_gradient_changes_sign_there(convention: str, p: int, per_item: bool) -> None:
    representation = music()

    def diagnosis(epsilon: float):  # type: ignore[no-untyped-def]
        loss = SinkhornLoss(epsilon, p=p, convention=convention, per_item=per_item)
        return loss.diagnose(representation)

    change = diagnosis(1.0).sign_change
    at = diagnosis(change)
    assert abs(at.mean_gradient) < 1e-7 and at.regime == "near the sign change"
    assert 0 < at.pushed_share < 1 and at.gradient_norm > 0.01  # the mean vanishes, G does not
    assert diagnosis(0.95 * change).mean_gradient < -1e-3
    assert diagnosis(1.05 * change).mean_gradient > 1e-3
    assert diagnosis(0.5 * change).regime == "frames are pushed apart"
    assert diagnosis(3 * change).regime == "frames are pulled together"
    assert diagnosis(1e-3 * change).regime == "no regulariser"
    assert diagnosis(1e3 * change).mean_gradient == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 2.0])
def test_figures_against_unrolled_iterations(epsilon: float) -> None:
    representation = music(2, 8, 11)
    cost = ops.frame_distance(representation, reduce="mean").requires_grad_()
    loss = reference.sinkhorn_distance(cost, epsilon, gradient="unrolled", max_iterations=2000)
    (slope,) = torch.autograd.grad(loss, cost)
    pairs = slope[~torch.eye(11, dtype=torch.bool)]
    found = SinkhornLoss(epsilon).diagnose(representation)
    loss, cost = loss.detach(), cost.detach()
    assert found.relative_loss == pytest.approx(float(loss / cost.mean()), rel=1e-7)
    assert found.mean_gradient == pytest.approx(float(121 * pairs.mean()), rel=1e-6)
    assert found.mean_gradient == pytest.approx(float(1 - slope.trace()) * 11 / 10, rel=1e-6)
    assert found.gradient_norm == pytest.approx(float(11 * pairs.norm()), rel=1e-6)
    assert found.pushed_share == float((pairs < 0).double().mean())


def test_near_frames_are_pulled_and_far_ones_pushed() -> None:
    corner = torch.eye(2, dtype=torch.float64).repeat_interleave(4, 1)  # two groups of four frames
    representation = (10 * corner + 0.5 * torch.rand(1, 2, 8).double()).abs()
    cost = ops.frame_distance(representation)[0]
    found = SinkhornLoss(0.25).diagnose(representation)
    assert found.pushed_share == float((cost > 1).sum()) / 56 == 32 / 56


def test_per_item_is_the_mean_over_the_items() -> None:
    representation = music()
    together = SinkhornLoss(0.3, per_item=True).diagnose(representation)
    alone = [SinkhornLoss(0.3).diagnose(item[None]) for item in representation]
    for field in ("mean_distance", "mean_gradient", "gradient_norm", "pushed_share"):
        mean = sum(getattr(item, field) for item in alone) / 3
        assert getattr(together, field) == pytest.approx(mean, rel=1e-7)
    assert together.mean_distance != SinkhornLoss(0.3).diagnose(representation[:1]).mean_distance


def test_only_pairs_of_different_frames_count() -> None:
    representation = music(1, 12, 20)
    representation[:, :, 10:] = 0  # silence: half of the frames coincide
    found = SinkhornLoss(0.3).diagnose(representation)
    representation.requires_grad_()
    cost = ops.frame_distance(representation, reduce="mean")
    cost.retain_grad()
    loss = ops.sinkhorn_distance(cost, 0.3, symmetric=True, tolerance=1e-10)
    loss.backward()
    apart = cost.grad[cost > 0]
    assert apart.numel() < 20 * 19
    assert found.mean_gradient == pytest.approx(float(400 * apart.mean()), rel=1e-7)
    assert found.gradient_norm == pytest.approx(float(20 * apart.norm()), rel=1e-7)
    assert SinkhornLoss(found.sign_change).diagnose(representation).mean_gradient == (
        pytest.approx(0, abs=1e-7)
    )


def test_of_several_sign_changes_the_largest_is_reported() -> None:
    representation = torch.eye(40, dtype=torch.float64)[None]
    representation[0, :, 1] = representation[0, :, 0]  # two frames nearly coincide
    representation[0, 2, 1] = 1e-5
    found = SinkhornLoss(1.0).diagnose(representation)
    signs = [
        SinkhornLoss(found.sign_change * 1.1**step).diagnose(representation).mean_gradient > 0
        for step in (-120, -30, -1, 1, 80)
    ]
    assert signs == [False, True, False, True, True]


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 5, 1), (1, 0, 4)])
def test_nothing_to_transport(shape: tuple[int, ...]) -> None:
    for per_item in (False, True):
        for convention in ("paper", "code"):
            loss = SinkhornLoss(0.5, convention=convention, per_item=per_item)
            found = loss.diagnose(torch.zeros(shape))
            assert found.regime == "no regulariser" and found.sign_change is None
            assert found.relative_loss == found.mean_distance == found.gradient_norm == 0
            assert math.isnan(found.mean_gradient) and math.isnan(found.pushed_share)
            assert "nothing to transport" in str(found)


def test_the_envelope_pulls_at_every_epsilon() -> None:
    representation = music()
    found = SinkhornLoss(0.1, gradient="envelope").diagnose(representation)
    exact = SinkhornLoss(0.1).diagnose(representation)
    assert found.mean_gradient > 0 > exact.mean_gradient
    assert found.sign_change is None and found.pushed_share == 0
    assert "sign change          none" in str(found)
    assert SinkhornLoss(0.1, gradient="unrolled").diagnose(representation) == exact


def test_mass_and_precision_change_nothing() -> None:
    representation = music()
    found = SinkhornLoss(0.2).diagnose(representation)
    assert SinkhornLoss(0.2, marginal_mass="T").diagnose(representation) == found
    single = representation.float()
    assert SinkhornLoss(0.2).diagnose(single) == SinkhornLoss(0.2).diagnose(single.double())


def test_on_every_device(device: str) -> None:
    representation = music()
    found = SinkhornLoss(0.2).diagnose(representation.to(device))
    expected = SinkhornLoss(0.2).diagnose(representation)
    assert found.sign_change == pytest.approx(expected.sign_change, rel=1e-8)
    assert found.mean_gradient == pytest.approx(expected.mean_gradient, rel=1e-8)


def test_it_leaves_autograd_alone() -> None:
    representation = music().requires_grad_()
    expected = SinkhornLoss(0.2).diagnose(representation)
    assert representation.grad is None
    with torch.inference_mode():
        assert SinkhornLoss(0.2).diagnose(representation * 1.0) == expected


def test_the_text_says_what_is_meant() -> None:
    found = SinkhornLoss(0.1).diagnose(music())
    text = str(found)
    assert text.startswith("epsilon = 0.1: frames are pushed apart on average\n")
    assert f"at epsilon = {found.sign_change:.3g}" in text and "(20 frames)" in text
    for regime in ("no regulariser", "near the sign change"):
        assert str(replace(found, regime=regime)).startswith(f"epsilon = 0.1: {regime}\n")


def test_wrong_representations_are_named() -> None:
    loss = SinkhornLoss(1.0)
    with pytest.raises(ValueError, match=r"SinkhornLoss.diagnose: .*\(B, C, T\), got \(3, 4\)"):
        loss.diagnose(torch.rand(3, 4))
    with pytest.raises(TypeError, match="SinkhornLoss.diagnose: representation must be of a float"):
        loss.diagnose(torch.ones(1, 3, 4, dtype=torch.int64))
    for shape in ((0, 3, 4), (1, 3, 0)):
        with pytest.raises(ValueError, match="at least one item and one frame"):
            SinkhornLoss(1.0, per_item=True).diagnose(torch.rand(shape))
    broken = torch.rand(2, 3, 4)
    broken[1, 2, 3] = math.inf
    with pytest.raises(ValueError, match="SinkhornLoss.diagnose: representation must be finite"):
        loss.diagnose(broken)
