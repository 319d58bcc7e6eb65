import math

import numpy as np
import pytest
import torch

from rlsv_fast.umss import F0Tracks
from rlsv_fast.umss.f0_metrics import melody_scores, multipitch_scores
from rlsv_fast.umss.metrics import (
    _cosines,
    _mel_bands,
    mel_cepstral_distance_frames,
    si_sdr_frames,
    spectral_snr_frames,
)


def voices(seed: int, seconds: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(1, int(16000 * seconds), generator=generator).double()


def test_si_sdr_of_seconds_leaves_silence_out() -> None:
    target, noise = voices(0, 3.5), voices(1, 3.5)
    target[:, 16000:32000] = 0.001  # energy 0.016
    values = si_sdr_frames(2 * target + 0.02 * noise, target)
    assert values.shape == (1, 4)
    assert values.isnan().tolist() == [[False, True, False, False]]
    assert values[0, 0] == pytest.approx(40, abs=0.5)
    assert values[0, 3] == pytest.approx(40, abs=0.5)
    # an estimate that has nothing of the target
    other = noise - (noise * target).sum() / target.square().sum() * target
    hopeless = si_sdr_frames(other[:, :16000], other[:, :16000].roll(1, 0) * 0 + target[:, :16000])
    assert hopeless < -20
    silent = torch.zeros(1, 16000).double()
    assert si_sdr_frames(silent, target[:, :16000], convention="code") == pytest.approx(-80)
    assert si_sdr_frames(target[:, :500], target[:, :500]).shape == (1, 0)
    with pytest.raises(ValueError, match=r"si_sdr_frames: target must have shape \(1, 8\)"):
        si_sdr_frames(torch.zeros(1, 8), torch.zeros(1, 9))


def test_spectral_snr_hears_no_phase_and_is_scale_invariant_on_request() -> None:
    target = voices(2)
    assert (spectral_snr_frames(-target, target, convention="code") > 80).all()
    assert spectral_snr_frames(0.5 * target, target) == pytest.approx(6.02, abs=0.01)
    invariant = spectral_snr_frames(0.5 * target, target, scale_invariant=True)
    assert (invariant > 200).all()


def test_mel_cepstra() -> None:
    target = voices(3)
    assert (mel_cepstral_distance_frames(target, target) == 0).all()
    # a gain moves all log bands alike (the narrowest, between two bins, stays empty): the first
    # coefficient by sqrt(128) log(4)
    distance = mel_cepstral_distance_frames(200 * target, 100 * target)
    assert distance == pytest.approx(math.sqrt(128) * math.log(4), rel=0.01)
    rows = _cosines()
    torch.testing.assert_close(rows @ rows.T, torch.eye(13).double())
    bands = _mel_bands(16000)
    assert bands.shape == (128, 257) and bands.max() <= 1
    centres = bands.argmax(1).double()[40:] * 31.25  # wider than a bin from there on
    mels = 2595 * torch.log10(1 + centres / 700)
    assert (mels.diff().mean() - 2840.0 / 129).abs() < 0.3


def tracks(*columns: list[float], hop: float = 0.016) -> F0Tracks:
    frequency = np.array(columns).T
    names = tuple(f"voice{n}" for n in range(len(columns)))
    return F0Tracks(np.arange(len(frequency)) * hop, frequency, names)


def test_melody_and_multipitch() -> None:
    pytest.importorskip("mir_eval")
    reference = tracks([200.0] * 60 + [0.0] * 40, [100.0] * 100)
    estimate = tracks([200.0] * 30 + [-400.0] * 30 + [210.0] * 40, [101.0] * 100)
    scores = melody_scores(reference, estimate)
    assert scores["voice0"]["raw_pitch"] == pytest.approx(0.5)
    assert scores["voice0"]["raw_chroma"] == pytest.approx(1)
    assert scores["voice0"]["voicing_recall"] == pytest.approx(0.5)
    assert scores["voice0"]["voicing_false_alarm"] == pytest.approx(1)
    assert scores["voice1"]["overall"] == pytest.approx(1)
    code = melody_scores(reference, estimate, convention="code")
    assert code["voice0"]["voicing_recall"] == 1  # by construction
    assert math.isnan(melody_scores(tracks([0.0] * 9), tracks([1.0] * 9))["voice0"]["raw_pitch"])

    both = multipitch_scores(reference, estimate)
    assert both["precision"] == pytest.approx(130 / 170)
    assert both["recall"] == pytest.approx(130 / 160)
    assert both["f_measure"] == pytest.approx(2 * 130 / 330)
    silence = tracks([0.0] * 70)
    assert multipitch_scores(silence, silence)["recall"] == 0
    assert multipitch_scores(silence, silence, convention="code")["recall"] == 1  # 20 Hz
    with pytest.raises(ValueError, match="estimate must have the 2 voices of reference, got 1"):
        melody_scores(reference, silence)
    with pytest.raises(ValueError, match="the 100 frames of reference"):
        multipitch_scores(reference, silence, convention="code")
