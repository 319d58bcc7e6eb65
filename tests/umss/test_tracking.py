import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast.umss import TrackingCosts, track_voices


def salience(*voices: list[float], height: float = 0.8) -> Tensor:
    """Peaks at bins (nan: silent) of each voice in each frame."""
    bins = torch.arange(360, dtype=torch.float64)[:, None]
    maps = [height * torch.exp(-((bins - torch.tensor(v).double()) ** 2) / 2) for v in voices]
    return torch.stack(maps).nan_to_num(0.0).amax(0)


def hertz(bin: float) -> float:
    return 32.7 * 2 ** (bin / 60)


def test_voices_keep_their_lines() -> None:
    nan = float("nan")
    high = [200.0, 200.3, 201.0, 202.0, 203.0, 204.0]
    middle = [150.0, 150.0, nan, nan, 151.0, 151.0]  # one frame alone would be no voice
    low = [100.0, 100.0, 101.0, 101.0, 100.0, 100.0]
    frequency, heights = track_voices(salience(high, middle, low), 3)
    expected = np.array([high, middle, low]).T
    np.testing.assert_array_equal(frequency > 0, ~np.isnan(expected))
    sung = ~np.isnan(expected)
    cents = 1200 * np.log2(frequency[sung] / hertz(expected[sung]))
    assert np.abs(cents).max() < 1
    assert ((heights > 0.7) == sung).all()


def test_two_voices_may_meet_but_not_cross() -> None:
    up = [100.0 + n for n in range(9)]
    down = [108.0 - n for n in range(9)]
    costs = TrackingCosts(unison=1.0)
    frequency, _ = track_voices(salience(up, down), 2, costs)
    assert (frequency[:, 0] >= frequency[:, 1]).all()
    assert frequency[4, 0] == frequency[4, 1] > 0
    assert frequency[0, 0] == pytest.approx(hertz(108), rel=1e-3)
    assert frequency[-1, 0] == pytest.approx(hertz(108), rel=1e-3)


def test_a_weak_peak_far_away_is_no_voice() -> None:
    steady = salience([100.0] * 5)
    steady[300, 2] = 0.5
    frequency, _ = track_voices(steady, 1)
    assert frequency[:, 0] == pytest.approx(hertz(100), rel=1e-3)


def test_the_path_is_the_best_of_all() -> None:
    """Against every path, for two voices and three frames."""
    generator = torch.Generator().manual_seed(4)
    maps = torch.rand(360, 3, generator=generator).double() ** 8
    costs = TrackingCosts(bin=0.01, switch=0.5, unison=0.3, silence=0.3)
    frequency, heights = track_voices(maps, 2, costs)

    inner = maps[1:-1]
    peaks = torch.zeros_like(maps)
    peaks[1:-1] = torch.where((inner > maps[:-2]) & (inner >= maps[2:]), inner, 0.0)
    states = []
    for frame in range(3):
        best = peaks[:, frame].topk(4).indices.sort(descending=True).values.tolist()
        states.append(
            [(a, b) for a, b in itertools.product([*best, None], repeat=2)
             if a is None or b is None or a >= b]
        )  # fmt: skip

    def gain(frame: int, state: tuple[int | None, int | None]) -> float:
        tops = [costs.silence if b is None else float(maps[b, frame]) for b in state]
        shared = state[0] is not None and state[0] == state[1]
        return float(np.log(np.array(tops) + costs.floor).sum()) - costs.unison * shared

    def moves(before: tuple[int | None, ...], after: tuple[int | None, ...]) -> float:
        paid = 0.0
        for old, new in zip(before, after, strict=True):
            if (old is None) != (new is None):
                paid += costs.switch
            elif old is not None and new is not None:
                paid += costs.bin * abs(old - new)
        return paid

    best = max(
        itertools.product(*states),
        key=lambda path: (
            sum(gain(t, s) for t, s in enumerate(path))
            - sum(moves(a, b) for a, b in itertools.pairwise(path))
        ),
    )
    for frame, state in enumerate(best):
        for voice, bin in enumerate(state):
            assert heights[frame, voice] == (0 if bin is None else float(maps[bin, frame]))
            assert (frequency[frame, voice] > 0) == (bin is not None)


def test_a_wavering_salience_is_averaged_over_time() -> None:
    """A note whose peak jumps 40 cents every other frame, with a dropped frame; then a step."""
    held = [150.0 + 2 * (n % 2) for n in range(60)]
    maps = torch.cat((salience(held), salience([170.0] * 60)), 1)
    maps[:, 30] = 0.0
    single, _ = track_voices(maps, 1)
    averaged, heights = track_voices(maps, 1, window=17)

    def off(frequency: np.ndarray, bin: float, frames: slice) -> float:
        return float(np.abs(1200 * np.log2(frequency[frames, 0] / hertz(bin))).max())

    assert off(single, 151, slice(0, 20)) > 15
    assert (single[30] == 0).all()
    assert off(averaged, 151, slice(8, 50)) < 3
    assert off(averaged, 170, slice(70, None)) < 1  # half a window after the step
    assert (heights[:50] > 0).all()


def test_the_average_is_the_geometric_mean_above_the_floor() -> None:
    generator = torch.Generator().manual_seed(5)
    maps = torch.rand(360, 4, generator=generator).double() * 0.1
    maps[100] = torch.tensor([0.9, 0.5, 0.7, 0.6], dtype=torch.float64)
    costs = TrackingCosts(floor=0.1)
    _, heights = track_voices(maps, 1, costs, window=3)
    log = np.log(np.array([0.9, 0.9, 0.5, 0.7, 0.6, 0.6]) + 0.1)  # the ends are held
    expected = np.exp(0.25 * log[:-2] + 0.5 * log[1:-1] + 0.25 * log[2:]) - 0.1
    np.testing.assert_allclose(heights[:, 0], expected, rtol=1e-12)


def test_sizes_and_bad_input() -> None:
    frequency, heights = track_voices(torch.zeros(360, 4), 4)
    assert frequency.shape == heights.shape == (4, 4) and not frequency.any()
    assert track_voices(torch.zeros(360, 0), 2)[0].shape == (0, 2)
    with pytest.raises(ValueError, match=r"salience must have shape \(360, T\), got \(1, 360, 4\)"):
        track_voices(torch.zeros(1, 360, 4))
    with pytest.raises(ValueError, match="voices must be at most 5, got 6"):
        track_voices(torch.zeros(360, 4), 6)
    with pytest.raises(ValueError, match="window must be odd, got 4"):
        track_voices(torch.zeros(360, 4), 2, window=4)
    for bad in (float("nan"), float("inf"), -0.1):
        with pytest.raises(ValueError, match="salience holds values that are negative or not"):
            track_voices(torch.full((360, 4), bad), 2)
