"""OTT-JAX as a peer: kernel or log-sum-exp mode, implicit gradients, vmapped and compiled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy
import torch
from ott.geometry.geometry import Geometry
from ott.problems.linear.linear_problem import LinearProblem
from ott.solvers.linear import acceleration, implicit_differentiation, sinkhorn
from peer_problems import EPSILON, Problem
from torch import Tensor


class OttRun:
    """OTT-JAX with a fixed number of iterations, vmapped and compiled before it is timed."""

    def __init__(self, problem: Problem, count: int, lse: bool, averaged: bool) -> None:
        # OTT's own setting for two equal measures: both sides updated at once, then averaged.
        options = {"parallel_dual_updates": True, "momentum": acceleration.Momentum(value=0.5)}
        solver = sinkhorn.Sinkhorn(
            lse_mode=lse,
            threshold=-1.0,
            min_iterations=count,
            max_iterations=count,
            implicit_diff=implicit_differentiation.ImplicitDiff(symmetric=averaged),
            **(options if averaged else {}),
        )

        def plan(cost: Any, row: Any, column: Any) -> Any:
            return solver(LinearProblem(Geometry(cost, epsilon=EPSILON), row, column)).matrix

        def loss(cost: Any, row: Any, column: Any) -> Any:
            return jnp.sum(plan(cost, row, column) * cost)

        self._arguments = [
            jax.device_put(part.cpu().numpy())
            for part in (problem.cost, problem.row, problem.column)
        ]
        self._loss = jax.jit(jax.vmap(loss))
        self._both = jax.jit(jax.vmap(jax.value_and_grad(loss)))
        self._plan = jax.jit(jax.vmap(plan))

    def forward(self) -> Any:
        """Waits for the result."""
        return jax.block_until_ready(self._loss(*self._arguments))

    def both(self) -> tuple[Any, Any]:
        """Waits for the results."""
        loss, gradient = jax.block_until_ready(self._both(*self._arguments))
        return loss, gradient

    def plan(self) -> Tensor:
        """As a tensor."""
        return torch.from_numpy(numpy.array(self._plan(*self._arguments)))

    def iterations(self) -> None:
        """Fixed."""
