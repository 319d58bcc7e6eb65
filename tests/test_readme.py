"""The Python examples of the README and of the pages in docs run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def run_examples(page: Path) -> dict[str, object]:
    """Names left by the blocks of a page, run one after the other."""
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), names)
    return names


def test_the_examples_run() -> None:
    assert (ROOT / "README.md").read_text().count("```python\n") == 2
    assert run_examples(ROOT / "README.md")["plan"].shape == (4, 30, 40)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_examples_of_the_pages_run(page: Path) -> None:
    assert run_examples(page)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_sinkhorn_page_shows_what_diagnose_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "sinkhorn.md"
    run_examples(page)
    assert f"```text\n{capsys.readouterr().out}```" in page.read_text()
