"""Every operator at sizes around those of warps and packs, checked as in test_contract.py.

Run by test_emulated.py on several emulated devices; by itself with any build:

    python -m pytest tests/cusim/emulated_sizes.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import test_contract as contract
import torch
from cases import Case
from torch import Tensor

SIZES = (1, 31, 32, 33, 173)


def uniform(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.rand(shape, dtype=torch.float64) for shape in shapes)


def normal(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


def transport(
    op: str, epsilon: float, symmetric: bool = False, warm: bool = False, **options: Any
) -> Callable[..., Tensor]:
    """Calls with uneven marginals, one for rows and columns where symmetric.

    Where warm, they start from given potentials and share one cost.
    """

    def call(module: Any, cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        row = rows.softmax(-1)
        if warm:
            cost = cost[:1]
        if symmetric:
            cost = (cost + cost.mT) * (1 - torch.eye(cost.shape[-1]).to(cost))
        output: Tensor = getattr(module, op)(
            cost,
            epsilon,
            row_marginal=row,
            column_marginal=row if symmetric else columns.softmax(-1),
            initial_f=rows / 3 if warm else None,
            symmetric=symmetric,
            tolerance=0,
            **options,
        )
        return output

    return call


def scaled(signal: Tensor, coefficients: Tensor) -> tuple[Tensor, ...]:
    """Filters that are stable."""
    return signal, coefficients / (4 * coefficients.shape[-1])


def convolve(axes: tuple[int, int, int], **options: int) -> Callable[..., Tensor]:
    """Calls with a weight whose axes lie in another order in memory."""

    def call(module: Any, frames: Tensor, weight: Tensor) -> Tensor:
        output: Tensor = module.frame_convolution(frames, weight.permute(axes), **options)
        return output

    return call


def convolutions() -> list[Case]:
    """Windows that overlap, more rows than a thread sums, plain sums; weights in three layouts."""
    layouts = {"ojc": (0, 1, 2), "ocj": (0, 2, 1), "cjo": (2, 1, 0)}
    return [
        Case(
            "frame_convolution",
            f"{channels}x{outputs}-{taps}-{layout}",
            partial(normal, (batch, frames, channels), tuple(shape[axis] for axis in axes)),
            invoke=convolve(axes, count=count, dilation=dilation, offset=offset),
        )
        for batch, frames, channels, outputs, taps, count, dilation, offset in (
            (40, 33, 32, 31, 5, 33, 1, 2),  # 10 points
            (3, 173, 31, 33, 8, 180, -1, 0),  # windows that overlap
            (60, 90, 1, 2, 40, 90, 1, 20),  # three at a place
            (60, 31, 8, 4, 3, 31, 2, 1),
            (9, 173, 2, 1, 33, 173, 1, 16),  # 80 rows
            (2, 32, 4, 3, 45, 40, 1, 22),  # tap by tap
            (1, 5, 1, 32, 173, 173, 1, 172),
            (1, 33, 1, 1, 1, 33, 1, 0),
        )
        for layout, axes in layouts.items()
        for shape in [(outputs, taps, channels)]
    ]


def ring(hop: int, harmonics: int) -> Callable[..., Tensor]:
    """Calls with frequencies of which some lie above half the sampling rate."""

    def call(module: Any, f0: Tensor, amplitude: Tensor, phase: Tensor) -> Tensor:
        signal: Tensor = module.harmonic_bank(
            20 + 600 * f0,
            amplitude,
            hop=hop,
            sample_rate=1000,
            harmonics=harmonics,
            initial_phase=phase,
        )[0]
        return signal

    return call


def banks() -> list[Case]:
    """Frames shorter and longer than warps and blocks, one amplitude and one per harmonic."""
    return [
        Case(
            "harmonic_bank",
            f"{frames}x{hop}-{harmonics}-{'general' if general else 'flat'}",
            partial(uniform, (2, frames), (2, frames, *([harmonics] if general else [])), (2,)),
            invoke=ring(hop, harmonics),
        )
        for frames, hop, harmonics in (
            (1, 1, 1),
            (173, 1, 3),
            (33, 2, 9),
            (5, 33, 8),
            (3, 64, 33),
            (2, 301, 17),
            (2, 3, 173),
        )
        for general in (False, True)
    ]


def transports() -> list[Case]:
    """Sinkhorn: converged for the implicit gradient, a few steps of a small epsilon unrolled."""
    distance = partial(transport, "sinkhorn_distance", max_iterations=60)
    plan = partial(transport, "sinkhorn_plan", warm=True, max_iterations=60)
    steps = partial(transport, "sinkhorn_distance", gradient="unrolled", max_iterations=4)
    general = {"distance": distance(0.3), "plan": plan(0.3), "steps": steps(0.004)}
    symmetric = {
        "symmetric": distance(0.3, True),
        "symmetric-plan": plan(0.3, True),
        "symmetric-steep": distance(0.004, True),
    }
    return [
        Case("sinkhorn", f"{rows}x{columns}-{name}", make, invoke=call)
        for rows, columns in (
            *((1, 33), (31, 32), (33, 1), (33, 31), (32, 173)),
            *((size, size) for size in SIZES),
        )
        for name, call in {**general, **(symmetric if rows == columns else {})}.items()
        # One row or column leaves nothing to choose: the gradient of its plan is rounding.
        if min(rows, columns) > 1 or name in ("distance", "symmetric")
        if not (name == "plan" and rows == columns == 173)  # half a minute
        for make in [partial(uniform, (2, rows, columns), (2, rows), (2, columns))]
    ]


ALIGNED = [
    *(
        Case(
            "modulated_cosines",
            f"{components}x{taps}-{rows}",
            partial(uniform, (components,), (components,), (rows, taps)),
        )
        for components, taps in ((1, 33), (31, 32), (33, 173), (173, 31))
        for rows in (components, 1)
    ),
    *(
        Case("frame_distance", f"{channels}x{frames}-{name}", make, options)
        for channels, frames in ((1, 33), (31, 32), (33, 31), (32, 33), (7, 173), (173, 33))
        for name, options in (
            ("features", {}),
            ("time", {"normalize": "time"}),
            ("l2", {"p": 2, "normalize": None}),
        )
        for make in [partial(uniform, (2, channels, frames))]
    ),
    *(
        Case("total_variation", f"{channels}x{frames}-{norm}", make, {"norm": norm})
        for channels, frames in ((1, 33), (31, 1), (32, 31), (33, 32), (173, 173))
        for norm in (1, 2)
        for make in [partial(normal, (3, channels, frames))]
    ),
    *(
        Case("frames", f"{taps}-{hop}-{count}", partial(normal, (3, 173)), options)
        for taps, hop, count, offset in (
            (1, 1, 173, 0),
            (31, 7, 33, 3),
            (32, 8, 31, 12),
            (33, 4, 32, -8),
        )
        for options in [{"kernel_size": taps, "hop": hop, "count": count, "offset": offset}]
    ),
    *(
        Case("overlap_add", f"{taps}-{hop}-{count}", make, options)
        for taps, hop, count, offset in (
            (1, 1, 173, 0),
            (31, 7, 33, 3),
            (32, 8, 31, 12),
            (33, 4, 32, -8),
        )
        for make in [partial(normal, (3, count, taps))]
        for options in [{"hop": hop, "length": 173, "offset": offset}]
    ),
    *(
        Case("gated_recurrence", f"{items}x{frames}x{size}", make)
        for items, frames, size in ((1, 3, 1), (9, 2, 7), (8, 2, 8), (7, 2, 31), (2, 3, 33))
        for make in [partial(normal, (items, frames, 3 * size), (3 * size, size), (3 * size,))]
    ),
    *(
        Case("lsf_to_lpc", f"{rows}x{order}", partial(uniform, (rows, order)))
        for rows, order in ((31, 3), (33, 20), (32, 1), (1, 33), (2, 64))
    ),
    *(
        Case("all_pole", f"{count}-{frame}-{hop}-{order}", make, options, view=scaled)
        for count, frame, hop, order in (
            (31, 2, 1, 1),
            (33, 6, 5, 10),
            (4, 32, 31, 20),
            (3, 66, 33, 32),
            (2, 34, 17, 33),
            (1, 64, 8, 64),
        )
        for make in [partial(normal, (2, count * hop), (2, count, order))]
        for options in [{"frame": frame, "hop": hop}]
    ),
    *(
        Case(op, f"{size}{name}", partial(normal, (3, size), (3, size)), options)
        for op, name, options in (
            ("neg_snr", "", {}),
            ("neg_snr", "-batch", {"reduce": "batch"}),
            ("si_sdr", "", {}),
        )
        for size in (*SIZES[op == "si_sdr" :], 5003)  # the ratio of single samples is infinite
    ),
    *banks(),
    *(
        Case("decode_f0", f"{method}-{bins}x{frames}", make, options)
        for method in ("reconstruction", "soft", "ste")
        for bins, frames in ((1, 33), (15, 31), (16, 32), (17, 1), (33, 33), (360, 2))
        for make in [partial(uniform, (2, 3, bins, frames))]
        for options in [
            {
                "thresholds": (0.9, 0.0, 0.95),
                "lowest": 32.7,
                "bins_per_octave": 60,
                "method": method,
            }
        ]
    ),
    *(
        Case(
            "spectral_loss",
            f"{samples}-{size}",
            partial(normal, (3, samples), (3, samples)),
            {"fft_sizes": (size,)},
        )
        for samples, size in ((1, 2), (31, 8), (33, 5), (173, 64))
    ),
    *convolutions(),
    *transports(),
]


def shifted(leaf: Tensor) -> Tensor:
    """Contiguous, but one element off the alignment of its memory."""
    return torch.cat([leaf.new_zeros(1), leaf.flatten()])[1:].view(leaf.shape)


def shift(*leaves: Tensor) -> tuple[Tensor, ...]:
    return tuple(shifted(leaf) for leaf in leaves)


UNALIGNED = [
    replace(case, name=f"{case.name}-unaligned", view=shift)
    for case in ALIGNED
    if "173x173" not in case.name  # seconds each, and as odd as 33x33
]

both = pytest.mark.parametrize("case", [*ALIGNED, *UNALIGNED], ids=str)


@both
def test_float64(case: Case) -> None:
    contract.test_float64_agrees_with_the_reference(case, "cpu")


@both
def test_float32(case: Case) -> None:
    contract.test_float32_stays_within_the_error_budget(case, "cpu")


def test_no_operator_is_missing() -> None:
    names = [name for name in torch._C._dispatch_get_all_op_names() if name[:10] == "rlsv_fast:"]
    assert names
    for name in names:
        assert torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CPU"), name
