import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsv_fast.nn import (
    ConvDecoder,
    ConvEncoder,
    RepresentationModel,
    frame_count,
    padding,
)


@pytest.mark.parametrize(
    ("samples", "kernel_size", "hop", "frames", "pad"),
    [
        (44100, 2048, 256, 173, (990, 990)),
        (44100, 2048, 384, 115, (862, 862)),
        (44100, 2048, 1024, 44, (990, 990)),
        (88200, 2048, 256, 345, (956, 956)),
        (16000, 512, 128, 125, (192, 192)),
        (509, 64, 16, 32, (25, 26)),
        (44100, 2047, 256, 173, (989, 990)),
        (1, 1, 1, 1, (0, 0)),
    ],
)
def test_published_sizes(
    samples: int, kernel_size: int, hop: int, frames: int, pad: tuple[int, int]
) -> None:
    assert frame_count(samples, hop) == frames
    assert padding(samples, kernel_size, hop) == pad


def test_uncovered_samples_are_refused_by_their_numbers() -> None:
    with pytest.raises(ValueError, match=r"L = 256 .* S = 384 leave 68 of N = 44100"):
        padding(44100, 256, 384)
    with pytest.raises(ValueError, match="N = 0"):
        padding(0, 64, 16)


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 200), kernel_size=st.integers(1, 70), hop=st.integers(1, 40))
def test_any_sizes_give_all_frames_and_all_samples(
    samples: int, kernel_size: int, hop: int
) -> None:
    model = RepresentationModel(ConvEncoder(3, kernel_size, hop), ConvDecoder(3, kernel_size, hop))
    signal = torch.randn(2, samples)
    if (samples - 1) % hop + 1 > kernel_size:
        with pytest.raises(ValueError, match="uncovered"):
            model(signal)
        return
    assert model.encode(signal).shape == (2, 3, -(-samples // hop))
    assert model(signal).shape == signal.shape


def test_frames_and_samples_are_centred() -> None:
    """Encoder and decoder place frame t at the same samples: one is the adjoint of the other."""
    encoder, decoder = ConvEncoder(4, 9, 4).double(), ConvDecoder(4, 9, 4).double()
    with torch.no_grad():
        encoder.context.zero_()
        encoder.kernels.abs_()
        decoder.kernels.copy_(encoder.kernels)
    signal = torch.rand(1, 31, dtype=torch.float64)
    other = torch.rand(1, 4, 8, dtype=torch.float64)
    left = (encoder(signal) * other).sum()
    right = (signal * decoder(other, 31)).sum()
    torch.testing.assert_close(left, right)
