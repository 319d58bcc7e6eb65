"""Adapters where the package that they adapt to is absent."""

from __future__ import annotations

import importlib
import sys

import pytest

from rlsv_fast.errors import MissingPackage


def test_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rlsv_fast.contrib.asteroid", raising=False)
    monkeypatch.setitem(sys.modules, "asteroid_filterbanks", None)
    with pytest.raises(MissingPackage, match=r"pip install 'rlsv_fast\[asteroid\]'"):
        importlib.import_module("rlsv_fast.contrib.asteroid")
