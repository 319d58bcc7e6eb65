"""Fast, exact, interpretable audio representations for singing-voice separation."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

# pip refuses by itself; a source tree on the path of an older Python would fail on its syntax.
if sys.version_info < (3, 10):  # noqa: UP036
    raise ImportError(
        f"rlsv_fast: needs Python 3.10 or newer, this is {sys.version_info[0]}."
        f"{sys.version_info[1]}; make a new environment with one, such as: python3.11 -m venv .venv"
    )

if TYPE_CHECKING:
    from rlsv_fast import nn, ops, reference
    from rlsv_fast._library import build_info

__version__ = "0.1.0"
__all__ = ["build_info", "nn", "ops", "reference"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes seconds, which ``rlsv-fast --help`` need not wait for."""
    if name == "build_info":
        return importlib.import_module("rlsv_fast._library").build_info
    if name in __all__:
        return importlib.import_module(f"rlsv_fast.{name}")
    raise AttributeError(f"module 'rlsv_fast' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
