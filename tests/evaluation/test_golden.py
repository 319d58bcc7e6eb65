"""The published code's evaluation, from the numbers it left behind."""

import numpy as np
import pytest
import torch

from rlsv_fast import ops
from rlsv_fast.evaluation import additivity, binary_mask
from rlsv_fast.nn import ModulatedCosineDecoder


@pytest.fixture
def golden(shared):
    with np.load(shared / "golden" / "rlsv" / "15_eval.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


def test_mask_and_additivity(golden):
    mixture, voice, accompaniment = (golden[f"{n}_coeff"] for n in ("mix", "vox", "bkg"))
    mask = binary_mask(voice, accompaniment, convention="code")
    assert torch.equal(mask, golden["mask"])
    code = additivity(mixture, voice, accompaniment, convention="code")
    paper = additivity(mixture, voice, accompaniment)
    torch.testing.assert_close(code[0], golden["adt_code"], rtol=1e-6, atol=0)
    torch.testing.assert_close(paper[0], golden["additivity_paper"], rtol=1e-6, atol=1e-6)


def test_masked_estimate_si_sdr_and_loudness(golden):
    decoder = ModulatedCosineDecoder(16, 64, 16, convention="code")
    with torch.no_grad():
        for parameter, name in zip(
            (decoder.frequency, decoder.phase, decoder.modulator), ("freq", "phi", "b"), strict=True
        ):
            parameter.copy_(golden[name].reshape(parameter.shape))
        estimate = decoder(golden["mix_coeff"] * golden["mask"], length=512)
    torch.testing.assert_close(estimate, golden["vox_hat"], rtol=0, atol=5e-6)
    si_sdr = ops.si_sdr(golden["vox_hat"], golden["x_true"])
    torch.testing.assert_close(si_sdr[0], golden["si_sdr"], rtol=1e-5, atol=0)
    loudness = 10 * golden["x_true"].norm(dim=-1).log10()
    torch.testing.assert_close(loudness, golden["loud_code"][0], rtol=1e-6, atol=0)
