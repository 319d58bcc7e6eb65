"""The page of a separator of ensembles, read without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from umss.choir_files import quartet

from report.pages import HOSTILE, RATE, VOICE_LEVELS, ensemble_example, tone, write_ensemble_page
from report.test_page import Reader, data_of
from rlsv_fast import umss
from rlsv_fast.cli import main
from rlsv_fast.errors import InputError
from rlsv_fast.report.ensemble import EnsembleExample, EnsemblePage
from rlsv_fast.umss.settings import SCHEMA

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    return reader


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ensemble_page(tmp_path_factory.mktemp("page"))


def test_names_are_text_and_nothing_comes_from_elsewhere(page: Path) -> None:
    reader = read(page)
    # title, head, example, row and note of the table, settings, note
    assert "".join(reader.text).count(HOSTILE) == 7
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert not any(name.startswith("on") for _, found in reader.tags for name in found)
    loaded = [found.get("src") or found.get("href") for _, found in reader.tags]
    paths = [path for path in loaded if path and not path.startswith(("#", "data:"))]
    assert len(paths) == 2 * 3
    assert all((page.parent / path).is_file() for path in paths)
    source = re.sub(r"http://www\.w3\.org/[\w/]+", "", page.read_text())
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", source)
    identities = [found["id"] for _, found in reader.tags if "id" in found]
    assert len(identities) == len(set(identities))


def test_every_version_can_be_chosen_and_has_a_name(page: Path) -> None:
    radios = [found for tag, found in read(page).tags if found.get("type") == "radio"]
    assert len(radios) == 2 * 7
    labels = [str(radio["aria-label"]) for radio in radios[:7]]
    assert labels[:3] == ["mixture, input ", "soprano, true ", "soprano, separated 12.3 dB"]
    assert [number for number, radio in enumerate(radios) if "checked" in radio] == [0, 7]
    audio = data_of(page.parent / "examples" / "01.js")
    assert set(audio) == {radio["value"] for radio in radios}
    for (voice, version), level in VOICE_LEVELS.items():
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(audio[f"{voice}-{version}"])))
        assert rate == RATE
        np.testing.assert_allclose(samples, level * tone(), atol=1e-4)


def test_tracks_lie_over_the_harmonics_of_the_spectrogram(page: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    paths = [found for tag, found in read(page).tags if tag == "path" and "stroke" in found]
    soprano = str(paths[2]["d"])
    assert soprano.count("M") == 2
    pixels = np.asarray(image.open(page.parent / "examples" / "01-1.png").convert("L"))
    places = [tuple(map(float, place)) for place in re.findall(r"[ML]([\d.]+) ([\d.]+)", soprano)]
    assert len(places) == 400
    height, width = pixels.shape
    for x, y in places[10::40]:
        column = pixels[:, int(x / 1000 * width)]
        assert abs(column.argmax() - y / 1000 * height) < 4


def test_more_sounds_than_a_browser_has_channels(tmp_path: Path) -> None:
    example = ensemble_example("many")
    signals = {(f"v{n}", "separated"): example.mixture for n in range(32)}
    many = EnsembleExample("many", RATE, 0.0, example.mixture, (), signals, {}, example.f0)
    with pytest.raises(ValueError, match="at most 32 sounds, got 33"):
        EnsemblePage(tmp_path, "many").add_example(many)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Songs, and a run of two steps on one of them."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("one", "two"):
        quartet(folder / "songs" / name, seconds=2.0)
    settings = ("data.segment_length=8192", "data.validation=two", "data.passes=1")
    more = ("training.batch_size=1", "training.max_steps=2", "training.epochs=2")
    chosen = [word for setting in (*settings, *more) for word in ("--set", setting)]
    songs, run = folder / "songs", folder / "run"
    assert main(["umss", "train", f"--root={songs}", *chosen, f"--out={run}"]) == 0
    return songs, run


def test_the_command(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    songs, run = trained
    out = tmp_path / "page"
    command = ["umss", "report", str(run), f"--root={songs}", "--examples=1", "--seconds=1.5"]
    assert main(["umss", "evaluate", str(run), f"--root={songs}", f"--out={tmp_path}"]) == 0
    (run / "evaluation").mkdir()
    (tmp_path / "evaluation.json").rename(run / "evaluation" / "evaluation.json")
    capsys.readouterr()
    assert main([*command, f"--out={out}"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(out / "index.html")] and printed.err == ""
    text = "".join(read(out / "index.html").text)
    assert "two, singers s1, a1, t1, b1" in text  # what the run validates on
    assert "separated, SI-SDR (dB)" in text and "Not evaluated" not in text
    assert re.search(r"training steps\s*2", text)
    audio = data_of(out / "examples" / "01.js")
    assert len(audio) == 13
    voices = [
        soundfile.read(io.BytesIO(base64.b64decode(audio[f"{voice}-separated"])))[0]
        for voice in umss.VOICES
    ]
    mixture = soundfile.read(io.BytesIO(base64.b64decode(audio["mixture-input"])))[0]
    assert len(mixture) == 94 * 256
    np.testing.assert_allclose(sum(voices), mixture, atol=1e-3)
    assert main([*command, f"--out={out}"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main([*command[:-1], "--seconds=99", f"--out={out}-2"]) == 2


def test_measures_are_read_back(trained: tuple[Path, Path], tmp_path: Path) -> None:
    songs = umss.find_songs(trained[0])
    result = umss.evaluate_separator(umss.comb_separator(), songs, length=16000)
    umss.write_result(result, tmp_path)
    path = tmp_path / "evaluation.json"
    again = umss.read_result(path)
    assert again.markdown() == result.markdown()
    found = json.loads(path.read_text())
    for spoiled in ([], {**found, "excerpts": [{"song": "x"}]}, {**found, "excerpts": 3}):
        path.write_text(json.dumps(spoiled))
        with pytest.raises(InputError, match="evaluate again"):
            umss.read_result(path)


def test_a_page_without_anything(tmp_path: Path) -> None:
    config = SCHEMA.resolve()
    made = umss.write_report(config, umss.EnsembleModel(config), tmp_path)
    assert [note.partition(":")[0] for note in made.notes] == [
        "no loss curves",
        "no measures",
        "no examples",
    ]
    text = "".join(read(made.page).text)
    assert made.files == [made.page] and "No excerpts" in text and "Not evaluated" in text


def test_a_u_net_synthesises_nothing(trained: tuple[Path, Path], tmp_path: Path) -> None:
    config = SCHEMA.resolve("u-net")
    songs = umss.find_songs(trained[0])
    model = umss.EnsembleModel(config)
    made = umss.write_report(config, model, tmp_path, songs=songs, examples=9, seconds=1.0)
    audio = [data_of(path) for path in made.files if path.suffix == ".js"]
    assert len(audio) == 4 and all(len(sounds) == 9 for sounds in audio)
    # the songs take turns
    names = [str(found["alt"]) for tag, found in read(made.page).tags if tag == "img"][::5]
    assert [name.split()[5].strip(",") for name in names] == ["one", "two"] * 2
    assert made.notes[-1].startswith("4 of 9 examples")
