import numpy as np
import pytest
import torch

from evaluation.models import PerfectModel
from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import reconstruct, separate_oracle


@pytest.mark.parametrize("length", [1, 7, 31, 32, 33, 64, 200, 333])
@pytest.mark.parametrize("segment_length", [32, 33])
def test_sources_that_do_not_overlap_are_recovered_at_any_length(length, segment_length):
    random = np.random.default_rng(length)
    voice = random.standard_normal(length).astype(np.float32)
    accompaniment = random.standard_normal(length).astype(np.float32)
    alternate = np.arange(length) % 2 == 0
    voice *= alternate
    accompaniment *= ~alternate
    estimates = separate_oracle(
        PerfectModel(),
        voice + accompaniment,
        voice,
        torch.from_numpy(accompaniment),
        segment_length=segment_length,
        batch_size=3,
    )
    for estimate, truth in zip(estimates, (voice, accompaniment), strict=True):
        assert estimate.shape == (length,) and estimate.dtype == np.float32
        np.testing.assert_allclose(estimate, truth, atol=1e-5)


def test_estimates_add_up_to_the_reconstructed_mixture():
    random = np.random.default_rng(0)
    voice, accompaniment = random.standard_normal((2, 150)).astype(np.float32)
    model = PerfectModel()
    mixture = voice + accompaniment
    estimates = separate_oracle(model, mixture, voice, accompaniment, segment_length=32)
    reconstruction = reconstruct(model, mixture, segment_length=32)
    np.testing.assert_allclose(sum(estimates), reconstruction, atol=1e-5)
    np.testing.assert_allclose(reconstruction, mixture, atol=1e-5)


def test_batches_bound_the_memory_and_the_basis_is_made_once():
    model = PerfectModel()
    reconstruct(model, np.ones(1000, dtype=np.float32), segment_length=32, batch_size=4)
    assert max(model.batches) == 4 and len(model.batches) > 10
    assert model.decoder.bases_made == 1


@pytest.mark.parametrize(
    ("lengths", "message"),
    [((5, 5, 4), "one length"), ((0, 0, 0), "no samples")],
)
def test_bad_recordings(lengths, message):
    with pytest.raises(InputError, match=message):
        separate_oracle(PerfectModel(), *map(np.zeros, lengths), segment_length=32)
