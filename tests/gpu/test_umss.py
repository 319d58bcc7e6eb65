"""The ensemble's modules on a GPU against the same on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlsv_fast import umss
from rlsv_fast.training.precision import tf32

RATE = 22050


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Without TF32, which cuDNN allows itself in convolutions."""
    with tf32(False):
        yield


def tones(seconds: float = 2.0) -> Tensor:
    """A chord that drifts, with a little noise: (2, N)."""
    time = torch.arange(int(seconds * RATE), dtype=torch.float64) / RATE
    pitches = torch.tensor([[220.0, 330.0], [196.0, 294.0]], dtype=torch.float64)
    phases = 2 * torch.pi * pitches[..., None] * (time + 0.01 * time**2)
    chord = sum(torch.sin(k * phases) / k for k in range(1, 9)).sum(1)
    return (0.1 * chord + 0.001 * torch.randn(chord.shape, dtype=torch.float64)).float()


def network() -> nn.Module:
    """Networks of random weights whose normalisation keeps their output from saturating."""
    multif0, assignment = umss.LateDeep().eval(), umss.VoasCNN().eval()
    return nn.ModuleList([multif0, assignment]).requires_grad_(False)


def test_features_are_those_of_the_cpu(cuda: str) -> None:
    audio = tones()
    here, there = umss.HCQT()(audio), umss.HCQT().to(cuda)(audio.to(cuda))
    torch.testing.assert_close(there.magnitude.cpu(), here.magnitude, rtol=0, atol=0.02)
    loud = here.magnitude > -40  # the phase of nothing is anything
    difference = (there.phase.cpu() - here.phase)[loud]
    assert torch.remainder(difference + torch.pi, 2 * torch.pi).sub(torch.pi).abs().max() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_networks_are_those_of_the_cpu(dtype: torch.dtype, cuda: str) -> None:
    both = network()
    features = umss.HCQT()(tones())

    def run(networks: nn.Module, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        device = next(networks.parameters()).device
        multif0, assignment = networks.to(kind).children()
        salience = multif0(*(part.to(device, kind) for part in features))
        return salience.float().cpu(), assignment(salience).float().cpu()

    here = run(copy.deepcopy(both), torch.float32)
    there = run(both.to(cuda), dtype)
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-4 if dtype.itemsize == 4 else 0.05)


@pytest.mark.parametrize(
    "method", ["reconstruction", "soft", "ste", "sigmoid", "threshold", "softmax"]
)
def test_decoding_and_its_gradient_are_those_of_the_cpu(method: str, cuda: str) -> None:
    salience = torch.rand(2, 4, 360, 33)
    found = []
    for device in ("cpu", cuda):
        leaf = salience.to(device).requires_grad_()
        f0 = umss.decode_f0(leaf, (0.995,) * 4, method=method)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(f0.square().sum(), leaf)
        found.append((f0.detach().cpu(), gradient.cpu()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True)])
def test_tf32_is_what_the_precision_says(precision: str, allowed: bool, cuda: str) -> None:
    networks = umss.F0Networks(*network().to(cuda).children())  # type: ignore[arg-type]
    seen: list[bool] = []
    for part in (networks.multif0, networks.assignment):
        part.register_forward_pre_hook(
            lambda *_: seen.append(torch.backends.cudnn.allow_tf32)  # type: ignore[arg-type]
        )
    for before in (False, True):
        with tf32(before):
            umss.estimate_f0(
                tones()[0],
                RATE,
                networks,
                assignment="network",
                precision=precision,  # type: ignore[arg-type]
            )
            assert torch.backends.cudnn.allow_tf32 == before
    assert seen == [allowed] * 4


def test_voices_and_their_gradients_are_those_of_the_cpu(cuda: str) -> None:
    frames, hop = 24, 256
    # in double: a pole near the unit circle makes much of the last bits of single precision
    inputs = {
        "harmonic_amplitude": torch.randn(4, frames).double(),
        "noise_gain": torch.full((4, frames), -20.0).double(),  # each device draws its own noise
        "line_spectrum": torch.randn(4, frames, 21).double(),
        "noise_magnitudes": torch.randn(4, 40).double(),
    }
    pitches = torch.tensor([[520.0], [390.0], [260.0], [130.0]]).double()
    f0 = pitches * (1 + 0.01 * torch.randn(4, frames))
    found = []
    for device in ("cpu", cuda):
        leaves = {name: x.to(device).requires_grad_() for name, x in inputs.items()}
        synthesizer = umss.SourceFilterSynthesizer(hop=hop)
        voices = synthesizer(f0.to(device), umss.VoiceParameters(**leaves))
        weights = torch.linspace(-1, 1, frames * hop).double().to(device)
        wanted = [leaves["harmonic_amplitude"], leaves["line_spectrum"]]
        gradients = torch.autograd.grad((voices * weights).sum(), wanted)
        found.append([x.detach().cpu() for x in (voices, *gradients)])
    for one, other in zip(*found, strict=True):
        largest = float(one.abs().max())
        torch.testing.assert_close(other, one, rtol=0, atol=1e-4 * largest)


def test_masks_are_those_of_the_cpu(cuda: str) -> None:
    voices = torch.randn(2, 4, 6000)
    mixture = voices.sum(1)
    parts = umss.soft_mask_separation(mixture.to(cuda), voices.to(cuda))
    torch.testing.assert_close(
        parts.cpu(), umss.soft_mask_separation(mixture, voices), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("assignment", umss.f0.ASSIGNMENTS)
def test_tracks_are_those_of_the_cpu(assignment: str, cuda: str) -> None:
    samples = tones()[0].numpy()
    both = network()
    tracks = []
    for device in ("cpu", cuda):
        multif0, voices = copy.deepcopy(both).to(device).children()
        networks = umss.F0Networks(multif0, voices)  # type: ignore[arg-type]
        tracks.append(
            umss.estimate_f0(samples, RATE, networks, assignment=assignment)  # type: ignore[arg-type]
        )
    same = np.isclose(tracks[0].frequency, tracks[1].frequency, rtol=1e-3).mean()
    assert same > 0.95  # in what is all but noise, two peaks can be of one height
