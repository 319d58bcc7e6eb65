"""Where an epsilon of the Sinkhorn loss stands; ``SinkhornLoss.diagnose`` has the derivation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlsv_fast import ops

Regime: TypeAlias = Literal[
    "no regulariser",
    "frames are pushed apart",
    "near the sign change",
    "frames are pulled together",
]

NEGLIGIBLE = 1e-3
"""Of the gradient of the mean distance, whose norm is about 1 in the units of ``gradient_norm``."""

NEAR = 1.1
"""Within this factor of the sign change an epsilon is near it."""

_STEP = math.sqrt(2)
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class SinkhornDiagnosis:
    r"""What ``SinkhornLoss.diagnose`` found; ``print`` it.

    M are the distances, L the loss and G = dL/dM its gradient, all for a plan of mass 1. Pairs are
    those of different frames: coincident ones, the diagonal among them, have the subgradient 0 and
    pass nothing on. With ``per_item`` all figures are means over the items.

    Attributes:
        epsilon: the loss's.
        frames: T.
        mean_distance: mean of M.
        relative_loss: L over the mean of M; 0 for the identity as plan, 1 for the uniform plan,
            0 where M is 0.
        mean_gradient: T² times the mean of G over the pairs, 1 for the gradient of the mean
            distance. Negative: a descent step pushes frames apart on average; positive: it pulls
            them together. Without coincident frames it is (1 - trace G) T / (T - 1). NaN if there
            are no pairs.
        gradient_norm: T times the norm of G over the pairs, about 1 for the gradient of the mean
            distance. This is what reaches the network, whatever its average.
        pushed_share: share of the pairs with negative G; NaN if there are no pairs.
        sign_change: largest epsilon at which ``mean_gradient`` turns from negative to positive for
            these distances; None if there is none: without pairs, or with the envelope gradient.
        regime: "no regulariser" where ``gradient_norm`` is below a thousandth, "near the sign
            change" within a tenth of it, else by the sign of ``mean_gradient``.
    """

    epsilon: float
    frames: int
    mean_distance: float
    relative_loss: float
    mean_gradient: float
    gradient_norm: float
    pushed_share: float
    sign_change: float | None
    regime: Regime

    def __str__(self) -> str:
        """A few lines to read."""
        head = f"epsilon = {self.epsilon:g}: {self.regime}"
        if math.isnan(self.mean_gradient):
            what = "one frame" if self.frames == 1 else f"all {self.frames} frames coincide"
            return f"{head} ({what}, nothing to transport)"
        change = "none" if self.sign_change is None else f"at epsilon = {self.sign_change:.3g}"
        return "\n".join(
            [
                f"{head}{' on average' if self.regime.startswith('frames') else ''}",
                f"  mean distance        {self.mean_distance:.3g} ({self.frames} frames)",
                f"  loss / mean distance {self.relative_loss:.3g} (0: identity, 1: uniform plan)",
                f"  mean gradient        {self.mean_gradient:+.3g} (negative pushes frames apart, "
                "positive pulls together)",
                f"  norm of gradient     {self.gradient_norm:.3g} (1: that of the mean distance)",
                f"  pairs pushed apart   {100 * self.pushed_share:.3g} %",
                f"  sign change          {change}",
            ]
        )


def diagnose(
    distances: Tensor, epsilon: float, gradient: Literal["implicit", "envelope"]
) -> SinkhornDiagnosis:
    """Diagnose the problems of given distances.

    Args:
        distances: M, shape (B, T, T), float64, finite, symmetric with a diagonal of zeros.
        epsilon: strength of the entropy.
        gradient: of the loss.

    Returns:
        Their means over the problems.
    """
    frames = distances.shape[-1]
    apart = distances > 0
    pairs = int(apart.sum())
    mean_distance = float(distances.mean())
    loss, slope = _loss_and_gradient(distances, epsilon, gradient)
    slope = torch.where(apart, slope, 0)
    norm = frames * float(slope.flatten(1).norm(dim=1).mean())
    average = frames**2 * float(slope.sum()) / pairs if pairs else math.nan
    change = None
    if pairs and gradient == "implicit":  # under the envelope G = P, which is nowhere negative
        change = _sign_change(distances, apart)
    return SinkhornDiagnosis(
        epsilon=epsilon,
        frames=frames,
        mean_distance=mean_distance,
        relative_loss=loss / mean_distance if pairs else 0.0,
        mean_gradient=average,
        gradient_norm=norm,
        pushed_share=int((slope < 0).sum()) / pairs if pairs else math.nan,
        sign_change=change,
        regime=_regime(epsilon, change, average, norm),
    )


def _regime(epsilon: float, change: float | None, average: float, norm: float) -> Regime:
    if norm < NEGLIGIBLE:
        return "no regulariser"
    if change is not None and 1 / NEAR < epsilon / change < NEAR:
        return "near the sign change"
    return "frames are pushed apart" if average < 0 else "frames are pulled together"


def _loss_and_gradient(
    distances: Tensor, epsilon: float, gradient: Literal["implicit", "envelope"]
) -> tuple[float, Tensor]:
    """Mean loss of the problems, and the gradient of each one's own loss."""
    with torch.enable_grad():
        leaf = distances.detach().requires_grad_()
        losses = ops.sinkhorn_distance(
            leaf, epsilon, gradient=gradient, tolerance=_TOLERANCE, symmetric=True
        )
        (slope,) = torch.autograd.grad(losses.sum(), leaf)
    return float(losses.mean()), slope


def _sign_change(distances: Tensor, apart: Tensor) -> float:
    """Walk down from where every pair is pulled to the first negative mean, then bisect.

    The walk ends: far below the least distance every pair is pushed.
    """

    def pushes(epsilon: float) -> bool:
        _, slope = _loss_and_gradient(distances, epsilon, "implicit")
        return float(torch.where(apart, slope, 0).sum()) < 0

    high = 4 * float(distances.max())
    while not pushes(high / _STEP):
        high /= _STEP
    low = high / _STEP
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if pushes(middle) else (low, middle)
    return math.sqrt(low * high)
