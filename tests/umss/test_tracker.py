"""The f0 networks inside a model: what they find, what moves, and their losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from training.conftest import one_thread  # noqa: F401  (autouse)

from rlsv_fast.umss import F0Tracker, TrackedVoices, decode_f0, frequencies
from rlsv_fast.umss.decode import BANDS, THRESHOLDS
from rlsv_fast.umss.tracker import band_loss, commitment_loss, consistency_loss

pytestmark = pytest.mark.usefixtures("small")
close = torch.testing.assert_close


def heard(convention: str = "paper") -> TrackedVoices:
    """Voices of three frames, float64, the bass below 75 Hz."""
    generator = torch.Generator().manual_seed(0)
    assigned = 0.3 * torch.rand(2, 4, 360, 3, generator=generator, dtype=torch.float64)
    assigned[:, 3, 50] = 0.8
    assigned[1, 0] *= 0.5  # below its threshold: unvoiced
    salience = torch.rand(2, 1, 360, 3, generator=generator, dtype=torch.float64)
    assigned.requires_grad_()
    salience.requires_grad_()
    f0 = decode_f0(assigned, convention=convention)  # type: ignore[arg-type]
    return TrackedVoices(f0, salience, assigned)


def gradient(loss: Tensor, found: TrackedVoices) -> Tensor:
    """To the saliences of the voices; to that of all pitches there is none."""
    of_voices, of_all = torch.autograd.grad(
        loss, (found.assigned, found.salience), allow_unused=True
    )
    assert of_all is None
    return of_voices


def test_consistency() -> None:
    found = heard()
    count = 2 * 360 * 3
    difference = (found.assigned.sum(1) - found.salience[:, 0]).detach()
    loss = consistency_loss(found)
    close(loss.detach(), (difference**2).sum() / count)
    close(gradient(loss, found), (2 / count * difference)[:, None].expand(2, 4, 360, 3))


def test_band() -> None:
    found = heard()
    expected = torch.zeros_like(found.assigned)
    for voice, (low, high) in enumerate(BANDS):
        for bin in [*range(low), *range(high + 1, 360)]:
            expected[:, voice, bin] = found.assigned[:, voice, bin].detach()
    count = expected.numel()
    loss = band_loss(found)
    close(loss.detach(), (expected**2).sum() / count)
    close(gradient(loss, found), 2 / count * expected)


@pytest.mark.parametrize("convention", ["paper", "code"])
def test_commitment(convention: str) -> None:
    found = heard(convention)
    wanted = torch.zeros_like(found.assigned)
    for item, voice, frame in torch.cartesian_prod(*map(torch.arange, (2, 4, 3))).tolist():
        column = found.assigned[item, voice, :, frame].tolist()
        best = max(range(360), key=column.__getitem__)
        if column[best] >= THRESHOLDS[voice]:
            wanted[item, voice, best, frame] = 1
    assert wanted[1, 0].sum() == 0 and (wanted[:, 3, 50] == 1).all()
    difference = (found.assigned - wanted).detach()
    loss = commitment_loss(found)
    close(loss.detach(), difference.square().mean())
    close(gradient(loss, found), 2 / difference.numel() * difference)


@pytest.mark.parametrize("method", ["soft", "ste", "sigmoid", "threshold"])
def test_commitment_is_to_the_largest_bin_whatever_the_method_makes_of_it(method: str) -> None:
    found = heard()
    other = found._replace(f0=decode_f0(found.assigned, method=method))  # type: ignore[arg-type]
    close(commitment_loss(other), commitment_loss(found))


def tone(items: int = 2, samples: int = 22400) -> Tensor:
    time = torch.arange(samples) / 16000
    pitches = 200.0 + 50 * torch.arange(items)[:, None]
    levels = 10.0 ** -torch.arange(items)[:, None]
    return levels * (2 * torch.pi * pitches * time).sin()


def test_what_a_tracker_finds() -> None:
    torch.manual_seed(0)
    tracker = F0Tracker()
    found = tracker(tone())
    frames = 22400 * 22050 // 16000 // 256
    assert found.f0.shape == (2, 4, frames)
    assert found.salience.shape == (2, 1, 360, frames)
    assert found.assigned.shape == (2, 4, 360, frames)
    close(found.f0, decode_f0(found.assigned))
    distance = (found.f0[..., None] - frequencies(torch.float32)).abs().amin(-1)
    assert (distance[found.f0 > 0] < 1e-2).all() and (found.f0 > 0).any()
    again = tracker.assign(tracker.salience(tone()))
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


@pytest.mark.parametrize("reference", ["item", "batch"])
def test_only_a_level_of_the_batch_lets_items_hear_each_other(reference: str) -> None:
    torch.manual_seed(0)
    tracker = F0Tracker(reference=reference)  # type: ignore[arg-type]
    both, alone = tracker.salience(tone())[1:], tracker.salience(tone()[1:])
    assert (both - alone).abs().max() < 1e-5 if reference == "item" else not both.equal(alone)


@pytest.mark.parametrize(("multif0", "assignment"), [(False, False), (False, True), (True, True)])
def test_what_is_frozen_gets_no_gradient_and_statistics_stay(
    multif0: bool, assignment: bool
) -> None:
    torch.manual_seed(0)
    tracker = F0Tracker(train_multif0=multif0, train_assignment=assignment)
    tracker.train()
    assert not any(part.training for part in tracker.modules())
    before = {name: buffer.clone() for name, buffer in tracker.named_buffers()}
    found = tracker(tone())
    loss = found.f0.sum() + consistency_loss(found)
    assert loss.requires_grad == (multif0 or assignment)
    if loss.requires_grad:
        loss.backward()
    for network, trained in ((tracker.multif0, multif0), (tracker.assignment, assignment)):
        assert all((p.grad is not None) == trained for p in network.parameters())
    assert all(torch.equal(before[name], buffer) for name, buffer in tracker.named_buffers())


def test_no_such_reference() -> None:
    with pytest.raises(ValueError, match="F0Tracker: reference must be"):
        F0Tracker(reference="song")  # type: ignore[arg-type]
