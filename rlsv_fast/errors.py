"""Errors that a user can cause and mend; the command line prints them on one line."""

from __future__ import annotations

import importlib
from typing import Any


class InputError(ValueError):
    """A file, folder or setting cannot be used; the message names it and the remedy."""


class MissingPackage(ImportError):
    """An optional package is needed and absent; the message holds the command that installs it."""


class LostProcess(RuntimeError):
    """Another process of the job has ended before its time, so that this one cannot go on."""


class InstallationError(ImportError):
    """Python, torch and the compiled modules do not fit; the message says what to install."""


def printable(text: str) -> str:
    """The text with everything that is no visible character or blank written as an escape.

    Names of files may hold anything: commands to the terminal, line breaks, half characters.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def require(package: str, *, extra: str, purpose: str) -> Any:
    """Import an optional package on first use.

    Args:
        package: importable name, for example ``"av"``.
        extra: the extra of ``rlsv_fast`` that installs it.
        purpose: what it is needed for, as in "... is needed to <purpose>".

    Returns:
        The imported module.

    Raises:
        MissingPackage: the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingPackage(
            f"the package '{package}' is needed to {purpose}: pip install 'rlsv_fast[{extra}]'"
        ) from error
