"""Random problems of entropic optimal transport for the tests of properties."""

from __future__ import annotations

import math

import torch
from hypothesis import settings
from hypothesis import strategies as st
from sinkhorn_problems import Float
from torch import Tensor

from rlsv_fast import ops

drawn = settings(derandomize=True, deadline=None, max_examples=50)
TIGHT = {"tolerance": 1e-13, "max_iterations": 20000}

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**20)
# epsilon / mean(M) where any problem converges in reasonable time, and where all must stay finite.
moderate = st.floats(math.log(0.05), math.log(10)).map(math.exp)
extreme = st.floats(math.log(1e-4), math.log(1e4)).map(math.exp)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def marginal(seed: int, size: int) -> Tensor:
    return numbers(seed, size).mul(3).softmax(0)


def self_costs(seed: int, frames: int, p: int = 1) -> Tensor:
    """As the loss has them: distances between sparse frames, duplicates among them."""
    representation = torch.relu(numbers(seed, 1, 6, frames) - 0.4) ** 2
    source = torch.minimum(torch.arange(frames), torch.tensor(max(1, frames - 2)))
    return ops.frame_distance(representation[:, :, source], p=p)[0]


@st.composite
def problems(draw: st.DrawFn, square: bool = False, symmetric: bool = False):
    """A cost, epsilon, and options with uneven marginals."""
    rows, seed = draw(sizes), draw(seeds)
    columns = rows if square or symmetric else draw(sizes)
    if symmetric:
        cost, row = self_costs(seed, rows, draw(st.sampled_from([1, 2]))), marginal(seed + 1, rows)
        column = row
    else:
        cost = numbers(seed, rows, columns) ** draw(st.sampled_from([1, 4]))
        row, column = marginal(seed + 1, rows), marginal(seed + 2, columns)
    epsilon = draw(moderate) * max(float(cost.mean()), 0.01)
    options = {"row_marginal": row, "column_marginal": column, "symmetric": symmetric, **TIGHT}
    return cost, epsilon, options


either = st.booleans().flatmap(lambda symmetric: problems(symmetric=symmetric))


def cast(options: dict[str, object], dtype: Float) -> dict[str, object]:
    """The options in another precision; one tensor given as both marginals stays one."""
    made = {id(value): value.to(dtype) for value in options.values() if isinstance(value, Tensor)}
    return {name: made.get(id(value), value) for name, value in options.items()}
