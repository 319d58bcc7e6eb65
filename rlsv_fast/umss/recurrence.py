"""Gated recurrent layers whose inputs may be shared."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsv_fast import ops


def recurrent(layer: nn.GRU, *inputs: Tensor) -> Tensor:
    """All outputs of one unidirectional layer, starting from zeros.

    Inputs lie side by side in the layer's own and are broadcast against each other. On the CPU each
    is projected at its own size, and :func:`rlsv_fast.ops.gated_recurrence` goes on; on CUDA cuDNN
    has the whole layer, of inputs joined.

    Args:
        layer: of one layer and direction, with biases, ``batch_first``.
        inputs: shapes (..., T, C) that broadcast, with one T; their C add up to the layer's.

    Returns:
        Shape (..., T, H).
    """
    input_weight, weight, input_bias, bias = layer.all_weights[0]
    if inputs[0].device.type != "cpu":
        whole = torch.broadcast_shapes(*(x.shape[:-1] for x in inputs))  # type: ignore[no-untyped-call]
        joined = torch.cat([x.expand(*whole, x.shape[-1]) for x in inputs], -1)
        outputs: Tensor = layer(joined.flatten(0, -3))[0]
        return outputs.reshape(*whole, -1)
    weights = torch.split(input_weight, [x.shape[-1] for x in inputs], 1)
    projected = functional.linear(inputs[0], weights[0], input_bias)
    for x, part in zip(inputs[1:], weights[1:], strict=True):
        projected = projected + functional.linear(x, part)
    rows = projected.flatten(0, -3).to(weight.dtype)  # under autocast in half precision
    states = ops.gated_recurrence(rows, weight, bias).to(weight.dtype)
    return states.reshape(*projected.shape[:-1], -1)
