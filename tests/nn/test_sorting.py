from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlsv_fast.nn import (
    ConvDecoder,
    ConvEncoder,
    CosineEncoder,
    ModulatedCosineDecoder,
    RepresentationModel,
    SincEncoder,
    TotalVariationLoss,
    sort_components,
)
from rlsv_fast.nn.encoders import Encoder

C, L, S, N = 10, 32, 8, 200

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "conv": lambda: ConvEncoder(C, L, S),
    "cosine": lambda: CosineEncoder(C, L, S),
    "cosine-shared": lambda: CosineEncoder(C, L, S, shared_modulator=True),
    "sinc": lambda: SincEncoder(C, L, S),
}


def _shuffled(encoder: str, power: int = 2, modulator: str = "component") -> RepresentationModel:
    decoder = ModulatedCosineDecoder(C, L, S, power=power, modulator=modulator, convention="code")
    model = RepresentationModel(ENCODERS[encoder](), decoder).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        decoder.frequency.copy_(0.8 * torch.rand(C) - 0.4)
    return model


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("modulator", ["component", "shared", "none"])
def test_the_function_of_the_model_stays(encoder: str, power: int, modulator: str) -> None:
    model = _shuffled(encoder, power, modulator)
    signal = torch.randn(2, N, dtype=torch.float64)
    representation, estimate, basis = model.encode(signal), model(signal), model.basis()
    order = model.order()
    assert sort_components(model)
    carriers = model.decoder.carriers()
    assert carriers is not None and carriers.diff().min() >= 0
    torch.testing.assert_close(model.encode(signal), representation[:, order])
    torch.testing.assert_close(model(signal), estimate)
    torch.testing.assert_close(model.decoder.basis(), basis)
    assert not sort_components(model)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_path_of_the_training_stays(amsgrad: bool) -> None:
    signal = torch.randn(2, N, dtype=torch.float64)

    def train(sort: bool) -> tuple[list[float], Tensor, int]:
        torch.manual_seed(3)
        model = _shuffled("conv")
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05, amsgrad=amsgrad)
        losses, moves = [], 0
        for _ in range(8):
            optimizer.zero_grad()
            loss = (model(signal) - signal).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if sort:
                moves += sort_components(model, optimizer)
        return losses, model.basis().detach(), moves

    plain_losses, plain_basis, _ = train(sort=False)
    sorted_losses, sorted_basis, moves = train(sort=True)
    assert moves > 1
    torch.testing.assert_close(torch.tensor(sorted_losses), torch.tensor(plain_losses))
    torch.testing.assert_close(sorted_basis, plain_basis, atol=1e-6, rtol=1e-6)


def test_ordering_the_loss_equals_sorting_the_model() -> None:
    signal = torch.randn(2, N, dtype=torch.float64)

    def train(sort: bool) -> tuple[list[float], Tensor]:
        torch.manual_seed(3)
        model = _shuffled("conv")
        sort_components(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        losses, variation = [], TotalVariationLoss()
        for _ in range(6):
            optimizer.zero_grad()
            representation = model.encode(signal)
            smooth = variation(representation, None if sort else model.order())
            loss = (model.decode(representation) - signal).square().mean() + smooth
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if sort:
                sort_components(model, optimizer)
        return losses, model.basis().detach()

    (sorted_losses, sorted_basis), (ordered_losses, ordered_basis) = train(True), train(False)
    torch.testing.assert_close(torch.tensor(ordered_losses), torch.tensor(sorted_losses))
    torch.testing.assert_close(ordered_basis, sorted_basis, atol=1e-6, rtol=1e-6)


def test_pending_gradients_move_along() -> None:
    model = _shuffled("conv")
    model(torch.randn(2, N, dtype=torch.float64)).square().sum().backward()
    assert isinstance(model.encoder, ConvEncoder) and model.encoder.context.grad is not None
    before, order = model.encoder.context.grad.clone(), model.order()
    sort_components(model)
    assert torch.equal(model.encoder.context.grad, before[order][:, order])


def test_free_kernels_have_no_order() -> None:
    assert not sort_components(RepresentationModel(ConvEncoder(C, L, S), ConvDecoder(C, L, S)))


def test_an_encoder_with_its_own_order_is_refused() -> None:
    decoder = ModulatedCosineDecoder(C, L, S)
    model = RepresentationModel(CosineEncoder(C, L, S, convention="code"), decoder)
    assert not sort_components(model)
    with torch.no_grad():
        decoder.frequency.copy_(decoder.frequency.flip(0))
    with pytest.raises(ValueError, match="follow its own carriers"):
        sort_components(model)
