"""The commands of the second family: voices of singing ensembles."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from rlsv_fast import report, umss
from rlsv_fast.commands.common import chosen_device, must_be_new, progress_bar, say
from rlsv_fast.data.sound import FloatArray, check_samples, read_audio
from rlsv_fast.errors import InputError, printable


def import_weights(options: Namespace) -> None:
    """Read the published files of the f0 networks and write them as safetensors."""
    for path in umss.import_weights(options.files, options.out):
        print(printable(str(path)))


def f0(options: Namespace) -> None:
    """Estimate the f0 of every voice of some recordings: a CSV and a picture for each."""
    targets = _targets(options, [])
    networks = umss.load_networks(options.weights, chosen_device(options.device))
    for path, table, picture in zip(options.files, *targets, strict=True):
        samples, rate = _read(path)
        tracks = _estimate(path, samples, rate, networks, options)
        _write_tracks(tracks, path, table, picture, options)
        _say_stages(options, len(samples) / rate, tracks.seconds)


def separate(options: Namespace) -> None:
    """Separate recordings into their voices: a wav for each, the f0 as CSV, and a picture."""
    if options.f0 is not None and len(options.files) > 1:
        raise InputError("--f0 belongs to one recording; give one file")
    given = None if options.f0 is None else umss.read_csv(options.f0)
    if given is not None and not len(given.time):
        raise InputError(f"{options.f0}: holds no frame")
    names = options.voices if given is None else given.voices
    tables, pictures, *wavs = _targets(options, names)
    device = chosen_device(options.device)
    trained = None if options.model is None else umss.load_separator(options.model, device)
    tracked = given is None and trained is not None and trained[1].tracker is not None
    if tracked and len(names) != len(umss.VOICES):
        raise InputError(
            f"{options.model} finds the f0 of four voices: --voices satb, or give --f0"
        )
    if given is None and not tracked:  # before anything is read or computed
        networks = umss.load_networks(options.weights, device)
    for number, path in enumerate(options.files):
        samples, rate = _read(path)
        mixture = torch.from_numpy(samples.T).to(device)
        if given is not None:
            tracks = given
        else:
            if trained is not None and tracked:
                tracks = _track(path, mixture, rate, trained, options)
            else:
                tracks = _estimate(path, samples, rate, networks, options)
            _write_tracks(tracks, path, tables[number], pictures[number], options)
        begin = time.perf_counter()
        place = (mixture, rate, tracks.time, tracks.frequency.T)
        if trained is None:
            parts = umss.separate_comb(*place)
        else:
            parts = umss.separate_trained(trained[1], *place, segment=_segment(trained[0]))
        try:
            _write_voices(
                path, parts, [kind[number] for kind in wavs], rate, samples.shape, options
            )
        except InputError:
            raise
        except ValueError as error:  # too short a recording, too low a rate
            raise InputError(f"{path}: {error}") from error
        stages = {**tracks.seconds, "masks": time.perf_counter() - begin}
        _say_stages(options, len(samples) / rate, stages)
    if trained is None:
        say(options, "no trained separator: masks are combs of harmonics at the f0 of each voice")


def _targets(options: Namespace, voices: Sequence[str]) -> list[list[Path]]:
    """CSV, picture and one wav per voice of every recording; none of them exists yet."""
    stems = [path.stem for path in options.files]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise InputError(f"two recordings are named '{doubled[0]}'; give them one at a time")
    endings = ["f0.csv", "f0.png", *(f"{voice}.wav" for voice in voices)]
    targets = [[options.out / f"{stem}_{ending}" for stem in stems] for ending in endings]
    for target in (target for kind in targets for target in kind):
        must_be_new(target, "choose another --out or remove it")
    if options.no_picture:
        targets[1] = [Path() for _ in stems]
    return targets


def _read(path: Path) -> tuple[FloatArray, int]:
    """Finite samples (frames, channels) and their rate."""
    samples, rate = read_audio(path)
    check_samples(samples, str(path))
    return samples, rate


def _estimate(
    path: Path,
    samples: FloatArray,
    rate: int,
    networks: umss.F0Networks,
    options: Namespace,
) -> umss.F0Tracks:
    with progress_bar(options, 1, "frame") as move:

        def moved(done: int, total: int) -> None:
            move(done, total, path.name)

        try:
            tracks = umss.estimate_f0(
                samples,
                rate,
                networks,
                assignment=options.assignment,
                voices=len(options.voices),
                precision=options.precision,
                keep_salience=not options.no_picture,
                progress=moved,
            )
        except (InputError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error
    return replace(tracks, voices=options.voices)


def _segment(config: umss.EnsembleConfig) -> float:
    """Seconds of an excerpt of the training."""
    return config.data.segment_length / config.data.sample_rate


def _track(
    path: Path,
    mixture: Tensor,
    rate: int,
    trained: tuple[umss.EnsembleConfig, umss.EnsembleModel],
    options: Namespace,
) -> umss.F0Tracks:
    """The f0 that a separator finds by itself."""
    config, model = trained
    begin = time.perf_counter()
    with progress_bar(options, 1, "frame") as move:

        def moved(done: int, total: int) -> None:
            move(done, total, path.name)

        try:
            tracks = umss.track_trained(
                model, mixture, rate, segment=_segment(config), progress=moved
            )
        except (InputError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error
    seconds = {"f0": time.perf_counter() - begin}
    return replace(tracks, voices=options.voices, seconds=seconds)


def _write_tracks(
    tracks: umss.F0Tracks, path: Path, table: Path, picture: Path, options: Namespace
) -> None:
    umss.write_csv(tracks, table)
    print(printable(str(table)))
    if not options.no_picture:
        figure = report.tracks_figure(
            tracks.time,
            tracks.frequency,
            tracks.voices,
            tracks.salience,
            umss.frequencies().numpy(),
            name=path.name,
        )
        report.save(figure, picture)
        print(printable(str(picture)))


def _write_voices(
    source: Path,
    parts: Iterator[Tensor],
    targets: Sequence[Path],
    rate: int,
    shape: tuple[int, ...],
    options: Namespace,
) -> None:
    """Write wavs as their parts come, all of them or none."""
    length, channels = shape
    # float samples: a mask can lift a peak above full scale; RF64 where WAV's sizes end
    kind = "WAV" if 4 * length * channels < 1 << 32 else "RF64"
    temporary = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in targets]
    done = 0
    try:
        with ExitStack() as stack:
            files = []
            for path in temporary:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = stack.enter_context(path.open("xb"))
                file = soundfile.SoundFile(handle, "w", rate, channels, "FLOAT", format=kind)
                files.append(stack.enter_context(file))
            move = stack.enter_context(progress_bar(options, length, "sample"))
            for part in parts:
                for file, voice in zip(files, part.cpu(), strict=True):
                    file.write(voice.T.numpy())
                done += part.shape[2]
                move(done, length, source.name)
        for whole, path in zip(temporary, targets, strict=True):
            os.replace(whole, path)
            print(printable(str(path)))
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", None) or error
        raise InputError(f"{targets[0]}: cannot be written ({reason})") from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _say_stages(options: Namespace, length: float, seconds: dict[str, float]) -> None:
    stages = ", ".join(f"{stage} {taken:.1f} s" for stage, taken in seconds.items())
    say(options, f"{length:.1f} s of audio: {stages}" if stages else f"{length:.1f} s of audio")
