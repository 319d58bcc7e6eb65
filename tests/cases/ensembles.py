"""Operators of UMSS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cases.case import Case, Inputs, fractions, normal, normals, pair, uniform

GRID = {"lowest": 32.7, "bins_per_octave": 60}
SMALL = {"small": True}


def _gated(items: int, frames: int, size: int) -> Inputs:
    """Weights of the size that layers begin with."""
    scale = size**-0.5
    return lambda: (
        normal(items, frames, 3 * size),
        scale * normal(3 * size, size),
        scale * normal(3 * size),
    )


def _bank(batch: int, frames: int, harmonics: int = 0, highest: float = 700.0) -> Inputs:
    """Frequencies, amplitudes (one per harmonic where there is a number of them), a phase."""
    amplitude = (batch, frames, harmonics) if harmonics else (batch, frames)
    return lambda: (
        80 + (highest - 80) * uniform(batch, frames),
        normal(*amplitude),
        3 * normal(batch),
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
        steps = 0.05 + uniform(*shape[:-1], shape[-1] + 1)
        return (torch.pi * (steps / steps.sum(-1, keepdim=True)).cumsum(-1)[..., :-1],)

    return make


def _filters(batch: int, count: int, order: int, hop: int) -> Inputs:
    """Signals, and coefficients of stable filters: their magnitudes add up to less than 1."""

    def make() -> tuple[Tensor, ...]:
        coefficients = (2 * uniform(batch, count, order) - 1) / max(order, 1)
        return normal(batch, count * hop), coefficients

    return make


CASES: list[Case] = [
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
        lambda: (normal(4, 3, 6), normal(2, 12), normal(12)),
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
        lambda: (normal(1, 4, 6), normal(6, 2), normal(1)),
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
        lambda: (4 * normal(3, 8),),
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
        lambda: (normal(12, 4), 0.2 * normal(3, 2, 4)),
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
        lambda: (normal(1, 12), 0.2 * normal(2, 1, 3)),
        {"frame": 6, "hop": 4},
        view=lambda signal, coefficients: (signal.expand(2, 12), coefficients.expand(2, 3, 3)),
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
                lambda: (80 + 600 * uniform(4, 6), normal(2, 5, 8), normal(4)),
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
                lambda: (80 + 600 * uniform(1, 5), normal(3, 1), normal(1)),
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
            ("soft", fractions(2, 3, 12, 5), (0.9, 0.95, 0.0), {"method": "soft"}, SMALL),
            ("typical", fractions(2, 4, 360, 37), (0.995,) * 4, {}, {}),
            ("code", fractions(2, 4, 360, 37), (0.995,) * 4, {"convention": "code"}, {}),
            ("typical-soft", fractions(2, 4, 360, 70), (0.995,) * 4, {"method": "soft"}, {}),
            ("long-soft", fractions(1, 1, 3, 1300), (0.5,), {"method": "soft"}, {}),
            ("ste", fractions(2, 3, 23, 33), (0.9, 0.95, 0.0), {"method": "ste"}, {}),
            ("threshold", fractions(2, 2, 9, 5), (0.7, 0.9), {"method": "threshold"}, SMALL),
            (  # where the sigmoid is neither 0 nor 1
                "sigmoid",
                lambda: (0.5 + 0.004 * uniform(2, 2, 9, 5),),
                (0.502, 0.503),
                {"method": "sigmoid"},
                SMALL,
            ),
            ("negative-soft", normals((2, 2, 11, 4)), (-1.0, 1.0), {"method": "soft"}, {}),
            ("one-bin", fractions(2, 2, 1, 3), (0.0, 0.0), {"method": "soft"}, SMALL),
            ("two-bins", fractions(2, 1, 2, 19), (0.0,), {"method": "soft"}, SMALL),
            ("one-frame", fractions(3, 1, 20, 1), (0.0,), {"method": "soft"}, SMALL),
            ("no-items", fractions(0, 2, 9, 3), (0.1, 0.2), {"method": "soft"}, {}),
            ("no-voices", fractions(2, 0, 9, 3), (), {"method": "ste"}, {}),
            ("no-frames", fractions(2, 1, 9, 0), (0.1,), {"method": "soft"}, {}),
            (
                "strided",
                lambda: (uniform(4, 10, 2, 3),),
                (0.3, 0.8),
                {"method": "soft"},
                {"view": lambda leaf: (leaf.permute(3, 2, 1, 0)[..., ::2],), "small": True},
            ),
            (
                "expanded",
                lambda: (uniform(2, 1, 10, 1),),
                (0.3, 0.8),
                {"method": "threshold"},
                {"view": lambda leaf: (leaf.expand(2, 2, 10, 4),), "small": True},
            ),
        )
    ),
    *(
        Case("spectral_loss", name, make, options, **more)
        for name, make, options, more in (
            ("mean", pair(3, 300), {"fft_sizes": (64,), "reduce": "mean"}, {}),
            ("typical", pair(2, 3001), {}, {}),
            ("small", normals((2, 21), (2, 21)), {"fft_sizes": (16, 8)}, {"small": True}),
            (
                "weighted",
                normals((2, 19), (2, 19)),
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
                normals((1, 23), (1, 23)),
                {"fft_sizes": (7,), "overlap": 0.3, "log_magnitude_weight": 0},
                {"small": True},
            ),
            ("gapless", normals((1, 9), (1, 9)), {"fft_sizes": (4,), "overlap": 0}, {}),
            ("one", normals((1, 1), (1, 1)), {"fft_sizes": (4, 2)}, {}),
            ("no-items", pair(0, 9), {"fft_sizes": (4,)}, {}),
            ("no-samples", pair(2, 0), {"fft_sizes": (4,)}, {}),
            (
                "strided",
                normals((40, 3), (20, 6)),
                {"fft_sizes": (16,)},
                {
                    "view": lambda estimate, target: (estimate.t()[:, ::2], target.t()[::2]),
                    "small": True,
                },
            ),
            (
                "expanded",
                normals((1, 20), (3, 20)),
                {"fft_sizes": (8,)},
                {
                    "view": lambda estimate, target: (estimate.expand(3, 20), target),
                    "small": True,
                },
            ),
        )
    ),
]
