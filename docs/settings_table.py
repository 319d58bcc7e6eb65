"""Writes the tables of settings.md and settings_ensembles.md from the dataclasses of the settings.

    python docs/settings_table.py

The meaning of a setting is what its dataclass says under "Attributes"; tests/test_docs.py compares.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rlsv_fast.training import config
from rlsv_fast.umss import settings as ensembles

PAGE = Path(__file__).with_name("settings.md")
ENSEMBLES = Path(__file__).with_name("settings_ensembles.md")
BEGIN, END = "<!-- tables: begin, by settings_table.py -->\n", "<!-- tables: end -->\n"


def meanings(tree: type) -> dict[str, str]:
    """What a dataclass says of its attributes."""
    text = inspect.cleandoc(tree.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.split(r"^    (\w+): ", text, flags=re.MULTILINE)[1:]
    return {
        name: " ".join(words.split())
        for name, words in zip(entries[::2], entries[1::2], strict=True)
    }


def shown(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def allowed(kind: Any, metadata: Any) -> str:
    """The values that a setting can have."""
    if get_origin(kind) is Literal:
        return ", ".join(shown(choice) for choice in get_args(kind))
    if kind is bool:
        return "`true`, `false`"
    if kind is str:
        return "text"
    low, high = metadata["low"], metadata["high"]
    return f"integer, {low} to {high}" if kind is int else f"number, {low:g} to {high:g}"


def rows(tree: type, prefix: str = "") -> Iterator[str]:
    """A table row for every setting of one dataclass that is no section itself."""
    hints, words = get_type_hints(tree), meanings(tree)
    for entry in fields(tree):
        kind = hints[entry.name]
        if not is_dataclass(kind):
            cells = (
                f"`{prefix}{entry.name}`",
                shown(entry.default),
                allowed(kind, entry.metadata),
                words[entry.name].replace("``", "`").replace("|", r"\|"),
            )
            yield "| " + " | ".join(cells) + " |"


def tables(tree: type, presets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A table for each section and the presets, as lines of Markdown."""
    head = ["| key | default | values | meaning |", "|---|---|---|---|"]
    hints = get_type_hints(tree)
    lines = ["### Top", "", *head, *rows(tree), ""]
    for entry in fields(tree):
        if is_dataclass(hints[entry.name]):
            lines += [f"### [{entry.name}]", "", *head]
            lines += [*rows(hints[entry.name], f"{entry.name}."), ""]
    lines += ["### Presets", "", "What differs from the defaults above:", ""]
    for name, preset in presets.items():
        listed = ", ".join(f"`{key}` = {shown(value)}" for key, value in preset.items())
        lines.append(f"- `{name}`: {listed or 'nothing; the defaults are this preset'}.")
    return [*lines, ""]


def convention(code: Mapping[str, Any], *besides: str) -> list[str]:
    """The defaults of the published code, as lines of Markdown."""
    listed = ", ".join(f"`{key}` = {shown(value)}" for key, value in code.items())
    lines = ['With `convention = "code"` the defaults are instead:', "", f"{listed}.", *besides]
    return [*lines, "Presets, files and `--set` go before all these.", ""]


def page(path: Path) -> str:
    """A page with its tables made anew."""
    if path == PAGE:
        tanh = 'Besides, `model.tanh` is `true` where `model.decoder` is given as `"conv"`.'
        lines = tables(config.Config, config.PRESETS)
        lines += convention(config.CONVENTIONS["code"], "", tanh)
    else:
        lines = tables(ensembles.EnsembleConfig, ensembles.PRESETS)
        lines += convention(ensembles.CODE)
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}{chr(10).join(lines)}{END}{after}"


if __name__ == "__main__":
    for path in (PAGE, ENSEMBLES):
        path.write_text(page(path))
