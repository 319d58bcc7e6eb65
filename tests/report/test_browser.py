"""The page in a browser, from its file: what is heard, seen and operated."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report.pages import (
    HIGHEST,
    LEVELS,
    LOWEST,
    SECONDS,
    VOICE_LEVELS,
    write_ensemble_page,
    write_page,
)

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
selenium = pytest.importorskip("selenium", reason="selenium is missing")

from selenium.webdriver import ActionChains, Chrome, ChromeOptions, Keys  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Everything that goes to the loudspeakers also goes into `heard`, without a loss.
TAP = """
window.heard = [];
const tap = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process([[samples]]) {
    this.port.postMessage(samples ?? new Float32Array(128));
    return true;
  }
})`;
const { connect } = AudioNode.prototype;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) connect.call(this, this.context.tap);
  return connect.call(this, target, ...rest);
};
const { resume } = AudioContext.prototype;
AudioContext.prototype.resume = async function () {
  await resume.call(this);
  if (this.tap) return;
  await this.audioWorklet.addModule("data:text/javascript," + encodeURIComponent(tap));
  this.tap = new AudioWorkletNode(this, "tap");
  this.tap.port.onmessage = ({ data }) => heard.push(...data);
  connect.call(this.tap, this.destination);
  window.heardRate = this.sampleRate;
};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium with its driver on this machine")
    options = ChromeOptions()
    options.binary_location = binary
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"),
        "--force-prefers-reduced-motion",  # no smooth scrolling, after which clicks would miss
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = Chrome(options=options, service=Service(driver))
    found.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": TAP})
    yield found
    found.quit()


@pytest.fixture
def shown(browser: Chrome, page: Path) -> Iterator[Chrome]:
    """The page, freshly loaded."""
    with visit(browser, page):
        yield browser


@contextmanager
def visit(browser: Chrome, page: Path) -> Iterator[None]:
    """A page, freshly loaded; nothing that is done there may complain or leave the folder."""
    screen(browser, 1280)
    browser.get(page.as_uri())
    yield
    assert browser.get_log("browser") == []
    home = page.parent.as_uri() + "/"
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert page.as_uri() in asked
    assert [url for url in asked if not url.startswith((home, "data:", "blob:"))] == []


def screen(browser: Chrome, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 1000}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme_is = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme_is})


def wait_for(what: Callable[[], Any], seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


class Example:
    """What a visitor does with one of the players."""

    def __init__(self, browser: Chrome, number: int = 1) -> None:
        self.browser = browser
        self.article = browser.find_elements(By.CSS_SELECTOR, ".example")[number - 1]
        self.button = self.article.find_element(By.CSS_SELECTOR, ".play")

    def choose(self, source: str, version: str) -> None:
        self.article.find_element(By.CSS_SELECTOR, f"[value={source}-{version}]").click()

    def chosen(self) -> str:
        return self.article.find_element(By.CSS_SELECTOR, ".version :checked").get_property("value")

    @property
    def playing(self) -> bool:
        return self.button.get_attribute("aria-pressed") == "true"

    @property
    def position(self) -> float:
        return float(self.article.find_element(By.CSS_SELECTOR, ".seek").get_property("value"))

    @property
    def playhead(self) -> float:
        """Of the width of the pictures."""
        script = """
            const head = arguments[0].querySelector(".playhead i").getBoundingClientRect();
            const stack = arguments[0].querySelector(".stack").getBoundingClientRect();
            return (head.left - stack.left) / stack.width;"""
        return self.browser.execute_script(script, self.article)

    def click_pictures(self, place: float) -> None:
        """From 0 to 1."""
        stack = self.article.find_element(By.CSS_SELECTOR, ".stack")
        offset = (place - 0.5) * stack.size["width"]
        moved = ActionChains(self.browser, duration=0).move_to_element_with_offset(stack, offset, 0)
        moved.click().perform()

    def play_until(self, seconds: float) -> None:
        if not self.playing:
            self.button.click()
        wait_for(lambda: self.position >= seconds)


def heard(browser: Chrome) -> tuple[np.ndarray, np.ndarray]:
    """Time and samples of what went to the loudspeakers, from the first sound to the last."""
    silent = "return heard.length > 0 && heard.slice(-8000).every((sample) => sample === 0)"
    wait_for(lambda: browser.execute_script(silent))
    samples = np.array(browser.execute_script("return heard"))
    loud = np.flatnonzero(np.abs(samples) > 1e-3)
    assert len(loud), "nothing was heard"
    samples = samples[loud[0] : loud[-1] + 1]
    return np.arange(len(samples)) / browser.execute_script("return heardRate"), samples


def test_it_plays_and_the_playhead_follows(shown: Chrome) -> None:
    example = Example(shown)
    assert not example.playing and example.position == example.playhead == 0
    example.play_until(0.5)
    first = example.playhead
    example.play_until(1.0)
    assert 0.4 / SECONDS < first < example.playhead < 1
    example.button.click()
    assert not example.playing
    stopped = example.position
    assert example.playhead == pytest.approx(stopped / SECONDS, abs=0.02)
    time.sleep(0.2)
    assert example.position == stopped
    example.play_until(stopped + 0.2)  # goes on where it was
    example.click_pictures(0.9)  # a click into the pictures goes there
    assert example.position > 0.85 * SECONDS
    wait_for(lambda: not example.playing)  # and ends
    assert example.position == SECONDS
    _, samples = heard(shown)
    level = LEVELS["mixture", "input"]
    assert np.sqrt(2 * np.mean(samples[:20000] ** 2)) == pytest.approx(level, rel=0.1)


def test_switching_keeps_the_place_to_the_sample_and_leaves_no_gap(shown: Chrome) -> None:
    signal = pytest.importorskip("scipy.signal")
    example = Example(shown)
    example.play_until(0.3)
    order = ["-".join(key) for key in [*LEVELS, next(iter(LEVELS))]]
    switch(shown, example, order)
    unbroken(signal, *heard(shown), LEVELS.values())


def switch(browser: Chrome, example: Example, order: list[str]) -> None:
    """Hear one version after the other, and stop."""
    script = """
        const [article, order] = arguments;
        order.forEach((value, number) => setTimeout(
          () => article.querySelector(`[value=${value}]`).click(), 200 + 300 * number));
        setTimeout(() => article.querySelector(".play").click(), 200 + 300 * order.length);"""
    browser.execute_script(script, example.article, order)
    wait_for(lambda: not example.playing)
    assert 0.3 + 0.3 * len(order) < example.position < SECONDS


def unbroken(
    signal: Any, times: np.ndarray, samples: np.ndarray, levels: Collection[float]
) -> None:
    """One rising tone, whatever was heard of it when, in each of the levels."""
    analytic = signal.hilbert(samples)
    inner = (times > 0.05) & (times < times[-1] - 0.1)
    level, phase = np.abs(analytic)[inner], np.unwrap(np.angle(analytic))[inner]
    time_is = times[inner] - times[inner][0]
    fit = np.polynomial.Polynomial.fit(time_is, phase, 2)
    assert np.abs(phase - fit(time_is)).max() < 0.3
    slope = 2 * np.pi * (HIGHEST - LOWEST) / SECONDS
    assert fit.deriv(2)(0.0) == pytest.approx(slope, rel=0.02)
    assert level.min() > 0.8 * min(levels)
    for wanted in levels:
        assert np.mean(np.abs(level - wanted) < 0.03) > 0.04


def test_one_player_at_a_time(shown: Chrome) -> None:
    first, second = Example(shown, 1), Example(shown, 2)
    first.play_until(0.2)
    second.play_until(0.2)
    assert second.playing and not first.playing
    assert 0.2 <= first.position < SECONDS
    second.button.click()


def test_a_click_switches_and_plays_on(shown: Chrome) -> None:
    example = Example(shown)
    example.choose("mixture", "decoded")
    assert example.chosen() == "mixture-decoded" and not example.playing
    example.play_until(0.2)
    example.choose("voice", "decoded")
    assert example.chosen() == "voice-decoded"
    example.play_until(example.position + 0.4)
    example.button.click()
    _, samples = heard(shown)
    first, last = (
        np.sqrt(2 * np.mean(part**2)) for part in (samples[1000:5000], samples[-9000:-5000])
    )
    assert first == pytest.approx(LEVELS["mixture", "decoded"], rel=0.1)
    assert last == pytest.approx(LEVELS["voice", "decoded"], rel=0.1)


def test_a_loop_goes_round_and_can_be_left(shown: Chrome) -> None:
    example = Example(shown)
    loop = example.article.find_element(By.CSS_SELECTOR, ".loop input")
    loop.click()
    example.play_until(0.1)
    example.click_pictures(0.9)
    assert example.position > 0.85 * SECONDS
    wait_for(lambda: example.position < 0.5 * SECONDS)
    assert example.playing
    loop.click()
    assert example.playing and example.position < 0.6 * SECONDS
    example.click_pictures(0.9)
    wait_for(lambda: not example.playing)
    assert example.position == SECONDS


def test_everything_can_be_done_with_the_keyboard(shown: Chrome) -> None:
    def press(key: str) -> Any:
        ActionChains(shown, duration=0).send_keys(key).perform()
        return shown.switch_to.active_element

    def visible(focused: Any) -> bool:
        script = """
            const shown = arguments[0].matches(".version input")
              ? arguments[0].nextElementSibling : arguments[0];
            const style = getComputedStyle(shown);
            return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;"""
        return shown.execute_script(script, focused)

    example = Example(shown)
    for _ in range(5):
        focused = press(Keys.TAB)
        assert focused.tag_name == "a" and visible(focused)
    focused = press(Keys.TAB)
    assert focused == example.button and visible(focused)
    press(Keys.SPACE)
    wait_for(lambda: example.position > 0.2)
    slider = press(Keys.TAB)
    assert slider.get_attribute("class") == "seek" and visible(slider)
    before = example.position
    for _ in range(10):
        press(Keys.ARROW_RIGHT)
    assert example.position >= before + 0.4
    loop = press(Keys.TAB)
    press(Keys.SPACE)
    assert visible(loop) and loop.is_selected()
    radio = press(Keys.TAB)
    for value in ("mixture-input", "mixture-decoded", "voice-input", "voice-decoded"):
        assert radio.get_attribute("value") == value and radio.is_selected() and visible(radio)
        radio = press(Keys.ARROW_RIGHT)
    assert radio.get_attribute("value") == "voice-learned"
    assert example.playing
    shown.execute_script("arguments[0].focus()", example.button)
    press(Keys.ENTER)
    assert not example.playing


def test_pictures_have_content(shown: Chrome) -> None:
    image = pytest.importorskip("PIL.Image")
    pictures = shown.find_elements(By.CSS_SELECTOR, ".picture img")
    assert len(pictures) == 34
    for picture in (pictures[0], pictures[16], pictures[-1]):
        shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
        wait_for(lambda picture=picture: picture.get_property("naturalWidth"))
        pixels = np.asarray(image.open(io.BytesIO(picture.screenshot_as_png)).convert("RGB"))
        assert pixels.std(axis=(0, 1)).max() > 20
    curves = shown.find_elements(By.CSS_SELECTOR, "#training svg path")
    assert len(curves) > 5


def test_the_basis_is_browsed(shown: Chrome) -> None:
    browser = shown.find_element(By.CSS_SELECTOR, ".browser")
    slider = browser.find_element(By.CSS_SELECTOR, ".choose")
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    paths = browser.find_elements(By.CSS_SELECTOR, "[data-curve]")
    assert len(paths) == 3

    def drawn() -> list[str]:
        return [path.get_attribute("d") for path in paths]

    wait_for(lambda: all(drawn()))
    before, text = drawn(), browser.find_element(By.CSS_SELECTOR, ".chosen").text
    assert text.startswith("Component 14 of 40 at ")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert browser.find_element(By.CSS_SELECTOR, ".chosen").text.startswith("Component 15 of 40")
    assert slider.get_attribute("aria-valuetext").startswith("Component 15 of 40")
    assert drawn()[0] != before[0] and drawn()[2] != before[2]  # not trained: equal modulators
    stack = browser.find_element(By.CSS_SELECTOR, ".stack")
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", stack)
    ActionChains(shown, duration=0).move_to_element_with_offset(stack, 0, 0).click().perform()
    assert slider.get_property("value") in ("19", "20", "21")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(shown: Chrome, width: int) -> None:
    lightness = {}
    for scheme in ("light", "dark"):
        screen(shown, width, scheme)
        wide = "return [document.documentElement.scrollWidth, innerWidth]"
        assert shown.execute_script(wide) == [width, width], scheme
        colour = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        lightness[scheme] = sum(shown.execute_script(colour))
    assert lightness["light"] > 600 and lightness["dark"] < 120


def test_a_name_is_text(shown: Chrome) -> None:
    assert shown.execute_script("return window.hostile === undefined")
    assert "<script>" in Example(shown).article.find_element(By.CSS_SELECTOR, "h3").text


def test_eleven_examples_load_in_under_a_second(shown: Chrome, page: Path) -> None:
    def load() -> float:
        shown.get(page.as_uri())
        return shown.execute_script(
            "return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
        )

    assert any(load() < 1.0 for _ in range(10))  # the machine may be busy with other things


def test_missing_sounds_are_told(browser: Chrome, page: Path, tmp_path: Path) -> None:
    shutil.copy(page, tmp_path / "index.html")
    browser.get((tmp_path / "index.html").as_uri())
    example = Example(browser)
    example.button.click()
    status = example.article.find_element(By.CSS_SELECTOR, ".status")
    wait_for(lambda: "examples/01.js is missing" in status.text)
    assert not example.playing
    for kind in ("browser", "performance"):
        browser.get_log(kind)


def test_the_voices_of_an_ensemble_play_in_sync(browser: Chrome, tmp_path: Path) -> None:
    signal = pytest.importorskip("scipy.signal")
    with visit(browser, write_ensemble_page(tmp_path)):
        example = Example(browser)
        assert example.chosen() == "mixture-input"
        example.play_until(0.3)
        first = example.playhead
        switch(browser, example, ["-".join(key) for key in VOICE_LEVELS])
        assert 0.3 / SECONDS - 0.02 < first < example.playhead < 1
        assert example.playhead == pytest.approx(example.position / SECONDS, abs=0.02)
        unbroken(signal, *heard(browser), VOICE_LEVELS.values())
        for width in (390, 1280):
            screen(browser, width)
            wide = "return document.documentElement.scrollWidth"
            assert browser.execute_script(wide) == width
        assert browser.execute_script("return window.hostile === undefined")
        # a line over the picture, as wide as it, with a gap where the voice is silent
        upper = ".ensemble .picture:nth-child(2)"
        lines = browser.find_elements(By.CSS_SELECTOR, f"{upper} .tracks path")[:2]
        assert [line.get_attribute("d").count("M") for line in lines] == [2, 2]
        size = "const b = arguments[0].getBoundingClientRect(); return [b.left, b.width, b.height]"
        line, picture = (
            browser.execute_script(size, found)
            for found in (lines[1], browser.find_element(By.CSS_SELECTOR, upper))
        )
        assert line[:2] == pytest.approx(picture[:2], abs=3) and 10 < line[2] < picture[2]
