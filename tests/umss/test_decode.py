import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsv_fast.umss import (
    assign_by_continuity,
    band_masks,
    decode_f0,
    frequencies,
    pitch_peaks,
    resample_tracks,
)
from rlsv_fast.umss.decode import METHODS

Golden = dict[str, Tensor]


@pytest.fixture
def golden(shared: Path) -> Golden:
    with np.load(shared / "golden" / "umss" / "f0_decode.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize("method", ["reconstruction", "softmax", "threshold", "sigmoid", "ste"])
def test_golden(golden: Golden, method: str) -> None:
    salience = golden["salience"].requires_grad_()
    f0 = decode_f0(salience, method=method, convention="code")  # type: ignore[arg-type]
    torch.testing.assert_close(f0, golden[f"f0_{method}"], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(f0, salience, golden["g_f0"])
    torch.testing.assert_close(
        gradient.abs().sum(2), golden[f"gsum_{method}"], rtol=1e-4, atol=1e-5
    )


def test_golden_grid_and_bands(golden: Golden) -> None:
    torch.testing.assert_close(frequencies(), golden["freq_grid"], rtol=1e-12, atol=0)
    assert torch.equal(band_masks(), golden["band_masks"].float())
    hard = golden["mf0_predict"][..., 1:].transpose(1, 2)
    torch.testing.assert_close(decode_f0(golden["salience"]).double(), hard, rtol=1e-6, atol=0)


def peaked(bin: float, height: float = 0.9, width: float = 1.0) -> Tensor:
    """Salience (1, 1, 360, 1) of one pitch, between bins."""
    bins = torch.arange(360, dtype=torch.float64)
    return (height * torch.exp(-((bins - bin) ** 2) / (2 * width**2)))[None, None, :, None]


def test_reconstruction_passes_gradients_straight_through_where_voiced() -> None:
    salience = torch.cat((peaked(100), peaked(100, height=0.1), peaked(0)), 3).requires_grad_()
    f0 = decode_f0(salience, (0.23,))
    assert f0[0, 0, 0].item() == pytest.approx(32.7 * 2 ** (100 / 60))
    assert (f0[0, 0, 1:] == 0).all()
    (gradient,) = torch.autograd.grad(f0, salience, torch.tensor([[[2.0, 3.0, 4.0]]]).double())
    assert (gradient[..., 0] == 2).all() and (gradient[..., 1:] == 0).all()


def test_a_bass_below_75_hz_is_one_bin_not_a_sum() -> None:
    salience = peaked(3)  # 33.85 Hz; bins 1 and 2 lie at 33.08 and 33.46
    assert float(decode_f0(salience, (0.2,))) == pytest.approx(32.7 * 2 ** (3 / 60))
    code = float(decode_f0(salience, (0.2,), convention="code"))
    assert code == pytest.approx(32.7 * (2 ** (1 / 60) + 2 ** (2 / 60) + 2 ** (3 / 60)))


@pytest.mark.parametrize("bin", [1.2, 100.0, 100.3, 250.49, 358.6])
def test_soft_finds_what_lies_between_bins(bin: float) -> None:
    f0 = float(decode_f0(peaked(bin), (0.2,), method="soft"))
    cents = abs(1200 * math.log2(f0 / (32.7 * 2 ** (bin / 60))))
    assert cents < (0.1 if 5 < bin < 355 else 20)  # the window is cut off at both ends


def test_soft_has_its_own_gradient() -> None:
    maps = torch.cat((peaked(99.3), peaked(4.6), peaked(200, height=0.1)), 3)
    near = maps[:, :, 90:110].clone().requires_grad_()  # of 360 bins the others do not matter

    def soft(bins: Tensor) -> Tensor:
        whole = torch.cat((maps[:, :, :90], bins, maps[:, :, 110:]), 2)
        return decode_f0(whole, (0.2,), method="soft")

    assert torch.autograd.gradcheck(soft, (near,))


@pytest.mark.parametrize("method", METHODS)
def test_silence_and_size_zero(method: str) -> None:
    silent = torch.zeros(1, 4, 360, 3, requires_grad=True)
    f0 = decode_f0(silent, method=method)  # type: ignore[arg-type]
    assert (f0 == 0).all()
    if f0.requires_grad:
        f0.sum().backward()
        assert silent.grad is not None and silent.grad.isfinite().all()
    assert decode_f0(silent[..., :0], method=method).shape == (1, 4, 0)  # type: ignore[arg-type]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(B, V, 360, T\), got \(1, 4, 100, 2\)"):
        decode_f0(torch.zeros(1, 4, 100, 2))
    with pytest.raises(ValueError, match="one for each of 3 voices, got 4"):
        decode_f0(torch.zeros(1, 3, 360, 2))
    with pytest.raises(ValueError, match="method must be one of"):
        decode_f0(torch.zeros(1, 4, 360, 2), method="hard")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(\.\.\., T\) with T > 0"):
        resample_tracks(torch.zeros(4, 0), 3)


def test_resampling_keeps_silence_apart_from_pitch() -> None:
    track = torch.tensor([[100.0, 110.0, 0.0, 0.0, 200.0, 210.0]])
    code = resample_tracks(track, 12, convention="code")
    expected = torch.nn.functional.interpolate(track.clamp_min(1e-5)[None], 12, mode="linear")[0]
    torch.testing.assert_close(code, expected)
    clean = resample_tracks(track, 12)[0]
    sung = clean[clean > 0]
    assert (((sung >= 100) & (sung <= 110)) | ((sung >= 200) & (sung <= 210))).all()
    assert (clean == 0).sum() == 4
    assert clean[0] == 100 and clean[-1] == 210
    torch.testing.assert_close(resample_tracks(track, 6), track)


def test_peaks() -> None:
    salience = (peaked(100) + peaked(130, 0.6) + peaked(200, 0.4))[0, 0].repeat(1, 2)
    salience[50:52, 1] = 0.8  # a plateau is no strict maximum
    for frame in pitch_peaks(salience):
        assert frame.tolist() == pytest.approx([32.7 * 2 ** (100 / 60), 32.7 * 2 ** (130 / 60)])
    assert len(pitch_peaks(salience, 0.3)[0]) == 3
    assert pitch_peaks(salience[:, :0]) == []


def test_continuity_keeps_voices_apart() -> None:
    full = [100.0, 200.0, 300.0, 400.0]
    frames = [
        full,
        [402.0, 201.0],  # only the first and the third voice go on
        [404.0, 202.0, 105.0],
        [406.0, 203.0, 305.0, 110.0, 800.0],  # one too many
        full[::-1],
        [],
        [210.0],  # between silences: compared with what the voices sang before and after
        [],
    ]
    tracks = assign_by_continuity(frames)
    assert tracks.tolist() == [
        [400, 300, 200, 100],
        [402, 0, 201, 0],
        [404, 0, 202, 105],
        [406, 305, 203, 110],
        [400, 300, 200, 100],
        [0, 0, 0, 0],
        [0, 0, 210, 0],
        [0, 0, 0, 0],
    ]


def test_continuity_from_the_full_end_and_with_many_pitches() -> None:
    # a run that ends at a full frame is decided from there
    tracks = assign_by_continuity([[], [290.0], [100.0, 300.0]], voices=2)
    assert tracks.tolist() == [[0, 0], [290, 0], [300, 100]]
    crowd = [float(f) for f in range(1000, 3000, 100)]
    tracks = assign_by_continuity([[100.0, 300.0], [*crowd, 101.0, 303.0], []], voices=2)
    assert tracks[1].tolist() == [303, 101]
    assert assign_by_continuity([], voices=3).shape == (0, 3)
    with pytest.raises(ValueError, match="pitches of frame 1 must be finite"):
        assign_by_continuity([[1.0], [math.nan]])
