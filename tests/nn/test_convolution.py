"""Every way of computing the model's convolutions gives the convolutions."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rlsv_fast.nn import ConvEncoder, ModulatedCosineDecoder, RepresentationModel
from rlsv_fast.nn import convolution as model_convolution

SIZES = pytest.mark.parametrize(
    ("length", "hop"),
    [(64, 16), (60, 16), (33, 16), (16, 16), (24, 1)],
    ids=["whole-hops", "part-of-a-hop", "one-tap-more", "one-hop", "too-many-hops"],
)
PATHS = pytest.mark.parametrize("transforms", [True, False])
N, C, LEFT = 500, 6, 20


def _leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(3)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def _agree(mine: Tensor, true: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(mine, true)
    upstream = torch.randn_like(true)
    grads = [torch.autograd.grad(value, leaves, upstream) for value in (mine, true)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def _choose(transforms: bool) -> object:
    return patch.object(model_convolution, "_transforms", lambda _, taps: transforms and taps <= 16)


@SIZES
@PATHS
def test_analysis_is_a_strided_convolution(length: int, hop: int, transforms: bool) -> None:
    signal, kernels = _leaves((2, N), (C, length))
    count = -(-N // hop)
    right = (count - 1) * hop + length - LEFT - N
    padded = functional.pad(signal, (LEFT, right))[:, None]
    expected = functional.conv1d(padded, kernels[:, None], stride=hop).transpose(1, 2)
    with _choose(transforms):
        value = model_convolution.analyse(signal, kernels, hop, left=LEFT, count=count)
    _agree(value, expected, [signal, kernels])


@SIZES
@PATHS
def test_synthesis_is_a_transposed_convolution(length: int, hop: int, transforms: bool) -> None:
    count = -(-N // hop)
    frames, kernels = _leaves((2, count, C), (C, length))
    whole = functional.conv_transpose1d(frames.transpose(1, 2), kernels[:, None], stride=hop)
    expected = functional.pad(whole[:, 0, 7:], (0, N))[:, :N]
    with _choose(transforms):
        value = model_convolution.synthesise(frames, kernels, hop, left=7, length=N)
    _agree(value, expected, [frames, kernels])


@PATHS
@pytest.mark.parametrize("count", [1, 19, 60])
def test_context_is_a_dilated_convolution(count: int, transforms: bool) -> None:
    hidden, context = _leaves((2, count, C), (C, C, 5))
    expected = functional.conv1d(hidden.transpose(1, 2), context, padding=20, dilation=10)
    with _choose(transforms):
        value = model_convolution.mix_context(hidden, context, 10)
    _agree(value, expected.transpose(1, 2), [hidden, context])


@pytest.fixture
def model() -> RepresentationModel:
    torch.manual_seed(4)
    return RepresentationModel(ConvEncoder(12, 60, 16), ModulatedCosineDecoder(12, 60, 16))


def _gradients(model: RepresentationModel, loss: Callable[[], Tensor]) -> list[Tensor]:
    model.zero_grad()
    loss().backward()
    return [parameter.grad for parameter in model.parameters()]


def test_autocast_computes_in_bfloat16_and_gives_float32(model: RepresentationModel) -> None:
    signal = torch.randn(2, N)

    def encoded() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model.encode(signal)

    def decoded() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(signal)

    assert encoded().dtype == torch.bfloat16
    assert decoded().dtype == torch.float32
    with patch.object(model_convolution.ops, "frame_convolution", side_effect=AssertionError):
        half = _gradients(model, lambda: decoded().square().sum())
    plain = _gradients(model, lambda: model(signal).square().sum())
    close = 2**-6  # a few roundings of 8 bits
    assert (decoded() - model(signal)).norm() <= close * model(signal).norm()
    for one, other in zip(half, plain, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() <= close * other.norm()


def test_a_representation_lies_frame_by_frame(model: RepresentationModel) -> None:
    representation = model.encode(torch.randn(2, N))
    assert representation.shape == (2, 12, 32)
    assert representation.transpose(1, 2).is_contiguous()
