"""Defects that the cases have found and that are not mended yet; a case that passes is told."""

from __future__ import annotations

_STATE = "the trainer takes the types of what a checkpoint says on trust"
_LOG = "a resumed run takes a log's steps, and writes its text, on trust"
_WAITS = "settings and state.json are opened whatever they are, and read to their end"
_DEEP = "json.loads of state.json gives up on nesting with RecursionError"
_HUGE = "a number of the settings has too many digits to be shown"
_DOTS = "the parser of TOML needs memory that grows with the square of the dots of a key"

KNOWN: dict[str, str] = {
    "checkpoint: state: an epoch that is text": _STATE,
    "checkpoint: state: a batch that is null": _STATE,
    "checkpoint: state: seconds that are a list": _STATE,
    "checkpoint: state: config that is text": _STATE,
    "log.jsonl: resumed: a step that is text": _LOG,
    "log.jsonl: resumed: a step that is a list": _LOG,
    "log.jsonl: resumed: half a surrogate": _LOG,
    "settings: a key of 25000 dots": _DOTS,
    "settings: a fifo": _WAITS,
    "settings: a link to /dev/zero": _WAITS,
    "state.json: state.json is a link to /dev/zero": _WAITS,
    "state.json: state.json is a fifo": _WAITS,
    "state.json: nested lists": _DEEP,
    "state.json: nested objects": _DEEP,
    "settings: a huge hexadecimal number": _HUGE,
    "--set: model.hop=0xffffffffffffffffffffffffffff": _HUGE,
}
