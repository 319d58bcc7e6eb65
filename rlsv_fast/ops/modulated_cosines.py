"""Sorted, amplitude-modulated cosines: the interpretable decoder's weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsv_fast._library import differentiable, fake, raw
from rlsv_fast.ops import _check

_OP = "modulated_cosines"


@fake("_modulated_cosines_forward")
def _(frequency: Tensor, phase: Tensor, modulator: Tensor, order: Tensor, power: int) -> Tensor:
    return modulator.new_empty((frequency.shape[0], modulator.shape[1]))


@fake("_modulated_cosines_backward")
def _(
    grad: Tensor, frequency: Tensor, phase: Tensor, modulator: Tensor, order: Tensor, power: int
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(frequency), torch.empty_like(phase), torch.empty_like(modulator)


def _backward(
    saved: tuple[Tensor, ...], power: int, needs: tuple[bool, ...], grad: Tensor
) -> tuple[Any, ...]:
    grads = raw._modulated_cosines_backward(grad.contiguous(), *saved, power)
    return (*grads, None, None)


_weights = differentiable(
    "ModulatedCosines",
    lambda *inputs: raw._modulated_cosines_forward(*inputs),
    save=lambda inputs, output: inputs[:4],
    constants=lambda inputs: inputs[4],
    backward=_backward,
)


def modulated_cosines(
    frequency: Tensor, phase: Tensor, modulator: Tensor, *, power: int = 2, sort: bool = True
) -> tuple[Tensor, Tensor]:
    r"""Cosine carriers times their modulators, sorted by carrier frequency.

    .. math:: W_{i,l} = b_{c,l} \cos(2 \pi f_c^p l + \phi_c), \quad c = \mathrm{order}_i

    The phase is formed in double precision, so float32 results are within 2e-6 of exact ones at
    L = 2048. One fused pass writes the weights, one gives all three gradients.

    Args:
        frequency: shape (C,), carrier parameter in cycles per sample (its square root for
            ``power=2``).
        phase: shape (C,), in radians.
        modulator: shape (C, L), one amplitude per component and tap, or (1, L), shared.
        power: exponent of the frequency, 1 or 2.
        sort: order the rows by ascending ``frequency ** power`` (stable).

    Returns:
        The weights, shape (C, L), and the order, shape (C,), int64: row ``i`` belongs to component
        ``order[i]``.

    Raises:
        TypeError: an argument is not a floating tensor, or dtypes differ.
        ValueError: shapes or devices do not fit, or ``power`` is neither 1 nor 2.

    Reference:
        Mimilakis, Drossos, Schuller, "Unsupervised Interpretable Representation Learning for
        Singing Voice Separation", EUSIPCO 2020, section 2 (decoder).
    """
    frequency = _check.floating(_OP, "frequency", frequency)
    phase = _check.floating(_OP, "phase", phase)
    modulator = _check.floating(_OP, "modulator", modulator)
    _check.shape(_OP, "frequency", frequency, "(C,)", None)
    components = frequency.shape[0]
    _check.shape(_OP, "phase", phase, "(C,) as frequency", components)
    if modulator.dim() != 2 or modulator.shape[0] not in (1, components):
        raise ValueError(
            f"{_OP}: modulator must have shape (C, L) or (1, L) with C = {components}, "
            f"got {tuple(modulator.shape)}"
        )
    _check.same_kind(_OP, "frequency", frequency, "phase", phase)
    _check.same_kind(_OP, "frequency", frequency, "modulator", modulator)
    _check.choice(_OP, "power", power, (1, 2))
    if sort:
        order = torch.argsort(frequency.detach() ** power, stable=True)
    else:
        order = torch.arange(components, device=frequency.device)
    weights = _weights(
        frequency.contiguous(), phase.contiguous(), modulator.contiguous(), order, power
    )
    return weights, order
