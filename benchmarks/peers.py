"""Implementations of the batched Sinkhorn distance, each used as its own users would.

A peer prepares a run on a problem with a number of iterations (None: to 1e-6 by its own stopping
rule). Everything that is not the peer's solving happens in preparation: conversion, compilation.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import published
import torch
from peer_problems import EPSILON, KINDS, Problem
from torch import Tensor

from rlsv_fast import ops, reference

TOLERANCE = 1e-6
MOST = 1000


class Run(Protocol):
    """A prepared problem. `forward` and `both` are timed, and give what was computed then."""

    def forward(self) -> Any:
        """<P, M> of every item."""

    def both(self) -> tuple[Any, Any]:
        """<P, M> and its gradient with respect to the cost."""

    def plan(self) -> Tensor:
        """The plan that `forward` computes the distance of."""

    def iterations(self) -> int | None:
        """How many were made, where the run itself decided."""


Prepare = Callable[[Problem, int | None], Run]


@dataclass(frozen=True)
class Peer:
    """An implementation.

    Attributes:
        name: in tables.
        gradient: "implicit" or "unrolled" (both tend to the exact one), else what it is instead.
        prepare: makes a run.
        requires: module and package without which it is skipped.
        kinds: problems that it can solve.
        fixed: whether a fixed number of iterations has a meaning for it.
        stops: whether it has a stopping rule on the marginal error of every item.
        kept: cost-sized matrices that autograd keeps per iteration.
        compiles: whether every size and number of iterations is compiled, for seconds.
        device: "any", or the one it runs on.
    """

    name: str
    gradient: str
    prepare: Prepare
    requires: tuple[str, str] | None = None
    kinds: tuple[str, ...] = KINDS
    fixed: bool = True
    stops: bool = False
    kept: int = 0
    compiles: bool = False
    device: str = "any"

    def missing(self, device: str) -> str | None:
        """Why it cannot run on a device, what to install; or nothing."""
        if self.device not in ("any", device):
            return f"runs on {self.device} only"
        if self.requires is None or importlib.util.find_spec(self.requires[0]) is not None:
            return None
        return f"not installed: pip install {self.requires[1]}"


@dataclass(frozen=True)
class TorchRun:
    """`solve` maps a cost to the distance and, if that comes for free, the plan."""

    cost: Tensor
    solve: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    find_plan: Callable[[], Tensor] | None = None
    count: Callable[[], Tensor] | None = None

    def forward(self) -> Tensor:
        """No graph is recorded."""
        with torch.no_grad():
            return self.solve(self.cost)[0]

    def both(self) -> tuple[Tensor, Tensor]:
        """A fresh leaf, so that nothing accumulates."""
        leaf = self.cost.detach().requires_grad_()
        loss = self.solve(leaf)[0]
        return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]

    def plan(self) -> Tensor:
        """Of the same iterations."""
        with torch.no_grad():
            plan = self.solve(self.cost)[1] if self.find_plan is None else self.find_plan()
        assert plan is not None
        return plan

    def iterations(self) -> int | None:
        """Of the slowest item."""
        return None if self.count is None else int(self.count().max())


def _library(where: Any, **options: Any) -> Prepare:
    """This library's functions (`ops`) or their plain PyTorch twins (`reference`)."""

    def prepare(problem: Problem, iterations: int | None) -> TorchRun:
        stop = {"max_iterations": MOST, "tolerance": TOLERANCE}
        if iterations is not None:
            stop = {"max_iterations": iterations, "tolerance": 0.0}
        chosen = {**stop, **problem.marginals, **options}
        found = {key: value for key, value in chosen.items() if key != "gradient"}
        cost, unrolled = problem.cost, "gradient" in options
        return TorchRun(
            cost,
            lambda cost: (where.sinkhorn_distance(cost, EPSILON, **chosen), None),
            lambda: where.sinkhorn_plan(cost, EPSILON, **found),
            None if unrolled else lambda: where.sinkhorn(cost, EPSILON, **found).iterations,
        )

    return prepare


def log_step(scaled: Tensor, log_row: Tensor, log_column: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """One alternating iteration in the log domain."""
    f = log_row - torch.logsumexp(g[:, None, :] - scaled, 2)
    return f, log_column - torch.logsumexp(f[:, :, None] - scaled, 1)


@functools.lru_cache(maxsize=1)
def _compiled_step(shape: torch.Size) -> Callable[..., tuple[Tensor, ...]]:
    """Compiled for this shape; the loop around it is Python, as 1000 steps do not compile."""
    torch._dynamo.reset()
    return torch.compile(log_step, dynamic=False)


def _log_domain(compiled: bool) -> Prepare:
    def prepare(problem: Problem, iterations: int | None) -> TorchRun:
        log_row, log_column = problem.row.log(), problem.column.log()
        step = _compiled_step(problem.cost.shape) if compiled else log_step

        def solve(cost: Tensor) -> tuple[Tensor, Tensor]:
            scaled, g = cost / EPSILON, torch.zeros_like(log_column)
            for _ in range(iterations or MOST):
                f, g = step(scaled, log_row, log_column, g)
            plan = torch.exp(f[:, :, None] + g[:, None, :] - scaled)
            return (plan * cost).sum((1, 2)), plan

        return TorchRun(problem.cost, solve)

    return prepare


def _exp_domain(problem: Problem, iterations: int | None) -> TorchRun:
    row, column = problem.row[..., None], problem.column[..., None]

    def solve(cost: Tensor) -> tuple[Tensor, Tensor]:
        kernel, y = torch.exp(-cost / EPSILON), torch.ones_like(column)
        for _ in range(iterations or MOST):
            x = row / torch.bmm(kernel, y)
            y = column / torch.bmm(kernel.mT, x)
        plan = x * kernel * y.mT
        return (plan * cost).sum((1, 2)), plan

    return TorchRun(problem.cost, solve)


def _published(problem: Problem, iterations: int | None) -> TorchRun:
    def solve(cost: Tensor) -> tuple[Tensor, None]:
        each = [published.sinkhorn_distance(item, EPSILON, iterations or MOST) for item in cost]
        return torch.stack(each), None

    # Its plan is not returned. Of a symmetric cost, updates that begin with the rows find it too,
    # transposed.
    return TorchRun(problem.cost, solve, _exp_domain(problem, iterations).plan)


def _pot_batch(method: str, grad: str) -> Prepare:
    def prepare(problem: Problem, iterations: int | None) -> TorchRun:
        from ot.batch import solve_batch

        def solve(cost: Tensor) -> tuple[Tensor, Tensor]:
            result = solve_batch(
                cost,
                EPSILON,
                problem.row,
                problem.column,
                max_iter=iterations or MOST,
                tol=0.0,
                method=method,
                grad=grad if cost.requires_grad else "detach",
            )
            return result.value_linear, result.plan

        return TorchRun(problem.cost, solve)

    return prepare


def _geomloss(problem: Problem, iterations: int | None) -> TorchRun:
    from geomloss import ot

    def solve(cost: Tensor) -> tuple[Tensor, Tensor]:
        result = ot.solve_batch(
            cost, reg=EPSILON, a=problem.row, b=problem.column, max_iter=iterations or MOST
        )
        plan = result.plan
        return (plan * cost).sum((1, 2)), plan

    return TorchRun(problem.cost, solve)


def _triton(problem: Problem, iterations: int | None) -> TorchRun:
    import peers_triton

    def solve(cost: Tensor) -> tuple[Tensor, Tensor]:
        plan = peers_triton.plan(cost, EPSILON, problem.row, problem.column, iterations or MOST)
        return (plan * cost).sum((1, 2)), plan

    return TorchRun(problem.cost, solve)


@dataclass(frozen=True)
class PotItems:
    """POT's solver of one problem, in a loop over NumPy arrays; no gradient."""

    problem: Problem
    count: int
    method: str

    def _plans(self) -> list[Any]:
        import ot

        parts = (self.problem.row, self.problem.column, self.problem.cost)
        return [
            ot.sinkhorn(
                *item, EPSILON, method=self.method, numItermax=self.count, stopThr=0, warn=False
            )
            for item in zip(*(part.numpy() for part in parts), strict=True)
        ]

    def forward(self) -> Tensor:
        """Item by item."""
        costs = self.problem.cost.numpy()
        return torch.tensor([(p * m).sum() for p, m in zip(self._plans(), costs, strict=True)])

    def both(self) -> tuple[Any, Any]:
        """Not to be called: there is no gradient."""
        raise NotImplementedError("ot.sinkhorn on NumPy arrays has no gradient")

    def plan(self) -> Tensor:
        """Stacked."""
        return torch.stack([torch.as_tensor(plan) for plan in self._plans()])

    def iterations(self) -> None:
        """Fixed."""


def as_tensor(array: Any) -> Tensor:
    """From any framework."""
    if isinstance(array, Tensor):
        return array
    import numpy

    return torch.from_numpy(numpy.array(array))


def _ott(lse: bool, averaged: bool = False) -> Prepare:
    def prepare(problem: Problem, iterations: int | None) -> Run:
        from peers_jax import OttRun

        return OttRun(problem, iterations or MOST, lse, averaged)

    return prepare


def _pot_items(method: str) -> Prepare:
    return lambda problem, iterations: PotItems(problem, iterations or MOST, method)


OURS_SYMMETRIC, OURS_GENERAL = "ours, symmetric", "ours, general"
OURS_UNROLLED = "ours, unrolled"
OURS = (OURS_SYMMETRIC, OURS_GENERAL, OURS_UNROLLED)
TWIN, EAGER = "PyTorch symmetric", "PyTorch log domain"
_POT, _OTT = ("ot", "POT"), ("ott", "ott-jax")
_SYMMETRIC: dict[str, Any] = {"kinds": ("self",), "fixed": False}
EXACT = ("implicit", "unrolled")
"""Gradients that tend to the exact one."""

PEERS = [
    Peer(OURS_SYMMETRIC, "implicit", _library(ops, symmetric=True), stops=True, **_SYMMETRIC),
    Peer(OURS_GENERAL, "implicit", _library(ops), stops=True),
    Peer(OURS_UNROLLED, "unrolled", _library(ops, gradient="unrolled")),
    Peer(TWIN, "implicit", _library(reference, symmetric=True), stops=True, **_SYMMETRIC),
    Peer(EAGER, "unrolled", _log_domain(False), kept=4),
    Peer("PyTorch log domain, compiled", "unrolled", _log_domain(True), kept=4, compiles=True),
    Peer("PyTorch exp domain", "unrolled", _exp_domain),
    Peer("published loop, per item", "unrolled", _published, kinds=("self",)),
    Peer("POT batch exp", "unrolled", _pot_batch("sinkhorn", "autodiff"), _POT),
    Peer("POT batch log", "unrolled", _pot_batch("log_sinkhorn", "autodiff"), _POT, kept=4),
    Peer("POT batch log, last_step", "last step", _pot_batch("log_sinkhorn", "last_step"), _POT),
    Peer("POT per item exp", "none", _pot_items("sinkhorn"), _POT, device="cpu"),
    Peer("POT per item log", "none", _pot_items("sinkhorn_log"), _POT, device="cpu"),
    Peer("geomloss solve_batch", "of its value", _geomloss, ("geomloss", "geomloss")),
    Peer("Triton", "none", _triton, ("triton", "triton"), device="cuda"),
    Peer("OTT kernel", "implicit", _ott(lse=False), _OTT, compiles=True),
    Peer("OTT lse", "implicit", _ott(lse=True), _OTT, compiles=True),
    Peer(
        "OTT kernel, averaged",
        "implicit",
        _ott(lse=False, averaged=True),
        _OTT,
        compiles=True,
        **_SYMMETRIC,
    ),
]
