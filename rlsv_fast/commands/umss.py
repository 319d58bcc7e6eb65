"""The commands of the second family: voices of singing ensembles."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rlsv_fast import report, umss
from rlsv_fast.commands.common import chosen_device, must_be_new, progress_bar, say
from rlsv_fast.data.sound import check_samples, read_audio
from rlsv_fast.errors import InputError, printable


def import_weights(options: Namespace) -> None:
    """Read the published files of the f0 networks and write them as safetensors."""
    for path in umss.import_weights(options.files, options.out):
        print(printable(str(path)))


def f0(options: Namespace) -> None:
    """Estimate the f0 of every voice of some recordings: a CSV and a picture for each."""
    stems = [path.stem for path in options.files]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise InputError(f"two recordings are named '{doubled[0]}'; give them one at a time")
    targets = [options.out / f"{stem}_f0.csv" for stem in stems]
    pictures = [options.out / f"{stem}_f0.png" for stem in stems]
    for target in [*targets, *([] if options.no_picture else pictures)]:
        must_be_new(target, "choose another --out or remove it")
    networks = umss.load_networks(options.weights, chosen_device(options.device))
    for path, target, picture in zip(options.files, targets, pictures, strict=True):
        tracks = _estimate(path, networks, options)
        umss.write_csv(tracks, target)
        print(printable(str(target)))
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
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in tracks.seconds.items())
        say(options, f"{len(tracks.time) * 256 / 22050:.1f} s of audio: {stages}")


def _estimate(path: Path, networks: umss.F0Networks, options: Namespace) -> umss.F0Tracks:
    samples, rate = read_audio(path, mono=True)
    check_samples(samples, str(path))
    with progress_bar(options, 1, "frame") as move:

        def moved(done: int, total: int) -> None:
            move(done, total, path.name)

        try:
            return umss.estimate_f0(
                samples,
                rate,
                networks,
                assignment=options.assignment,
                voices=options.voices,
                precision=options.precision,
                keep_salience=not options.no_picture,
                progress=moved,
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
