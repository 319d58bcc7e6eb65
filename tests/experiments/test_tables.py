"""Tables from evaluations whose numbers are known."""

import csv
import json
from pathlib import Path

import pytest

from rlsv_fast import evaluation, experiments
from rlsv_fast.evaluation import Evaluation, Segment
from rlsv_fast.experiments.results import as_json
from rlsv_fast.experiments.runs import runs_of

SCALE = experiments.SCALES["small"]
FACTS = {"data": "made up", "train_tracks": 1, "test_tracks": 1, "minutes": 1.0, "commit": None}


def made(folder: Path, run: experiments.Run, values: list[float], **settings: object) -> None:
    """An evaluation in which every quantity has these values on its segments."""
    quantities = ("reconstruction_si_sdr", "mask_si_sdr", "additivity")
    segments = [
        Segment(
            "song",
            float(number),
            {
                "learned": dict.fromkeys(quantities, value),
                "stft_hamming": dict.fromkeys(quantities, 7.0),
            },
        )
        for number, value in enumerate(values)
    ]
    found = Evaluation({"convention": "paper"}, evaluation.summarize(segments), segments, 0)
    facts = {"step": 5, "parameters": 1234, "finished": True, **settings}
    evaluation.write_json(found, folder / run.name / "evaluation.json", settings=facts)


def table(name: str, folder: Path, values: dict[tuple[int, int], list[float]]) -> experiments.Table:
    """The table of runs with these values, by cell and seed."""
    experiment = experiments.build(name, SCALE, lambda convention: 0.3)
    for (cell, seed), numbers in values.items():
        run = runs_of(experiment.cells[cell], SCALE, experiment.seeds)[seed]
        made(folder, run, numbers)
    return experiments.tabulate(experiment, SCALE, folder, FACTS)


def test_medians_over_segments_and_runs(tmp_path: Path) -> None:
    found = table(
        "eusipco-table1", tmp_path, {(0, 0): [1, 2, 9], (0, 1): [3, 4, 20], (0, 2): [5, 6, 7]}
    )
    result = found.rows[0].results["reconstruction_si_sdr"]
    assert result.median == 5 and result.mean == pytest.approx(57 / 9)
    assert result.per_seed == (2, 4, 6) and result.seed_std == 2
    assert result.difference == pytest.approx(5 - 20.83)
    line = experiments.markdown(found).splitlines()[6]
    assert "| 5.00 [2.00, 6.00] | 20.83 | −15.83 | 3 of 3 |" in line
    assert "1,234 | 6.483M" in line


def test_means_and_deviations(tmp_path: Path) -> None:
    found = table("sinkhorn-table1", tmp_path, {(0, 0): [1, 3, float("nan")]})
    result = found.rows[0].results["mask_si_sdr"]
    assert (result.mean, result.std, result.excluded) == (2, 1, 1)
    assert result.seed_std is None and result.difference == pytest.approx(2 - 4.43)
    text = experiments.markdown(found)
    assert "| 2.00 ± 1.00 | 4.43 ± 4.98 | −2.43 |" in text
    stft = found.rows[-1]
    assert stft.stft and stft.results["additivity"].difference == pytest.approx(7 - 0.86)
    assert "reconstruction_si_sdr" not in stft.results


def test_missing_runs_are_shown(tmp_path: Path) -> None:
    found = table("eusipco-table1", tmp_path, {(0, 0): [1.0], (2, 1): [1.0]})
    text = experiments.markdown(found)
    assert text.count("missing (0 of 3)") == 5 and text.count("| 1 of 3 |") == 2
    assert "- conv / cos, linear, 90: 2 of 3 runs" in text
    assert "- sinc / mod-cos, squared, 90: 3 of 3 runs" in text
    assert as_json(found)["missing_runs"] == 7 * 3 - 2
    assert "no steps" in experiments.markdown(table("sinkhorn-figure3", tmp_path, {}))


def test_an_evaluation_made_by_hand_does_not_count(tmp_path: Path) -> None:
    experiment = experiments.build("sinkhorn-figure3", SCALE, lambda convention: 0.3)
    (run,) = runs_of(experiment.cells[0], SCALE, experiment.seeds)
    made(tmp_path, run, [1.0], finished=None)
    assert experiments.finished(run, tmp_path) is None


def test_files(tmp_path: Path) -> None:
    found = table("sinkhorn-figure3", tmp_path / "runs", {(1, 0): [1.0, 2.0]})
    files = experiments.write_table(found, tmp_path / "out")
    assert [file.name for file in files] == ["table.md", "table.csv", "table.json"]
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert rows[1]["mask_si_sdr_mean"] == "1.5" and rows[1]["mask_si_sdr_published"] == "4.66"
    assert float(rows[1]["mask_si_sdr_difference"]) == pytest.approx(1.5 - 4.66)
    assert rows[0]["mask_si_sdr_mean"] == "" and rows[0]["runs"] == "0"
    data = json.loads(files[2].read_text())
    assert data["rows"][1]["results"]["additivity"]["per_seed"] == [1.5]
    assert data["facts"]["preset"] == "small" and data["facts"]["steps"] == [5]
