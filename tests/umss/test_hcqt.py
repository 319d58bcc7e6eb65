import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast.umss import HCQT, Features, frequencies, resample
from rlsv_fast.umss.hcqt import SAMPLE_RATE, SHORTEST, frame_count


@pytest.fixture(scope="module")
def transform() -> HCQT:
    return HCQT()


def tone(frequency: float, seconds: float, amplitude: float = 0.5) -> Tensor:
    time = torch.arange(int(seconds * SAMPLE_RATE), dtype=torch.float64) / SAMPLE_RATE
    return (amplitude * torch.cos(2 * math.pi * frequency * time)).float()[None]


def turned(difference: Tensor) -> Tensor:
    """Differences of angles, to the nearest turn."""
    return (difference - 2 * math.pi * torch.round(difference / (2 * math.pi))).abs()


def test_a_tone_peaks_at_its_bin_in_every_harmonic(transform: HCQT) -> None:
    grid = frequencies()
    for bin in (60, 200, 300):
        frequency = float(grid[bin])
        features = transform(tone(frequency, 2.0))
        middle = features.magnitude[0, :, :, features.magnitude.shape[-1] // 2]
        for harmonic in range(1, 6):
            expected = round(bin - 60 * math.log2(harmonic))
            if expected >= 0:
                assert int(middle[harmonic - 1].argmax()) == expected
        # the phase of a tone advances by its frequency
        advance = 2 * math.pi * frequency * 256 / SAMPLE_RATE
        steps = features.phase[0, 0, bin, 60:100]
        assert turned(steps - advance).max() < 1e-3


def test_bins_are_inner_products_with_their_kernels(transform: HCQT) -> None:
    """Straight from the definition at full rate, for bins of every octave."""
    generator = torch.Generator().manual_seed(3)
    signal = torch.randn(1, 4 * SAMPLE_RATE, generator=generator).double()
    frame = 170
    reference = transform.reference(signal)[0]
    whole = transform(signal, range(frame, frame + 1), reference[None])
    quality = 1 / (2 ** (1 / 60) - 1)
    measured, expected = [], []
    for harmonic in range(1, 6):
        for bin in (5, 65, 125, 185, 245, 305):
            frequency = 32.7 * harmonic * 2 ** (bin / 60)
            length = quality * SAMPLE_RATE / frequency
            time = torch.arange(signal.shape[1], dtype=torch.float64) - frame * 256
            window = torch.where(
                time.abs() < length / 2, 1 + torch.cos(2 * math.pi * time / length), 0
            )
            kernel = window / length * torch.exp(-2j * math.pi * frequency / SAMPLE_RATE * time)
            value = (signal[0] * kernel).sum().abs() * math.sqrt(length)
            expected.append(20 * math.log10(value / reference[harmonic - 1]))
            measured.append(float(whole.magnitude[0, harmonic - 1, bin, 0]))
    difference = np.abs(np.array(measured) - expected)
    assert np.median(difference) < 0.05 and difference.max() < 0.5  # dB, of noise


def test_chunks_are_the_whole(transform: HCQT) -> None:
    generator = torch.Generator().manual_seed(1)
    signal = 0.1 * torch.randn(2, 9 * SAMPLE_RATE + 77, generator=generator)
    whole = transform(signal)
    total = frame_count(signal.shape[1])
    assert whole.magnitude.shape == (2, 5, 360, total)
    reference = transform.reference(signal)
    for frames in (range(0, 1), range(0, 40), range(333, 500), range(total - 3, total)):
        part = transform(signal, frames, reference)
        expected = Features(*(x[..., frames.start : frames.stop] for x in whole))
        assert (part.magnitude - expected.magnitude).abs().max() < 5e-3  # dB, at the lowest levels
        assert turned(part.phase - expected.phase).median() < 1e-5


def test_levels_are_of_an_item_or_of_the_batch(transform: HCQT) -> None:
    pair = torch.cat((tone(220, 1.5), tone(220, 1.5, 0.05)))
    own = transform(pair).magnitude
    assert own.amax((2, 3)) == pytest.approx(0, abs=1e-5)
    code = HCQT(convention="code")(pair).magnitude
    assert code[1, 0].max() == pytest.approx(-20, abs=0.01)
    assert torch.equal(code[0], own[0])


def test_silence_is_at_the_floor(transform: HCQT) -> None:
    features = transform(torch.zeros(1, SHORTEST))
    assert (features.magnitude == -80).all()
    assert features.phase.isfinite().all()


def test_bad_input(transform: HCQT) -> None:
    with pytest.raises(
        ValueError, match=r"at least 29184 samples at 22050 Hz \(1.32 s\), got 29183"
    ):
        transform(torch.zeros(1, SHORTEST - 1))
    with pytest.raises(ValueError, match=r"audio must have shape \(B, N\)"):
        transform(torch.zeros(SHORTEST))
    with pytest.raises(TypeError, match="audio must be of a floating type"):
        transform(torch.zeros(1, SHORTEST, dtype=torch.int16))
    with pytest.raises(
        ValueError, match=r"frames must lie in range\(0, 114\), got range\(100, 115\)"
    ):
        transform(torch.zeros(1, SHORTEST), range(100, 115))
    with pytest.raises(ValueError, match="convention must be one of 'paper', 'code'"):
        HCQT(convention="other")  # type: ignore[arg-type]


def test_golden(shared: Path, transform: HCQT) -> None:
    """The published front end on real singing; float16 numbers, other filters, a shifted grid."""
    pytest.importorskip("julius")
    with np.load(shared / "golden" / "umss" / "hcqt.npz") as golden:
        audio = torch.from_numpy(golden["audio_int16"].astype(np.float32) / 32768)[None]
        frames, mags, dphase = (golden[n].astype(np.float64) for n in ("frames", "mags", "dphase"))
    at_rate = resample(audio, 16000)
    assert at_rate.shape == (1, 88200)
    features = transform(at_rate)
    assert features.magnitude.shape == (1, 5, 360, 344)
    chosen = torch.from_numpy(frames).long()
    difference = (features.magnitude[0][..., chosen] - torch.from_numpy(mags)).abs()
    loud = torch.from_numpy(mags) > -40
    assert difference[loud].median() < 0.02 and difference[loud].max() < 0.5
    assert difference.median() < 0.02
    angles = turned(features.phase[0][..., chosen] - torch.from_numpy(dphase))
    assert angles[loud].median() < 1e-3 and angles[loud].max() < 0.15
