import math

import pytest
import torch

from rlsv_fast.evaluation import additivity, binary_mask, is_active


def test_additivity_of_components_that_do_not_overlap_is_one():
    voice, accompaniment = torch.zeros(2, 2, 6, 5)
    voice[:, :3] = torch.rand(2, 3, 5)
    accompaniment[:, 3:] = torch.rand(2, 3, 5)
    mixture = voice + accompaniment
    assert torch.equal(additivity(mixture, voice, accompaniment), torch.ones(2))
    ratio = additivity(mixture, voice, accompaniment, convention="code")
    assert torch.equal(ratio, torch.zeros(2))


def test_additivity_by_hand_and_per_item():
    mixture = torch.tensor([[[2.0, 2.0]], [[1.0, 0.0]]])
    voice = torch.tensor([[[1.0, 1.0]], [[1.0, 1.0]]])
    accompaniment = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    paper = additivity(mixture, voice, accompaniment)
    code = additivity(mixture, voice, accompaniment, convention="code")
    torch.testing.assert_close(paper, torch.tensor([0.75, -1.0]))
    torch.testing.assert_close(code, torch.tensor([0.25, 2.0]))


def test_additivity_of_nothing_is_undefined_not_perfect():
    nothing = torch.zeros(1, 3, 4)
    assert math.isnan(additivity(nothing, nothing, nothing).item())


def test_silence_rules():
    # energies 0.4, 0.05 and 0.005 per segment, between and beside the thresholds 0.1 and 0.01
    voice = torch.tensor([0.4, 0.05, 0.005, 0.0]).div(16).sqrt()[:, None].expand(4, 16)
    assert is_active(voice).tolist() == [True, False, False, False]
    assert is_active(voice, convention="code").tolist() == [True, True, False, False]
    assert is_active(torch.full((1, 4), math.nan)).item()


def test_binary_mask_at_and_beside_the_threshold():
    voice = torch.tensor([0.5, 0.6, 0.4, 0.0, 1e-30, 0.0])
    accompaniment = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    assert binary_mask(voice, accompaniment).tolist() == [1, 1, 0, 0, 1, 0]
    code = binary_mask(voice, accompaniment, convention="code")
    assert code.tolist() == [0, 1, 0, 0, 1, 0]
    assert binary_mask(voice, accompaniment, 1.0).tolist() == [0, 0, 0, 0, 1, 0]


def test_mask_of_voice_alone_keeps_all_of_it():
    voice = torch.rand(2, 3, 4)
    assert torch.equal(binary_mask(voice, torch.zeros(2, 3, 4)), torch.ones(2, 3, 4))


@pytest.mark.parametrize(
    "call",
    [
        lambda: additivity(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3)),
        lambda: additivity(torch.ones(1, 2, 3), torch.ones(1, 2, 3), torch.ones(1, 2, 4)),
        lambda: binary_mask(torch.ones(2), torch.ones(3)),
        lambda: binary_mask(torch.ones(2), torch.ones(2), -1.0),
        lambda: binary_mask(torch.ones(2), torch.ones(2), convention="P2"),
        lambda: is_active(torch.ones(1, 2), convention="original"),
    ],
)
def test_bad_arguments_are_named(call):
    with pytest.raises(ValueError, match="must"):
        call()
