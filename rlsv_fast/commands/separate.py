"""The command that separates a mixture whose sources are known."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
import torch

from rlsv_fast import data, evaluation, ops, training
from rlsv_fast.commands.common import chosen_device, must_be_new, say
from rlsv_fast.data.sound import FloatArray, check_samples, read_audio
from rlsv_fast.data.tracks import assemble, resample
from rlsv_fast.errors import InputError, printable


def separate(options: Namespace) -> None:
    """Separate a mixture with the oracle mask of its known sources and write two wavs."""
    name = options.mixture.name.removesuffix(".stem.mp4").removesuffix(options.mixture.suffix)
    targets = {kind: options.out / f"{name}_{kind}.wav" for kind in ("vocals", "accompaniment")}
    for target in targets.values():
        must_be_new(target, "choose another --out or remove it")
    device = chosen_device(options.device)
    config, model = training.load_run(options.run, device)
    audio = _known_sources(options, config.data.sample_rate)
    estimates = evaluation.separate_oracle(
        model,
        audio.mixture,
        audio.voice,
        audio.accompaniment,
        segment_length=config.data.segment_length,
        convention=config.convention,
    )
    _write(dict(zip(targets.values(), estimates, strict=True)), config.data.sample_rate)
    references = (audio.voice, audio.accompaniment)
    for target, estimate, reference in zip(targets.values(), estimates, references, strict=True):
        after, before = (_si_sdr(signal, reference) for signal in (estimate, audio.mixture))
        shown = printable(str(target))
        print(f"{shown}: SI-SDR {after:.1f} dB, unprocessed mixture {before:.1f} dB")
    say(options, "the mask is an oracle's: it was made from the true sources")


def _write(signals: Mapping[Path, FloatArray], sample_rate: int) -> None:
    """Write wavs into one folder, all of them or none."""
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in signals}
    try:
        for path, signal in signals.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                # an open file: soundfile cannot take every name. Float samples: a mask can lift a
                # peak above full scale, which integers would clip
                with temporary[path].open("xb") as file:
                    soundfile.write(file, signal, sample_rate, subtype="FLOAT", format="WAV")
            except soundfile.SoundFileError as error:
                reason = getattr(error, "error_string", None) or error
                raise InputError(f"{path}: cannot be written ({reason})") from error
        for path in signals:
            os.replace(temporary[path], path)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def _known_sources(options: Namespace, sample_rate: int) -> data.TrackAudio:
    """The mixture with its true sources, mono and at the model's sample rate."""
    given = {
        name: path
        for name, path in (("vocals", options.vocals), ("accompaniment", options.accompaniment))
        if path is not None
    }
    source: Path = options.mixture
    if source.name.lower().endswith(".stem.mp4"):
        if given:
            raise InputError(f"{source}: holds its own sources; leave out --{next(iter(given))}")
        if not source.is_file():
            raise InputError(f"{source}: no such file")
        return data.load_track(data.Track(source.name, source, "stem", (source,)), sample_rate)
    if not given:
        raise InputError(
            "an oracle mask is made from the true sources: give --vocals, --accompaniment or both"
        )
    stems, rate = {}, 0
    for name, path in {"mixture": source, **given}.items():
        stems[name], rate = _read_mono(path, rate)
    if "vocals" in stems:
        audio = assemble(stems, str(source))
    else:
        # vocals are what the accompaniment leaves of the mixture: the same rule, names swapped
        stems["vocals"] = stems.pop("accompaniment")
        swapped = assemble(stems, str(source))
        audio = data.TrackAudio(swapped.mixture, swapped.accompaniment, swapped.voice)
    return resample(audio, rate, sample_rate, str(source))


def _read_mono(path: Path, rate: int) -> tuple[FloatArray, int]:
    """Mono samples and rate of a file, which must be `rate` unless that is 0."""
    mono, found = read_audio(path, mono=True)
    if rate and found != rate:
        raise InputError(f"{path}: {found} Hz, but the mixture has {rate} Hz; use one rate")
    check_samples(mono, str(path))
    return mono, found


def _si_sdr(estimate: FloatArray, reference: FloatArray) -> float:
    first, second = (torch.from_numpy(np.array(signal))[None] for signal in (estimate, reference))
    return float(ops.si_sdr(first, second))
