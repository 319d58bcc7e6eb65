"""What is in the page, read without a browser."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from report.pages import EXAMPLES, HOSTILE, LEVELS, RATE, tone, write_page

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

VOID = {"meta", "link", "br", "img", "input"}


class Reader(HTMLParser):
    """Every tag with its attributes; all that is opened has to be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("script", "style"):
            self.text.append(data)

    def close(self):
        super().close()
        assert not self._open


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    return reader


def data_of(script: Path) -> dict:
    """What a data script hands to the page."""
    key, content = re.fullmatch(r"pageData\[(.*?)\] = (.*);\n", script.read_text()).groups()
    assert script.as_posix().endswith(f"/{json.loads(key)}.js")
    return json.loads(content)


def test_names_are_text_and_never_markup(page: Path, read: Reader) -> None:
    text = "".join(read.text)
    assert text.count(HOSTILE) == 5  # title, head, example, settings, note
    assert [tag for tag, _ in read.tags].count("script") == 1
    assert not any(attribute.startswith("on") for _, found in read.tags for attribute in found)
    assert any(found.get("aria-label") == f"Play {HOSTILE}" for _, found in read.tags)


def test_the_page_loads_nothing_from_elsewhere(page: Path, read: Reader) -> None:
    loaded = [found.get("src") or found.get("href") for _, found in read.tags]
    paths = [path for path in loaded if path and not path.startswith(("#", "data:"))]
    assert len(paths) == 3 * EXAMPLES + 1
    assert all((page.parent / path).is_file() for path in paths)
    source = re.sub(r"http://www\.w3\.org/[\w/]+", "", page.read_text())  # names of vocabularies
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", source)


def test_what_can_be_operated_has_a_name(read: Reader) -> None:
    names = {"button", "input"}
    controls = [found for tag, found in read.tags if tag in names]
    labelled = [c for c in controls if c.get("aria-label") or c.get("type") == "checkbox"]
    assert len(controls) == len(labelled) == EXAMPLES * 13 + 1
    assert all(found["alt"] for tag, found in read.tags if tag == "img")
    assert all(found["loading"] == "lazy" for tag, found in read.tags if tag == "img")
    identities = [found["id"] for _, found in read.tags if "id" in found]
    assert len(identities) == len(set(identities))


def test_the_sounds_are_those_of_the_example(page: Path) -> None:
    audio = data_of(page.parent / "examples" / "01.js")
    assert len(audio) == 10
    for (source, version), level in LEVELS.items():
        content = base64.b64decode(audio[f"{source}-{version}"])
        samples, rate = soundfile.read(io.BytesIO(content))
        assert rate == RATE
        np.testing.assert_allclose(samples, level * tone(), atol=1e-4)


def test_the_basis_is_there_by_component(page: Path) -> None:
    basis = data_of(page.parent / "basis.js")
    assert basis["frequencies"] == sorted(basis["frequencies"])
    assert list(basis["responses"]) == ["carrier", "modulator", "result"]
    for content in basis["responses"].values():
        levels = np.frombuffer(base64.b64decode(content), np.uint8)
        levels = levels.reshape(40, basis["points"])
        assert (levels.max(axis=1) > 250).all()  # each has its own largest value at the top


def test_a_large_basis_and_a_page_without_anything(tmp_path: Path) -> None:
    from rlsv_fast import nn
    from rlsv_fast.report.components import sorted_components
    from rlsv_fast.report.page import Page

    sizes = (2000, 16, 8)
    model = nn.RepresentationModel(nn.ConvEncoder(*sizes), nn.ConvDecoder(*sizes))
    page = Page(tmp_path, sorted_components(model, RATE), RATE, 8, "bare")
    page.write(curves={}, evaluation=None, settings={}, figures=[], notes=[], step=None)
    reader = Reader()
    reader.feed(page.files[-1].read_text())
    reader.close()
    assert [path.name for path in page.files] == ["basis.png", "basis.js", "index.html"]
    assert list(data_of(tmp_path / "basis.js")["responses"]) == ["result"]
