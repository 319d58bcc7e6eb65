"""Whole recordings through a trained separator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from rlsv_fast import ops, umss
from rlsv_fast.cli import main
from rlsv_fast.training.settings import to_toml
from rlsv_fast.umss.recordings import _joined, _Segment, _segments
from rlsv_fast.umss.runs import write_best
from rlsv_fast.umss.settings import SCHEMA
from umss.choir_files import PITCHES, quartet, tone

RATE = 16000
SEGMENT = 64 * 256 / RATE
PITCH = np.array([400.0, 300.0, 200.0, 120.0])


def model_of(*overrides: str) -> umss.EnsembleModel:
    """Untrained and without noise, so that nothing is left to chance."""
    torch.manual_seed(1)
    model = umss.EnsembleModel(SCHEMA.resolve(None, None, overrides))
    if isinstance(model.separator, umss.SourceFilterSeparator):
        with torch.no_grad():
            model.separator.decoder.noise_gain.bias.fill_(-40.0)
    return model.eval()


def recording(seconds: float, rate: int = RATE) -> Tensor:
    return torch.from_numpy(sum(tone(f0, seconds, rate) for f0 in PITCH)).float()[None]


def tracks(seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Steady notes, a little vibrato."""
    times = (np.arange(round(seconds * RATE / 256)) + 0.5) * 256 / RATE
    return times, PITCH[:, None] * 2 ** (np.sin(30 * times) / 60)


def whole(*arguments: object, **options: object) -> Tensor:
    return torch.cat(list(umss.separate_trained(*arguments, **options)), 2)


@pytest.mark.parametrize(
    ("kind", "least"), [("source-filter", 80.0), ("u-net", 30.0)], ids=["source-filter", "u-net"]
)
def test_within_a_segment_it_is_the_separation_of_that_excerpt(kind: str, least: float) -> None:
    supervised = "false" if kind == "source-filter" else "true"
    model = model_of(f"model.kind={kind}", f"loss.supervised={supervised}")
    mixture, (times, f0) = recording(2.5), tracks(2.6)
    found = whole(
        *(model, mixture, RATE, times, f0), segment=SEGMENT, overlap=0.125, continuous=False
    )
    assert found.shape == (4, 1, mixture.shape[1])
    torch.testing.assert_close(found.sum(0), mixture, atol=1e-5, rtol=0)
    for start in (0, 56 * 256):
        excerpt = mixture[:, start : start + 64 * 256]
        pitch = torch.from_numpy(f0[None, :, start // 256 : start // 256 + 64]).float()
        alone = model.separate(excerpt, pitch)[0]
        inner = slice(12 * 256, 52 * 256)
        same = found[:, 0, start:][:, inner], alone[:, inner]
        assert ops.si_sdr(*(signal.contiguous() for signal in same)).min() > least


def test_blocks_do_not_change_the_result() -> None:
    model, mixture, (times, f0) = model_of(), recording(2.5), tracks(2.5)
    one, other = (
        whole(model, mixture, RATE, times, f0, segment=SEGMENT, seconds=seconds)
        for seconds in (0.4, 60.0)
    )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", [22050, 8000])
def test_other_rates_and_channels(rate: int) -> None:
    pytest.importorskip("soxr")
    model, (times, f0) = model_of(), tracks(2.0)
    left = recording(2.01, rate)[0]
    mixture = torch.stack([left, -0.5 * left])
    found = whole(model, mixture, rate, times, f0, segment=SEGMENT, overlap=0.125)
    assert found.shape == (4, 2, mixture.shape[1])
    torch.testing.assert_close(found.sum(0), mixture, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 1], -0.5 * found[:, 0], atol=1e-5, rtol=0)
    # the same voices as those of the recording at the model's rate
    soxr = pytest.importorskip("soxr")
    heard = torch.from_numpy(soxr.resample(left.numpy(), rate, RATE))[None] / 4
    own = whole(model, heard, RATE, times, f0, segment=SEGMENT, overlap=0.125)[:, 0]
    back = torch.from_numpy(soxr.resample(found[:, 0].numpy().T, rate, RATE).T.copy())
    inner = slice(4000, 28000)
    assert ops.si_sdr(back[:, inner].contiguous(), own[:, inner].contiguous()).min() > 20


def test_what_lies_above_the_known_bins_goes_the_way_of_the_octave_below() -> None:
    time = torch.arange(8192) / RATE
    low, high = (torch.sin(2 * torch.pi * f * time) for f in (1500.0, 3500.0))
    voices = torch.stack([3 * low, low])[None]
    known = dict(n_fft=1024, hop=256, known_bins=128)  # up to 2 kHz
    apart = umss.soft_mask_separation((low + high)[None], voices, **known)[0]
    inner = slice(1024, -1024)
    for voice, share in zip(apart, (0.75, 0.25), strict=True):
        torch.testing.assert_close(voice[inner], share * (low + high)[inner], atol=2e-3, rtol=0)


def test_segments_cover_the_recording_once() -> None:
    for frames, length, overlap in (
        (64, 64, 8),
        (65, 64, 8),
        (300, 64, 0),
        (301, 64, 31),
        (9, 64, 8),
    ):
        found = _segments(frames, length, overlap)
        assert found[0].first == found[0].fade_in == 0 and found[-1].last == frames
        assert found[-1].fade_out == frames
        for one, other in zip(found, found[1:], strict=False):
            assert one.fade_out == one.last - overlap == other.fade_in >= other.first
            assert one.fade_out > one.fade_in and other.last - other.first == length
    assert _segments(100, 64, 8)[1] == _Segment(36, 100, 56, 100)


def test_continuous_phases_keep_the_level_where_segments_meet() -> None:
    model, mono, (_, f0) = model_of(), recording(2.496)[0], tracks(2.496)
    pitch = torch.from_numpy(f0).float()

    def level(continuous: bool) -> Tensor:
        """Of the fade in the middle of the second pair of segments, over that beside it."""
        parts = list(_joined(model, mono, pitch, 64, 16, continuous=continuous, seed=0))
        sources = torch.cat(parts, 1)
        assert sources.shape == (4, len(mono))
        fade = sources[:, 53 * 256 : 59 * 256].square().mean(1)
        return fade / sources[:, 40 * 256 : 46 * 256].square().mean(1)

    torch.testing.assert_close(level(True), torch.ones(4), atol=0.2, rtol=0)
    assert level(False).min() < 0.7


def test_a_model_finds_the_f0_of_a_recording_in_segments() -> None:
    model = model_of("model.f0=estimated")
    assert model.tracker is not None
    mixture = recording(2.0)
    found = umss.track_trained(model, mixture, RATE, segment=1.5, overlap=0.25)
    assert found.voices == umss.VOICES and found.frequency.shape == (125, 4)
    assert (found.frequency > 0).any()
    np.testing.assert_allclose(found.time, (np.arange(125) + 0.5) * 0.016)
    # 94 frames each, which share 63; the first hands over in the middle of its last 23
    with torch.no_grad():
        parts = [mixture[:, : 94 * 256], mixture[:, 31 * 256 :]]
        heard = [umss.resample_tracks(model.tracker(part).f0[0], 94) for part in parts]
    expected = torch.cat([heard[0][:, : 71 + 11], heard[1][:, 71 + 11 - 31 :]], 1)
    np.testing.assert_allclose(found.frequency.T, expected.numpy())
    with pytest.raises(ValueError, match="finds no f0"):
        umss.track_trained(model_of(), mixture, RATE)


def test_what_does_not_fit_is_refused() -> None:
    model, mixture, (times, f0) = model_of(), recording(1.0), tracks(1.0)
    with pytest.raises(ValueError, match="overlap from 0 to 0.5"):
        whole(model, mixture, RATE, times, f0, segment=1.0, overlap=0.6)
    with pytest.raises(ValueError, match="f0 must be"):
        whole(model, mixture, RATE, times, f0[:, 1:])
    with pytest.raises(ValueError, match="too few"):
        whole(model, mixture[:, :900], RATE, times, f0)


def test_the_command_with_a_trained_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    quartet(tmp_path / "songs" / "one")
    quartet(tmp_path / "songs" / "two")
    settings = ("data.segment_length=8192", "data.validation=two", "data.passes=1")
    more = ("training.batch_size=1", "training.max_steps=1")
    chosen = [word for setting in (*settings, *more) for word in ("--set", setting)]
    assert main(["umss", "train", f"--root={tmp_path / 'songs'}", *chosen, f"--out={run}"]) == 0
    wav, table = tmp_path / "song.wav", tmp_path / "f0.csv"
    soundfile.write(wav, recording(1.3)[0].numpy() / 4, RATE, subtype="FLOAT")
    times, f0 = tracks(1.3)
    umss.write_csv(umss.F0Tracks(times, f0.T, tuple(PITCHES)), table)
    capsys.readouterr()
    command = ["umss", "separate", str(wav), f"--f0={table}", f"--model={run}", f"--out={out}"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert [Path(line).name for line in printed.out.splitlines()] == [
        f"song_{v}.wav" for v in "satb"
    ]
    assert "no trained separator" not in printed.err
    voices = np.stack([soundfile.read(out / f"song_{v}.wav")[0] for v in "satb"])
    np.testing.assert_allclose(voices.sum(0), recording(1.3)[0].numpy() / 4, atol=1e-5)
    config, model = umss.load_separator(run)
    assert config.data.segment_length == 8192
    expected = whole(model, recording(1.3) / 4, RATE, times, f0, segment=8192 / RATE)
    np.testing.assert_allclose(voices, expected[:, 0].numpy(), atol=1e-3)
    assert main([*command[:3], f"--model={tmp_path}", f"--out={out}-2"]) == 2


def test_the_command_with_a_run_that_finds_the_f0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    run, out, wav = tmp_path / "run", tmp_path / "out", tmp_path / "song.wav"
    config = SCHEMA.resolve("sf-sf", None, ["data.segment_length=24000"])
    torch.manual_seed(2)
    model = umss.EnsembleModel(config).eval()
    run.mkdir()
    (run / "config.toml").write_text(to_toml(config))
    write_best(run, model, 1.0, 1)
    samples = recording(1.6) / 4
    soundfile.write(wav, samples[0].numpy(), RATE, subtype="FLOAT")
    command = ["umss", "separate", str(wav), f"--model={run}", f"--out={out}"]
    assert main([*command, "--voices=sab"]) == 2
    assert "four voices" in capsys.readouterr().err
    assert main(command) == 0
    assert {path.name for path in out.iterdir()} == {
        *("song_f0.csv", "song_f0.png"),
        *(f"song_{voice}.wav" for voice in umss.VOICES),
    }
    tracks = umss.read_csv(out / "song_f0.csv")
    expected = umss.track_trained(model, samples, RATE, segment=1.5)
    np.testing.assert_allclose(tracks.frequency, expected.frequency, atol=1e-3)
