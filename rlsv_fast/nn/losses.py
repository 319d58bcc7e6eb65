"""Training losses of both papers as modules, and what their published code computes instead."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from rlsv_fast import ops
from rlsv_fast.nn.diagnosis import SinkhornDiagnosis, diagnose
from rlsv_fast.nn.initial import CONVENTIONS, Convention
from rlsv_fast.ops import _check

Reduction: TypeAlias = Literal["mean", "sum", "none"]


def _check_reduction(name: str, reduction: Reduction, per_item: bool, remedy: str) -> None:
    _check.choice(name, "reduction", reduction, ("mean", "sum", "none"))
    if not per_item and reduction != "mean":
        raise ValueError(f"{name}: reduction={reduction!r} needs one value per item: {remedy}")


def _reduce(values: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else values.mean()


class NegSNRLoss(nn.Module):
    r"""Negative signal-to-noise ratio in decibels, -10 log10(|x|^2 / |x - y|^2).

    Args:
        convention: ``"paper"``: one ratio per segment; ``"code"``: one for the whole batch.
        reduction: over the segments, for ``"paper"``. A segment whose target is silent has no
            ratio: it does not count in the mean, adds nothing to the sum, and is 0 in "none".

    Raises:
        ValueError: an unknown choice, or a reduction other than "mean" with ``"code"``.
    """

    def __init__(self, convention: Convention = "paper", *, reduction: Reduction = "mean") -> None:
        super().__init__()
        _check.choice("NegSNRLoss", "convention", convention, CONVENTIONS)
        _check_reduction("NegSNRLoss", reduction, convention == "paper", "use convention='paper'")
        self.convention = convention
        self.reduction = reduction

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare waveforms.

        Args:
            estimate: shape (B, N).
            target: shape (B, N).

        Returns:
            A scalar in dB, or shape (B,) for ``reduction="none"``.
        """
        if self.convention == "code":
            ratio: Tensor = ops.neg_snr(estimate, target, reduce="batch")
            return ratio
        audible = (target != 0).any(1)
        ratios = torch.where(audible, ops.neg_snr(estimate, target, reduce="item"), 0)
        if self.reduction == "mean":
            return ratios.sum() / audible.sum().clamp(min=1)
        return _reduce(ratios, self.reduction)


class TotalVariationLoss(nn.Module):
    """Total variation of a representation along channels and frames.

    Args:
        convention: ``"paper"``: sum of magnitudes over C T, per item; ``"code"``: Euclidean norms
            over the whole batch, over T and over C. Values differ about sixfold.
        reduction: over the items, for ``"paper"``.

    Raises:
        ValueError: an unknown choice, or a reduction other than "mean" with ``"code"``.
    """

    def __init__(self, convention: Convention = "paper", *, reduction: Reduction = "mean") -> None:
        super().__init__()
        _check.choice("TotalVariationLoss", "convention", convention, CONVENTIONS)
        _check_reduction(
            "TotalVariationLoss", reduction, convention == "paper", "use convention='paper'"
        )
        self.convention = convention
        self.reduction = reduction

    def forward(self, representation: Tensor, order: Tensor | None = None) -> Tensor:
        """Measure a representation.

        Args:
            representation: shape (B, C, T).
            order: the channels in the order in which they are neighbours, shape (C,). With
                ``model.order()`` a training goes exactly as if ``sort_components`` were called
                after each update (P1, experiment 2), without moving parameters and moments.

        Returns:
            A scalar, or shape (B,) without reduction.
        """
        if order is not None:
            representation = representation.index_select(1, order)
        if self.convention == "code":
            whole: Tensor = ops.total_variation(representation, norm=2)
            return whole
        return _reduce(ops.total_variation(representation, norm=1), self.reduction)


class SinkhornLoss(nn.Module):
    r"""Entropic optimal-transport distance between the frames of a representation, <P, M>.

    Args:
        epsilon: strength of the entropy, the lambda of P2's tables: near 0 the plan tends to the
            identity and the loss to 0, for large values to the mean distance of frames. The useful
            range scales with the distances, which differ about fivefold between conventions.
        p: exponent of the distance, 1 or 2.
        convention: normalisation of the representation, over features per frame ("paper") or over
            time per channel ("code").
        marginal_mass: total mass of the plan; marginals are ``mass / T``. ``"T"`` makes every
            marginal 1, as P2 prints. The loss is proportional to it.
        max_iterations: bound of the Sinkhorn iterations.
        tolerance: L1 marginal violation, relative to the mass, at which they stop.
        gradient: ``"implicit"``, ``"unrolled"`` or ``"envelope"``, see ``ops.sinkhorn_distance``.
        per_item: one transport problem per item, instead of one for the mean of the distances
            over the batch, as both papers' and the published code's.
        reduction: over the items, for ``per_item``.

    Raises:
        ValueError: an unknown choice, a value out of range, or a reduction other than "mean"
            without ``per_item``.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, equations 6 and 7.
    """

    def __init__(
        self,
        epsilon: float,
        *,
        p: Literal[1, 2] = 1,
        convention: Convention = "paper",
        marginal_mass: float | Literal["T"] = 1.0,
        max_iterations: int = 1000,
        tolerance: float = 1e-6,
        gradient: Literal["implicit", "unrolled", "envelope"] = "implicit",
        per_item: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        name = "SinkhornLoss"
        if not epsilon > 0:
            raise ValueError(f"{name}: epsilon must be positive, got {epsilon}")
        if marginal_mass != "T" and not (
            isinstance(marginal_mass, (int, float)) and marginal_mass > 0
        ):
            raise ValueError(
                f"{name}: marginal_mass must be a positive number or 'T', got {marginal_mass!r}"
            )
        _check.choice(name, "p", p, (1, 2))
        _check.choice(name, "convention", convention, CONVENTIONS)
        _check.choice(name, "gradient", gradient, ("implicit", "unrolled", "envelope"))
        _check.integer(name, "max_iterations", max_iterations, 1)
        _check_reduction(name, reduction, per_item, "use per_item=True")
        self.epsilon = epsilon
        self.p = p
        self.convention = convention
        self.marginal_mass = marginal_mass
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.gradient = gradient
        self.per_item = per_item
        self.reduction = reduction

    def forward(self, representation: Tensor) -> Tensor:
        """Measure a representation.

        Args:
            representation: shape (B, C, T), non-negative.

        Returns:
            A scalar, or shape (B,) for ``per_item`` without reduction.
        """
        if self.gradient != "implicit":
            return self.transport(self.distances(representation))
        return self._scaled(
            ops.sinkhorn_loss(representation, self.epsilon, **self._frames, **self._iterations),
            representation.shape[-1],
        )

    def distances(self, representation: Tensor) -> Tensor:
        """The costs: distances of frames, (T, T) for the batch, (B, T, T) for ``per_item``."""
        found: Tensor = ops.frame_distance(representation, **self._frames)
        return found

    def transport(self, distances: Tensor) -> Tensor:
        """The loss of given costs; ``transport(distances(A))`` is ``forward(A)`` up to rounding."""
        transport = ops.sinkhorn_distance(
            distances, self.epsilon, gradient=self.gradient, symmetric=True, **self._iterations
        )
        return self._scaled(transport, distances.shape[-1])

    @property
    def _frames(self) -> dict[str, Any]:
        normalize = "features" if self.convention == "paper" else "time"
        reduce = "none" if self.per_item else "mean"
        return {"p": self.p, "normalize": normalize, "reduce": reduce}

    @property
    def _iterations(self) -> dict[str, Any]:
        return {"max_iterations": self.max_iterations, "tolerance": self.tolerance}

    def _scaled(self, transport: Tensor, frames: int) -> Tensor:
        # The plan is proportional to its mass, so the problem is always solved for mass 1.
        mass = frames if self.marginal_mass == "T" else self.marginal_mass
        return _reduce(transport if mass == 1 else mass * transport, self.reduction)

    @torch.inference_mode(False)
    @torch.no_grad()
    def diagnose(self, representation: Tensor) -> SinkhornDiagnosis:
        r"""Tell what this loss and its epsilon do to a representation; ``print`` the result.

        With P the plan, L = <P, M> and G = dL/dM, everything rests on

        .. math::
            G = P \circ (1 + (z \oplus z - M) / \epsilon), \qquad
            (\mathrm{diag}(1/T) + P) \, z = (P \circ M) \, 1

        - *Sums.* A constant added to M is added to L, so the sum of G is 1 for every epsilon; added
          to one row of M, it adds a T-th to L, so every row of G sums to 1/T. M_ii = 0 has the
          subgradient 0, so only the off-diagonal part trains, and its mean has the sign of
          1 - trace G.
        - *Which pairs.* G_ij < 0 exactly where M_ij > epsilon + z_i + z_j: distant frames are
          pushed further apart and near ones pulled together. The mean sums up both.
        - *Small epsilon.* P tends to the identity over T and z to 0: off the diagonal G tends to
          P (1 - M / epsilon), which is negative, and vanishes as exp(-M / epsilon) does.
        - *Large epsilon.* P tends to 1/T², and so does G: it pulls all frames together, as the
          mean distance does.
        - *Between,* in the model of equal distances m, with s = (T - 1) exp(-m / epsilon):

          .. math::
              L = \frac{m s}{1 + s}, \qquad \frac{dL}{dm} = \sum_{i \neq j} G_{ij} =
              \frac{s}{1 + s} \Big( 1 - \frac{m / \epsilon}{1 + s} \Big)

          The sign changes at m / epsilon = 1 + W((T - 1) / e), W Lambert's function: 1.28 for
          T = 2, 3.3 for 64, 4.04 for 173 (a second at the papers' hop), 4.9 for 517. Hence the
          rule of thumb *mean(M) / 4*. The sign change reported here is found on the distances
          themselves. There can be several: frames that nearly coincide are pulled together at
          epsilons far below the others' and count in the mean as much as any pair. It is the
          largest that is reported.
        - *Scale.* L is homogeneous in (M, epsilon), so <G, M> = L - epsilon dL/d epsilon: to spread
          all distances by one factor lowers the loss while L grows faster than epsilon does.

        Nothing here says what a training makes of it: M changes as it goes on.

        Args:
            representation: shape (B, C, T), non-negative; one training batch, for example. The
                batch's mean distances are diagnosed, or each item's with ``per_item``, as
                :meth:`forward` uses them.

        Returns:
            The figures, in float64 and for a plan of mass 1: ``marginal_mass`` multiplies loss and
            gradient and changes no sign. G is the exact gradient, also of an "unrolled" loss; of
            an "envelope" loss it is P, which pulls everything together at any epsilon.

        Raises:
            TypeError: the representation is not a floating tensor.
            ValueError: it has a wrong shape, no item, no frame, or values that are not finite.
        """
        name = "SinkhornLoss.diagnose"
        representation = _check.floating(name, "representation", representation)
        _check.shape(name, "representation", representation, "(B, C, T)", None, None, None)
        if representation.shape[0] == 0 or representation.shape[2] == 0:
            raise ValueError(
                f"{name}: representation must have at least one item and one frame, "
                f"got {tuple(representation.shape)}"
            )
        distances = ops.frame_distance(
            representation.double(),
            p=self.p,
            normalize="features" if self.convention == "paper" else "time",
        )
        if not bool(distances.isfinite().all()):
            raise ValueError(f"{name}: representation must be finite")
        if not self.per_item:
            distances = distances.mean(0, keepdim=True)
        gradient: Literal["implicit", "envelope"] = (
            "envelope" if self.gradient == "envelope" else "implicit"
        )
        return diagnose(distances, self.epsilon, gradient)

    def extra_repr(self) -> str:
        """Settings that matter, for ``print(model)``."""
        return f"epsilon={self.epsilon}, p={self.p}, convention={self.convention!r}"
