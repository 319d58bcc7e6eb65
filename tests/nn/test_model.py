from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rlsv_fast import reference
from rlsv_fast.nn import (
    ConvDecoder,
    ConvEncoder,
    CosineEncoder,
    ModulatedCosineDecoder,
    RepresentationModel,
    SincEncoder,
)
from rlsv_fast.nn.decoders import Decoder
from rlsv_fast.nn.encoders import Encoder

C, L, S, N = 12, 64, 16, 500

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "conv": lambda: ConvEncoder(C, L, S),
    "cosine": lambda: CosineEncoder(C, L, S),
    "cosine-shared": lambda: CosineEncoder(C, L, S, shared_modulator=True, convention="code"),
    "sinc": lambda: SincEncoder(C, L, S),
}
DECODERS: dict[str, Callable[[], Decoder]] = {
    "mod-cos-squared": lambda: ModulatedCosineDecoder(C, L, S),
    "mod-cos-linear": lambda: ModulatedCosineDecoder(C, L, S, power=1, convention="code"),
    "cos-shared": lambda: ModulatedCosineDecoder(C, L, S, modulator="shared"),
    "cos": lambda: ModulatedCosineDecoder(C, L, S, modulator="none"),
    "conv": lambda: ConvDecoder(C, L, S),
    "conv-tanh": lambda: ConvDecoder(C, L, S, tanh=True),
}


def _small() -> RepresentationModel:
    return RepresentationModel(ENCODERS["conv"](), DECODERS["mod-cos-squared"]())


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_is_two_convolutions(name: str) -> None:
    encoder = ENCODERS[name]().double()
    signal = torch.randn(2, N, dtype=torch.float64)
    pad = (31 * S + L - N) // 2
    hidden = nn.functional.conv1d(
        nn.functional.pad(signal, (pad, 31 * S + L - N - pad)).unsqueeze(1),
        encoder.basis().unsqueeze(1),
        stride=S,
    )
    context = nn.functional.conv1d(hidden, encoder.context, padding=20, dilation=10)
    torch.testing.assert_close(encoder(signal), torch.relu(context + hidden))


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_is_a_transposed_convolution(name: str) -> None:
    decoder = DECODERS[name]().double()
    representation = torch.rand(2, C, 32, dtype=torch.float64)
    pad = (31 * S + L - N) // 2
    whole = nn.functional.conv_transpose1d(representation, decoder.basis().unsqueeze(1), stride=S)
    expected = whole[:, 0, pad : pad + N]
    if name == "conv-tanh":
        expected = torch.tanh(expected)
    torch.testing.assert_close(decoder(representation, N), expected)
    torch.testing.assert_close(decoder(representation, N, basis=decoder.basis()), expected)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_parameter_of_every_pair_learns(encoder: str, decoder: str) -> None:
    model = RepresentationModel(ENCODERS[encoder](), DECODERS[decoder]())
    signal = torch.randn(2, N)
    estimate = model(signal)
    assert estimate.shape == signal.shape
    (estimate - signal).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert parameter.grad.isfinite().all(), name
    assert signal.grad is None


def test_state_dict_has_readable_names() -> None:
    assert set(_small().state_dict()) == {
        "encoder.kernels",
        "encoder.context",
        "decoder.frequency",
        "decoder.phase",
        "decoder.modulator",
    }
    assert set(DECODERS["cos"]().state_dict()) == {"frequency", "phase"}
    assert set(ENCODERS["sinc"]().state_dict()) == {"low", "high", "modulator", "context"}


def test_decode_takes_the_length_of_the_encoded_signal() -> None:
    model = _small()
    representation = model.encode(torch.randn(1, N))
    assert model.decode(representation).shape == (1, N)
    assert model.decode(representation, length=N + 3).shape == (1, N + 3)
    assert model.decode(representation[:, :, 1:]).shape == (1, 31 * S)
    assert _small().decode(representation).shape == (1, 32 * S)


def test_order_and_basis_follow_the_carriers() -> None:
    model = _small()
    assert isinstance(model.decoder, ModulatedCosineDecoder)
    with torch.no_grad():
        model.decoder.frequency.copy_(torch.linspace(-0.5, 0.4, C))
    carriers = model.decoder.carriers()
    assert carriers[model.order()].diff().min() >= 0
    torch.testing.assert_close(model.basis(), model.decoder.basis()[model.order()])
    free = RepresentationModel(ENCODERS["conv"](), DECODERS["conv"]())
    assert free.order().tolist() == list(range(C))
    assert free.decoder.carriers() is None


def test_cosine_encoder_sorts_only_where_the_published_code_does() -> None:
    paper, code = CosineEncoder(C, L, S), CosineEncoder(C, L, S, convention="code")
    with torch.no_grad():
        for encoder in (paper, code):
            encoder.frequency.copy_(torch.linspace(0.5, 0.1, C))
            encoder.phase.zero_()
    torch.testing.assert_close(code.basis(), paper.basis().flip(0))


def test_sinc_kernels_are_pairs_of_sincs() -> None:
    encoder = SincEncoder(5, 9, 4)
    with torch.no_grad():
        encoder.low.copy_(torch.tensor([0.3, 0.1, 0.2, 0.0, 0.05]))
        encoder.high.copy_(torch.tensor([0.1, 0.4, 0.2, 0.3, 0.0]))
        encoder.modulator.copy_(torch.rand(1, 9))
    time = torch.arange(9, dtype=torch.float64) - 4
    time[4] = 0.1
    low, high = encoder.low.double()[:, None], encoder.high.double()[:, None]
    expected = 2 * low * torch.sinc(2 * low * time) - 2 * high * torch.sinc(2 * high * time)
    actual = encoder.basis()
    torch.testing.assert_close(
        actual.double(), expected * encoder.modulator.double(), atol=2e-7, rtol=0
    )
    torch.autograd.grad(actual.sum(), [encoder.low, encoder.high])


def test_sinc_kernels_stay_exact_at_many_turns() -> None:
    encoder = SincEncoder(40, 2048, 256)
    exact = SincEncoder(40, 2048, 256).double()
    exact.load_state_dict(encoder.state_dict())
    assert (encoder.basis() - exact.basis()).abs().max() < 1e-6


def test_decoder_kernels_equal_the_reference() -> None:
    decoder = DECODERS["mod-cos-squared"]()
    expected = reference.modulated_cosines(
        decoder.frequency, decoder.phase, decoder.modulator, power=2, sort=False
    )[0]
    torch.testing.assert_close(decoder.basis(), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: (ConvEncoder(), ModulatedCosineDecoder()), 6_478_400),
        (lambda: (ConvEncoder(), ModulatedCosineDecoder(power=1)), 6_478_400),
        (lambda: (ConvEncoder(400), ModulatedCosineDecoder(400)), 2_439_200),
        (lambda: (ConvEncoder(1600), ModulatedCosineDecoder(1600)), 19_356_800),
        (lambda: (ConvEncoder(), ConvDecoder()), 6_476_800),
        (lambda: (ConvEncoder(952), ModulatedCosineDecoder(952, modulator="none")), 6_483_120),
        (lambda: (ConvEncoder(952), ModulatedCosineDecoder(952, modulator="shared")), 6_485_168),
        (lambda: (SincEncoder(952), ModulatedCosineDecoder(952)), 6_487_072),
    ],
)
def test_parameter_counts_of_the_papers(
    build: Callable[[], tuple[Encoder, Decoder]], count: int
) -> None:
    with torch.device("meta"):
        model = RepresentationModel(*build())
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_initial_values_of_both_conventions() -> None:
    paper, code = ConvEncoder(64, 128, 32), ConvEncoder(64, 128, 32, convention="code")
    for tensor, bound in (
        (paper.kernels, (3 / 64) ** 0.5),
        (paper.context, (3 / 64) ** 0.5),
        (code.kernels, (6 / 128) ** 0.5),
        (code.context, (6 / 320) ** 0.5),
    ):
        assert 0.99 * bound < tensor.abs().max() <= bound
    first, second = (ModulatedCosineDecoder(64, 128, 32, convention=c) for c in ("paper", "code"))
    assert (first.phase == 0).all()
    assert second.phase.std() > 0.5
    assert (first.modulator == 1 / 192).all()
    torch.testing.assert_close(first.carriers()[-1], torch.tensor(0.25))
    sinc = SincEncoder(64, 128, 32)
    torch.testing.assert_close(sinc.low[0], torch.tensor(80 / 44100))
    assert (sinc.high != sinc.low).all()


def test_wrong_inputs_are_named() -> None:
    model = _small()
    with pytest.raises(ValueError, match=r"signal must have shape \(B, N\), got \(2, 1, 500\)"):
        model(torch.zeros(2, 1, N))
    with pytest.raises(ValueError, match=r"\(B, C, T\) with C = 12, got \(2, 11, 32\)"):
        model.decode(torch.zeros(2, 11, 32))
    with pytest.raises(ValueError, match="length 100 has 7 frames at hop 16, .* has 32"):
        model.decode(torch.zeros(2, C, 32), length=100)
    with pytest.raises(ValueError, match=r"basis must have shape \(12, 64\), got \(12, 32\)"):
        model.decode(torch.zeros(2, C, 32), basis=torch.zeros(C, 32))
    with pytest.raises(ValueError, match="same hop, got 16 and 8"):
        RepresentationModel(ConvEncoder(C, L, S), ConvDecoder(C, L, 8))
    with pytest.raises(ValueError, match="ConvEncoder: components must be at least 1, got 0"):
        ConvEncoder(0)
    with pytest.raises(ValueError, match="convention must be one of 'paper', 'code', got 'both'"):
        ConvEncoder(C, L, S, convention="both")
    with pytest.raises(ValueError, match="ModulatedCosineDecoder: power must be one of 1, 2"):
        ModulatedCosineDecoder(C, L, S, power=3)


def test_same_bits_on_two_runs() -> None:
    model = _small()
    signal = torch.randn(3, N)
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(signal).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_compiles_into_one_graph() -> None:
    model = _small()
    signal = torch.randn(2, N)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")

    def gradients(module: Callable[[Tensor], Tensor]) -> list[Tensor]:
        model.zero_grad()
        module(signal).square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    with torch._dynamo.config.patch(error_on_recompile=True):
        torch.testing.assert_close(gradients(compiled), gradients(model))
        torch.testing.assert_close(gradients(compiled), gradients(model))
    encode = torch.compile(model.encode, fullgraph=True, backend="aot_eager")
    decode = torch.compile(model.decode, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(decode(encode(signal)), model(signal))


def test_runs_on_the_device(device: str) -> None:
    model = _small().to(device)
    signal = torch.randn(2, N, device=device)
    estimate = model(signal)
    assert estimate.device.type == device
    torch.testing.assert_close(estimate.cpu(), model.cpu()(signal.cpu()), atol=1e-5, rtol=1e-4)
