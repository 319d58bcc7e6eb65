"""Operators of representations and signals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cases.case import Case, Inputs, fractions, normal, normals, pair, uniform


def _cosines(components: int, taps: int, rows: int | None = None) -> Inputs:
    rows = components if rows is None else rows
    return lambda: (0.7 * uniform(components), normal(components), normal(rows, taps))


def _second_silent(estimate: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    return estimate, target * torch.tensor([[1.0], [0.0]]).to(target)


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
        lambda: (0.7 * uniform(12), normal(12), normal(9, 6)),
        view=lambda frequency, phase, modulator: (frequency[::2], phase[::2], modulator.t()),
        small=True,
    ),
    Case(
        "modulated_cosines",
        "expanded",
        lambda: (0.3 * uniform(1), normal(4), normal(1, 8)),
        view=lambda frequency, phase, modulator: (
            frequency.expand(4),
            phase,
            modulator.expand(4, 8),
        ),
        small=True,
    ),
    *(
        Case("frame_convolution", name, normals(frames, weight), options, **more)
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
    Case("frame_distance", "typical", fractions(2, 40, 50)),
    Case("frame_distance", "long", fractions(1, 200, 33), {"reduce": "mean"}),
    Case("frame_distance", "l2", fractions(2, 70, 37), {"p": 2}),
    Case("frame_distance", "small", fractions(2, 3, 4), small=True),
    Case("frame_distance", "small-l2", fractions(2, 3, 5), {"p": 2}, small=True),
    Case("frame_distance", "time", fractions(2, 7, 5), {"normalize": "time"}, small=True),
    Case("frame_distance", "raw", fractions(1, 3, 5), {"normalize": None}, small=True),
    Case("frame_distance", "mean", fractions(3, 4, 5), {"reduce": "mean"}, small=True),
    Case("frame_distance", "one", fractions(1, 1, 1)),
    Case("frame_distance", "no-items", fractions(0, 3, 4)),
    Case("frame_distance", "no-frames", fractions(2, 3, 0)),
    Case(
        "frame_distance",
        "silent",  # many ties, as after a ReLU
        lambda: (torch.relu(normal(2, 5, 20)),),
    ),
    Case(
        "frame_distance",
        "strided",
        fractions(2, 6, 7),
        view=lambda leaf: (leaf.transpose(1, 2)[:, ::2],),
        small=True,
    ),
    Case(
        "frame_distance",
        "expanded",
        fractions(1, 4, 5),
        {"p": 2},
        view=lambda leaf: (leaf.expand(3, 4, 5),),
        small=True,
    ),
    *(
        case
        for norm in (1, 2)
        for case in (
            Case("total_variation", f"typical-{norm}", normals((3, 40, 173)), {"norm": norm}),
            Case(
                "total_variation", f"small-{norm}", normals((2, 5, 7)), {"norm": norm}, small=True
            ),
            Case("total_variation", f"chunks-{norm}", normals((2, 600, 37)), {"norm": norm}),
            Case(
                "total_variation",
                f"one-frame-{norm}",
                normals((2, 9, 1)),
                {"norm": norm},
                small=True,
            ),
            Case(
                "total_variation",
                f"one-component-{norm}",
                normals((2, 1, 18)),
                {"norm": norm},
                small=True,
            ),
            Case("total_variation", f"one-cell-{norm}", normals((1, 1, 1)), {"norm": norm}),
            Case("total_variation", f"no-items-{norm}", normals((0, 3, 4)), {"norm": norm}),
            Case("total_variation", f"no-components-{norm}", normals((2, 0, 4)), {"norm": norm}),
            Case("total_variation", f"no-frames-{norm}", normals((2, 3, 0)), {"norm": norm}),
            Case(
                "total_variation",
                f"strided-{norm}",
                normals((6, 4, 3)),
                {"norm": norm},
                view=lambda representation: (representation.transpose(0, 2)[:, :, ::2],),
                small=True,
            ),
            # Equal neighbours along the components: ties for norm 1, a norm of zero for norm 2.
            Case(
                "total_variation",
                f"expanded-{norm}",
                normals((2, 1, 5)),
                {"norm": norm},
                view=lambda representation: (representation.expand(2, 3, 5),),
            ),
        )
    ),
    *(
        Case(
            "frames",
            name,
            normals((batch, samples)),
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
        normals((26, 3)),
        {"kernel_size": 5, "hop": 2, "count": 7, "offset": 2},
        view=lambda signal: (signal.t()[:, ::2],),
        small=True,
    ),
    *(
        Case(
            "overlap_add",
            name,
            normals((batch, count, taps)),
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
        normals((2, 1, 6)),
        {"hop": 4, "length": 20, "offset": 1},
        view=lambda frames: (frames.expand(2, 5, 6),),
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
            Case(op, f"typical{tag}", pair(3, 20011), options),
            Case(op, f"small{tag}", pair(2, 9), options, small=True),
            Case(op, f"unlike{tag}", normals((2, 17), (2, 17)), options, small=True),
            Case(
                op,
                f"strided{tag}",
                pair(14, 3),
                options,
                view=lambda estimate, target: (estimate.t()[:, ::2], target.t()[:, 1::2]),
                small=True,
            ),
            Case(
                op,
                f"expanded{tag}",
                normals((1, 8), (3, 8)),
                options,
                view=lambda estimate, target: (estimate.expand(3, 8), target),
                small=True,
            ),
            Case(op, f"no-items{tag}", pair(0, 9), options),
        )
    ),
    Case("neg_snr", "one", pair(1, 1), small=True),
    Case("neg_snr", "no-samples", pair(2, 0)),
    Case("neg_snr", "silent", pair(2, 30), view=_second_silent),
    Case("neg_snr", "silent-batch", pair(2, 30), {"reduce": "batch"}, view=_second_silent),
]
