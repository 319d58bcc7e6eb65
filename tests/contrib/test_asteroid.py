"""The adapter to asteroid-filterbanks, against that package and against the model."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from rlsv_fast import nn, ops

package: ModuleType = pytest.importorskip(
    "asteroid_filterbanks", reason="asteroid-filterbanks is not installed"
)

from rlsv_fast.contrib import asteroid  # noqa: E402 - only where the package is

SIZES = {"n_filters": 12, "kernel_size": 32, "stride": 8, "sample_rate": 16000}


def make_model() -> nn.RepresentationModel:
    torch.manual_seed(3)
    model = nn.RepresentationModel(
        nn.ConvEncoder(12, 32, 8), nn.ModulatedCosineDecoder(12, 32, 8, sample_rate=16000)
    )
    return model.double()


def test_it_is_there_by_its_name() -> None:
    encoder, decoder = package.make_enc_dec("ModulatedCosineFB", **SIZES, power=1)
    signal = torch.randn(2, 1, 200)
    representation = encoder(signal)
    assert representation.shape == (2, 12, (200 - 32) // 8 + 1)
    assert representation.min() == 0 and representation.max() > 0
    bank = encoder.filterbank.decoder
    expected, _ = ops.modulated_cosines(
        bank.frequency, bank.phase, bank.modulator, power=1, sort=False
    )
    torch.testing.assert_close(encoder.filters()[:, 0], expected)
    torch.testing.assert_close(
        representation, torch.relu(signal.unfold(-1, 32, 8)[:, 0] @ expected.T).transpose(1, 2)
    )
    decoder(representation).square().sum().backward()
    for part in (encoder, decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_its_configuration_makes_it_again() -> None:
    bank = asteroid.ModulatedCosineFB(**SIZES, power=1, modulator="shared", convention="code")
    config = bank.get_config()
    again = package.get(config.pop("fb_name"))(**config)
    assert again.get_config() == bank.get_config()
    assert {n: p.shape for n, p in again.named_parameters()} == {
        n: p.shape for n, p in bank.named_parameters()
    }


@pytest.mark.parametrize("samples", [160, 163])
def test_a_trained_model_goes_on_as_filterbanks(samples: int) -> None:
    model = make_model()
    signal = torch.randn(2, samples, dtype=torch.float64)
    encoder = package.Encoder(asteroid.EncoderFB(model.encoder, 16000))
    representation = encoder(signal[:, None])
    torch.testing.assert_close(representation, model.encode(signal))
    stereo = encoder(torch.stack([signal, 2 * signal], dim=1))
    torch.testing.assert_close(stereo[:, 0], representation)
    torch.testing.assert_close(stereo[:, 1], model.encode(2 * signal))

    bank = asteroid.ModulatedCosineFB.of(model.decoder, 16000)
    left, _ = nn.padding(samples, 32, 8)
    decoded = package.Decoder(bank, padding=left)(representation, length=samples)
    torch.testing.assert_close(decoded[:, 0], model(signal))
    assert {id(p) for p in bank.parameters()} == {id(p) for p in model.decoder.parameters()}
