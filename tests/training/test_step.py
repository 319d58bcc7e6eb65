import pytest
import torch

from rlsv_fast.nn import RepresentationModel
from rlsv_fast.training import Config, StepLosses, build_losses, build_model, training_losses
from training import tiny


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, 2000) * 0.1 + 0.02, torch.randn(4, 2000) * 0.1


def _noise() -> torch.Tensor:
    return torch.randn(4, 2000, generator=torch.Generator().manual_seed(5))


def _losses(
    *overrides: str,
) -> tuple[Config, RepresentationModel, torch.Tensor, torch.Tensor, StepLosses]:
    config = tiny.config(*overrides)
    model = build_model(config)
    voice, accompaniment = _batch()
    losses = training_losses(model, build_losses(config), voice, accompaniment, _noise(), config)
    return config, model, voice, accompaniment, losses


@pytest.mark.parametrize("computed_on", ["mixture", "voice"])
def test_it_is_the_papers_objective(computed_on: str) -> None:
    config, model, voice, accompaniment, losses = _losses(
        f"loss.computed_on={computed_on}", "loss.weight=0.7"
    )
    noisy = voice + 1e-3 * _noise()
    of_voice, of_mixture = model.encode(noisy), model.encode(voice + accompaniment)
    terms = build_losses(config)
    reconstruction = terms.reconstruction(model.decode(of_voice, length=2000), voice)
    representation = terms.represent(of_mixture if computed_on == "mixture" else of_voice, model)
    torch.testing.assert_close(losses.reconstruction, reconstruction)
    torch.testing.assert_close(losses.representation, representation)
    torch.testing.assert_close(losses.total, reconstruction + 0.7 * representation)


def test_only_the_code_subtracts_the_mean_of_the_batch() -> None:
    config, model, voice, accompaniment, losses = _losses("convention=code")
    shifted = training_losses(
        model, build_losses(config), voice + 0.5, accompaniment - 0.1, _noise(), config
    )
    torch.testing.assert_close(losses.total, shifted.total, rtol=1e-4, atol=1e-4)
    paper, model, voice, accompaniment, losses = _losses()
    shifted = training_losses(
        model, build_losses(paper), voice + 0.5, accompaniment - 0.1, _noise(), paper
    )
    assert (losses.total - shifted.total).abs() > 0.1


def test_without_a_representation_loss_the_mixture_is_not_encoded() -> None:
    config, model, voice, accompaniment, losses = _losses("loss.representation=none")
    nothing = torch.full_like(accompaniment, torch.nan)
    again = training_losses(model, build_losses(config), voice, nothing, _noise(), config)
    assert losses.total.equal(again.total)
    assert float(losses.representation) == 0.0


def test_one_pass_through_the_encoder_and_one_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny.config()
    model = build_model(config)
    sizes, bases = [], []
    encode, basis = model.encoder.forward, model.decoder.basis
    monkeypatch.setattr(
        model.encoder, "forward", lambda signal: (sizes.append(len(signal)), encode(signal))[1]
    )
    monkeypatch.setattr(model.decoder, "basis", lambda: (bases.append(1), basis())[1])
    voice, accompaniment = _batch()
    losses = training_losses(model, build_losses(config), voice, accompaniment, _noise(), config)
    losses.total.backward()
    assert sizes == [8] and bases == [1]
    assert all(parameter.grad is not None for parameter in model.parameters())
