"""Cases of settings, run folders, evaluations and parameter files."""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from hostile.audio import FILES
from hostile.cases import SETTINGS, Call, Case, Place, train
from safetensors import safe_open
from safetensors.torch import save_file

from rlsv_fast.report import write_report
from rlsv_fast.training import load_run

DEEP = 100_000
BOMBS: dict[str, bytes] = {
    "nested lists": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a number of a million digits": b'{"step": ' + b"9" * 1_000_000 + b"}",
    "a number of 4000 digits": b'{"kind": "step", "total": 1, "step": ' + b"9" * 4000 + b"}",
    "a list": b"[1, 2]",
    "null": b"null",
    "a step that is text": b'{"kind": "step", "total": 1.0, "step": "\\u0034"}',
    "a step that is a list": b'{"kind": "step", "total": 1.0, "step": []}',
    "a loss that is an object": b'{"kind": "step", "step": 1, "total": {}}',
    "a huge loss": b'{"kind": "step", "step": 1, "total": 1e400}',
    "a loss of 4000 digits": b'{"kind": "step", "step": 1, "total": ' + b"7" * 4000 + b"}",
    "half a surrogate": b'{"kind": "step", "step": 1, "total": 1, "note": "\\ud800"}',
    "not UTF-8": b'{"kind": "\xff\xfe"}',
    "zeros": bytes(1000),
    "html": b"<script>alert(1)</script>",
    "32 MB in one line": b'{"kind": "' + b"x" * (32 << 20) + b'"}',
    "no bytes": b"",
}

TOMLS: dict[str, bytes] = {
    "100 MB": b"a = 1\n" * (100 * 1024 * 1024 // 6),
    "nested arrays": b"a = " + b"[" * DEEP + b"]" * DEEP,
    "nested tables": b"a = " + b"{a = " * DEEP + b"1" + b"}" * DEEP,
    "a key of 25000 dots": b"a" + b".a" * 25_000 + b" = 1",
    "a table of 5000 dots": b"[a" + b".a" * 5000 + b"]",
    "10000 tables": b"".join(b"[t%d]\n" % number for number in range(10_000)),
    "a huge hexadecimal number": b"[model]\nhop = 0x" + b"f" * 100_000,
    "a huge decimal number": b"[model]\nhop = " + b"9" * 100_000,
    "a number out of range": b"[model]\ncomponents = 16385",
    "nan": b"[loss]\nweight = nan",
    "inf": b"[loss]\nepsilon = inf",
    "a date": b"[model]\nhop = 1979-05-27T07:32:00Z",
    "a table for a number": b"[model.hop]\nx = 1",
    "a number for a table": b"model = 3",
    "a list of tables": b"[[model]]\nhop = 3",
    "true for a number": b"[model]\nhop = true",
    "zeros": bytes(1000),
    "UTF-16": "[model]\nhop = 16".encode("utf-16"),
    "not UTF-8": b"[model]\nencoder = '\xff'",
    "control characters": b"[model]\nencoder = '\x1b[31m'",
    "escaped control characters": b'[model]\nencoder = "\\u001b[31m\\u0007"',
    "a key with control characters": b'"\\u001b]0;x\\u0007" = 1',
    "a key of 900 kB": b"a" * 900_000 + b" = 1",
    "text of 900 kB": b"[model]\nencoder = '" + b"x" * 900_000 + b"'",
    "a key twice": b"[model]\nhop = 1\nhop = 2",
    "json": b'{"model": {"hop": 3}}',
    "a path": b"../../../../etc/passwd",
    "kernel shorter than the hop": b"[model]\nkernel_size = 2\nhop = 60000",
}

HEADERS: dict[str, bytes] = {
    "no bytes": b"",
    "seven bytes": b"\0" * 7,
    "a header of 2**60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "a header of 2**64 - 1 bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header of 90 MB that is not there": struct.pack("<Q", 90_000_000) + b"{}",
    "html": b"<html>" + bytes(200),
    "pickle": b"\x80\x04\x95" + bytes(200),
}


def _header(text: str, data: bytes = bytes(64)) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


def _tensor(shape: list[int], ends: list[int], kind: str = "F32") -> str:
    return json.dumps({"dtype": kind, "shape": shape, "data_offsets": ends})


HEADERS |= {
    "absurd shape": _header('{"a":' + _tensor([2**62, 2**62], [0, 64]) + "}"),
    "shape of 2**63": _header('{"a":' + _tensor([2**63, 1], [0, 64]) + "}"),
    "negative shape": _header('{"a":' + _tensor([-16], [0, 64]) + "}"),
    "data beyond the end": _header('{"a":' + _tensor([2**40], [0, 2**42]) + "}"),
    "data backwards": _header('{"a":' + _tensor([16], [64, 0]) + "}"),
    "overlapping data": _header(
        '{"a":' + _tensor([16], [0, 64]) + ',"b":' + _tensor([16], [0, 64]) + "}"
    ),
    "a name twice": _header(
        '{"a":' + _tensor([16], [0, 64]) + ',"a":' + _tensor([16], [0, 64]) + "}"
    ),
    "metadata twice": _header('{"__metadata__":{"format":"x"},"__metadata__":{"format":"y"}}', b""),
    "metadata that is no text": _header('{"__metadata__":{"format":7}}', b""),
    "unknown type": _header('{"a":' + _tensor([16], [0, 64], "F7") + "}"),
    "nested header": _header("[" * DEEP, b""),
    "no tensors": _header("{}", b""),
    "of something else": _header('{"a":' + _tensor([16], [0, 64]) + "}"),
}


def cases() -> Iterator[Case]:
    for name, made in TOMLS.items():
        yield Case("settings", name, functools.partial(_config, made))
    for name, make in FILES.items():
        yield Case("settings", name, functools.partial(_odd_config, make))
        for group, member, ends in (
            ("settings", "config.toml", "refused"),
            ("checkpoint", "checkpoint.safetensors", "refused"),
            ("state.json", "state.json", "either"),
            ("log.jsonl", "log.jsonl", "either"),
        ):
            why = "where it is absent, the checkpoint is whole and there are no curves"
            make_case = functools.partial(_odd_member, member, make)
            yield Case(group, f"{member} is {name}", make_case, ends, why)
    for text in OVERRIDES:
        yield Case("--set", text[:40], functools.partial(_override, text))
    for name, made in BOMBS.items():
        yield Case("state.json", name, functools.partial(_resumed, "state.json", made),
                   "accepted", "its checkpoint is whole and says the same")  # fmt: skip
        yield Case("log.jsonl", f"resumed: {name}", functools.partial(_resumed, "log.jsonl", made),
                   "accepted", "lines that are no records are passed over")  # fmt: skip
        yield Case("log.jsonl", f"drawn: {name}", functools.partial(_curves, made),
                   "accepted", "lines that are no records are passed over")  # fmt: skip
        make_case = functools.partial(_drawn, "evaluation.json", made)
        yield Case("evaluation.json", name, make_case)
    for name, change in EVALUATIONS.items():
        ends = "either" if name == "a track that is a number" else "refused"
        make_case = functools.partial(_evaluation, change)
        yield Case("evaluation.json", name, make_case, ends, "its digits are a name")
    for name, made in HEADERS.items():
        yield Case("checkpoint", name, functools.partial(_checkpoint, made))
    for name, change in STATES.items():
        ends = "either" if name in UNUSED else "refused"
        make_case = functools.partial(_signed, change)
        yield Case("checkpoint", f"state: {name}", make_case, ends, "nothing asks for it here")
    for name, (analysis, synthesis) in ORIGINALS.items():
        yield Case("original state", name, functools.partial(_original, analysis, synthesis))


OVERRIDES = (
    *("model.hop", "=", "model.hop=", "model.hop=0x" + "f" * 30_000, "model.hop=" + "9" * 30_000),
    *("model.hop=" + "[" * 30_000, "x" * 100_000 + "=1", "\x1b[31m=1", "model.encoder=\x1b[31m"),
    *("loss.weight=nan", "loss.weight=-inf", "model=1", "..=1", "__class__=1", "model.__class__=1"),
    *("training.seed=-1", "training.seed=1e3", "training.batch_size=0", "data.sample_rate=0"),
)


def _config(made: bytes, place: Place) -> Call:
    place.root()
    path = place.given / "config.toml"
    path.write_bytes(made)
    # without other settings, which would stand above those of the file
    return ["train", "-q", f"--config={path}", f"--root={place.given / 'music'}",
            f"--out={place.out / 'run'}"]  # fmt: skip


def _odd_config(make: Callable[[Path], None], place: Place) -> Call:
    place.root()
    path = place.given / "config.toml"
    make(path)
    return train(place, None, f"--config={path}")


def _override(text: str, place: Place) -> Call:
    place.root()
    return train(place, None, f"--set={text}")


def _resumed(name: str, made: bytes, place: Place) -> Call:
    """A run to be continued, one of whose files is exchanged; it is in the output's folder."""
    place.root()
    run = place.run(place.out / "run")
    (run / name).write_bytes(made)
    arguments = ["train", "-q", "--resume", f"--root={place.given / 'music'}", f"--out={run}"]
    return [*arguments, "--set=training.max_steps=3"]


def _drawn(name: str, made: bytes, place: Place) -> Call:
    run = place.run()
    (run / name).write_bytes(made)
    return ["report", str(run), f"--out={place.out / 'figures'}"]


def _curves(made: bytes, place: Place) -> Call:
    """What a report makes of a log; all of a report takes seconds."""
    path = place.given / "log.jsonl"
    path.write_bytes(made)

    def call() -> object:
        from rlsv_fast.report.curves import loss_figure, read_curves
        from rlsv_fast.training.log import read_log

        curves = read_curves(read_log(path))
        return loss_figure(curves).canvas.draw() if curves else None

    return call


def _odd_member(name: str, make: Callable[[Path], None], place: Place) -> Call:
    run = place.run()
    (run / name).unlink()
    make(run / name)
    if name == "log.jsonl":
        return lambda: write_report(load_run(run)[1], place.out, sample_rate=8000, log=run / name)
    mixture = next((place.model / "music/test").glob("*/mixture.wav"))
    vocals = mixture.with_name("vocals.wav")
    return ["separate", "-q", str(run), str(mixture), f"--vocals={vocals}", f"--out={place.out}"]


def _checkpoint(made: bytes, place: Place) -> Call:
    return _drawn("checkpoint.safetensors", made, place)


Change = Callable[[dict[str, Any]], Any]


def _at(*path: str | int, value: Any) -> Change:
    """Put a value into a tree of objects and lists."""

    def change(tree: dict[str, Any]) -> Any:
        node: Any = tree
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value
        return tree

    return change


def _without(name: str) -> Change:
    def change(tree: dict[str, Any]) -> Any:
        del tree[name]
        return tree

    return change


_VALUE = ("segments", 0, "values", "learned", "mask_si_sdr")
EVALUATIONS: dict[str, Change] = {
    "a value that is text": _at(*_VALUE, value="loud"),
    "a value that is an object": _at(*_VALUE, value={}),
    "a value of 4000 digits": _at(*_VALUE, value=10**4000),
    "values that are a list": _at("segments", 0, "values", value=[1]),
    "segments that are an object": _at("segments", value={"a": 1}),
    "segments that are text": _at("segments", value="abc"),
    "settings that are a list": _at("settings", value=[1]),
    "settings that are text": _at("settings", value="convention"),
    "summary that is text": _at("summary", value="abc"),
    "no notes": _without("notes"),
    "no settings": _without("settings"),
    "version that is an object": _at("schema_version", value={}),
    "a track that is a number": _at("segments", 0, "track", value=7),
}


def _evaluation(change: Change, place: Place) -> Call:
    run = place.run()
    path = run / "evaluation.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return ["report", "-q", str(run), f"--out={place.out / 'figures'}"]


STATES: dict[str, Change] = {
    "a list": lambda state: [1],
    "a step that is text": _at("step", value="4"),
    "an epoch that is text": _at("epoch", value="4"),
    "a batch that is null": _at("batch", value=None),
    "a negative batch": _at("batch", value=-3),
    "seconds that are a list": _at("seconds", value=[]),
    "config that is text": _at("config", value="model.hop"),
    "config that is a list": _at("config", value=[]),
    "a step of 4000 digits": _at("step", value=10**4000),
    "no batch": _without("batch"),
    "former that is text": _at("former", value="x"),
    "nan": _at("seconds", value=float("nan")),
}


UNUSED = (
    *("config that is a list", "a step of 4000 digits", "former that is text", "nan"),
    *("a negative batch", "a step that is text"),
)


def _signed(change: Change, place: Place) -> Call:
    """A checkpoint whose checksum is right, as anyone can make one."""
    place.root()
    run = place.run(place.out / "run")
    path = run / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = json.dumps(change(json.loads(metadata["state"])))
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    metadata = {**metadata, "state": text, "sha256": digest.hexdigest()}
    save_file(tensors, path, metadata)
    (run / "state.json").unlink()
    return ["train", "-q", "--resume", f"--root={place.given / 'music'}", f"--out={run}",
            "--set=training.max_steps=3"]  # fmt: skip


Originals = Callable[[dict[str, Any]], Any]
ORIGINALS: dict[str, tuple[Originals, Originals]] = {}
for _name, _value in {
    "text": "x",
    "null": None,
    "a list": [1.0],
    "numpy": torch.zeros(4, 1, 1).numpy(),
    "sparse": torch.zeros(4, 1, 1).to_sparse(),
    "complex": torch.zeros(4, 1, 1, dtype=torch.complex64),
    "nan": torch.full((4, 1, 1), torch.nan),
    "integers": torch.zeros(4, 1, 1, dtype=torch.int64),
    "another shape": torch.zeros(5),
    "meta": torch.zeros(4, 1, 1, device="meta"),
}.items():
    ORIGINALS[f"a value that is {_name}"] = (dict, _at("phi", value=_value))
ORIGINALS["not a dictionary"] = (lambda state: [1], dict)
ORIGINALS["null"] = (lambda state: None, dict)
ORIGINALS["a key too many"] = (_at("x", value=torch.zeros(1)), dict)
ORIGINALS["a key that is a number"] = (dict, _at(7, value=torch.zeros(1)))
ORIGINALS["a key missing"] = (_without("conv_a1.weight"), dict)


def _original(analysis: Originals, synthesis: Originals, place: Place) -> Call:
    from rlsv_fast.nn import load_original_state
    from rlsv_fast.training import resolve
    from rlsv_fast.training.build import build_model

    model = build_model(resolve(overrides=SETTINGS))
    encoder, decoder = model.encoder, model.decoder
    good = {"conv_a1.weight": encoder.kernels[:, None], "conv_a2.weight": encoder.context}
    modulator = decoder.modulator
    also = {
        "freq_mat": decoder.frequency[:, None, None],
        "phi": decoder.phase[:, None, None],
        "norm_factor": modulator[:, None],
    }
    good, also = ({k: v.detach() for k, v in state.items()} for state in (good, also))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    load_original_state(model, good, also)  # the good ones are

    def call() -> object:
        try:
            load_original_state(model, analysis(dict(good)), synthesis(dict(also)))
        finally:
            pairs = zip(before, model.parameters(), strict=True)
            assert all(torch.equal(one, two) for one, two in pairs), "half of it was loaded"
        return None

    return call
