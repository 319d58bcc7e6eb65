"""Settings from TOML files, presets and ``key=value`` overrides, and back into TOML."""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from rlsv_fast.errors import InputError
from rlsv_fast.files import read_bytes
from rlsv_fast.training.config import PRESETS, Config, Value, check, defaults

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAX_BYTES = 16_000
"""Ten times what all settings take; the parser's memory grows with the square of a key's dots."""


@dataclass(frozen=True)
class _Setting:
    """Type and range of one dotted key."""

    kind: Any
    low: float
    high: float


Tree = TypeVar("Tree")


class Schema(Generic[Tree]):
    """A tree of settings: dataclasses of plain values, one of sections.

    Args:
        tree: the dataclass of everything.
        presets: settings by the preset's name and the dotted key.
        defaults: of dotted keys given, the defaults that differ from the dataclasses'.
        check: raises InputError where settings cannot work together.
    """

    def __init__(
        self,
        tree: type[Tree],
        presets: Mapping[str, Mapping[str, Value]],
        defaults: Callable[[Mapping[str, Value]], Mapping[str, Value]],
        check: Callable[[Tree], None],
    ) -> None:
        self._tree = tree
        self._presets = presets
        self._defaults = defaults
        self._check = check
        self._settings = dict(_schema(tree))

    def resolve(
        self, preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()
    ) -> Tree:
        """Put settings together: defaults, then a preset, then a file, then overrides.

        Args:
            preset: name of one, or None.
            file: TOML file, or None.
            overrides: texts ``key=value`` with dotted keys, such as ``"model.components=400"``.

        Returns:
            The resolved settings.

        Raises:
            InputError: a preset, key, type or value that does not exist or cannot work.
        """
        given: dict[str, tuple[Any, str]] = {}
        if preset is not None:
            if preset not in self._presets:
                raise InputError(f"no preset '{preset}'{_close(preset, self._presets)}")
            chosen = self._presets[preset]
            given.update((key, (value, f"preset {preset}")) for key, value in chosen.items())
        if file is not None:
            given.update(_read(file))
        for text in overrides:
            key, value = parse_override(text)
            if key in self._settings and self._settings[key].kind is str:
                # a name of digits is a text, too
                value = value if isinstance(value, str) else text.partition("=")[2].strip()
            given[key] = (value, "--set")
        return self._build(given)

    def load(self, path: Path) -> Tree:
        """Read settings from a TOML file; keys that it lacks keep their defaults."""
        return self._build(_read(path))

    def from_flat(self, values: Mapping[str, Any], source: str) -> Tree:
        """Settings from dotted keys, checked like a file; ``source`` names their origin."""
        return self._build({key: (value, source) for key, value in values.items()})

    def _build(self, given: Mapping[str, tuple[Any, str]]) -> Tree:
        """Check every value against its setting and fill in the defaults."""
        values: dict[str, Any] = {}
        for key, (value, origin) in given.items():
            if key not in self._settings:
                raise InputError(f"{origin}: no setting '{key}'{_close(key, self._settings)}")
            values[key] = _checked(key, self._settings[key], value, origin)
        values = {**self._defaults(values), **values}
        parts: dict[str, dict[str, Any]] = {}
        top: dict[str, Any] = {}
        for key, value in values.items():
            section, dot, name = key.partition(".")
            if dot:
                parts.setdefault(section, {})[name] = value
            else:
                top[key] = value
        hints = get_type_hints(self._tree)
        sections = {section: hints[section](**part) for section, part in parts.items()}
        config = self._tree(**top, **sections)
        self._check(config)
        return config


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``key=value``; the value is read as TOML, or else taken as a plain string."""
    key, sign, written = (part.strip() for part in text.partition("="))
    if not sign or not key:
        raise InputError(f"--set {text}: expected key=value, as in model.components=400")
    try:
        return key, tomllib.loads(f"value = {written}")["value"]
    except (ValueError, KeyError, RecursionError):
        return key, written


def flatten(config: Any) -> dict[str, Value]:
    """All settings of a tree under dotted keys."""
    return dict(_flat(config, ""))


def to_toml(config: Any) -> str:
    """The settings as TOML; reading it back gives an equal tree."""
    lines = []
    section = ""
    for key, value in flatten(config).items():
        table, _, name = key.rpartition(".")
        if table != section:
            lines.append(f"\n[{table}]")
            section = table
        lines.append(f"{name} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # a JSON string is a basic string of TOML
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _read(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        tables = tomllib.loads(read_bytes(path, _MAX_BYTES).decode("utf-8"))
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    except (ValueError, RecursionError) as error:  # the parser's own, or of a huge number
        raise InputError(f"{path}: not valid TOML: {error}") from error
    return {key: (value, str(path)) for key, value in _tables(tables, "")}


def _tables(tables: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tables.items():
        if isinstance(value, dict) and not prefix:
            yield from _tables(value, f"{name}.")
        else:
            yield prefix + name, value


def _flat(node: Any, prefix: str) -> Iterator[tuple[str, Value]]:
    for entry in fields(node):
        value = getattr(node, entry.name)
        if is_dataclass(value):
            yield from _flat(value, f"{entry.name}.")
        else:
            yield prefix + entry.name, value


def _schema(tree: type, prefix: str = "") -> Iterator[tuple[str, _Setting]]:
    hints = get_type_hints(tree)
    for entry in fields(tree):
        kind = hints[entry.name]
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _schema(kind, f"{entry.name}.")
        else:
            low = entry.metadata.get("low", -math.inf)
            yield (
                prefix + entry.name,
                _Setting(kind, low, entry.metadata.get("high", math.inf)),
            )


def _checked(key: str, setting: _Setting, value: Any, origin: str) -> Value:
    if get_origin(setting.kind) is Literal:
        choices = get_args(setting.kind)
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                found: Value = choice
                return found
        listed = ", ".join(map(repr, choices))
        raise InputError(f"{origin}: {key} must be one of {listed}, got {_shown(value)}")
    if setting.kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{origin}: {key} must be true or false, got {_shown(value)}")
        return value
    if setting.kind is str:
        if not isinstance(value, str):
            raise InputError(f"{origin}: {key} must be a text, got {_shown(value)}")
        return value
    number = isinstance(value, int) or (setting.kind is float and isinstance(value, float))
    if isinstance(value, bool) or not number or not setting.low <= value <= setting.high:
        what = "an integer" if setting.kind is int else "a number"
        raise InputError(
            f"{origin}: {key} must be {what} from {setting.low} to {setting.high}, "
            f"got {_shown(value)}"
        )
    result: Value = setting.kind(value)
    return result


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python's own limit
        return "a number of more digits than can be shown"
    return text if len(text) <= 60 else text[:57] + "..."


def _close(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: those alike, or all of them."""
    known = list(known)
    by_last = {key.rpartition(".")[2]: key for key in known}
    alike = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    last = difflib.get_close_matches(name.rpartition(".")[2], by_last, n=1, cutoff=0.6)
    alike = list(dict.fromkeys([*alike, *(by_last[match] for match in last)]))
    if alike:
        return "; did you mean " + " or ".join(f"'{match}'" for match in alike) + "?"
    return "; there are " + ", ".join(known)


REPRESENTATION = Schema(Config, PRESETS, defaults, check)
resolve = REPRESENTATION.resolve
load_config = REPRESENTATION.load
from_flat = REPRESENTATION.from_flat
