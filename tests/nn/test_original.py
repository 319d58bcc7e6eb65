import pytest
import torch
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.nn import (
    ConvDecoder,
    ConvEncoder,
    CosineEncoder,
    ModulatedCosineDecoder,
    RepresentationModel,
    SincEncoder,
    load_original_state,
)

C, L, S, N = 6, 32, 8, 100


def _shapes(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {key.replace("__", "."): torch.rand(shape) for key, shape in shapes.items()}


CONV = {"conv_a1__weight": (C, 1, L), "conv_a2__weight": (C, C, 5)}
MOD_COS = {"freq_mat": (C, 1, 1), "phi": (C, 1, 1), "norm_factor": (C, 1, L)}


def _model() -> RepresentationModel:
    return RepresentationModel(ConvEncoder(C, L, S), ModulatedCosineDecoder(C, L, S))


def test_conv_encoder_and_modulated_decoder() -> None:
    model, analysis, synthesis = _model(), _shapes(**CONV), _shapes(**MOD_COS)
    load_original_state(model, analysis, synthesis)
    expected = {
        "encoder.kernels": analysis["conv_a1.weight"][:, 0],
        "encoder.context": analysis["conv_a2.weight"],
        "decoder.frequency": synthesis["freq_mat"].flatten(),
        "decoder.phase": synthesis["phi"].flatten(),
        "decoder.modulator": synthesis["norm_factor"][:, 0],
    }
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_sinc_encoder_and_conv_decoder() -> None:
    model = RepresentationModel(SincEncoder(C, L, S), ConvDecoder(C, L, S, tanh=True))
    analysis = _shapes(
        freq_mat_f1=(C, 1, 1),
        freq_mat_f2=(C, 1, 1),
        norm_factor=(1, 1, L),
        conv_a__weight=(C, C, 5),
    )
    synthesis = _shapes(conv_dec__weight=(C, 1, L))
    load_original_state(model, analysis, synthesis)
    assert torch.equal(model.encoder.get_parameter("high"), analysis["freq_mat_f2"].flatten())
    assert torch.equal(model.decoder.basis(), synthesis["conv_dec.weight"][:, 0])


@pytest.mark.parametrize("shared", [False, True])
def test_cosine_encoder_is_the_same_in_both_conventions(shared: bool) -> None:
    analysis = _shapes(
        freq_mat=(C, 1, 1),
        phi=(C, 1, 1),
        norm_factor=(1 if shared else C, 1, L),
        conv_a__weight=(C, C, 5),
    )
    signal, outputs = torch.randn(1, N), []
    for convention in ("paper", "code"):
        encoder = CosineEncoder(C, L, S, shared_modulator=shared, convention=convention)
        model = RepresentationModel(encoder, ModulatedCosineDecoder(C, L, S, modulator="shared"))
        load_original_state(model, analysis, _shapes(**{**MOD_COS, "norm_factor": (1, 1, L)}))
        outputs.append(model.encode(signal))
    torch.testing.assert_close(*outputs)


def test_every_misfit_is_named_and_nothing_is_loaded() -> None:
    model = _model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = _shapes(conv_a1__weight=(C, 1, L + 1), conv_a__weight=(C, C, 5))
    with pytest.raises(InputError) as caught:
        load_original_state(model, wrong, _shapes(**MOD_COS))
    for text in (
        "analysis state does not fit ConvEncoder",
        "missing key 'conv_a2.weight'",
        "unexpected key 'conv_a.weight'",
        f"'conv_a1.weight' must have shape ({C}, 1, {L}), got ({C}, 1, {L + 1})",
    ):
        assert text in str(caught.value)
    with pytest.raises(InputError, match="synthesis state does not fit ModulatedCosineDecoder"):
        load_original_state(model, _shapes(**CONV), _shapes(conv_dec__weight=(C, 2, L)))
    with pytest.raises(InputError, match=r"must have shape \(6, 1, 32\), got \(1, 1, 32\)"):
        load_original_state(
            model, _shapes(**CONV), _shapes(**{**MOD_COS, "norm_factor": (1, 1, L)})
        )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_decoder_without_modulator_has_none_to_load() -> None:
    decoder = ModulatedCosineDecoder(C, L, S, modulator="none")
    model = RepresentationModel(ConvEncoder(C, L, S), decoder)
    with pytest.raises(InputError, match="unexpected key 'norm_factor'"):
        load_original_state(model, _shapes(**CONV), _shapes(**MOD_COS))
