"""The untrained comb: its parts are those of the whole, and it separates what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlsv_fast.umss import (
    HarmonicComb,
    SourceFilterSynthesizer,
    on_grid,
    separate_comb,
    separate_in_blocks,
    soft_mask_separation,
)

close = torch.testing.assert_close


def tracks(frames: int) -> torch.Tensor:
    """Two voices with vibrato, one of them silent at times."""
    time = torch.arange(frames, dtype=torch.float64)
    f0 = torch.stack([220 + 5 * torch.sin(time / 3), 330 + 8 * torch.cos(time / 4)])
    f0[0, 10:16] = 0
    f0[0, :2] = 0
    return f0


@pytest.mark.parametrize("hop", [256, 353])
def test_parts_have_the_samples_of_the_whole(hop: int) -> None:
    comb = HarmonicComb(tracks(40), SourceFilterSynthesizer(hop=hop))
    whole = comb.signal(0, 40)
    assert whole.shape == (2, 40 * hop)
    parts = [comb.signal(first, min(first + 7, 40)) for first in range(0, 40, 7)]
    close(torch.cat(parts, 1), whole, rtol=0, atol=1e-9)


def test_a_silent_voice_is_silent() -> None:
    f0 = tracks(40)
    f0[1] = 0
    signal = HarmonicComb(f0, SourceFilterSynthesizer()).signal(0, 40)
    assert signal[0].abs().max() > 0.01 and not signal[1].any()


@pytest.mark.parametrize("block", [1, 5, 13, 100])
def test_blocks_join_without_a_seam(block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mixture = torch.randn(2, 5003, generator=generator, dtype=torch.float64)
    voices = torch.randn(3, 79 * 64, generator=generator, dtype=torch.float64)
    parts = separate_in_blocks(
        mixture, lambda a, b: voices[:, a * 64 : b * 64], hop=64, n_fft=256, block=block
    )
    whole = soft_mask_separation(mixture[None], voices[None, :, :5003], n_fft=256, hop=64)[0]
    close(torch.cat(list(parts), 2), whole)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_two_tones_are_separated(rate: int) -> None:
    time = torch.arange(2 * rate, dtype=torch.float64) / rate
    notes = [
        sum(torch.sin(2 * torch.pi * f0 * k * time) / k for k in range(1, 9)) for f0 in (200, 310)
    ]
    stereo = torch.stack([notes[0] + notes[1], 0.5 * notes[0] + notes[1]])
    times, f0 = np.array([0.0, 2.0]), np.array([[200.0, 200.0], [310.0, 310.0]])
    found = torch.cat(list(separate_comb(stereo, rate, times, f0, seconds=0.7)), 2)
    assert found.shape == (2, 2, 2 * rate)
    close(found.sum(0), stereo, rtol=0, atol=1e-3)
    for voice in range(2):
        error = (found[voice, 0] - notes[voice]).square().sum() / notes[voice].square().sum()
        assert 10 * error.log10() < -15


def test_tracks_on_another_grid() -> None:
    f0 = np.array([[0.0, 100.0, 200.0, 0.0]])
    found = on_grid(np.arange(4.0), f0, np.array([-1.0, 0.4, 0.6, 1.5, 2.4, 2.6, 9.0]))
    np.testing.assert_allclose(found, [[0, 0, 100, 150, 200, 0, 0]])
    np.testing.assert_allclose(on_grid(np.zeros(1), f0[:, 1:2], np.arange(3.0)), [[100] * 3])


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="at least 0 Hz"):
        HarmonicComb(torch.tensor([[-1.0]]), SourceFilterSynthesizer())
    with pytest.raises(ValueError, match="sample_rate"):
        next(separate_comb(torch.zeros(1, 9000), 4000, np.zeros(1), np.zeros((1, 1))))
    with pytest.raises(ValueError, match="f0 must be"):
        next(separate_comb(torch.zeros(1, 9000), 8000, np.zeros(2), np.zeros((1, 1))))
    with pytest.raises(ValueError, match="multiple"):
        next(separate_in_blocks(torch.zeros(1, 9), lambda a, b: torch.zeros(1, 1), n_fft=300))
