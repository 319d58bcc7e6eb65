"""One call of one operator, drawn from a seed: arguments, and what is documented to come of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fuzz.tensors import FLOATS, LAYOUTS, TAME, TINY, WILD, Watched, watched
from torch import Tensor

Shape = tuple[int, ...]


@dataclass
class Call:
    """A drawn call.

    Attributes:
        op: name of the operator.
        arguments: all by name; those that are watched hold tensors.
        watched: every tensor that was made, with its memory.
        shapes: documented shapes of the outputs, None where the call may be refused.
        lenient: whether the call may be refused though its shapes fit.
        tame: values for which results and gradients must be finite.
        what: how it was made, for the report of a failure.
    """

    op: str
    arguments: dict[str, Any] = field(default_factory=dict)
    watched: list[Watched] = field(default_factory=list)
    shapes: tuple[Shape, ...] | None = ()
    lenient: bool = False
    tame: bool = True
    what: list[str] = field(default_factory=list)

    def leaves(self) -> list[Tensor]:
        """The distinct tensors that require gradients."""
        found: dict[int, Tensor] = {}
        for value in self.arguments.values():
            if isinstance(value, Tensor) and value.requires_grad:
                found[id(value)] = value
        return list(found.values())


class Draw:
    """What the calls of one case are drawn with."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype = FLOATS[int(self.random.choice(4, p=[0.5, 0.3, 0.1, 0.1]))]
        wild = self.random.random()
        self.kinds = TAME if wild < 0.6 else TINY if wild < 0.7 else (*TAME, *TINY, *WILD)

    def size(self, most: int = 24) -> int:
        """0, 1, odd, around vector widths, or moderate."""
        special = (0, 1, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65)
        if self.random.random() < 0.6:
            return min(int(self.random.choice(special)), 3 * most)
        return int(self.random.integers(0, most + 1))

    def sizes(self, *most: int) -> Shape:
        return tuple(self.size(one) for one in most)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.random.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def tensor(
        self,
        call: Call,
        name: str,
        shape: Sequence[int],
        kinds: Sequence[str] | None = None,
        data: Tensor | None = None,
    ) -> Tensor:
        """An argument of the case's dtype, in any layout, perhaps with a gradient."""
        kind = self.pick(kinds or self.kinds)
        layout = self.pick(LAYOUTS)
        made = watched(self.random, shape, kind=kind, dtype=self.dtype, layout=layout, data=data)
        if data is None and kind not in TAME:
            call.tame = False
        call.what.append(f"{name}: {tuple(shape)} {kind} {layout} {self.dtype}")
        tensor = made.tensor
        if self.chance(0.7):
            tensor = tensor.detach().requires_grad_()
        call.watched.append(made)
        call.arguments[name] = tensor
        return tensor


def _modulated_cosines(draw: Draw, call: Call) -> None:
    components, taps = draw.sizes(40, 60)
    draw.tensor(call, "frequency", (components,))
    draw.tensor(call, "phase", (components,))
    draw.tensor(call, "modulator", (draw.pick((components, 1)), taps))
    call.arguments.update(power=draw.pick((1, 2)), sort=draw.pick((True, False)))
    call.shapes = ((components, taps), (components,))


def _frame_convolution(draw: Draw, call: Call) -> None:
    batch, frames, channels = draw.sizes(4, 30, 8)
    outputs, taps, count = draw.size(8), max(draw.size(8), 1), draw.size(40)
    draw.tensor(call, "frames", (batch, frames, channels))
    draw.tensor(call, "weight", (outputs, taps, channels))
    dilation = draw.pick((1, 1, 2, 3, 10, -1, -2, 1000))
    offset = draw.pick((0, 0, 1, 5, -3, 40, -40, 2**31, -(2**35)))
    call.arguments.update(count=count, dilation=dilation, offset=offset)
    call.shapes = ((batch, count, outputs),)


def _gated_recurrence(draw: Draw, call: Call) -> None:
    items, frames, size = draw.size(9), draw.size(12), max(draw.size(40), 1)
    draw.tensor(call, "projected", (items, frames, 3 * size))
    draw.tensor(call, "weight", (3 * size, size))
    draw.tensor(call, "bias", (3 * size,))
    call.shapes = ((items, frames, size),)


def _representation(draw: Draw, call: Call, *, positive: bool) -> Shape:
    shape = draw.sizes(4, 24, 30)
    tame = draw.kinds is TAME
    kinds = ("positive", "zeros", "ones", "one-hot") if positive and tame else None
    draw.tensor(call, "representation", shape, kinds)
    call.tame = tame or (call.tame and not positive)
    return shape


def _frame_distance(draw: Draw, call: Call) -> None:
    normalize = draw.pick((None, "features", "time"))
    batch, _, frames = _representation(draw, call, positive=normalize is not None)
    reduce = draw.pick(("none", "mean"))
    call.arguments.update(p=draw.pick((1, 2)), normalize=normalize, reduce=reduce)
    call.shapes = ((frames, frames) if reduce == "mean" else (batch, frames, frames),)
    if reduce == "mean" and batch == 0:
        call.shapes = None


def _sinkhorn_loss(draw: Draw, call: Call) -> None:
    normalize = draw.pick((None, "features", "time"))
    batch, _, frames = _representation(draw, call, positive=normalize is not None)
    reduce = draw.pick(("none", "mean"))
    call.arguments.update(p=draw.pick((1, 2)), normalize=normalize, reduce=reduce)
    call.arguments.update(epsilon=_epsilon(draw, call), **_stopping(draw, call))
    call.shapes = (() if reduce == "mean" else (batch,),)
    if frames == 0 or (reduce == "mean" and batch == 0):
        call.shapes = None


def _total_variation(draw: Draw, call: Call) -> None:
    batch, *_ = _representation(draw, call, positive=False)
    norm = draw.pick((1, 2))
    call.arguments.update(norm=norm)
    call.shapes = ((batch,) if norm == 1 else (),)


def _frames(draw: Draw, call: Call) -> None:
    batch, samples, count = draw.sizes(4, 90, 20)
    taps = max(draw.size(40), 1)
    draw.tensor(call, "signal", (batch, samples))
    call.arguments.update(
        hop=draw.pick((1, 2, 3, 7, 100, 2**40)), kernel_size=taps, count=count, offset=_shift(draw)
    )
    call.shapes = ((batch, count, taps),)


def _overlap_add(draw: Draw, call: Call) -> None:
    batch, count, taps, length = draw.sizes(4, 20, 40, 90)
    draw.tensor(call, "frames", (batch, count, taps))
    hop = draw.pick((1, 2, 3, 7, 100, 2**40))
    call.arguments.update(hop=hop, length=length, offset=_shift(draw))
    call.shapes = ((batch, length),)


def _lsf_to_lpc(draw: Draw, call: Call) -> None:
    shape = draw.pick(((draw.size(24),), draw.sizes(9, 24), draw.sizes(3, 4, 24)))
    order = min(shape[-1], 64)
    shape = (*shape[:-1], order)
    if draw.chance(0.6):
        steps = torch.from_numpy(draw.random.random((*shape[:-1], order + 1)) + 0.01)
        data = torch.pi * (steps / steps.sum(-1, keepdim=True)).cumsum(-1)[..., :-1]
        draw.tensor(call, "lsf", shape, ("ones",), data)
    else:
        draw.tensor(call, "lsf", shape)
        call.tame = False  # coefficients up to 2^64
    call.shapes = (shape,)


def _all_pole(draw: Draw, call: Call) -> None:
    batch, count, hop = draw.size(4), draw.size(20), max(draw.size(20), 1)
    order = min(draw.size(24), 64)
    draw.tensor(call, "signal", (batch, count * hop))
    if draw.chance(0.7):
        data = torch.from_numpy(draw.random.uniform(-1, 1, (batch, count, order)))
        draw.tensor(call, "coefficients", data.shape, ("ones",), data / max(order, 1))
    else:
        draw.tensor(call, "coefficients", (batch, count, order))
        call.tame = False  # poles outside of the unit circle
    frame = hop + hop % 2 + 2 * draw.pick((0, 1, 2, 7, 40))
    if draw.chance(0.1):
        frame += draw.pick((-2 * hop, 1, 2**40))
        call.lenient = True  # refused, or beyond any memory
    call.arguments.update(frame=frame, hop=hop)
    call.shapes = ((batch, count * hop),)


def _shift(draw: Draw) -> int:
    return int(draw.pick((0, 0, 1, 3, -2, 17, 50, -50, 2**31, -(2**31), 2**40, -(2**40))))


def _pair(draw: Draw, call: Call) -> int:
    shape = draw.sizes(5, 80)
    estimate = draw.tensor(call, "estimate", shape)
    if draw.chance(0.15):
        call.arguments["target"] = estimate
        call.what.append("target is estimate")
    else:
        draw.tensor(call, "target", shape)
    return shape[0]


def _harmonic_bank(draw: Draw, call: Call) -> None:
    batch, frames = draw.sizes(4, 12)
    harmonics = draw.size(20)
    hop = draw.pick((1, 2, 3, 7, 16, 33, 100, 301, 2**40))
    draw.tensor(call, "f0", (batch, frames))
    shape = (batch, frames) if draw.chance(0.6) else (batch, frames, harmonics)
    draw.tensor(call, "amplitude", shape)
    if draw.chance(0.5):
        draw.tensor(call, "initial_phase", (batch,))
    rate = draw.pick((1, 2, 7, 100, 16000, 2**40))
    call.arguments.update(hop=hop, sample_rate=rate, harmonics=max(harmonics, 1))
    call.shapes = ((batch, frames * hop), (batch,))


def _decode_f0(draw: Draw, call: Call) -> None:
    batch, voices, bins, frames = draw.size(3), draw.size(4), draw.size(40), draw.size(40)
    kinds = ("positive", "zeros", "ones", "one-hot") if draw.kinds is TAME else None
    draw.tensor(call, "salience", (batch, voices, bins, frames), kinds)
    call.tame = call.tame and draw.kinds is TAME  # averages of both signs may be anywhere
    call.arguments.update(
        thresholds=[float(draw.random.uniform(-1, 2)) for _ in range(voices)],
        lowest=draw.pick((32.7, 1, 1e4)),
        bins_per_octave=draw.pick((60, 1, 12, 2**40)),
        method=draw.pick(("reconstruction", "soft", "ste", "sigmoid", "threshold", "amplitude")),
        convention=draw.pick(("paper", "code")),
    )
    call.shapes = ((batch, voices, frames),) if bins > 0 and voices <= 64 else None


def _spectral_loss(draw: Draw, call: Call) -> None:
    batch = _pair(draw, call)
    reduce = draw.pick(("none", "mean"))
    call.arguments.update(
        fft_sizes=draw.pick(((64, 16), (2,), (7, 5), [33], (2048,))),
        overlap=draw.pick((0.75, 0, 0.5, 0.99)),
        magnitude_weight=draw.pick((1.0, 0.3, 0)),
        log_magnitude_weight=draw.pick((1.0, 2.5, 0)),
        reduce=reduce,
    )
    call.shapes = ((batch,) if reduce == "none" else (),)
    if reduce == "mean" and batch == 0:
        call.shapes = None


def _neg_snr(draw: Draw, call: Call) -> None:
    batch = _pair(draw, call)
    reduce = draw.pick(("item", "batch"))
    call.arguments.update(reduce=reduce)
    call.shapes = ((batch,) if reduce == "item" else (),)


def _si_sdr(draw: Draw, call: Call) -> None:
    call.shapes = ((_pair(draw, call),),)


def _epsilon(draw: Draw, call: Call) -> float:
    epsilon = float(draw.pick((0.5, 0.5, 0.1, 2.0, 30.0, 1e-2, 1e-4, 1e6, 1e-30, 1e30)))
    call.tame = call.tame and 1e-3 <= epsilon <= 1e3
    return epsilon


def _stopping(draw: Draw, call: Call) -> dict[str, Any]:
    iterations = draw.pick((0, 1, 2, 5, 50, 300))
    call.tame = call.tame and iterations > 0  # the plan of the starting point may be anything
    return {
        "max_iterations": iterations,
        "tolerance": draw.pick((0, 0.0, 1e-6, 1e-3, 1.0, math.inf)),
    }


def _problem(draw: Draw, call: Call, *, divergence: bool = False) -> tuple[Shape, int, int, bool]:
    """A transport problem; returns its batch shape, its sizes, and whether it must be accepted."""
    rows, columns = max(draw.size(30), 1), max(draw.size(30), 1)
    symmetric = not divergence and draw.chance(0.35)
    columns = rows if symmetric else columns
    batch: Shape = draw.pick(((), (draw.size(4),)))
    kinds = ("positive", "zeros", "ones") if draw.kinds is TAME else None
    data = None
    if symmetric and draw.kinds is TAME and draw.chance(0.8):
        data = torch.from_numpy(draw.random.random((*batch, rows, rows)))
        data = (data + data.mT) * (1 - torch.eye(rows))
    draw.tensor(call, "cost", (*batch, rows, columns), kinds, data)
    call.tame = call.tame and (not symmetric or data is not None)  # a promise that is kept
    if draw.chance(0.2):
        epsilons = 10 ** draw.random.uniform(-1.5, 1, batch)
        draw.tensor(call, "epsilon", batch, ("ones",), torch.as_tensor(epsilons))
    else:
        call.arguments["epsilon"] = _epsilon(draw, call)
    call.arguments.update(_stopping(draw, call))
    if not divergence:
        call.arguments["symmetric"] = True if symmetric else draw.pick((None, False))
    if draw.chance(0.4):
        _marginals(draw, call, batch, rows, columns, symmetric)
    return batch, rows, columns, True


def _marginals(
    draw: Draw, call: Call, batch: Shape, rows: int, columns: int, symmetric: bool
) -> None:
    """Marginals of one mass, some with zero weights."""
    shape = draw.pick((batch, ()))
    for name, size in (("row_marginal", rows), ("column_marginal", columns)):
        weights = torch.from_numpy(draw.random.random((*shape, size)) + 0.01)
        if size > 1 and draw.chance(0.3):
            weights[..., 0] = 0
        weights = weights / weights.sum(-1, keepdim=True)
        call.lenient = call.lenient or draw.dtype in FLOATS[2:]  # masses that rounding makes unlike
        tensor = draw.tensor(call, name, (*shape, size), ("ones",), weights)
        if symmetric:
            call.arguments["column_marginal"] = tensor
            return


def _potentials(draw: Draw, call: Call, batch: Shape, rows: int) -> None:
    if draw.chance(0.15):
        draw.tensor(call, "initial_f", (*batch, rows), ("normal", "zeros"))


def _sinkhorn(draw: Draw, call: Call) -> None:
    batch, rows, columns, _ = _problem(draw, call)
    _potentials(draw, call, batch, rows)
    call.shapes = ((*batch, rows), (*batch, columns), batch, batch)


def _sinkhorn_plan(draw: Draw, call: Call) -> None:
    batch, rows, columns, _ = _problem(draw, call)
    _potentials(draw, call, batch, rows)
    call.shapes = ((*batch, rows, columns),)


def _sinkhorn_distance(draw: Draw, call: Call) -> None:
    batch, rows, _, _ = _problem(draw, call)
    gradient = draw.pick(("implicit", "implicit", "unrolled", "envelope"))
    call.arguments["gradient"] = gradient
    if gradient != "unrolled":
        _potentials(draw, call, batch, rows)
    call.shapes = (batch,)


def _sinkhorn_divergence(draw: Draw, call: Call) -> None:
    batch, rows, columns, _ = _problem(draw, call, divergence=True)
    for name, size in (("row_cost", rows), ("column_cost", columns)):
        if rows == columns and draw.chance(0.2):
            call.arguments[name] = call.arguments["cost"]
            call.what.append(f"{name} is cost")
            call.tame = False
            continue
        data = torch.from_numpy(draw.random.random((*batch, size, size)))
        data = (data + data.mT) * (1 - torch.eye(size))
        draw.tensor(call, name, (*batch, size, size), ("ones",), data)
    call.shapes = (batch,)


OPERATORS: dict[str, Callable[[Draw, Call], None]] = {
    "all_pole": _all_pole,
    "decode_f0": _decode_f0,
    "frame_convolution": _frame_convolution,
    "frame_distance": _frame_distance,
    "frames": _frames,
    "gated_recurrence": _gated_recurrence,
    "harmonic_bank": _harmonic_bank,
    "lsf_to_lpc": _lsf_to_lpc,
    "modulated_cosines": _modulated_cosines,
    "neg_snr": _neg_snr,
    "overlap_add": _overlap_add,
    "si_sdr": _si_sdr,
    "sinkhorn": _sinkhorn,
    "sinkhorn_distance": _sinkhorn_distance,
    "sinkhorn_divergence": _sinkhorn_divergence,
    "sinkhorn_loss": _sinkhorn_loss,
    "sinkhorn_plan": _sinkhorn_plan,
    "spectral_loss": _spectral_loss,
    "total_variation": _total_variation,
}
