import json
import math
from argparse import Namespace

import numpy as np
import pytest
import torch
from training import tiny

from evaluation.models import PerfectModel, noise_track, track
from rlsv_fast import nn, ops
from rlsv_fast.commands.runs import evaluate_run
from rlsv_fast.errors import InputError
from rlsv_fast.evaluation import evaluate, format_table, read_json, write_json
from rlsv_fast.training import build_model

SIZES = {"segment_length": 100, "stft_window": 16, "stft_hop": 4}


def test_segments_summary_and_silence():
    first = noise_track("first", 530)
    first.voice[100:300] = 0  # two silent segments; the rest of 30 samples is dropped
    model = PerfectModel()
    model.train()
    calls = []
    result = evaluate(
        model,
        [first, noise_track("second", 360, seed=1), noise_track("tiny", 20)],
        **SIZES,
        progress=lambda *call: calls.append(call),
    )
    assert [(row.track, row.start) for row in result.segments] == [
        ("first", 0.0),
        *(("first", start) for start in (3.0, 4.0)),
        *(("second", start) for start in (0.0, 1.0, 2.0, 3.0)),
    ]
    assert result.silent_segments == 2
    assert len(result.notes) == 1 and "tiny" in result.notes[0]
    assert model.training and model.decoder.bases_made == 1
    assert calls == [(0, 3, "first"), (1, 3, "second"), (2, 3, "tiny"), (3, 3, "")]
    assert {size % 3 for size in model.batches} == {0}  # one pass for all three signals

    learned = result.summary["learned"]
    reconstructions = result.values("learned", "reconstruction_si_sdr")
    assert all(value > 60 for value in reconstructions)
    assert learned["reconstruction_si_sdr"].count == len(reconstructions)
    masked = result.values("learned", "mask_si_sdr")
    assert learned["mask_si_sdr"].mean == pytest.approx(np.mean(masked))
    assert learned["mask_si_sdr"].median == pytest.approx(np.median(masked))
    assert learned["mask_si_sdr"].std == pytest.approx(np.std(masked))
    for method in ("stft_hamming", "stft_hann"):
        assert result.summary[method]["reconstruction_si_sdr"].mean > 60
        assert result.summary[method]["mask_si_sdr"].count == 7
    assert abs(result.summary["mixture"]["si_sdr"].mean) < 3


def test_sources_that_do_not_overlap_score_perfectly():
    time = np.arange(800)
    voice = np.sin(time) * (time % 2)
    accompaniment = 3 * np.cos(time) * (1 - time % 2)
    result = evaluate(PerfectModel(), [track("a", voice, accompaniment)], **SIZES)
    assert result.values("learned", "additivity") == [1.0] * 8
    assert result.summary["learned"]["mask_si_sdr"].mean > 100


def test_an_estimate_without_signal_is_counted_and_left_out():
    time = np.arange(800)
    voice, accompaniment = np.sin(time), 10 * np.sin(time)  # a mask that keeps nothing
    voice[100:200] *= 20
    result = evaluate(PerfectModel(), [track("a", voice, accompaniment)], **SIZES)
    masked = result.summary["learned"]["mask_si_sdr"]
    assert (masked.count, masked.excluded) == (1, 7)
    assert result.segments[0].values["learned"]["mask_si_sdr"] == -math.inf


def test_values_are_those_of_the_definition():
    model = nn.RepresentationModel(nn.ConvEncoder(6, 16, 4), nn.ModulatedCosineDecoder(6, 16, 4))
    tracks = [noise_track("a", 250), noise_track("b", 400, seed=1)]
    result = evaluate(model, tracks, segment_length=100, batch_size=3)
    assert result.settings["stft_window"] == 16 and result.settings["stft_hop"] == 4
    row = result.segments[-2]
    assert (row.track, row.start) == ("b", 2.0)
    voice, accompaniment, mixture = (
        torch.from_numpy(signal[200:300]).view(1, 100)
        for signal in (tracks[1].voice, tracks[1].accompaniment, tracks[1].mixture)
    )
    with torch.no_grad():
        of_voice, of_accompaniment, of_mixture = map(model.encode, (voice, accompaniment, mixture))
        kept = of_mixture * ((of_voice >= 0.5 * of_accompaniment) & (of_voice > 0))
        expected = {
            "reconstruction_si_sdr": ops.si_sdr(model(voice), voice),
            "mask_si_sdr": ops.si_sdr(model.decode(kept, length=100), voice),
            "additivity": 1
            - (of_mixture - of_voice - of_accompaniment).abs().sum() / of_mixture.sum(),
        }
    for quantity, value in expected.items():
        assert row.values["learned"][quantity] == pytest.approx(value.item(), abs=1e-3)
    assert row.values["mixture"]["si_sdr"] == pytest.approx(
        ops.si_sdr(mixture, voice).item(), abs=1e-3
    )


@pytest.mark.parametrize(
    ("method", "window", "padding"),
    [
        ("stft_hamming", torch.hamming_window(16), "constant"),
        ("stft_hann", torch.hann_window(16), "reflect"),
    ],
)
def test_values_of_the_stft_are_those_of_torch(method, window, padding):
    found = noise_track("a", 100)
    signals = torch.from_numpy(np.stack([found.voice, found.accompaniment, found.mixture]))
    voice, accompaniment, mixture = torch.stft(
        signals, 16, 4, window=window, pad_mode=padding, return_complex=True
    )
    kept = voice.abs() >= 0.5 * accompaniment.abs()
    masked = torch.istft((mixture * kept)[None], 16, 4, window=window, length=100)
    rest = (mixture.abs() - voice.abs() - accompaniment.abs()).abs().sum()
    values = evaluate(PerfectModel(), [found], **SIZES).segments[0].values[method]
    expected = ops.si_sdr(masked, signals[:1]).item()
    assert values["mask_si_sdr"] == pytest.approx(expected, abs=1e-3)
    assert values["additivity"] == pytest.approx(1 - (rest / mixture.abs().sum()).item(), abs=1e-5)
    assert values["reconstruction_si_sdr"] > 100


def test_the_command_passes_the_settings_of_the_run(tmp_path, capsys):
    config = tiny.config("convention=code", "model.hop=48", "data.segment_length=1600")
    target = tmp_path / "evaluation.json"
    options = Namespace(quiet=True)
    device = torch.device("cpu")
    evaluate_run(build_model(config), config, 7, [tiny.track()], target, device, options)
    assert "STFT (Hann)" in capsys.readouterr().out
    settings = read_json(target).settings
    assert (settings["convention"], settings["segment_length"]) == ("code", 1600)
    assert (settings["hop"], settings["stft_window"], settings["stft_hop"]) == (48, 64, 32)
    assert (settings["step"], settings["run"]["model.hop"]) == (7, 48)


def test_convention_changes_silence_and_additivity():
    quiet = track("quiet", np.full(100, 0.02), np.ones(100))  # an energy of 0.04
    loud = noise_track("loud", 100)
    paper = evaluate(PerfectModel(), [quiet, loud], **SIZES)
    code = evaluate(PerfectModel(), [quiet, loud], **SIZES, convention="code")
    assert (paper.silent_segments, code.silent_segments) == (1, 0)
    ratio = code.segments[1].values["learned"]["additivity"]
    assert paper.segments[0].values["learned"]["additivity"] == pytest.approx(1 - ratio)


def test_json_round_trip_without_nan(tmp_path):
    result = evaluate(PerfectModel(), [noise_track("größe", 300)], **SIZES)
    result.segments[0].values["learned"]["additivity"] = math.nan
    result.segments[1].values["learned"]["additivity"] = math.inf
    path = tmp_path / "new" / "evaluation.json"
    write_json(result, path, commit="abc", settings={"run": "demo"})

    def refuse(name):
        raise AssertionError(name)

    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert data["schema_version"] == 1 and data["commit"] == "abc"
    assert data["settings"]["run"] == "demo" and data["settings"]["components"] == 16
    assert data["segments"][0]["values"]["learned"]["additivity"] is None
    back = read_json(path)
    assert len(back.values("learned", "additivity")) == 1
    mean = result.summary["learned"]["mask_si_sdr"].mean
    assert back.summary["learned"]["mask_si_sdr"].mean == pytest.approx(mean, rel=1e-6)
    assert [file.name for file in path.parent.iterdir()] == ["evaluation.json"]

    write_json(result, path, segments=False)
    assert read_json(path).segments == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema_version": 2}', '{"schema_version": 1, "summary": {}}']
)
def test_a_file_that_is_no_evaluation(tmp_path, text):
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"evaluation\.json.*evaluate again"):
        read_json(path)


def test_table():
    result = evaluate(PerfectModel(), [noise_track("a", 500)], **SIZES)
    result.summary["learned"]["mask_si_sdr"] = type(result.summary["learned"]["mask_si_sdr"])(
        12.345, 11.0, 2.0, 4, 1
    )
    table = format_table(result)
    learned, stft, mixture = table.splitlines()[3:6]
    assert learned.startswith("learned representation") and "12.3 ± 2.0 (11.0)" in learned
    assert stft.startswith("STFT (Hamming)")
    assert mixture.startswith("unprocessed mixture")
    assert "5 segments with singing from 1 track; 0 silent ones left out" in table
    assert "not finite and left out: 1 of the values" in table


def test_the_code_is_compared_with_its_own_stft():
    result = evaluate(PerfectModel(), [noise_track("a", 500)], **SIZES, convention="code")
    shown = result.summary["stft_hann"]["mask_si_sdr"]
    row = format_table(result).splitlines()[4]
    assert row.startswith("STFT (Hann)")
    assert f"{shown.mean:.1f} ± {shown.std:.1f} ({shown.median:.1f})" in row
    assert "Hamming" not in format_table(result)


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        ([], "sample rate, got none"),
        ([noise_track("a", 300), track("b", np.ones(300), np.ones(300), rate=50)], "sample rate"),
        ([track("a", np.zeros(300), np.ones(300))], "no test segment.*3 silent"),
        ([noise_track("a", 20)], "shorter than half a segment"),
    ],
)
def test_bad_tracks(tracks, message):
    with pytest.raises(InputError, match=message):
        evaluate(PerfectModel(), tracks, **SIZES)
