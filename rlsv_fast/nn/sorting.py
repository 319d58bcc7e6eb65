"""Keep the components in order of their carriers while a model trains."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from rlsv_fast.nn.encoders import CosineEncoder
from rlsv_fast.nn.model import RepresentationModel


@torch.no_grad()
def sort_components(model: RepresentationModel, optimizer: Optimizer | None = None) -> bool:
    """Renumber the components by ascending carrier, in place, without changing the model.

    Rows of the decoder's parameters, rows of the encoder's kernels, rows and columns of its second
    convolution, their gradients and the optimizer's moments move together, so neither the
    reconstruction nor the path of the training depends on when this is called; only the channels
    of the representation change places. Total variation along channels then compares neighbours
    in frequency (P1, experiment 2: after each update). A training loop gets the same from
    ``TotalVariationLoss()(A, model.order())`` at a fraction of the cost.

    Args:
        model: the model; nothing happens where its decoder has no carriers.
        optimizer: the optimizer of the model's parameters, if it is to go on.

    Returns:
        Whether anything moved.

    Raises:
        ValueError: the encoder orders its channels by its own carriers (``CosineEncoder`` with
            ``convention="code"``), so they cannot follow the decoder's.
    """
    order = model.order()
    moved = (order != torch.arange(len(order), device=order.device)).nonzero().squeeze(1)
    if not len(moved):
        return False
    encoder = model.encoder
    if isinstance(encoder, CosineEncoder) and encoder.convention == "code":
        raise ValueError(
            "sort_components: the channels of a CosineEncoder with convention='code' follow its "
            "own carriers; use convention='paper'"
        )
    source = order[moved]
    for part in (model.encoder, model.decoder):
        for name, axes in part.channel_axes.items():
            parameter: nn.Parameter = getattr(part, name)
            tensors = [parameter.data]
            if parameter.grad is not None:
                tensors.append(parameter.grad)
            if optimizer is not None:
                state = optimizer.state.get(parameter, {})
                tensors += [
                    value
                    for value in state.values()
                    if isinstance(value, torch.Tensor) and value.shape == parameter.shape
                ]
            for tensor in tensors:
                for axis in axes:
                    tensor.index_copy_(axis, moved, tensor.index_select(axis, source))
    return True
