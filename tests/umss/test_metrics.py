"""The measures of voices and pitches, against other libraries and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast.umss import score_f0, score_frames, summary

RATE = 16000


def voices(seconds: float, count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, int(seconds * RATE), generator=generator, dtype=torch.float64)


def test_ratios_are_those_of_each_second() -> None:
    target = voices(2.5)
    target[1, :RATE] *= 1e-3  # a silent second
    estimate = 0.5 * target + 0.1 * voices(2.5, seed=1)
    rows = score_frames(estimate, target)
    assert [(row.voice, row.second) for row in rows] == [(0, 0), (0, 1), (1, 1)]
    for row in rows:
        span = slice(row.second * RATE, (row.second + 1) * RATE)
        pair = estimate[row.voice, span][None], target[row.voice, span][None]
        assert row.si_sdr == pytest.approx(float(ops.si_sdr(*pair)), abs=1e-6)
        # noise of a fifth of the half target, and the spectra's own scale taken out
        assert row.spectral_si_snr > 10 > row.spectral_snr
        assert row.mel_cepstral_distance > 0


def test_spectral_snr_of_a_scaled_target_is_that_of_the_scale() -> None:
    target = voices(1.0, 1)
    (row,) = score_frames(0.9 * target, target)
    assert row.spectral_snr == pytest.approx(20.0, abs=1e-6)
    # nearly all is in the first coefficient: sqrt(128) ln(0.81), but for filters without a bin
    assert row.mel_cepstral_distance == pytest.approx(np.sqrt(128) * -np.log(0.81), rel=0.02)


def test_coefficients_are_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    target, estimate = voices(1.0, 1), voices(1.0, 1, seed=1)
    target[:, 8000:] *= 0.1
    cepstra = []
    for signal in (target, estimate):
        options = {"n_fft": 512, "hop_length": 256, "n_mels": 128, "htk": True, "norm": None}
        mel = librosa.feature.melspectrogram(
            y=signal[0].numpy(), sr=RATE, pad_mode="reflect", **options
        )
        cepstra.append(librosa.feature.mfcc(S=np.log(mel + 1e-6), n_mfcc=13, norm="ortho"))
    expected = np.linalg.norm(cepstra[0] - cepstra[1], axis=0).mean()
    (row,) = score_frames(estimate, target)
    assert row.mel_cepstral_distance == pytest.approx(expected, rel=1e-6)


def test_nothing_to_score() -> None:
    assert score_frames(torch.zeros(2, RATE), torch.zeros(2, RATE)) == []
    assert score_frames(torch.zeros(2, 10), torch.zeros(2, 10)) == []
    assert np.isnan(summary([])["mean"])
    assert summary([1.0, 2.0, 6.0]) == {
        "mean": 3.0,
        "median": 2.0,
        "std": pytest.approx(np.sqrt(14 / 3)),
    }


def test_pitches() -> None:
    pytest.importorskip("mir_eval")
    reference = np.full((2, 50), 220.0)
    reference[1] = 330.0
    reference[:, 40:] = 0
    perfect = score_f0(reference, reference)
    assert perfect["raw_pitch_accuracy"] == perfect["f_score"] == perfect["voicing_recall"] == 1
    assert perfect["voicing_false_alarm"] == 0
    octave = reference.copy()
    octave[0] *= 2
    found = score_f0(octave, reference)
    assert found["raw_pitch_accuracy"] == 0.5 and found["raw_chroma_accuracy"] == 1
    assert found["precision"] == found["recall"] == 0.5


def test_the_published_code_calls_every_frame_voiced() -> None:
    pytest.importorskip("mir_eval")
    reference = np.full((1, 50), 220.0)
    reference[:, 40:] = 0
    silent = np.zeros((1, 50))
    assert score_f0(silent, reference)["voicing_recall"] == 0
    code = score_f0(silent, reference, convention="code")
    assert code["voicing_recall"] == 1 and code["voicing_false_alarm"] == 1
    assert code["precision"] == pytest.approx(0.2)  # 20 Hz against 20 Hz where both are silent


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score_frames(torch.ones(1, 9), torch.ones(1, 8)), "estimates"),
        (lambda: score_frames(torch.full((1, 9), torch.nan), torch.ones(1, 9)), "NaN"),
        (lambda: score_f0(np.ones((1, 2)), np.ones((1, 3))), "alike"),
        (lambda: score_f0(-np.ones((1, 2)), np.ones((1, 2))), "estimate must be finite"),
        (lambda: score_f0(np.ones((1, 2)), np.ones((1, 2)), convention="x"), "convention"),
    ],
)
def test_arguments_that_do_not_fit(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
