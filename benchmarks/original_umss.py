"""The published algorithms of UMSS in eager PyTorch, put in the place of this library's.

Written from the published equations, not from the authors' files: one set of modules and weights,
and within ``original()`` their arithmetic is

- harmonics: a bank of oscillators, everything a tensor of samples by harmonics (original_bank.py);
- the all-pole filter sample by sample, filters from line spectral frequencies factor by factor,
  windows overlap-added, the spectral loss with both spectra: the eager twins of
  ``rlsv_fast.reference``, all differentiated by autograd;
- the glottal slope as a filter for each hop, though it is constant;
- recurrent layers of torch, on the joined and repeated inputs; the embedding of a mixture is
  repeated for its voices before anything is computed of it;
- plain convolutions in the f0 networks, whatever their height;
- decoding by a straight-through estimator; the harmonic CQT by five of nnAudio's, their kernels
  made for every call (hcqt.py), where nnAudio is installed and they are asked for.

Left out are a second draw of noise, which the original makes and does not use, and loops over bins
in NumPy around the decoding (10 ms).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import hcqt
import original_bank
import torch
from torch import Tensor, nn

from rlsv_fast import ops, reference
from rlsv_fast.umss import ParameterDecoder, SourceFilterSynthesizer
from rlsv_fast.umss.hcqt import HCQT, Features
from rlsv_fast.umss.tall_conv import SameConv2d

TWINS = ("all_pole", "decode_f0", "frames", "lsf_to_lpc", "overlap_add", "spectral_loss")

_decode, _convolve, _source = (
    ParameterDecoder.forward,
    SameConv2d.forward,
    SourceFilterSynthesizer.source,
)


def has_nnaudio() -> bool:
    """Whether the original's constant-Q transforms are there."""
    return importlib.util.find_spec("nnAudio") is not None


@contextmanager
def joined_recurrence() -> Iterator[None]:
    """Recurrent layers are torch's."""
    with (
        patch("rlsv_fast.umss.encoder.recurrent", _recurrent),
        patch("rlsv_fast.umss.parameter_decoder.recurrent", _recurrent),
    ):
        yield


@contextmanager
def original(*, transform: bool = True) -> Iterator[None]:
    """All of the above.

    Args:
        transform: nnAudio's CQTs, too; without, both sides of a comparison read the same features.
    """
    with ExitStack() as stack:
        stack.enter_context(joined_recurrence())
        stack.enter_context(
            patch.multiple(
                ops,
                harmonic_bank=_harmonic_bank,
                **{name: getattr(reference, name) for name in TWINS},
            )
        )
        replaced: list[tuple[type, str, Any]] = [
            (ParameterDecoder, "forward", _decoded_by_voice),
            (SourceFilterSynthesizer, "source", _sloping_by_hop),
            (SameConv2d, "forward", _plain_convolution),
        ]
        if transform:
            replaced.append((HCQT, "forward", _features))
        for owner, name, function in replaced:
            stack.enter_context(patch.object(owner, name, function))
        yield


def _recurrent(layer: nn.GRU, *inputs: Tensor) -> Tensor:
    whole = torch.broadcast_shapes(*(x.shape[:-1] for x in inputs))
    joined = torch.cat([x.expand(*whole, x.shape[-1]) for x in inputs], -1)
    outputs: Tensor = layer(joined.flatten(0, -3))[0]
    return outputs.reshape(*whole, -1)


def _harmonic_bank(
    f0: Tensor, amplitude: Tensor, *, hop: int, sample_rate: int, harmonics: int, **_: None
) -> tuple[Tensor, None]:
    return original_bank.harmonic_bank(f0, amplitude, hop, sample_rate, harmonics), None


def _decoded_by_voice(self: ParameterDecoder, embedding: Tensor, f0: Tensor) -> Any:
    """Each voice is an item with an embedding of its own."""
    voices, frames = f0.shape[1:]
    return _decode(self, embedding.repeat_interleave(voices, 0), f0.reshape(-1, 1, frames))


def _sloping_by_hop(
    self: SourceFilterSynthesizer,
    f0: Tensor,
    amplitude: Tensor,
    *,
    roll_off: Tensor | None = None,
    initial_phase: Tensor | None = None,
) -> Tensor:
    if roll_off is None:
        roll_off = f0.new_full(f0.shape, self.roll_off)
    return _source(self, f0, amplitude, roll_off=roll_off, initial_phase=initial_phase)


def _plain_convolution(self: SameConv2d, x: Tensor) -> Tensor:
    with patch.object(self, "_tall", False):
        return _convolve(self, x)


def _features(self: HCQT, audio: Tensor) -> Features:
    """Of one item; on more, the original takes one reference level of all."""
    return Features(*(torch.from_numpy(x) for x in hcqt.original(audio)))
