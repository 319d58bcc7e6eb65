"""What the tests of README and docs share: the pages, their examples and their command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def name(page: Path) -> str:
    """A page's name in the list of tests."""
    return str(page.relative_to(ROOT))


def examples(page: Path) -> list[tuple[str, str]]:
    """The Python blocks of a page, each with the optional package it needs, or an empty string."""
    found = re.findall(
        r"(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)```", page.read_text(), flags=re.DOTALL
    )
    return [(package, code) for package, code in found]


def run(page: Path, blocks: list[str]) -> dict[str, object]:
    """Names left by blocks of a page, run one after the other."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    return names


def run_examples(page: Path) -> dict[str, object]:
    """Names left by all blocks of a page that need no optional package."""
    return run(page, [code for package, code in examples(page) if not package])


def command_lines(page: Path) -> Iterator[list[str]]:
    """Words of every line in the shell blocks of a page, without comments and variables."""
    blocks = re.findall(r"^```(.*?)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for block in (text for language, text in blocks if language in ("", "sh")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


def headings(page: Path) -> set[str]:
    """What links into a page can name, by GitHub's rule."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
