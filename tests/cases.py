"""Named sample inputs of every operator, shared by all tests of values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Inputs = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """One call of an operator: `make()` returns its tensor arguments in float64."""

    op: str
    name: str
    make: Inputs
    options: dict[str, Any] = field(default_factory=dict)
    view: Callable[..., tuple[Tensor, ...]] = lambda *leaves: leaves  # e.g. non-contiguous ones
    invoke: Callable[..., Tensor] | None = None  # where tensors are not the leading arguments
    small: bool = False  # small enough, and smooth enough, for finite differences

    def call(self, module: Any, *inputs: Tensor) -> Tensor:
        """Call the operator of `rlsv_fast.ops` or `.reference`; its first differentiable output."""
        if self.invoke is not None:
            return self.invoke(module, *self.view(*inputs))
        output = getattr(module, self.op)(*self.view(*inputs), **self.options)
        return output if isinstance(output, Tensor) else output[0]

    def inputs(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> list[Tensor]:
        """Leaf tensors that require gradients."""
        torch.manual_seed(7)
        return [leaf.to(device, dtype).detach().requires_grad_() for leaf in self.make()]

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"


def _uniform(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _cosines(components: int, taps: int, rows: int | None = None) -> Inputs:
    rows = components if rows is None else rows
    return lambda: (0.7 * _uniform(components), _normal(components), _normal(rows, taps))


def _representation(batch: int, components: int, frames: int) -> Inputs:
    return lambda: (_uniform(batch, components, frames),)


GRID = {"lowest": 32.7, "bins_per_octave": 60}
SMALL = {"small": True}


def _salience(*shape: int) -> Inputs:
    return lambda: (_uniform(*shape),)


def _normals(*shapes: tuple[int, ...]) -> Inputs:
    return lambda: tuple(_normal(*shape) for shape in shapes)


def _gated(items: int, frames: int, size: int) -> Inputs:
    """Weights of the size that layers begin with."""
    scale = size**-0.5
    return lambda: (
        _normal(items, frames, 3 * size),
        scale * _normal(3 * size, size),
        scale * _normal(3 * size),
    )


def _pair(batch: int, samples: int) -> Inputs:
    """An estimate that resembles its target."""

    def make() -> tuple[Tensor, ...]:
        target = _normal(batch, samples)
        return target + 0.1 * _normal(batch, samples), target

    return make


def _second_silent(estimate: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return estimate, target * torch.tensor([[1.0], [0.0]]).to(target)


def _self_cost(*shape: int) -> Inputs:
    """Square matrices that `_symmetrized` turns into costs with a zero diagonal."""
    return lambda: (_uniform(*shape),)


def _symmetrized(cost: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    size = cost.shape[-1]
    cost = (cost + cost.transpose(-2, -1)) * (1 - torch.eye(size).to(cost))
    return (cost, *rest)


def _converged(epsilon: float, **options: Any) -> dict[str, Any]:
    return {"epsilon": epsilon, "tolerance": 0, "max_iterations": 300, **options}


def _weighted(op: str, gradient: str | None = None) -> Callable[..., Any]:
    """Calls with marginals of mass 1 made from free logits, and one epsilon per item."""

    def call(module: Any, cost: Tensor, epsilon: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        options: dict[str, Any] = {"tolerance": 0, "max_iterations": 300}
        if gradient is not None:
            options.update(gradient=gradient, max_iterations=9)
        output: Tensor = getattr(module, op)(
            cost,
            epsilon,
            row_marginal=rows.softmax(-1),
            column_marginal=columns.softmax(-1),
            **options,
        )
        return output

    return call


def _started(op: str, **options: Any) -> Callable[..., Any]:
    """Calls from given potentials."""

    def call(module: Any, cost: Tensor, start: Tensor) -> Tensor:
        output: Tensor = getattr(module, op)(cost, initial_f=start, **options)
        return output

    return call


def _costs(*shape: int) -> Inputs:
    """A cost, and square matrices that `_selves` turns into self-costs of its rows and columns."""
    *batch, rows, columns = shape
    return lambda: (
        _uniform(*shape),
        _uniform(*batch, rows, rows),
        _uniform(*batch, columns, columns),
    )


def _selves(cost: Tensor, *own: Tensor) -> tuple[Tensor, ...]:
    """Lower triangles mirrored: exact in half precision, too."""
    lower = [square.tril(-1) for square in own]
    return cost, *(square + square.transpose(-2, -1) for square in lower)


def _weighted_divergence(module: Any, *inputs: Tensor) -> Tensor:
    *costs, epsilon, rows, columns = inputs
    output: Tensor = module.sinkhorn_divergence(
        *_selves(*costs),
        epsilon,
        row_marginal=rows.softmax(-1),
        column_marginal=columns.softmax(-1),
        tolerance=0,
        max_iterations=300,
    )
    return output


def _bank(batch: int, frames: int, harmonics: int = 0, highest: float = 700.0) -> Inputs:
    """Frequencies, amplitudes (one per harmonic where there is a number of them), a phase."""
    amplitude = (batch, frames, harmonics) if harmonics else (batch, frames)
    return lambda: (
        80 + (highest - 80) * _uniform(batch, frames),
        _normal(*amplitude),
        3 * _normal(batch),
    )


def _ring(**options: Any) -> Callable[..., Tensor]:
    """Calls with an initial phase."""

    def call(module: Any, f0: Tensor, amplitude: Tensor, phase: Tensor) -> Tensor:
        options.setdefault("sample_rate", 4000)
        signal: Tensor = module.harmonic_bank(f0, amplitude, initial_phase=phase, **options)[0]
        return signal

    return call


def _frequencies(*shape: int) -> Inputs:
    """Line spectral frequencies, ascending within (0, pi)."""

    def make() -> tuple[Tensor, ...]:
        steps = 0.05 + _uniform(*shape[:-1], shape[-1] + 1)
        return (torch.pi * (steps / steps.sum(-1, keepdim=True)).cumsum(-1)[..., :-1],)

    return make


def _filters(batch: int, count: int, order: int, hop: int) -> Inputs:
    """Signals, and coefficients of stable filters: their magnitudes add up to less than 1."""

    def make() -> tuple[Tensor, ...]:
        coefficients = (2 * _uniform(batch, count, order) - 1) / max(order, 1)
        return _normal(batch, count * hop), coefficients

    return make


def _permuted(*axes: int) -> Callable[..., tuple[Tensor, ...]]:
    """A weight stored with its axes in another order."""
    return lambda frames, weight: (frames, weight.permute(*axes))


CASES: list[Case] = [
    Case("modulated_cosines", "typical", _cosines(40, 512)),
    Case("modulated_cosines", "paper", _cosines(64, 2048)),
    Case("modulated_cosines", "small", _cosines(5, 7), small=True),
    Case("modulated_cosines", "linear", _cosines(6, 33), {"power": 1}, small=True),
    Case("modulated_cosines", "unsorted", _cosines(6, 9), {"sort": False}, small=True),
    Case("modulated_cosines", "shared", _cosines(6, 17, 1), small=True),
    Case("modulated_cosines", "one", _cosines(1, 1), small=True),
    Case("modulated_cosines", "no-components", _cosines(0, 5)),
    Case("modulated_cosines", "no-taps", _cosines(3, 0)),
    Case(
        "modulated_cosines",
        "strided",
        lambda: (0.7 * _uniform(12), _normal(12), _normal(9, 6)),
        view=lambda frequency, phase, modulator: (frequency[::2], phase[::2], modulator.t()),
        small=True,
    ),
    Case(
        "modulated_cosines",
        "expanded",
        lambda: (0.3 * _uniform(1), _normal(4), _normal(1, 8)),
        view=lambda frequency, phase, modulator: (
            frequency.expand(4),
            phase,
            modulator.expand(4, 8),
        ),
        small=True,
    ),
    *(
        Case("frame_convolution", name, _normals(frames, weight), options, **more)
        for name, frames, weight, options, more in (
            ("typical", (3, 80, 24), (20, 5, 24), {"count": 80, "dilation": 10, "offset": 20}, {}),
            (
                "stored-as-conv1d",
                (4, 173, 40),
                (30, 40, 5),
                {"count": 173, "dilation": 10, "offset": 20},
                {"view": _permuted(0, 2, 1)},
            ),
            ("tiles", (6, 130, 16), (33, 8, 16), {"count": 123}, {}),
            (
                "transposed",
                (6, 130, 33),
                (33, 8, 16),
                {"count": 137, "dilation": -1},
                {"view": _permuted(2, 1, 0)},
            ),
            ("small", (1, 6, 2), (3, 2, 2), {"count": 5}, {"small": True}),
            (
                "small-reversed",
                (1, 7, 2),
                (2, 3, 2),
                {"count": 9, "dilation": -2, "offset": 1},
                {"small": True},
            ),
            # so many items that even tiny windows are transformed
            (
                "small-transformed",
                (60, 6, 1),
                (1, 3, 1),
                {"count": 6, "offset": 1},
                {"small": True},
            ),
            ("one-tap", (2, 9, 3), (4, 1, 3), {"count": 9}, {"small": True}),
            ("one", (1, 1, 1), (1, 1, 1), {"count": 1}, {"small": True}),
            ("before", (2, 9, 3), (2, 4, 3), {"count": 5, "offset": 40}, {}),
            ("after", (2, 9, 3), (2, 4, 3), {"count": 5, "offset": -40}, {}),
            ("more-phases-than-frames", (2, 4, 3), (2, 3, 3), {"count": 4, "dilation": 9}, {}),
            ("no-frames", (2, 0, 3), (2, 4, 3), {"count": 5, "offset": 1}, {}),
            ("no-count", (2, 9, 3), (2, 4, 3), {"count": 0}, {}),
            ("no-channels", (2, 9, 0), (2, 4, 0), {"count": 5}, {}),
            ("no-outputs", (2, 9, 3), (0, 4, 3), {"count": 5}, {}),
            ("no-items", (0, 9, 3), (2, 4, 3), {"count": 5}, {}),
            (
                "strided",
                (3, 9, 4),
                (8, 3, 5),
                {"count": 9, "offset": 1},
                {
                    "view": lambda frames, weight: (
                        frames.transpose(0, 2)[:, :, :3],
                        weight[::2, :, ::2],
                    ),
                    "small": True,
                },
            ),
        )
    ),
    Case("frame_distance", "typical", _representation(2, 40, 50)),
    Case("frame_distance", "long", _representation(1, 200, 33), {"reduce": "mean"}),
    Case("frame_distance", "l2", _representation(2, 70, 37), {"p": 2}),
    Case("frame_distance", "small", _representation(2, 3, 4), small=True),
    Case("frame_distance", "small-l2", _representation(2, 3, 5), {"p": 2}, small=True),
    Case("frame_distance", "time", _representation(2, 7, 5), {"normalize": "time"}, small=True),
    Case("frame_distance", "raw", _representation(1, 3, 5), {"normalize": None}, small=True),
    Case("frame_distance", "mean", _representation(3, 4, 5), {"reduce": "mean"}, small=True),
    Case("frame_distance", "one", _representation(1, 1, 1)),
    Case("frame_distance", "no-items", _representation(0, 3, 4)),
    Case("frame_distance", "no-frames", _representation(2, 3, 0)),
    Case(
        "frame_distance",
        "silent",  # many ties, as after a ReLU
        lambda: (torch.relu(_normal(2, 5, 20)),),
    ),
    Case(
        "frame_distance",
        "strided",
        _representation(2, 6, 7),
        view=lambda leaf: (leaf.transpose(1, 2)[:, ::2],),
        small=True,
    ),
    Case(
        "frame_distance",
        "expanded",
        _representation(1, 4, 5),
        {"p": 2},
        view=lambda leaf: (leaf.expand(3, 4, 5),),
        small=True,
    ),
    *(
        Case("sinkhorn_loss", name, make, {"epsilon": 0.3, "tolerance": 1e-14, **options}, **more)
        for name, make, options, more in (
            ("typical", _representation(3, 40, 21), {"epsilon": 0.1}, {}),
            ("per-item", _representation(2, 20, 18), {"reduce": "none"}, {}),
            ("small", _representation(2, 3, 4), {}, {"small": True}),
            ("small-l2", _representation(2, 3, 5), {"p": 2, "reduce": "none"}, {"small": True}),
            ("time", _representation(2, 7, 5), {"normalize": "time"}, {"small": True}),
            ("raw", _representation(1, 3, 5), {"normalize": None}, {"small": True}),
            ("one", _representation(1, 1, 1), {}, {}),
            ("no-items", _representation(0, 3, 4), {"reduce": "none"}, {}),
            (
                "strided",
                _representation(2, 6, 7),
                {},
                {"view": lambda leaf: (leaf.transpose(1, 2)[:, ::2],), "small": True},
            ),
        )
    ),
    *(
        case
        for norm in (1, 2)
        for case in (
            Case("total_variation", f"typical-{norm}", _normals((3, 40, 173)), {"norm": norm}),
            Case(
                "total_variation", f"small-{norm}", _normals((2, 5, 7)), {"norm": norm}, small=True
            ),
            Case("total_variation", f"chunks-{norm}", _normals((2, 600, 37)), {"norm": norm}),
            Case(
                "total_variation",
                f"one-frame-{norm}",
                _normals((2, 9, 1)),
                {"norm": norm},
                small=True,
            ),
            Case(
                "total_variation",
                f"one-component-{norm}",
                _normals((2, 1, 18)),
                {"norm": norm},
                small=True,
            ),
            Case("total_variation", f"one-cell-{norm}", _normals((1, 1, 1)), {"norm": norm}),
            Case("total_variation", f"no-items-{norm}", _normals((0, 3, 4)), {"norm": norm}),
            Case("total_variation", f"no-components-{norm}", _normals((2, 0, 4)), {"norm": norm}),
            Case("total_variation", f"no-frames-{norm}", _normals((2, 3, 0)), {"norm": norm}),
            Case(
                "total_variation",
                f"strided-{norm}",
                _normals((6, 4, 3)),
                {"norm": norm},
                view=lambda representation: (representation.transpose(0, 2)[:, :, ::2],),
                small=True,
            ),
            # Equal neighbours along the components: ties for norm 1, a norm of zero for norm 2.
            Case(
                "total_variation",
                f"expanded-{norm}",
                _normals((2, 1, 5)),
                {"norm": norm},
                view=lambda representation: (representation.expand(2, 3, 5),),
            ),
        )
    ),
    *(
        Case(
            "frames",
            name,
            _normals((batch, samples)),
            {"kernel_size": taps, "hop": hop, "count": count, "offset": offset},
            small=small,
        )
        for name, batch, samples, taps, hop, count, offset, small in (
            ("typical", 2, 4410, 512, 64, 69, 223, False),
            ("small", 2, 13, 4, 2, 7, 1, True),
            ("gaps", 2, 20, 3, 5, 4, 0, True),
            ("odd", 1, 37, 7, 3, 12, 2, True),
            ("negative-offset", 2, 12, 4, 3, 3, -2, True),
            ("before", 2, 9, 3, 2, 4, 50, False),
            ("after", 2, 9, 3, 2, 4, -50, False),
            ("one", 1, 1, 1, 1, 1, 0, True),
            ("no-frames", 2, 9, 3, 2, 0, 0, False),
            ("no-samples", 2, 0, 3, 2, 4, 1, False),
            ("no-items", 0, 9, 3, 2, 4, 1, False),
        )
    ),
    Case(
        "frames",
        "strided",
        _normals((26, 3)),
        {"kernel_size": 5, "hop": 2, "count": 7, "offset": 2},
        view=lambda signal: (signal.t()[:, ::2],),
        small=True,
    ),
    *(
        Case(
            "overlap_add",
            name,
            _normals((batch, count, taps)),
            {"hop": hop, "length": length, "offset": offset},
            small=small,
        )
        for name, batch, count, taps, hop, length, offset, small in (
            ("typical", 2, 69, 512, 64, 4410, 223, False),
            ("small", 2, 5, 4, 2, 10, 1, True),
            ("gaps", 2, 4, 3, 5, 17, 0, True),
            ("odd", 1, 12, 7, 3, 37, 2, True),
            ("single-hop", 2, 40, 33, 1, 70, 3, False),
            ("negative-offset", 2, 3, 4, 3, 15, -2, True),
            ("before", 2, 4, 3, 2, 9, -50, False),
            ("after", 2, 4, 3, 2, 9, 50, False),
            ("one", 1, 1, 1, 1, 1, 0, True),
            ("no-frames", 2, 0, 3, 2, 9, 0, False),
            ("no-taps", 2, 3, 0, 2, 9, 0, False),
            ("no-samples", 2, 4, 3, 2, 0, 1, False),
            ("no-items", 0, 4, 3, 2, 9, 1, False),
        )
    ),
    Case(
        "overlap_add",
        "expanded",
        _normals((2, 1, 6)),
        {"hop": 4, "length": 20, "offset": 1},
        view=lambda frames: (frames.expand(2, 5, 6),),
        small=True,
    ),
    *(
        Case("gated_recurrence", name, _gated(*sizes), **more)
        for name, sizes, more in (
            ("typical", (4, 30, 96), {}),
            ("one-item", (1, 20, 64), {}),
            ("uneven", (7, 5, 37), {}),
            ("tiles", (17, 3, 70), {}),
            ("small", (2, 4, 3), SMALL),
            ("one-unit", (2, 3, 1), SMALL),
            ("one-frame", (2, 1, 2), SMALL),
            ("no-frames", (2, 0, 4), {}),
            ("no-items", (0, 3, 4), {}),
        )
    ),
    Case(
        "gated_recurrence",
        "strided",
        lambda: (_normal(4, 3, 6), _normal(2, 12), _normal(12)),
        view=lambda projected, weight, bias: (
            projected.transpose(0, 1),
            weight[:, ::2].t(),
            bias[::2],
        ),
        small=True,
    ),
    Case(
        "gated_recurrence",
        "expanded",
        lambda: (_normal(1, 4, 6), _normal(6, 2), _normal(1)),
        view=lambda projected, weight, bias: (projected.expand(3, 4, 6), weight, bias.expand(6)),
        small=True,
    ),
    *(
        Case("lsf_to_lpc", name, _frequencies(*shape), **more)
        for name, shape, more in (
            ("typical", (4, 250, 20), {}),
            ("long", (3, 64), {}),
            ("small", (2, 3, 6), {"small": True}),
            ("odd", (5, 7), {"small": True}),
            ("single", (4,), {"small": True}),
            ("one", (1, 1), {"small": True}),
            ("no-rows", (0, 4), {}),
        )
    ),
    Case(
        "lsf_to_lpc",
        "any-order",  # outside of (0, pi) and not sorted
        lambda: (4 * _normal(3, 8),),
        small=True,
    ),
    Case(
        "lsf_to_lpc",
        "strided",
        lambda: (_frequencies(3, 12)()[0].t(),),
        view=lambda leaf: (leaf.t()[:, ::2],),
        small=True,
    ),
    *(
        Case(
            "all_pole",
            name,
            _filters(batch, count, order, hop),
            {"frame": frame, "hop": hop},
            small=small,
        )
        for name, batch, count, order, frame, hop, small in (
            ("typical", 3, 31, 20, 128, 64, False),
            ("small", 2, 4, 3, 6, 3, True),
            ("quarter-hops", 2, 7, 2, 8, 2, True),
            ("no-overlap", 2, 3, 2, 6, 6, True),
            ("uneven", 2, 5, 9, 10, 7, True),
            ("order-above-frame", 1, 3, 5, 4, 2, True),
            ("longer-than-signal", 2, 1, 2, 18, 3, True),
            ("most-poles", 2, 5, 64, 70, 33, False),
            ("one", 1, 1, 1, 2, 1, True),
            ("no-poles", 2, 3, 0, 4, 2, False),
            ("no-frames", 2, 0, 3, 4, 2, False),
            ("no-items", 0, 3, 3, 4, 2, False),
        )
    ),
    Case(
        "all_pole",
        "strided",
        lambda: (_normal(12, 4), 0.2 * _normal(3, 2, 4)),
        {"frame": 8, "hop": 4},
        view=lambda signal, coefficients: (
            signal.t()[::2],
            coefficients.transpose(0, 1)[:, :, ::2],
        ),
        small=True,
    ),
    Case(
        "all_pole",
        "expanded",
        lambda: (_normal(1, 12), 0.2 * _normal(2, 1, 3)),
        {"frame": 6, "hop": 4},
        view=lambda signal, coefficients: (signal.expand(2, 12), coefficients.expand(2, 3, 3)),
        small=True,
    ),
    *(
        case
        for op, options in (
            ("neg_snr", {}),
            ("neg_snr", {"reduce": "batch"}),
            ("si_sdr", {}),
        )
        for tag in ("-batch" if options else "",)
        for case in (
            Case(op, f"typical{tag}", _pair(3, 20011), options),
            Case(op, f"small{tag}", _pair(2, 9), options, small=True),
            Case(op, f"unlike{tag}", _normals((2, 17), (2, 17)), options, small=True),
            Case(
                op,
                f"strided{tag}",
                _pair(14, 3),
                options,
                view=lambda estimate, target: (estimate.t()[:, ::2], target.t()[:, 1::2]),
                small=True,
            ),
            Case(
                op,
                f"expanded{tag}",
                _normals((1, 8), (3, 8)),
                options,
                view=lambda estimate, target: (estimate.expand(3, 8), target),
                small=True,
            ),
            Case(op, f"no-items{tag}", _pair(0, 9), options),
        )
    ),
    Case("neg_snr", "one", _pair(1, 1), small=True),
    Case("neg_snr", "no-samples", _pair(2, 0)),
    Case("neg_snr", "silent", _pair(2, 30), view=_second_silent),
    Case("neg_snr", "silent-batch", _pair(2, 30), {"reduce": "batch"}, view=_second_silent),
    Case("sinkhorn_plan", "typical", lambda: (_uniform(3, 20, 33),), _converged(0.3)),
    Case("sinkhorn_plan", "small", lambda: (_uniform(2, 4, 6),), _converged(0.2), small=True),
    Case("sinkhorn_plan", "unbatched", lambda: (_uniform(5, 3),), _converged(0.5), small=True),
    Case("sinkhorn_plan", "one", lambda: (_uniform(2, 1, 1),), _converged(0.5), small=True),
    Case("sinkhorn_plan", "no-items", lambda: (_uniform(0, 3, 4),), _converged(0.5)),
    Case(
        "sinkhorn_plan",
        "symmetric",
        _self_cost(2, 6, 6),
        _converged(0.2, symmetric=True),
        view=_symmetrized,
        small=True,
    ),
    Case(
        "sinkhorn_plan",
        "strided",
        lambda: (_uniform(6, 8, 2),),
        _converged(0.4),
        view=lambda cost: (cost.permute(2, 0, 1)[:, ::2],),
        small=True,
    ),
    Case("sinkhorn_distance", "typical", lambda: (_uniform(3, 33, 20),), _converged(0.3)),
    Case("sinkhorn_distance", "small", lambda: (_uniform(2, 4, 6),), _converged(0.2), small=True),
    Case("sinkhorn_distance", "unbatched", lambda: (_uniform(5, 3),), _converged(0.5), small=True),
    Case(
        "sinkhorn_distance",
        "expanded",
        lambda: (_uniform(1, 5, 1),),
        _converged(0.5),
        view=lambda cost: (cost.expand(2, 5, 4),),
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "symmetric",
        _self_cost(2, 6, 6),
        _converged(0.2, symmetric=True),
        view=_symmetrized,
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "symmetric-typical",
        _self_cost(2, 60, 60),
        _converged(0.1, symmetric=True, max_iterations=60),
        view=_symmetrized,
    ),
    Case(
        "sinkhorn_distance",
        "unrolled",
        lambda: (_uniform(2, 5, 7),),
        {"epsilon": 0.1, "gradient": "unrolled", "max_iterations": 7},
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "unrolled-steep",  # cost / epsilon = 1000: potentials whose rounding shows
        lambda: (10 * _uniform(2, 8, 6),),
        {"epsilon": 0.01, "gradient": "unrolled", "max_iterations": 10},
    ),
    *(
        Case(op, "many", lambda: (_uniform(64, 24, 24),), options)  # more than one thread's share
        for op, options in (
            ("sinkhorn_plan", _converged(0.3)),
            ("sinkhorn_distance", _converged(0.3)),
        )
    ),
    Case(
        "sinkhorn_distance",
        "unrolled-typical",
        lambda: (_uniform(2, 24, 35),),
        {"epsilon": 0.02, "gradient": "unrolled", "max_iterations": 40},
    ),
    Case(
        "sinkhorn_distance",
        "weights",
        lambda: (_uniform(3, 5, 4), 0.2 + _uniform(3), _normal(3, 5), _normal(4)),
        invoke=_weighted("sinkhorn_distance"),
        small=True,
    ),
    Case(
        "sinkhorn_distance",
        "weights-unrolled",
        lambda: (_uniform(3, 5, 4), 0.2 + _uniform(3), _normal(3, 5), _normal(4)),
        invoke=_weighted("sinkhorn_distance", "unrolled"),
        small=True,
    ),
    Case(
        "sinkhorn_plan",
        "weights",
        lambda: (_uniform(2, 5, 4), 0.3 + _uniform(2), _normal(5), _normal(2, 4)),
        invoke=_weighted("sinkhorn_plan"),
        small=True,
    ),
    *(
        case
        for op in ("sinkhorn_plan", "sinkhorn_distance")
        for case in (
            Case(
                op,
                "shared",
                lambda: (_uniform(4, 6), 0.2 + _uniform(3)),
                {"tolerance": 0, "max_iterations": 300},
                small=True,
            ),
            Case(
                op,
                "started",
                lambda: (_uniform(4, 6), 0.3 * _normal(3, 4)),
                invoke=_started(op, **_converged(0.2)),
            ),
        )
    ),
    *(  # two iterations: value and gradient, the plan, depend on the start
        Case(
            "sinkhorn_distance",
            f"started{tag}",
            lambda: (_uniform(2, 6, 6), 0.3 * _normal(2, 6) - 0.2),
            invoke=_started(
                "sinkhorn_distance",
                gradient="envelope",
                **_converged(0.2, max_iterations=2, symmetric=symmetric),
            ),
            view=_symmetrized,
        )
        for tag, symmetric in (("-few", False), ("-symmetric", True))
    ),
    Case("sinkhorn_divergence", "typical", _costs(3, 20, 33), _converged(0.3), view=_selves),
    Case(
        "sinkhorn_divergence", "small", _costs(2, 4, 6), _converged(0.2), view=_selves, small=True
    ),
    Case(
        "sinkhorn_divergence", "unbatched", _costs(5, 3), _converged(0.5), view=_selves, small=True
    ),
    Case("sinkhorn_divergence", "one", _costs(2, 1, 1), _converged(0.5), view=_selves),
    Case("sinkhorn_divergence", "no-items", _costs(0, 3, 4), _converged(0.5), view=_selves),
    Case("sinkhorn_divergence", "many", _costs(64, 24, 20), _converged(0.3), view=_selves),
    Case(
        "sinkhorn_divergence",
        "strided",
        lambda: (_uniform(5, 8, 2), _uniform(4, 4, 2), _uniform(5, 5, 2)),
        _converged(0.4),
        view=lambda *costs: _selves(
            *(cost.permute(2, 1, 0)[:, :: cost.shape[1] // 4] for cost in costs)
        ),
        small=True,
    ),
    Case(
        "sinkhorn_divergence",
        "weights",
        lambda: (*_costs(3, 5, 4)(), 0.2 + _uniform(3), _normal(3, 5), _normal(4)),
        invoke=_weighted_divergence,
        small=True,
    ),
    *(
        Case("harmonic_bank", name, make, invoke=_ring(**options), **more)
        for name, make, options, more in (
            ("typical", _bank(3, 20, highest=900), {"hop": 64, "sample_rate": 16000}, {}),
            ("general", _bank(2, 9, 30, 400), {"hop": 48, "sample_rate": 16000}, {}),
            ("small", _bank(2, 4), {"hop": 6, "harmonics": 9}, {"small": True}),
            ("small-general", _bank(2, 4, 5), {"hop": 6}, {"small": True}),
            ("odd", _bank(2, 5), {"hop": 7, "harmonics": 40}, {"small": True}),
            ("odd-general", _bank(1, 5, 11), {"hop": 7}, {"small": True}),
            ("long-frames", _bank(1, 2), {"hop": 301, "harmonics": 20}, {}),
            ("long-frames-general", _bank(1, 3, 7), {"hop": 301}, {}),
            ("single-samples", _bank(2, 9), {"hop": 1, "harmonics": 6}, {"small": True}),
            ("one", _bank(1, 1, 1), {"hop": 1}, {"small": True}),
            ("one-frame", _bank(2, 1), {"hop": 5, "harmonics": 3}, {"small": True}),
            ("inaudible", _bank(2, 4, highest=9000), {"hop": 6, "harmonics": 9}, {}),
            ("no-items", _bank(0, 3), {"hop": 4}, {}),
            ("no-frames", _bank(2, 0), {"hop": 4}, {}),
            ("many", _bank(70, 8), {"hop": 40, "harmonics": 30}, {}),  # more than a thread's share
            (
                "strided",
                lambda: (80 + 600 * _uniform(4, 6), _normal(2, 5, 8), _normal(4)),
                {"hop": 6},
                {
                    "view": lambda f0, amplitude, phase: (
                        f0[::2, :5],
                        amplitude[..., ::2],
                        phase[::2],
                    ),
                    "small": True,
                },
            ),
            (
                "expanded",
                lambda: (80 + 600 * _uniform(1, 5), _normal(3, 1), _normal(1)),
                {"hop": 4, "harmonics": 7},
                {
                    "view": lambda f0, amplitude, phase: (
                        f0.expand(3, 5),
                        amplitude.expand(3, 5),
                        phase.expand(3),
                    ),
                    "small": True,
                },
            ),
        )
    ),
    *(
        Case("decode_f0", name, make, {**GRID, "thresholds": thresholds, **options}, **more)
        for name, make, thresholds, options, more in (
            ("soft", _salience(2, 3, 12, 5), (0.9, 0.95, 0.0), {"method": "soft"}, SMALL),
            ("typical", _salience(2, 4, 360, 37), (0.995,) * 4, {}, {}),
            ("code", _salience(2, 4, 360, 37), (0.995,) * 4, {"convention": "code"}, {}),
            ("typical-soft", _salience(2, 4, 360, 70), (0.995,) * 4, {"method": "soft"}, {}),
            ("long-soft", _salience(1, 1, 3, 1300), (0.5,), {"method": "soft"}, {}),
            ("ste", _salience(2, 3, 23, 33), (0.9, 0.95, 0.0), {"method": "ste"}, {}),
            ("threshold", _salience(2, 2, 9, 5), (0.7, 0.9), {"method": "threshold"}, SMALL),
            (  # where the sigmoid is neither 0 nor 1
                "sigmoid",
                lambda: (0.5 + 0.004 * _uniform(2, 2, 9, 5),),
                (0.502, 0.503),
                {"method": "sigmoid"},
                SMALL,
            ),
            ("negative-soft", _normals((2, 2, 11, 4)), (-1.0, 1.0), {"method": "soft"}, {}),
            ("one-bin", _salience(2, 2, 1, 3), (0.0, 0.0), {"method": "soft"}, SMALL),
            ("two-bins", _salience(2, 1, 2, 19), (0.0,), {"method": "soft"}, SMALL),
            ("one-frame", _salience(3, 1, 20, 1), (0.0,), {"method": "soft"}, SMALL),
            ("no-items", _salience(0, 2, 9, 3), (0.1, 0.2), {"method": "soft"}, {}),
            ("no-voices", _salience(2, 0, 9, 3), (), {"method": "ste"}, {}),
            ("no-frames", _salience(2, 1, 9, 0), (0.1,), {"method": "soft"}, {}),
            (
                "strided",
                lambda: (_uniform(4, 10, 2, 3),),
                (0.3, 0.8),
                {"method": "soft"},
                {"view": lambda leaf: (leaf.permute(3, 2, 1, 0)[..., ::2],), "small": True},
            ),
            (
                "expanded",
                lambda: (_uniform(2, 1, 10, 1),),
                (0.3, 0.8),
                {"method": "threshold"},
                {"view": lambda leaf: (leaf.expand(2, 2, 10, 4),), "small": True},
            ),
        )
    ),
    *(
        Case("spectral_loss", name, make, options, **more)
        for name, make, options, more in (
            ("mean", _pair(3, 300), {"fft_sizes": (64,), "reduce": "mean"}, {}),
            ("typical", _pair(2, 3001), {}, {}),
            ("small", _normals((2, 21), (2, 21)), {"fft_sizes": (16, 8)}, {"small": True}),
            (
                "weighted",
                _normals((2, 19), (2, 19)),
                {
                    "fft_sizes": [12],
                    "overlap": 0.5,
                    "magnitude_weight": 0.3,
                    "log_magnitude_weight": 2,
                },
                {"small": True},
            ),
            (
                "odd",
                _normals((1, 23), (1, 23)),
                {"fft_sizes": (7,), "overlap": 0.3, "log_magnitude_weight": 0},
                {"small": True},
            ),
            ("gapless", _normals((1, 9), (1, 9)), {"fft_sizes": (4,), "overlap": 0}, {}),
            ("one", _normals((1, 1), (1, 1)), {"fft_sizes": (4, 2)}, {}),
            ("no-items", _pair(0, 9), {"fft_sizes": (4,)}, {}),
            ("no-samples", _pair(2, 0), {"fft_sizes": (4,)}, {}),
            (
                "strided",
                _normals((40, 3), (20, 6)),
                {"fft_sizes": (16,)},
                {
                    "view": lambda estimate, target: (estimate.t()[:, ::2], target.t()[::2]),
                    "small": True,
                },
            ),
            (
                "expanded",
                _normals((1, 20), (3, 20)),
                {"fft_sizes": (8,)},
                {
                    "view": lambda estimate, target: (estimate.expand(3, 20), target),
                    "small": True,
                },
            ),
        )
    ),
]
