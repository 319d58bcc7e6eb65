"""The published evaluation on songs whose answer is known, and on a real choir."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from rlsv_fast.errors import InputError
from rlsv_fast.umss import (
    RESULTS,
    comb_separator,
    evaluate,
    evaluate_separator,
    find_songs,
    mute_frames,
    mute_voices,
    published_perturbations,
    robustness_table,
    shift_f0,
    si_sdr_frames,
    test_songs,
    transpose_f0,
)
from umss.choir_files import RATE, choir, quartet

close = torch.testing.assert_close
N = 16000


def identity(mixture: Tensor, f0: Tensor) -> Tensor:
    return mixture[:, None].expand(-1, f0.shape[1], -1)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        quartet(tmp_path / name)
    return tmp_path


def test_the_mixture_and_the_bounds(songs: Path) -> None:
    result = evaluate_separator(identity, find_songs(songs), length=N)
    assert result.songs == ("first", "second")
    assert [(found.song, found.start) for found in result.excerpts] == [
        ("first", 1.0), ("first", 2.0), ("second", 1.0), ("second", 2.0)
    ]  # fmt: skip
    signals = []
    for voice in "satb":
        signals.append(torch.from_numpy(soundfile.read(songs / "first" / f"{voice}.wav")[0]))
    stems = torch.stack(signals)[:, N : 2 * N].float()
    stems = stems / stems.sum(0).abs().max()
    expected = si_sdr_frames(stems.sum(0).expand_as(stems), stems)
    for name in ("SI-SDR_mixture", "SI-SDR_mask"):
        close(
            torch.from_numpy(result.excerpts[0].values[name]),
            expected.double(),
            rtol=1e-4,
            atol=1e-4,
        )
    statistics = result.statistics("SI-SDR_improvement")
    assert (statistics.mean, statistics.std, statistics.count) == (0, 0, 16)
    assert result.statistics("SI-SDR_oracle").mean > 20
    soprano = result.statistics("SI-SDR_mask", song="first", voices="s")
    assert soprano.count == 2 and soprano.mean == pytest.approx(float(expected[0, 0]), abs=0.1)
    assert (
        result.statistics("sp_SNR_mask").count == result.statistics("mel_cep_dist_mask").count == 16
    )


def test_the_comb_knows_the_voices(songs: Path) -> None:
    result = evaluate_separator(
        comb_separator(), find_songs(songs), length=N, limit=1, batch_size=3
    )
    assert len(result.excerpts) == 2
    assert result.statistics("SI-SDR_mask").mean > result.statistics("SI-SDR_mixture").mean + 15


def test_silent_seconds_do_not_count(songs: Path) -> None:
    path = songs / "first" / "b.wav"
    samples, _ = soundfile.read(path)
    samples[2 * N :] = 0
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    result = evaluate_separator(identity, find_songs(songs)[:1], length=N)
    assert result.statistics("SI-SDR_mask").count == 7
    assert result.statistics("SI-SDR_mask", voices="b").count == 1
    assert np.isnan(result.excerpts[1].values["SI-SDR_mask"][3, 0])
    assert result.to_json()["excerpts"][1]["values"]["SI-SDR_mask"][3] == [None]


def test_every_measure_by_its_published_name(songs: Path) -> None:
    pytest.importorskip("mir_eval")
    truth = torch.tensor([400.0, 300, 200, 120])

    def track(mixture: Tensor) -> Tensor:
        f0 = truth[:, None].expand(len(mixture), 4, 63).clone()
        f0[:, 0] *= 2
        return f0

    options: dict[str, Any] = {"length": N, "limit": 1, "synthesise": identity, "track": track}
    result = evaluate_separator(comb_separator(), find_songs(songs), compute=["all"], **options)
    assert {
        "SI-SDR_mask", "sp_SNR_mask", "sp_SI-SNR_mask", "mel_cep_dist_mask", "sp_SNR", "sp_SI-SNR",
        "mel_cep_dist",
    } < set(result.measures)  # fmt: skip
    assert result.statistics("sp_SNR").mean < 0 < result.statistics("sp_SNR_mask").mean
    assert result.statistics("f0_raw_pitch").mean == 0.75
    assert result.statistics("f0_raw_pitch", voices="s").mean == 0
    assert result.statistics("f0_raw_chroma").mean == 1
    assert result.statistics("f0_f_measure").mean == pytest.approx(0.75)
    only = evaluate_separator(identity, find_songs(songs), compute=["sp_SNR"], **options)
    assert set(only.measures) == {"SI-SDR_mixture", "SI-SDR_oracle", "sp_SNR"}
    assert "this separator, synthesised" in only.markdown()
    with pytest.raises(ValueError, match="compute must be"):
        evaluate_separator(identity, find_songs(songs), compute=["SDR"])
    with pytest.raises(ValueError, match="need synthesise="):
        evaluate_separator(identity, find_songs(songs), compute="all_no_mask")
    with pytest.raises(ValueError, match="'f0_infos' needs track="):
        evaluate_separator(identity, find_songs(songs), compute=["f0_infos"])


def test_tracks_of_the_mixture_are_judged_by_the_singers(tmp_path: Path) -> None:
    pytest.importorskip("mir_eval")
    song = find_songs(choir(tmp_path / "Nino_Dios"))
    options: dict[str, Any] = {"f0": "mixture", "length": N, "compute": ["f0_infos"], "context": 2}
    result = evaluate_separator(identity, song, singers=2, **options)
    assert result.statistics("f0_raw_pitch").mean == 1
    assert result.settings["singers"]["Nino_Dios"] == [["s", 2], ["a", 2], ["t", 2], ["b", 2]]
    wrong = evaluate_separator(
        identity, song, singers=2, perturb=lambda f0: transpose_f0(f0, 1), **options
    )
    assert wrong.statistics("f0_raw_pitch").mean == 0


def test_which_singers_make_the_mixtures(tmp_path: Path) -> None:
    (song,) = find_songs(choir(tmp_path / "Nino_Dios"))
    with pytest.raises(InputError, match="'Nino_Dios': no singer 4 of voice 's', there are 1, 2"):
        evaluate_separator(identity, [song], length=N)
    result = evaluate_separator(identity, [song], length=N, singers={"Nino_Dios": 2}, limit=1)
    assert result.excerpts[0].singers == (("s", 2), ("a", 2), ("t", 2), ("b", 2))
    pairs = evaluate_separator(identity, [song], length=N, singers=1, voices=2)
    assert len(pairs.excerpts) == 12 and pairs.excerpts[0].values["SI-SDR_mask"].shape == (2, 1)
    assert pairs.statistics("SI-SDR_mask", voices="b").count == 6


def test_noise_has_one_seed_and_leaves_none(songs: Path) -> None:
    def noisy(mixture: Tensor, f0: Tensor) -> Tensor:
        return identity(mixture, f0) + torch.randn(f0.shape[1], 1)

    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        result = evaluate_separator(noisy, find_songs(songs), length=N, compute=["SI-SDR_mask"])
        assert torch.equal(state, torch.get_rng_state())
        found.append(result.to_json())
    assert found[0] == found[1]


def test_a_separator_of_another_shape(songs: Path) -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 4, 16000\), got \(2, 16000\)"):
        evaluate_separator(lambda mixture, f0: mixture, find_songs(songs), length=N)
    with pytest.raises(InputError, match="no excerpt of 16000 samples from number 3 on"):
        evaluate_separator(identity, find_songs(songs), length=N, first=3)
    with pytest.raises(InputError, match="no songs"):
        evaluate_separator(identity, [])


def test_test_sets(tmp_path: Path) -> None:
    choir(tmp_path / "CSD" / "Nino_Dios", 0.1, f0=False)
    for name in ("1_BC001_part1", "8_BC008_part1"):
        quartet(tmp_path / "BC" / "audio_16kHz", f"{name}_{{}}_1ch.wav", 0.1)
    for name in ("CEA", "VBP"):
        quartet(tmp_path / name, f"Cantoria_{name}_{{}}.wav", 0.1)
    found = {
        name: [s.name for s in test_songs(tmp_path, name)] for name in ("CSD", "BCBQ", "cantoria")
    }  # type: ignore[arg-type]
    assert found == {"CSD": ["Nino_Dios"], "BCBQ": ["8_BC008_part1"], "cantoria": ["CEA"]}
    assert len(test_songs(tmp_path)) == 5
    with pytest.raises(InputError, match="no song of the test set 'CSD'"):
        test_songs(tmp_path / "BC", "CSD")
    with pytest.raises(ValueError, match="test_set must be"):
        test_songs(tmp_path, "MUSDB")  # type: ignore[arg-type]


def test_files_and_tables(tmp_path: Path) -> None:
    choir(tmp_path / "Nino_Dios")
    result = evaluate(
        *(identity, tmp_path),
        test_set="CSD",
        f0_from_mix=True,
        out=tmp_path / "out",
        singers=1,
        length=N,
        label="nothing",
    )
    text = (tmp_path / "out" / "evaluation.md").read_text()
    assert text == result.markdown()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if "|" in line
    ]
    assert len({len(row) for row in rows}) == 2
    first = {row[0]: row for row in rows if row[0] in ("nothing", "mixture", "W-Up")}
    assert (
        first["nothing"][3] == first["mixture"][3] == f"{result.statistics('SI-SDR_mask').mean:.2f}"
    )
    assert first["W-Up"][1:6] == ["BCBSQ", "notebook", "6.20", "6.91", "7.49"]
    assert ["Nino_Dios", "mixture", "", "measured", "-5.64"] in [row[:5] for row in rows]
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert data["settings"]["test_set"] == "CSD" and data["settings"]["f0"] == "mixture"
    assert data["summary"]["SI-SDR_mask"]["voices"]["s"]["count"] == 2
    assert data["summary"]["SI-SDR_mask"]["songs"]["Nino_Dios"]["all"]["count"] == 8
    assert len(data["excerpts"]) == 2
    plain = evaluate(identity, tmp_path, singers=1, length=N, f0_from_mix=True)
    assert "W-Up" not in plain.markdown()


def test_parts_of_ten_seconds_begin_with_their_first_excerpt(tmp_path: Path) -> None:
    quartet(tmp_path, "8_BC008_part1_{}_1ch.wav")
    result = evaluate(identity, tmp_path, test_set="BCBQ", length=N)
    assert [found.start for found in result.excerpts] == [0, 1, 2]


def test_published_numbers_are_whole() -> None:
    keys = [(r.test_set, r.model, r.training, r.song, r.sources) for r in RESULTS]
    assert len(set(keys)) == len(keys)
    for entry in RESULTS:
        assert entry.mean is not None or entry.voices is not None
        if entry.voices is not None and entry.mean is not None and entry.source == "measured":
            assert entry.mean == pytest.approx(np.mean(entry.voices), abs=0.25)


def test_perturbations() -> None:
    f0 = torch.tensor([[[0.0, 100], [30, 200]]])
    assert shift_f0(f0, -60).tolist() == [[[0, 40], [0, 140]]]
    assert transpose_f0(f0, -12).tolist() == [[[0, 50], [15, 100]]]
    assert mute_voices(f0, [1]).tolist() == [[[0, 100], [0, 0]]]
    assert f0[0, 1, 1] == 200
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        mute_voices(f0, [2])
    many = torch.full((4, 10000), 100.0)
    muted = mute_frames(many, 0.3, torch.Generator().manual_seed(1))
    assert float((muted == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(muted, mute_frames(many, 0.3, torch.Generator().manual_seed(1)))
    with pytest.raises(ValueError, match="share must be"):
        mute_frames(many, 1.5, torch.Generator())
    tests = published_perturbations()
    count = {test.test: sum(t.test == test.test for t in tests) for test in tests}
    assert count == {"shift": 40, "octaves": 7, "muted voices": 15, "muted frames": 33}
    by_name = {(test.test, test.amount): test for test in tests}
    generator = torch.Generator().manual_seed(0)
    apply = {key: test.apply(many[None], generator) for key, test in by_name.items()}
    assert (
        float(apply["shift", "-60 Hz"].max()) == 40 and float(apply["shift", "+57 Hz"].max()) == 157
    )
    assert float(apply["octaves", "+3"].max()) == 800
    assert apply["muted voices", "SB"][0].amax(1).tolist() == [0, 100, 100, 0]
    assert by_name["muted voices", "SB"].muted == "sb"
    assert float((apply["muted frames", "99 %"] == 0).float().mean()) == pytest.approx(
        0.99, abs=5e-3
    )


def test_robustness(songs: Path) -> None:
    wanted = {
        ("shift", "-60 Hz"),
        ("octaves", "+1"),
        ("muted voices", "SA"),
        ("muted frames", "99 %"),
    }
    tests = [test for test in published_perturbations() if (test.test, test.amount) in wanted]
    options: dict[str, Any] = {"length": N, "limit": 1, "perturbations": tests}
    table = robustness_table(comb_separator("constant"), find_songs(songs), **options)
    none, shift, octave, muted, frames = table.rows
    assert none.test == "none" and none.all.mean == none.sounding.mean > 10
    for row in (shift, octave, frames):
        assert row.all.mean < none.all.mean - 5
    assert muted.voices["s"] == muted.voices["a"] == -80 and muted.sounding.mean > -10
    assert table.to_json()["rows"][3]["amount"] == "SA"
    lines = table.markdown().splitlines()
    assert len(lines) == 7 and lines[5].startswith("| muted voices | SA |")
    again = robustness_table(comb_separator("constant"), find_songs(songs), **options)
    assert again == table


def test_a_real_choir(shared: Path) -> None:
    """Singers 1: over all excerpts -5.65 and 4.64 dB, in benchmarks/results/choral_separation."""
    songs = find_songs(shared / "data" / "choral")
    result = evaluate_separator(
        *(comb_separator("constant"), songs),
        compute=["SI-SDR_mask"],
        f0="mixture",
        singers=1,
        limit=4,
    )
    assert result.statistics("SI-SDR_mixture").count == 64
    assert result.statistics("SI-SDR_mixture").mean == pytest.approx(-5.94, abs=0.02)
    assert result.statistics("SI-SDR_oracle").mean == pytest.approx(10.15, abs=0.05)
    assert result.statistics("SI-SDR_mask").mean == pytest.approx(3.80, abs=0.05)
