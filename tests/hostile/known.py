"""Defects that the cases have found and that are not mended yet; a case that passes is told."""

from __future__ import annotations

KNOWN: dict[str, str] = {}
"""Name of a case: what is wrong."""
