"""Total variation of a representation in plain PyTorch."""

from __future__ import annotations

from torch import Tensor
from torch.linalg import vector_norm


def total_variation(representation: Tensor, *, norm: int = 1) -> Tensor:
    """See :func:`rlsv_fast.ops.total_variation`."""
    _, components, frames = representation.shape
    along_time = representation[:, :, 1:] - representation[:, :, :-1]
    along_components = representation[:, 1:, :] - representation[:, :-1, :]
    if norm == 1:
        total = along_time.abs().sum((1, 2)) + along_components.abs().sum((1, 2))
        return total / max(components * frames, 1)
    by_time: Tensor = vector_norm(along_time) / max(frames, 1)
    by_components: Tensor = vector_norm(along_components) / max(components, 1)
    return by_time + by_components
