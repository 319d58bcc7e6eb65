"""Import of parameter files of the published code."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rlsv_fast.errors import InputError
from rlsv_fast.nn.decoders import ConvDecoder, Decoder, ModulatedCosineDecoder
from rlsv_fast.nn.encoders import ConvEncoder, CosineEncoder, Encoder, SincEncoder
from rlsv_fast.nn.model import RepresentationModel

_ENCODERS: dict[type[Encoder], dict[str, str]] = {
    ConvEncoder: {"conv_a1.weight": "kernels", "conv_a2.weight": "context"},
    CosineEncoder: {
        "freq_mat": "frequency",
        "phi": "phase",
        "norm_factor": "modulator",
        "conv_a.weight": "context",
    },
    SincEncoder: {
        "freq_mat_f1": "low",
        "freq_mat_f2": "high",
        "norm_factor": "modulator",
        "conv_a.weight": "context",
    },
}
_DECODERS: dict[type[Decoder], dict[str, str]] = {
    ModulatedCosineDecoder: {"freq_mat": "frequency", "phi": "phase", "norm_factor": "modulator"},
    ConvDecoder: {"conv_dec.weight": "kernels"},
}


def load_original_state(
    model: RepresentationModel,
    analysis_state: Mapping[str, Tensor],
    synthesis_state: Mapping[str, Tensor],
) -> None:
    """Load the two state dictionaries of the published code into a model.

    The file names there are ``analysis_<id>.pytorch`` and ``synthesis_<id>.pytorch``. Either all
    parameters are replaced or, on an error, none.

    Args:
        model: a model of the same variants and sizes.
        analysis_state: the encoder's parameters: ``conv_a1.weight`` and ``conv_a2.weight``, or
            ``conv_a.weight`` with ``freq_mat``, ``phi``, ``norm_factor`` (cosine) or
            ``freq_mat_f1``, ``freq_mat_f2``, ``norm_factor`` (sinc).
        synthesis_state: the decoder's parameters: ``freq_mat``, ``phi``, ``norm_factor``, or
            ``conv_dec.weight``.

    Raises:
        InputError: a key is missing, not expected, of another shape, or no tensor of finite
            numbers; all of them are named.
    """
    encoder, decoder = model.encoder, model.decoder
    encoder_names = _names(_ENCODERS, encoder)
    decoder_names = _names(_DECODERS, decoder)
    if isinstance(decoder, ModulatedCosineDecoder) and decoder.modulation == "none":
        decoder_names = {key: name for key, name in decoder_names.items() if name != "modulator"}
    analysis = _matched(encoder, encoder_names, analysis_state, "analysis state")
    synthesis = _matched(decoder, decoder_names, synthesis_state, "synthesis state")
    if isinstance(encoder, CosineEncoder):
        # The published encoder sorts at every call; stored sorted, both conventions compute it.
        order = torch.argsort(analysis["frequency"] ** 2, stable=True)
        for name in encoder.channel_axes.keys() - {"context"}:
            analysis[name] = analysis[name][order]
    with torch.no_grad():
        for part, values in ((encoder, analysis), (decoder, synthesis)):
            for name, value in values.items():
                getattr(part, name).copy_(value)


def _names(table: Mapping[type, dict[str, str]], part: nn.Module) -> dict[str, str]:
    for kind, names in table.items():
        if isinstance(part, kind):
            return names
    raise InputError(f"the published code has no counterpart of {type(part).__name__}")


def _matched(
    part: nn.Module, names: Mapping[str, str], state: Mapping[str, Tensor], title: str
) -> dict[str, Tensor]:
    """The values by our names and in our shapes, without the sizes of 1 that files have."""
    if not isinstance(state, Mapping):
        raise InputError(f"{title} must be a dictionary of tensors, got {type(state).__name__}")
    problems = [f"missing key '{key}'" for key in names if key not in state]
    problems += [f"unexpected key '{key}'" for key in state if key not in names]
    values = {}
    for key, name in names.items():
        if key not in state:
            continue
        wanted = getattr(part, name).shape
        expected = tuple(wanted) if len(wanted) == 3 else (wanted[0], 1, *(wanted[1:] or (1,)))
        problem = _problem(state[key], expected)
        if problem:
            problems.append(f"key '{key}' must {problem}")
        else:
            values[name] = state[key].reshape(wanted)
    if problems:
        raise InputError(f"{title} does not fit {type(part).__name__}: {'; '.join(problems)}")
    return values


def _problem(value: object, expected: tuple[int, ...]) -> str:
    """What a value of a file must do to be a parameter; empty if it is one."""
    if not isinstance(value, Tensor):
        return f"be a tensor, got {type(value).__name__}"
    if tuple(value.shape) != expected:
        return f"have shape {expected}, got {tuple(value.shape)}"
    if not value.is_floating_point() or value.layout is not torch.strided or value.is_meta:
        return f"hold real numbers, got {value.dtype} {value.layout} on {value.device}"
    return "" if bool(value.isfinite().all()) else "be finite"
