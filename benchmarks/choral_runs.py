"""What the scripts share that separate a real choir by a trained run: DATA RUN --out DIR."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import machine

from rlsv_fast import umss


def arguments(about: str) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--singer", type=int, default=3, metavar="N")
    return parser.parse_args()


def facts(song: umss.Song, singer: int) -> dict[str, Any]:
    """Of a report."""
    return {"machine": machine.facts(), "song": song.name, "singer": singer}


def write(out: Path, name: str, report: dict[str, Any], text: str) -> None:
    """The report and its table."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
