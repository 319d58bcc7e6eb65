import pytest
import torch

from rlsv_fast.nn import Discriminator, NegSNRLoss, SinkhornLoss, TotalVariationLoss


def test_neg_snr_of_the_paper_is_a_mean_over_segments() -> None:
    target = torch.randn(3, 100)
    error = torch.tensor([[1e-1], [1e-2], [1e-3]]) * target
    torch.testing.assert_close(NegSNRLoss()(target + error, target), torch.tensor(-40.0))
    torch.testing.assert_close(
        NegSNRLoss(reduction="none")(target + error, target), torch.tensor([-20.0, -40.0, -60.0])
    )
    torch.testing.assert_close(
        NegSNRLoss(reduction="sum")(target + error, target), torch.tensor(-120.0)
    )


def test_neg_snr_of_the_code_is_one_ratio() -> None:
    target, estimate = torch.randn(2, 3, 100)
    expected = -10 * torch.log10(target.square().sum() / (target - estimate).square().sum())
    torch.testing.assert_close(NegSNRLoss("code")(estimate, target), expected)


def test_silent_segments_do_not_count() -> None:
    target = torch.randn(4, 100)
    target[1:3] = 0
    estimate = torch.randn(4, 100, requires_grad=True)
    loss = NegSNRLoss()(estimate, target)
    torch.testing.assert_close(loss, NegSNRLoss()(estimate[[0, 3]], target[[0, 3]]))
    (gradient,) = torch.autograd.grad(loss, estimate)
    assert gradient.isfinite().all() and (gradient[1:3] == 0).all() and (gradient[0] != 0).any()
    nothing = NegSNRLoss()(estimate, torch.zeros_like(target))
    assert nothing.item() == 0
    assert (torch.autograd.grad(nothing, estimate)[0] == 0).all()


def test_total_variation_conventions() -> None:
    ramp = torch.arange(4.0).repeat(2, 3, 1)  # 3 channels, 4 frames, one step per frame
    ramp[1] *= 2
    torch.testing.assert_close(TotalVariationLoss()(ramp), torch.tensor(0.75 * 1.5))
    torch.testing.assert_close(
        TotalVariationLoss(reduction="none")(ramp), torch.tensor([0.75, 1.5])
    )
    torch.testing.assert_close(TotalVariationLoss("code")(ramp), torch.tensor(45**0.5 / 4))


@pytest.mark.parametrize("convention", ["paper", "code"])
@pytest.mark.parametrize("p", [1, 2])
def test_sinkhorn_against_a_long_plain_iteration(convention: str, p: int) -> None:
    representation = torch.rand(3, 6, 9, dtype=torch.float64, requires_grad=True)
    shifted = representation + 1 / 6
    if convention == "paper":
        normal = representation / shifted.sum(1, keepdim=True)
    else:
        normal = shifted / shifted.sum(2, keepdim=True)
    cost = torch.cdist(normal.transpose(1, 2), normal.transpose(1, 2), p=p).mean(0)
    kernel, row = torch.exp(-cost / 0.3), torch.ones(9, dtype=torch.float64)
    for _ in range(300):
        row = (1 / 9) / (kernel @ ((1 / 9) / (kernel.t() @ row)))
    column = (1 / 9) / (kernel.t() @ row)
    expected = (row[:, None] * kernel * column * cost).sum()
    loss = SinkhornLoss(0.3, p=p, convention=convention, tolerance=1e-12)(representation)
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, representation)
    (oracle,) = torch.autograd.grad(expected, representation)
    torch.testing.assert_close(gradient, oracle, atol=1e-7, rtol=1e-5)


def test_sinkhorn_mass_and_items() -> None:
    representation = torch.rand(3, 6, 9, dtype=torch.float64)
    single = SinkhornLoss(0.5)(representation)
    torch.testing.assert_close(SinkhornLoss(0.5, marginal_mass="T")(representation), 9 * single)
    torch.testing.assert_close(SinkhornLoss(0.5, marginal_mass=2.5)(representation), 2.5 * single)
    items = SinkhornLoss(0.5, per_item=True, reduction="none")(representation)
    assert items.shape == (3,)
    torch.testing.assert_close(items[1], SinkhornLoss(0.5)(representation[1:2]))
    torch.testing.assert_close(SinkhornLoss(0.5, per_item=True)(representation), items.mean())


@pytest.mark.parametrize("gradient", ["implicit", "unrolled"])
def test_sinkhorn_gradients_agree(gradient: str) -> None:
    representation = torch.rand(2, 5, 7, dtype=torch.float64, requires_grad=True)
    loss = SinkhornLoss(1.0, gradient=gradient, tolerance=1e-13, max_iterations=200)
    torch.autograd.gradcheck(loss, (representation,), atol=1e-6)


@pytest.mark.parametrize("mass", [1.0, "T"])
@pytest.mark.parametrize("convention", ["paper", "code"])
def test_sinkhorn_in_two_halves(convention: str, mass: float) -> None:
    loss = SinkhornLoss(0.5, convention=convention, marginal_mass=mass)
    whole, parts = (torch.rand(3, 6, 9, generator=torch.Generator().manual_seed(1)) for _ in "12")
    values = []
    for tensor, function in ((whole, loss), (parts, lambda a: loss.transport(loss.distances(a)))):
        values.append(function(tensor.requires_grad_()))
        values[-1].backward()
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(parts.grad, whole.grad)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="SinkhornLoss: epsilon must be positive, got 0"):
        SinkhornLoss(0.0)
    with pytest.raises(ValueError, match="marginal_mass must be a positive number or 'T'"):
        SinkhornLoss(1.0, marginal_mass=-1.0)
    with pytest.raises(ValueError, match="needs one value per item: use per_item=True"):
        SinkhornLoss(1.0, reduction="none")
    with pytest.raises(ValueError, match="needs one value per item: use convention='paper'"):
        NegSNRLoss("code", reduction="none")
    with pytest.raises(ValueError, match="TotalVariationLoss: convention must be one of"):
        TotalVariationLoss("other")


def test_discriminator_follows_its_formula() -> None:
    discriminator = Discriminator(4, latent=3)
    first, second = torch.rand(2, 5, 4, 11)
    embedded = discriminator.embed(first)
    values, gates = torch.nn.functional.conv1d(
        first, discriminator.embedding.weight, padding=1
    ).chunk(2, dim=1)
    torch.testing.assert_close(embedded, torch.relu(values * gates.sigmoid() + first))
    logits = discriminator(first, second)
    assert logits.shape == (5,)
    frames = torch.randperm(11)
    torch.testing.assert_close(  # the mean over frames does not see their order ...
        discriminator.norm(embedded[:, :, frames]).mean(-1), discriminator.norm(embedded).mean(-1)
    )
    assert not torch.equal(logits, discriminator(first[:, [1, 0, 2, 3]], second))  # ... channels do
    loss = Discriminator.loss(logits, -logits)
    torch.testing.assert_close(
        loss, 0.5 * (-logits.sigmoid().log().mean() - (1 - (-logits).sigmoid()).log().mean())
    )
    loss.backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    with pytest.raises(ValueError, match=r"C = 4, got \(5, 3, 11\)"):
        discriminator(first[:, :3], second)


def test_discriminator_loss_survives_extreme_logits() -> None:
    loss = Discriminator.loss(torch.tensor([-200.0]), torch.tensor([200.0]))
    assert float(loss) == 200.0
