"""Problems that all Sinkhorn peers solve, their exact solutions in float64, and what errors mean.

"self": distances between the frames of a synthetic piece, uniform marginals: what the loss poses.
"general": the same plus a random part that is not symmetric, and uneven marginals. Both at
epsilon = 1 with a mean cost of 6.7, as the published representation has. At T = 173 the second
eigenvalue of T * P is near 0.96 there, so alternating needs some 100 iterations to 1e-6 ("self").
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from rlsv_fast import reference

EPSILON, MEAN_COST = 1.0, 6.7
KINDS = ("self", "general")
CHECKED = 8
"""Items that the float64 solution is made for: all, or the first ones of a larger batch."""


@dataclass(frozen=True)
class Problem:
    """A batch of problems in float32; its first items are those of any larger batch."""

    kind: str
    cost: Tensor  # (B, T, T)
    row: Tensor  # (B, T)
    column: Tensor

    @property
    def items(self) -> int:
        """B."""
        return len(self.cost)

    @property
    def frames(self) -> int:
        """T."""
        return self.cost.shape[1]

    @property
    def marginals(self) -> dict[str, Tensor]:
        """As arguments of this library's functions; defaults where they are uniform."""
        if self.kind == "self":
            return {}
        return {"row_marginal": self.row, "column_marginal": self.column}


@dataclass(frozen=True)
class Exact:
    """The solution in float64, and how hard it is to find."""

    loss: Tensor  # (B,)
    gradient: Tensor  # d<P, M>/dM, (B, T, T)
    second_eigenvalue: Tensor  # of T * P, in general of its normalised square, (B,)
    iterations: Tensor  # that alternating updates need to an L1 error of 1e-6, (B,)


def _piece(generator: torch.Generator, frames: int, components: int = 200) -> Tensor:
    """Eight notes with random spectra, sharp onsets and decays, fluctuating: (components, T)."""
    notes = 8
    time = (torch.arange(frames) + 0.5) / frames
    onset = (torch.arange(notes) + 0.3 * torch.rand(notes, generator=generator)) / notes
    spectra = torch.rand(components, notes, generator=generator) ** 4
    since = time - onset[:, None]
    envelope = torch.where(since > 0, torch.exp(-since / 0.2), torch.exp(since / 0.05))
    loudness = 0.5 + torch.rand(notes, 1, generator=generator)
    fluctuation = 0.4 + 1.2 * torch.rand(components, frames, generator=generator)
    return (spectra @ (envelope * loudness)) * fluctuation


def _item(kind: str, index: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(index)
    piece = _piece(generator, frames)
    cost = reference.frame_distance(piece[None].double(), normalize="time")[0]
    cost = cost * (MEAN_COST / cost.mean())
    uniform = torch.full((frames,), 1 / frames, dtype=torch.float64)
    if kind == "self":
        return cost, uniform, uniform
    cost = cost + torch.rand(frames, frames, generator=generator, dtype=torch.float64)
    row, column = torch.rand(2, frames, generator=generator, dtype=torch.float64) + 0.1
    return cost * (MEAN_COST / cost.mean()), row / row.sum(), column / column.sum()


def make_problem(kind: str, items: int, frames: int, device: str = "cpu") -> Problem:
    """Deterministic: an item depends on its index and T alone."""
    stacked = zip(*(_item(kind, index, frames) for index in range(items)), strict=True)
    return Problem(kind, *(torch.stack(part).float().to(device) for part in stacked))


def marginal_error(plan: Tensor, problem: Problem) -> float:
    """L1 violation of the marginals (mass 1), rows or columns, of the worst item."""
    plan, row, column = (x.cpu().double() for x in (plan, problem.row, problem.column))
    rows, columns = (plan.sum(2) - row).abs().sum(1), (plan.sum(1) - column).abs().sum(1)
    return float(torch.maximum(rows, columns).max())


def _solve(problem: Problem, most: int = 20000) -> tuple[Tensor, Tensor]:
    """Plan to rounding error by alternating updates, and the iterations needed to 1e-6."""
    # Normalised again: float32 masses differ by rounding, and then no plan has both.
    row, column = (m.double() / m.double().sum(1, True) for m in (problem.row, problem.column))
    kernel = torch.exp(-problem.cost.double() / EPSILON)
    x, needed = row, torch.zeros(problem.items, dtype=torch.int64)
    for step in range(1, most):
        y = column / (kernel.mT @ x[..., None])[..., 0]
        x = row / (kernel @ y[..., None])[..., 0]
        error = (y * (kernel.mT @ x[..., None])[..., 0] - column).abs().sum(1)
        needed = torch.where((needed == 0) & (error <= 1e-6), step, needed)
        if error.max() < 1e-13:
            return x[:, :, None] * kernel * y[:, None, :], needed
    raise RuntimeError(f"not solved within {most} iterations: error {error.max():.1e}")


def _implicit(plan: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of <P, M> for one item by the implicit function theorem, and the eigenvalue.

    In variables scaled by the roots of the sums the system is I + [0 S; S' 0]; with S = U s V' it
    splits into pairs, and only the first (s = 1, the shift between potentials) is singular.
    """
    row, column = plan.sum(1).sqrt(), plan.sum(0).sqrt()
    u, s, vt = torch.linalg.svd(plan / row[:, None] / column)
    right = [(plan * cost).sum(1) / row @ u, vt @ ((plan * cost).sum(0) / column)]
    gap = 1 - s**2
    gap[0] = 1
    p, q = (right[0] - s * right[1]) / gap, (right[1] - s * right[0]) / gap
    p[0], q[0] = right[0][0], 0
    shift = (u @ p / row)[:, None] + q @ vt / column
    return plan * (1 + (shift - cost) / EPSILON), s[1]


@functools.cache
def exact(kind: str, frames: int, items: int = CHECKED) -> Exact:
    """Solution of the first `items` items, by plain float64 PyTorch on the CPU."""
    problem = make_problem(kind, items, frames)
    plan, needed = _solve(problem)
    cost = problem.cost.double()
    solved = [_implicit(*pair) for pair in zip(plan, cost, strict=True)]
    gradient, eigenvalue = (torch.stack(part) for part in zip(*solved, strict=True))
    return Exact((plan * cost).sum((1, 2)), gradient, eigenvalue, needed)


def _distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def errors(problem: Problem, loss: Tensor, gradient: Tensor | None) -> dict[str, float]:
    """Relative distances (Frobenius, over the checked items) from the float64 solution.

    `off_diagonal_error` leaves out the diagonal of the gradient, which is constant for distances
    between frames and so trains nothing, yet is most of its norm.
    """
    count = min(problem.items, CHECKED)
    true = exact(problem.kind, problem.frames)
    found = {"loss_error": _distance(loss[:count].detach().cpu().double(), true.loss[:count])}
    if gradient is not None:
        got, wanted = gradient[:count].detach().cpu().double(), true.gradient[:count]
        off = 1 - torch.eye(problem.frames, dtype=torch.float64)
        found["gradient_error"] = _distance(got, wanted)
        found["off_diagonal_error"] = _distance(got * off, wanted * off)
    return found
