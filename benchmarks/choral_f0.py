"""f0 tracks of real four-part singing, against f0 of the isolated voices: a JSON and its table.

Usage: python benchmarks/choral_f0.py --data DIR --weights DIR --out DIR [--references DIR]

DIR of --data holds the Choral Singing Dataset's "Niño Dios", 16 kHz. A mixture is the sum of one
singer of each part, cut to the shortest. Protocol: the reference f0 of every singer comes from the
isolated recording by pYIN (librosa, every 256 samples, two and a half to three octaves for each
part: RANGES), its voicing included; once in frames of 2048 samples and once of 1024, FRAMES, since
the long ones show a vibrato of 5.5 Hz at little more than half its depth. The tracks of the mixture
(frames of 11.6 ms) are resampled to the reference's times by mir_eval.melody, whose raw pitch
accuracy (50 cents, over the voiced frames of the reference) counts a frame without a pitch as
wrong. --references keeps the slow part, pYIN's tracks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import librosa
import machine
import mir_eval
import numpy as np
import soundfile
import torch

from rlsv_fast import umss

RATE, HOP = 16000, 256
FRAMES = (2048, 1024)
AVERAGED = 17
PARTS = {
    "soprano": "nino_Soprano_{}05",
    "alto": "nino_ContraAlt_{}07",
    "tenor": "nino_tenor{}-06-2",
    "bass": "nino_Bajos_{}04",
}
RANGES = {"soprano": (150, 1100), "alto": (120, 900), "tenor": (80, 700), "bass": (60, 500)}
FLOORS = {"soprano": 0.75, "alto": 0.80, "tenor": 0.85, "bass": 0.85}


def reference(name: str, part: str, samples: Any, frame: int, folder: Path | None) -> Any:
    """f0 of an isolated voice, 0 where unvoiced, every 16 ms; kept in a folder."""
    kept = folder / f"{name}-{len(samples)}-{frame}.npy" if folder else None
    if kept is not None and kept.is_file():
        return np.load(kept)
    low, high = RANGES[part]
    found, voiced, _ = librosa.pyin(
        samples, fmin=low, fmax=high, sr=RATE, frame_length=frame, hop_length=HOP
    )
    f0 = np.where(voiced, found, 0.0)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, f0)
    return f0


def scores(truth: Any, times: Any, frequency: Any) -> dict[str, float]:
    """Melody metrics of one voice; frequencies of unvoiced frames are negative or 0."""
    grid = np.arange(len(truth)) * HOP / RATE
    arguments = mir_eval.melody.to_cent_voicing(grid, truth, times, frequency)
    recall, false_alarm = mir_eval.melody.voicing_measures(arguments[0], arguments[2])
    return {
        "raw_pitch": float(mir_eval.melody.raw_pitch_accuracy(*arguments)),
        "raw_chroma": float(mir_eval.melody.raw_chroma_accuracy(*arguments)),
        "overall": float(mir_eval.melody.overall_accuracy(*arguments)),
        "voicing_recall": float(recall),
        "voicing_false_alarm": float(false_alarm),
    }


def evaluate(singer: int, options: argparse.Namespace, networks: umss.F0Networks) -> dict[str, Any]:
    """All figures of one mixture."""
    names = {part: pattern.format(singer) for part, pattern in PARTS.items()}
    stems = {p: soundfile.read(next(options.data.rglob(f"{n}.wav")))[0] for p, n in names.items()}
    length = min(options.seconds * RATE, *map(len, stems.values()))
    mixture = sum(stem[:length] for stem in stems.values())
    begin, processor = time.perf_counter(), time.process_time()
    tracks = umss.estimate_f0(
        mixture,
        RATE,
        networks,
        assignment="network",
        thresholds=(0.0,) * 4,
        keep_salience=True,
    )
    wall, processor = time.perf_counter() - begin, time.process_time() - processor
    salience = torch.from_numpy(tracks.salience)
    processor_tracking = time.process_time()
    tracked, _ = umss.track_voices(salience)
    processor_tracking = time.process_time() - processor_tracking
    averaged, _ = umss.track_voices(salience, window=AVERAGED)
    peaks = umss.pitch_peaks(salience)
    baseline = umss.assign_by_continuity([frame.numpy() for frame in peaks])
    rows: dict[str, Any] = {frame: {} for frame in FRAMES}
    for (column, part), frame in itertools.product(enumerate(PARTS), FRAMES):
        truth = reference(names[part], part, stems[part][:length], frame, options.references)
        pitch = tracks.frequency[:, column]
        voiced = tracks.confidence[:, column] >= umss.THRESHOLDS[column]
        rows[frame][part] = {
            "tracking": scores(truth, tracks.time, tracked[:, column]),
            "averaged": scores(truth, tracks.time, averaged[:, column]),
            "network": scores(truth, tracks.time, np.where(voiced, pitch, 0.0)),
            "network, pitch": scores(truth, tracks.time, np.where(voiced, pitch, -pitch)),
            "continuity": scores(truth, tracks.time, baseline[:, column]),
        }
    return {
        "singer": singer,
        "audio_seconds": length / RATE,
        "wall_seconds": wall,
        "processor_seconds": processor,
        "tracking_processor_seconds": processor_tracking,
        "stages": tracks.seconds,
        "voices": rows,
    }


def table(report: dict[str, Any]) -> str:
    """Means over the mixtures, as Markdown."""
    mixtures = report["mixtures"]
    lines = [
        "# f0 of four-part singing",
        "",
        f"`{report['command']}`, on {report['machine']['processor']}, "
        f"{report['threads']} thread(s), torch {report['machine']['torch']}, commit "
        f"{report['machine']['commit']}.",
        "",
        'Choral Singing Dataset, "Niño Dios": '
        + str(len(mixtures))
        + " mixtures (singers "
        + ", ".join(str(m["singer"]) for m in mixtures)
        + f" of each part, summed), {mixtures[0]['audio_seconds']:.0f} s each; means over them. "
        "References: pYIN on the isolated voices, in frames of 2048 or 1024 samples. Raw pitch "
        "accuracy within 50 cents (mir_eval.melody) over the frames that are voiced in the "
        "reference; a frame without a pitch is wrong. *tracking*: the default, the best path "
        "through the peaks of the common salience, with its other measures; *averaged*: the same, "
        "of the salience averaged over 0.2 s (window=17); *network*: VoasCNN with the published "
        "thresholds; *pitch*: its most salient pitch in every frame; *continuity*: peaks of the "
        "common salience from 0.5 on, assigned as the Schulze-Forster baseline does. The costs of "
        "*tracking* and the window were chosen on five excerpts of 4 s of the mixture of singers "
        "1: those rows of the second table are no test. The others are other singers of the same "
        "song.",
        "",
        "| frame | voice | wanted | tracking | chroma | overall | recall | false alarm "
        "| averaged | network | pitch | continuity |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]

    def mean(frame: int, kind: str, metric: str, part: str) -> str:
        return f"{np.mean([m['voices'][frame][part][kind][metric] for m in mixtures]):.3f}"

    for frame, (part, floor) in itertools.product(FRAMES, FLOORS.items()):
        metrics = ("raw_pitch", "raw_chroma", "overall", "voicing_recall", "voicing_false_alarm")
        cells = [mean(frame, "tracking", metric, part) for metric in metrics]
        others = ("averaged", "network", "network, pitch", "continuity")
        cells += [mean(frame, kind, "raw_pitch", part) for kind in others]
        lines.append(f"| {frame} | {part} | {floor:.2f} | {' | '.join(cells)} |")
    lines += ["", f"| singers | frame | | {' | '.join(FLOORS)} |", "|---|---|---|---|---|---|---|"]
    for mixture, frame in itertools.product(mixtures, FRAMES):
        for kind in ("tracking", "averaged"):
            found = mixture["voices"][frame]
            cells = [f"{found[part][kind]['raw_pitch']:.3f}" for part in FLOORS]
            lines.append(f"| {mixture['singer']} | {frame} | {kind} | {' | '.join(cells)} |")
    audio = sum(m["audio_seconds"] for m in mixtures)
    processor = sum(m["processor_seconds"] for m in mixtures)
    tracking = sum(m["tracking_processor_seconds"] for m in mixtures)
    stages: dict[str, float] = {}
    for mixture in mixtures:
        for stage, seconds in mixture["stages"].items():
            stages[stage] = stages.get(stage, 0.0) + seconds
    total = sum(stages.values())
    shares = ", ".join(f"{stage} {100 * s / total:.1f} %" for stage, s in stages.items())
    lines += [
        "",
        f"Processor time {processor / audio:.2f} s per second of audio; shares: {shares}. "
        f"Tracking takes {1e3 * tracking / audio:.0f} ms per second. Largest resident memory "
        f"of the whole script {report['peak_mb']:.0f} MB.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Evaluate the mixtures and write report.json and README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--references", type=Path)
    parser.add_argument("--singers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seconds", type=int, default=10_000, help="of each mixture")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    networks = umss.load_networks(options.weights)
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "command": "python benchmarks/choral_f0.py",
        "machine": machine.facts(),
        "threads": torch.get_num_threads(),
        "mixtures": [],
    }
    for singer in options.singers:
        report["mixtures"].append(evaluate(singer, options, networks))
        report["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        (options.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.out / "README.md").write_text(table(report))
    print(table(report))


if __name__ == "__main__":
    main()
