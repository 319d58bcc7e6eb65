import pytest
import torch

from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import STFT, binary_mask


@pytest.mark.parametrize("window", ["hamming", "hann"])
@pytest.mark.parametrize(("size", "hop"), [(64, 16), (64, 12), (64, 32), (63, 10)])
@pytest.mark.parametrize("length", [512, 509, 1000])
def test_exact_inverse(window, size, hop, length):
    stft = STFT(size, hop, window=window)
    signal = torch.randn(2, length, dtype=torch.float64)
    error = signal - stft.synthesize(stft.analyze(signal), length)
    assert 10 * torch.log10(signal.square().sum() / error.square().sum()) > 100


def test_zero_padding_takes_segments_shorter_than_half_the_window():
    stft = STFT(64, 16)
    signal = torch.randn(1, 10, dtype=torch.float64)
    torch.testing.assert_close(stft.synthesize(stft.analyze(signal), 10), signal)


def test_hann_magnitudes_are_those_of_the_definition():
    signal = torch.randn(1, 256, dtype=torch.float64)
    padded = torch.nn.functional.pad(signal, (32, 32), mode="reflect")
    window = torch.hann_window(64, dtype=torch.float64)
    frames = padded.unfold(-1, 64, 16)
    expected = torch.fft.rfft(frames * window).abs().mT / 8
    magnitudes = STFT(64, 16, window="hann").analyze(signal).abs()
    torch.testing.assert_close(magnitudes, expected)


def test_oracle_mask_of_voice_alone_reconstructs_it():
    stft = STFT(64, 16)
    voice = torch.randn(1, 400, dtype=torch.float64)
    coefficients = stft.analyze(voice)
    mask = binary_mask(coefficients.abs(), torch.zeros_like(coefficients.abs()))
    torch.testing.assert_close(stft.synthesize(coefficients * mask, 400), voice)


@pytest.mark.parametrize(("size", "hop"), [(1, 1), (64, 33), (64, 0)])
def test_sizes_that_cannot_work(size, hop):
    with pytest.raises(InputError, match="STFT"):
        STFT(size, hop)


def test_reflection_needs_a_long_enough_segment():
    with pytest.raises(InputError, match="too short"):
        STFT(64, 16, window="hann").analyze(torch.zeros(1, 32))
