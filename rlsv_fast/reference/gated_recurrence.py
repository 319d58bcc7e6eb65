"""The recurrent part of a gated layer, frame by frame in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def gated_recurrence(projected: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See :func:`rlsv_fast.ops.gated_recurrence`."""
    size = weight.shape[1]
    state = projected.new_zeros(projected.shape[0], size)
    states = []
    for inputs in projected.unbind(1):
        sums = torch.addmm(bias, state, weight.t())
        gates = torch.sigmoid(inputs[:, : 2 * size] + sums[:, : 2 * size])
        reset, update = torch.split(gates, size, 1)
        candidate = torch.tanh(inputs[:, 2 * size :] + reset * sums[:, 2 * size :])
        state = (1 - update) * candidate + update * state
        states.append(state)
    if not states:
        return projected[..., :size]
    return torch.stack(states, 1)
