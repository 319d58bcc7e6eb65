"""The batched Sinkhorn distance as a short Triton kernel: one program solves one problem.

Alternating updates in the exponential domain. Every iteration reads the kernel matrix once, a few
rows at a time: these give their row's scaling and with it their share of the column sums.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _alternate(
    kernel, row, column, x_out, y_out, size, iterations, BLOCK: tl.constexpr, ROWS: tl.constexpr
):
    item = tl.program_id(0).to(tl.int64)
    kernel += item * size * size
    vectors = item * size
    j = tl.arange(0, BLOCK)
    live = j < size
    mass = tl.load(column + vectors + j, mask=live, other=0.0)
    y = tl.where(live, 1.0, 0.0)
    for _ in range(iterations):
        sums = tl.zeros([BLOCK], tl.float32)
        for start in range(0, size, ROWS):
            i = start + tl.arange(0, ROWS)
            inside = i < size
            cells = i[:, None] * size + j[None, :]
            tile = tl.load(kernel + cells, mask=inside[:, None] & live[None, :], other=0.0)
            weight = tl.load(row + vectors + i, mask=inside, other=0.0)
            x = weight / tl.where(inside, tl.sum(tile * y[None, :], 1), 1.0)
            tl.store(x_out + vectors + i, x, mask=inside)
            sums += tl.sum(tile * x[:, None], 0)
        y = mass / tl.where(live, sums, 1.0)
    tl.store(y_out + vectors + j, y, mask=live)


def plan(cost: Tensor, epsilon: float, row: Tensor, column: Tensor, iterations: int) -> Tensor:
    """Plans (B, T, T) of costs (B, T, T) and marginals (B, T) after so many iterations."""
    items, size, _ = cost.shape
    kernel = torch.exp(-cost / epsilon)
    x, y = torch.empty_like(row), torch.empty_like(column)
    block = triton.next_power_of_2(size)
    rows = max(1, 8192 // block)  # 32 KB of the matrix at a time, in registers
    _alternate[(items,)](
        kernel, row, column, x, y, size, iterations, BLOCK=block, ROWS=rows, num_warps=16
    )
    return x[:, :, None] * kernel * y[:, None, :]
