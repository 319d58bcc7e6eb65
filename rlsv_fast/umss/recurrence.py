"""Gated recurrent layers whose inputs may be shared, and whose weights are read less often."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsv_fast._library import differentiable


def recurrent(layer: nn.GRU, *inputs: Tensor) -> Tensor:
    """All outputs of one unidirectional layer, starting from zeros.

    Inputs lie side by side in the layer's own and are broadcast against each other. On the CPU each
    is projected at its own size, and the gradient of the recurrent weights is one product for all
    frames, where torch makes one for each; elsewhere cuDNN has the whole layer, of inputs joined.

    Args:
        layer: of one layer and direction, with biases, ``batch_first``.
        inputs: shapes (..., T, C) that broadcast, with one T; their C add up to the layer's.

    Returns:
        Shape (..., T, H).
    """
    input_weight, weight, input_bias, bias = layer.all_weights[0]
    if inputs[0].device.type != "cpu" or torch.compiler.is_compiling():
        whole = torch.broadcast_shapes(*(x.shape[:-1] for x in inputs))  # type: ignore[no-untyped-call]
        joined = torch.cat([x.expand(*whole, x.shape[-1]) for x in inputs], -1)
        outputs: Tensor = layer(joined.flatten(0, -3))[0]
        return outputs.reshape(*whole, -1)
    weights = torch.split(input_weight, [x.shape[-1] for x in inputs], 1)
    projected = functional.linear(inputs[0], weights[0], input_bias)
    for x, part in zip(inputs[1:], weights[1:], strict=True):
        projected = projected + functional.linear(x, part)
    by_time = projected.flatten(0, -3).transpose(0, 1).contiguous()
    # under autocast the projections alone are in half precision
    with torch.autocast("cpu", enabled=False):
        states: Tensor = _recurrence(by_time.to(weight.dtype), weight, bias)[0]
    return states.transpose(0, 1).reshape(*projected.shape[:-1], -1)


def _forward(projected: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """States (T, B, H) of projected inputs (T, B, 3H), and what their gradient needs.

    Reset and update gates r and z, candidate n, and c, the state's part in it::

        r, z = sigmoid(x_rz + W_rz h + b_rz)    c = W_n h + b_n
        n = tanh(x_n + r c)                     h' = (1 - z) n + z h
    """
    frames, items, _ = projected.shape
    size = weight.shape[1]
    states, candidates = (projected.new_empty(frames, items, size) for _ in range(2))
    gates = projected.new_empty(frames, items, 2 * size)
    parts = projected.new_empty(frames, items, size)
    state = projected.new_zeros(items, size)
    turned = weight.t()
    for frame in range(frames):
        product = torch.addmm(bias, state, turned)
        both, own = torch.split(product, [2 * size, size], 1)
        from_both, from_own = torch.split(projected[frame], [2 * size, size], 1)
        parts[frame] = own
        gate = torch.sigmoid(both.add_(from_both), out=gates[frame])
        reset, update = torch.split(gate, size, 1)
        candidate = torch.addcmul(from_own, reset, own, out=candidates[frame]).tanh_()
        state = torch.lerp(candidate, state, update, out=states[frame])
    return states, gates, candidates, parts


def _backward(
    saved: tuple[Tensor, ...], constants: None, needs: tuple[bool, ...], *grads: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    weight, states, gates, candidates, parts = saved
    frames, items, size = states.shape
    before = torch.cat([states.new_zeros(1, items, size), states[:-1]])
    reset, update = torch.split(gates, size, 2)
    # what the gradient of a state is multiplied with on its way to each sum before a gate
    to_candidate = (1 - update) * (1 - candidates.square())
    to_update = (before - candidates) * update * (1 - update)
    to_reset = to_candidate * parts * reset * (1 - reset)
    to_gates = torch.cat([to_reset, to_update, to_candidate * reset], 2)
    of_gates = torch.empty_like(to_gates)
    flow = torch.zeros_like(states[0])
    of_states = torch.empty_like(states)
    for frame in range(frames - 1, -1, -1):
        of_state = torch.add(grads[0][frame], flow, out=of_states[frame])
        of_gate = of_gates[frame]
        factors = to_gates[frame].view(items, 3, size)
        torch.mul(factors, of_state.unsqueeze(1), out=of_gate.view(items, 3, size))
        flow = torch.addmm(of_state * update[frame], of_gate, weight)
    of_projected = torch.cat([of_gates[..., : 2 * size], of_states * to_candidate], 2)
    flat = of_gates.flatten(0, 1)
    return of_projected, flat.t() @ before.flatten(0, 1), flat.sum(0)


_recurrence: Any = differentiable(
    "Recurrence",
    _forward,
    save=lambda inputs, outputs: (inputs[1], *outputs),
    backward=_backward,
    non_differentiable=(1, 2, 3),
)
