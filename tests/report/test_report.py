import json
import sys
from html import unescape

import numpy as np
import pytest
import torch

from rlsv_fast import nn
from rlsv_fast.data import PreparedTrack
from rlsv_fast.errors import MissingPackage
from rlsv_fast.evaluation import Evaluation, Segment, summarize
from rlsv_fast.report import magnitude_response, read_curves, representation_figure, write_report
from rlsv_fast.report.curves import smoothed, thinned
from rlsv_fast.report.examples import busiest
from rlsv_fast.report.scores import score_figure
from rlsv_fast.report.style import hertz

RATE = 800
SIZES = (12, 32, 8)

matplotlib_needed = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("matplotlib"), reason="matplotlib is missing"
)


def model(kind="modulated"):
    decoder = nn.ConvDecoder(*SIZES)
    if kind != "conv":
        decoder = nn.ModulatedCosineDecoder(*SIZES, sample_rate=RATE)
    return nn.RepresentationModel(nn.ConvEncoder(*SIZES), decoder)


def example(samples=1000):
    voice, accompaniment = np.random.default_rng(0).standard_normal((2, samples), dtype=np.float32)
    return PreparedTrack("song", RATE, voice + accompaniment, voice, accompaniment)


def evaluation(segments):
    random = np.random.default_rng(1)
    rows = []
    for index in range(segments):
        one, two, three, four, five, six = random.standard_normal(6).tolist()
        learned = {"reconstruction_si_sdr": one, "mask_si_sdr": two, "additivity": three}
        stft = {"reconstruction_si_sdr": 140.0, "mask_si_sdr": four, "additivity": five}
        values = {"learned": learned, "stft_hamming": stft, "mixture": {"si_sdr": six}}
        rows.append(Segment("song", float(index), values))
    return Evaluation({"convention": "paper"}, summarize(rows), rows, 0)


def log(path, steps):
    records = [{"kind": "start"}]
    for step in range(1, steps + 1):
        losses = {"total": -step, "reconstruction": -float(step), "representation": 0.5}
        records.append({"kind": "step", "step": step, **losses})
    path.write_text("\n".join(map(json.dumps, records)) + '\n{"kind": "st')
    return path


@matplotlib_needed
@pytest.mark.parametrize("segments", [1, 30])
def test_everything_is_drawn(tmp_path, segments):
    report = write_report(
        model(),
        tmp_path / "report",
        sample_rate=RATE,
        log=log(tmp_path / "log.jsonl", 50),
        evaluation=evaluation(segments),
        examples=[example()],
        seconds=0.5,
    )
    assert report.page == tmp_path / "report" / "index.html"
    assert report.notes == []
    names = ["basis", "carriers", "losses", "representation", "responses", "scores"]
    figures = sorted((tmp_path / "report" / "figures").iterdir())
    assert [file.name for file in figures] == [f"{name}.png" for name in names]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in figures)
    written = {path for path in (tmp_path / "report").rglob("*") if path.is_file()}
    assert set(report.files) == written  # nothing half-written


@matplotlib_needed
def test_what_is_missing_is_noted(tmp_path):
    report = write_report(
        model("conv"), tmp_path, sample_rate=RATE, log=log(tmp_path / "log.jsonl", 0)
    )
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["responses.png"]
    for name in ("carriers", "loss curves", "scores", "examples"):
        assert any(note.startswith(f"no {name}: ") for note in report.notes)
    assert all(note in unescape(report.page.read_text()) for note in report.notes)


@matplotlib_needed
def test_an_example_without_samples_or_that_is_not_finite_is_noted(tmp_path):
    broken = model()
    with torch.no_grad():
        broken.encoder.kernels[0, 0] = torch.nan
    report = write_report(broken, tmp_path, sample_rate=RATE, examples=[example(0), example()])
    missing = [note for note in report.notes if note.startswith("an example is missing: ")]
    assert "has no samples" in missing[0] and "not finite" in missing[1]
    assert not (tmp_path / "examples").exists()


@matplotlib_needed
def test_scores_of_another_step_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("rlsv_fast.report.write.write_figures", lambda *_, **__: [])
    found = evaluation(2)
    for made, drawn in ((5, True), (4, False), (None, False)):
        found.settings["step"] = made
        out = tmp_path / str(made)
        report = write_report(model(), out, sample_rate=RATE, evaluation=found, step=5)
        assert ("learned representation</th>" in report.page.read_text()) == drawn
        assert any(f"made at step {made}" in note for note in report.notes) != drawn


@matplotlib_needed
@pytest.mark.parametrize(("convention", "window"), [("paper", "Hamming"), ("code", "Hann")])
def test_scores_stand_beside_the_stft_of_the_convention(convention, window):
    found = evaluation(30)
    for row in found.segments:
        row.values["stft_hann"] = {"mask_si_sdr": 20.0, "additivity": 20.0}
    found.settings["convention"] = convention
    for axis in score_figure(found).axes[1:]:
        assert axis.get_xticklabels()[1].get_text() == f"STFT\n({window})"
        shown = "20." in " ".join(text.get_text() for text in axis.texts)
        assert shown == (convention == "code")


@matplotlib_needed
def test_degenerate_inputs_are_drawn_without_warnings(tmp_path, recwarn):
    dead = model()
    with torch.no_grad():
        dead.decoder.modulator.zero_()
        dead.decoder.frequency[0] = 0
        dead.encoder.kernels.zero_()
    write_report(
        dead,
        tmp_path,
        sample_rate=RATE,
        log=log(tmp_path / "log.jsonl", 1),
        evaluation=evaluation(2),
        examples=[example(5)],
    )
    assert not [str(warning.message) for warning in recwarn]


@matplotlib_needed
def test_figures_leave_no_global_state():
    import matplotlib

    before = dict(matplotlib.rcParams)
    image = np.ones((4, 5))
    figure = representation_figure(image, image, image, hop=8, sample_rate=RATE, start=2.0)
    assert dict(matplotlib.rcParams) == before
    assert figure.axes[0].get_xlim() == (2.0, 2.05)
    assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_without_a_package_the_remedy_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=r"pip install 'rlsv_fast\[report\]'"):
        write_report(model(), tmp_path / "report", sample_rate=RATE)
    assert not (tmp_path / "report").exists()


def test_response_of_a_cosine_peaks_at_its_frequency():
    time = np.arange(64)
    cosines = np.cos(2 * np.pi * np.array([[8], [16]]) / 64 * time)
    response = magnitude_response(cosines)
    assert response.shape == (2, 33)
    assert response.argmax(axis=-1).tolist() == [8, 16]
    assert response.max() == 0
    assert np.isfinite(magnitude_response(np.zeros((1, 8)))).all()


def test_curves_of_a_log():
    records = [
        {"kind": "start", "step": 0},
        {"kind": "step", "step": 1, "total": 1.0, "reconstruction": 2, "representation": 0.0},
        {"kind": "step", "step": 2, "total": None, "reconstruction": 3, "representation": 0.0},
        {"kind": "epoch", "step": 2, "total": 9.0},
        {"kind": "step", "total": 9.0},
    ]
    curves = read_curves(records)
    assert sorted(curves) == ["reconstruction", "total"]  # no representation loss: no curve
    assert curves["total"][0].tolist() == [1]
    assert curves["reconstruction"][1].tolist() == [2, 3]


def test_smoothing_keeps_length_mean_and_constants():
    assert smoothed(np.array([5.0])).tolist() == [5.0]
    np.testing.assert_allclose(smoothed(np.full(500, 2.0)), 2.0)
    line = np.arange(600.0)
    np.testing.assert_allclose(smoothed(line)[10:-10], line[10:-10])


def test_thinning_keeps_the_extremes():
    values = np.random.default_rng(0).standard_normal(100_000)
    steps, kept = thinned(np.arange(100_000.0), values)
    assert len(steps) == len(kept) <= 1300
    assert (kept.min(), kept.max()) == (values.min(), values.max())
    assert (np.diff(steps) >= 0).all()
    few = np.arange(900.0)
    assert all(part is few for part in thinned(few, few))


def test_the_excerpt_is_where_both_sources_sound():
    track = example(1000)
    track.voice[:500] = 0
    track.accompaniment[750:] = 0
    assert busiest(track, 200) in (500, 550)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1e-14, "0"), (0.1, "0.1"), (1500, "1.5k"), (22050, "22.1k")]
)
def test_hertz(value, text):
    assert hertz(value) == text
