"""From salience to f0: one pitch of each voice, or all pitches of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rlsv_fast import ops
from rlsv_fast.nn import Convention
from rlsv_fast.ops._check import choice, floating, integer, shape
from rlsv_fast.umss.constant_q import BINS_PER_OCTAVE
from rlsv_fast.umss.hcqt import BINS, LOWEST, frequencies

Method: TypeAlias = Literal[
    "reconstruction", "soft", "ste", "sigmoid", "threshold", "amplitude", "softmax"
]
METHODS = ("reconstruction", "soft", "ste", "sigmoid", "threshold", "amplitude", "softmax")

THRESHOLDS = (0.23, 0.17, 0.15, 0.17)
"""Published thresholds of the assigned saliences: soprano, alto, tenor, bass."""

BANDS = ((179, 285), (152, 260), (129, 225), (88, 189))
"""First and last bin of each part's range, both included: 259-880, 189-659, 145-440, 90-290 Hz."""


def decode_f0(
    salience: Tensor,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    method: Method = "reconstruction",
    convention: Convention = "paper",
) -> Tensor:
    r"""One f0 for each voice and frame, with the gradient of the chosen method.

    With :math:`k^* = \arg\max_k A_k` a frame is voiced if :math:`A_{k^*}` reaches the voice's
    threshold :math:`\theta` and :math:`k^* \ne 0`. The bins' frequencies are :math:`F_k`, and
    :math:`\hat f = F_{k^*}` in voiced frames, 0 in others.

    ================== ================================================ =========================
    method             value                                            gradient to :math:`A_k`
    ================== ================================================ =========================
    ``reconstruction`` :math:`\hat f`                                   1 for all 360 bins of a
                                                                        voiced frame, else 0
    ``soft``           average pitch of the bins :math:`k^* \pm 4`,     its derivative
                       weighted with the salience, in voiced frames
    ``ste``            :math:`\hat f`                                   :math:`\hat f` to the
                                                                        largest bin
    ``sigmoid``        :math:`\sigma(1000 (A_{k^*} - \theta)) \hat f`   its derivative
    ``threshold``      :math:`A_{k^*} \hat f`                           its derivative
    ``amplitude``      :math:`\hat f`                                   0
    ``softmax``        :math:`\sum_k A_k F_k`, neither normalised nor   :math:`F_k`
                       cut off, despite its name
    ================== ================================================ =========================

    ``reconstruction`` is the published one: a straight-through estimator. ``soft`` is no part of
    the published code; it has a resolution finer than the grid's 20 cents. A frame that holds a NaN
    decodes to NaN. All but ``softmax`` are :func:`rlsv_fast.ops.decode_f0`.

    Args:
        salience: shape (B, V, 360, T), one map for each voice.
        thresholds: one for each voice.
        method: see above.
        convention: ``"code"`` for what the published ``reconstruction`` does besides: its gradient
            is 1 in unvoiced frames too, and below 75 Hz it returns the sum of all frequencies of
            the grid that share their whole Hertz with :math:`\hat f`. ``ste`` limits its gradient
            to ±1000 under both.

    Returns:
        Hz, shape (B, V, T), 0 where unvoiced.

    Raises:
        TypeError: salience is not a floating tensor.
        ValueError: another shape, another number of thresholds, or no such method.

    Reference:
        Richard, Chouteau, Torres, "A fully differentiable model for unsupervised singing voice
        separation", ICASSP 2024.
    """
    salience = floating("decode_f0", "salience", salience)
    shape("decode_f0", "salience", salience, "(B, V, 360, T)", None, None, BINS, None)
    choice("decode_f0", "method", method, METHODS)
    if method != "softmax":
        return ops.decode_f0(
            salience,
            thresholds,
            lowest=LOWEST,
            bins_per_octave=BINS_PER_OCTAVE,
            method=method,
            convention=convention,
        )
    choice("decode_f0", "convention", convention, ("paper", "code"))
    if len(thresholds) != salience.shape[1]:
        raise ValueError(
            f"decode_f0: thresholds must be one for each of {salience.shape[1]} voices, got "
            f"{len(thresholds)}"
        )
    # one matrix product, forward and back: nothing that a kernel of its own would save
    grid = frequencies(salience.dtype).to(salience.device)
    return torch.einsum("bvkt,k->bvt", salience, grid)


def band_masks(bands: Sequence[tuple[int, int]] = BANDS) -> Tensor:
    """1 at the bins of each voice's range, else 0: float32, shape (V, 360)."""
    bins = torch.arange(BINS)
    return torch.stack([(bins >= low) & (bins <= high) for low, high in bands]).float()


def resample_tracks(f0: Tensor, frames: int, *, convention: Convention = "paper") -> Tensor:
    """Bring tracks to another number of frames over the same time, linearly.

    Frame i of n is centred on (i + ½) / n of the time; before the first centre and after the last
    one the track is constant. A frame is voiced where at least half of its weight is, and then the
    mean of what is voiced: nothing lies between a pitch and silence.

    Args:
        f0: Hz, 0 where unvoiced, shape (..., T).
        frames: wanted.
        convention: ``"code"`` interpolates zeros like frequencies, after raising them to 1e-5.

    Returns:
        Shape (..., frames).

    Raises:
        TypeError: f0 is not a floating tensor, or frames no int.
        ValueError: no frames, in or out.
    """
    f0 = floating("resample_tracks", "f0", f0)
    frames = integer("resample_tracks", "frames", frames, 1)
    choice("resample_tracks", "convention", convention, ("paper", "code"))
    if f0.dim() == 0 or f0.shape[-1] == 0:
        raise ValueError(
            f"resample_tracks: f0 must have shape (..., T) with T > 0, got {tuple(f0.shape)}"
        )

    def linear(x: Tensor) -> Tensor:
        flat = x.reshape(1, -1, x.shape[-1])
        resized = functional.interpolate(flat, size=frames, mode="linear", align_corners=False)
        return resized.reshape(*x.shape[:-1], frames)

    if convention == "code":
        return linear(f0.clamp_min(1e-5))
    weight = linear((f0 > 0).to(f0.dtype))
    voiced = weight >= 0.5
    return torch.where(voiced, linear(f0) / torch.where(voiced, weight, 1.0), 0.0)


def held_pitch(f0: Tensor, *, default: float = 100.0) -> Tensor:
    """Unvoiced frames with the pitch of the nearest voiced one, of two equally near the later.

    Args:
        f0: Hz, 0 where unvoiced, shape (..., T).
        default: Hz, for tracks without a voiced frame.

    Returns:
        The shape of f0; gradients of held frames go to where the pitch is from.
    """
    count = f0.shape[-1]
    voiced = f0 > 0
    frames = torch.arange(count, device=f0.device).expand(f0.shape)
    # frames so far away that any other is nearer, where there is no voiced one on that side
    before = torch.where(voiced, frames, -2 * count).cummax(-1).values
    after = torch.where(voiced, frames, 3 * count).flip(-1).cummin(-1).values.flip(-1)
    nearest = torch.where(frames - before < after - frames, before, after)
    held = f0.gather(-1, nearest.clamp(0, count - 1))
    return torch.where(voiced.any(-1, keepdim=True), held, default)


def pitch_peaks(salience: Tensor, threshold: float = 0.5) -> list[Tensor]:
    """All pitches of each frame: the strict local maxima over frequency that reach a threshold.

    Args:
        salience: shape (360, T), from 0 to 1.
        threshold: the published ones are 0.5 for this network ("model 3") and for "model 2", 0.4
            for "model 1" and "model 4".

    Returns:
        For each frame the frequencies in Hz, ascending, float64.

    Raises:
        TypeError: salience is not a floating tensor.
        ValueError: another shape.
    """
    salience = floating("pitch_peaks", "salience", salience)
    shape("pitch_peaks", "salience", salience, "(360, T)", BINS, None)
    inner = salience[1:-1]
    peaks = (inner > salience[:-2]) & (inner > salience[2:]) & (inner >= threshold)
    grid = frequencies()[1:-1]
    return [grid[column] for column in peaks.T.cpu()]
