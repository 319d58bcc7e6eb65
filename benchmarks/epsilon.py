"""Measure what the Sinkhorn loss does to representations of real audio, epsilon by epsilon.

Usage: python benchmarks/epsilon.py RUN [RUN ...] --root DATA --out benchmarks/results/epsilon
       python benchmarks/epsilon.py --out benchmarks/results/epsilon      (draw and tabulate again)

Each RUN is a run folder of `rlsv-fast train`; the runs share sample rate, segments and sizes. Their
models, and untrained ones of both conventions, represent the same batches of mixtures, drawn from
the test part of DATA. Leaves curves.json, curves.svg and README.md; no audio.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import machine
import torch
from torch import Tensor

from rlsv_fast import data, nn, ops, training
from rlsv_fast.report.style import INK, MUTED, new_figure, style

BATCH, SEED = 8, 218
EPSILONS = [
    *(0.05, 0.07, 0.1, 0.12, 0.14, 0.16, 0.18),
    *(round(0.2 + 0.025 * step, 3) for step in range(17)),
    *(0.65, 0.7, 0.75, 0.8, 0.85, 0.9),
    *(round(1 + 0.1 * step, 1) for step in range(21)),
    *(3.5, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0),
]
COLOURS = ("#c2570c", "#0f766e", "#7c3aed", "#2563eb", "#be123c")
SETTINGS = [(convention, p) for convention in nn.initial.CONVENTIONS for p in (1, 2)]
CURVES = ("relative_loss", "mean_gradient", "gradient_norm", "pushed_share", "on_representation")
HEADER = """# What the Sinkhorn loss does at each epsilon, on real representations

Made by `benchmarks/epsilon.py`. All figures are those of `SinkhornLoss.diagnose`: means over
{batches} batches of {batch} mixtures of one second from the test part of {root}, in brackets the
least and the largest of the batches; T = {frames}, C = {components}. One seed ({seed}) per model.
"Published" is the original's normalisation, over time, "paper" P2's, over features. The numbers of
all curves, settings and the commit are in curves.json, the figure is curves.svg.
"""


def mixtures(root: Path, config: training.Config, cache: Path | None, batches: int) -> list[Tensor]:
    """Batches of test segments, drawn without repetition, the same for every model."""
    tracks = data.prepare_tracks(data.find_tracks(root, "test"), config.data.sample_rate, cache)
    length = config.data.segment_length
    segments = torch.cat(
        [batch.mixture for track in tracks for batch in data.test_segments(track, length)]
    )
    if len(segments) < batches * BATCH:
        raise SystemExit(f"{root}: {len(segments)} test segments, {batches * BATCH} needed")
    order = torch.randperm(len(segments), generator=torch.Generator().manual_seed(SEED))
    return list(segments[order[: batches * BATCH]].split(BATCH))


def curves(representation: Tensor, convention: nn.Convention, p: int) -> dict[str, Any]:
    """All curves on one batch, and where its mean gradient changes sign."""
    leaf = representation.double().requires_grad_()
    distances = ops.frame_distance(
        leaf, p=p, normalize="features" if convention == "paper" else "time", reduce="mean"
    )
    frames = len(distances)
    pairs = distances.detach() > 0
    found: dict[str, Any] = {name: [] for name in CURVES}
    for epsilon in EPSILONS:
        loss = ops.sinkhorn_distance(distances, epsilon, symmetric=True, tolerance=1e-10)
        slope, on_leaf = torch.autograd.grad(loss, (distances, leaf), retain_graph=True)
        slope = slope[pairs]
        found["relative_loss"].append(float(loss.detach() / distances.detach().mean()))
        found["mean_gradient"].append(float(frames**2 * slope.mean()))
        found["gradient_norm"].append(float(frames * slope.norm()))
        found["pushed_share"].append(float((slope < 0).double().mean()))
        found["on_representation"].append(float(on_leaf.norm()))
    diagnosis = nn.SinkhornLoss(1.0, convention=convention, p=p).diagnose(representation)
    found["mean_distance"] = diagnosis.mean_distance
    found["sign_change"] = diagnosis.sign_change
    return found


def of_total_variation(representation: Tensor, convention: nn.Convention) -> float:
    """Norm of the gradient of the total variation, the yardstick of ``on_representation``."""
    leaf = representation.double().requires_grad_()
    (slope,) = torch.autograd.grad(nn.TotalVariationLoss(convention)(leaf), leaf)
    return float(slope.norm())


def measure(model: nn.RepresentationModel, batches: list[Tensor]) -> dict[str, Any]:
    """Means over the batches for every setting; sign changes and mean distances of each batch."""
    with torch.no_grad():
        representations = [model.encode(batch) for batch in batches]
    found: dict[str, Any] = {}
    for convention, p in SETTINGS:
        each = [curves(one, convention, p) for one in representations]
        yardstick = [of_total_variation(one, convention) for one in representations]
        entry = {
            name: (torch.tensor([one[name] for one in each]).double().mean(0)).tolist()
            for name in CURVES
        }
        entry["mean_distance"] = [one["mean_distance"] for one in each]
        entry["sign_change"] = [one["sign_change"] for one in each]
        entry["total_variation_on_representation"] = mean(yardstick)
        found[f"{convention}, p = {p}"] = entry
    return found


def report(runs: list[Path], root: Path, cache: Path | None, batches: int) -> dict[str, Any]:
    """Everything that is measured."""
    loaded = {run.name: training.load_run_and_step(run) for run in runs}
    config = next(iter(loaded.values()))[0]
    audio = mixtures(root, config, cache, batches)
    for convention in nn.initial.CONVENTIONS:
        untrained = replace(config, convention=convention)
        loaded[f"untrained, {convention}"] = (untrained, training.build_model(untrained), 0)
    models = {}
    for name, (settings, model, step) in loaded.items():
        models[name] = {"steps": step, "settings": training.flatten(settings)}
        models[name] |= measure(model, audio)
        print(name, flush=True)
    frames = nn.frame_count(config.data.segment_length, config.model.hop)
    sizes = {"batches": batches, "batch": BATCH, "frames": frames}
    sizes["components"] = config.model.components
    facts = {**machine.facts(), "root": root.name, **sizes}
    return {"facts": facts, "epsilon": EPSILONS, "models": models}


def own_epsilon(model: dict[str, Any]) -> float | None:
    """The epsilon that a model was trained with, if any."""
    with_it = model["steps"] > 0 and model["settings"]["loss.representation"] == "sinkhorn"
    return float(model["settings"]["loss.epsilon"]) if with_it else None


def rounded(value: Any) -> Any:
    """Four digits of every number, which is more than the batches agree in."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write(found: dict[str, Any], path: Path) -> None:
    """JSON with one curve per line."""
    text = json.dumps(rounded(found), indent=1, ensure_ascii=False)
    path.write_text(re.sub(r"\[[^][{}]*\]", lambda curve: " ".join(curve[0].split()), text) + "\n")


def spread(values: list[float]) -> str:
    """Mean, least and largest."""
    return f"{mean(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def sign_changes(found: dict[str, Any], convention: str, p: int) -> str:
    """Table of one setting."""
    label = "published" if convention == "code" else "paper"
    text = f"\n## Sign change, {label} normalisation, p = {p}\n"
    text += "| model | mean(M) | ε* | mean(M) / ε* |\n|---|---|---|---|\n"
    for name, model in found["models"].items():
        entry = model[f"{convention}, p = {p}"]
        distances, changes = entry["mean_distance"], entry["sign_change"]
        ratios = [m / change for m, change in zip(distances, changes, strict=True)]
        text += f"| {name} | {spread(distances)} | {spread(changes)} | {spread(ratios)} |\n"
    return text


def outcomes(found: dict[str, Any]) -> str:
    """Table of the runs."""
    models = found["models"]
    text = "\n## The runs\nWhere the ε of a run stood before its first step and after its last.\n\n"
    text += "| run | conventions | ω | ε | p | steps | ε / ε* before | after | mean(M) before "
    text += "| after |\n" + "|---" * 10 + "|\n"
    for name, model in models.items():
        epsilon, settings = own_epsilon(model), model["settings"]
        if epsilon is None:
            continue
        convention, p = settings["convention"], settings["loss.p"]
        ends = [models[f"untrained, {convention}"], model]
        ends = [end[f"{convention}, p = {p}"] for end in ends]
        cells = [
            name,
            "published" if convention == "code" else "paper",
            f"{settings['loss.weight']:g}",
            f"{epsilon:g}",
            str(p),
            str(model["steps"]),
            *(f"{epsilon / mean(end['sign_change']):.2f}" for end in ends),
            *(f"{mean(end['mean_distance']):.3g}" for end in ends),
        ]
        text += f"| {' | '.join(cells)} |\n"
    return text


def tables(found: dict[str, Any]) -> str:
    """The page: sign changes of every model and setting, and what became of the runs."""
    facts = found["facts"]
    text = HEADER.format(seed=SEED, **facts)
    for convention, p in SETTINGS:
        text += sign_changes(found, convention, p)
    return text + outcomes(found)


def draw_models(axes: Any, found: dict[str, Any], convention: str) -> None:
    """Three axes for the models of one convention and those trained without transport, at p = 1."""
    epsilons, drawn = found["epsilon"], 0
    for name, model in found["models"].items():
        settings, own = model["settings"], own_epsilon(model)
        if settings["convention"] != convention and (own is not None or model["steps"] == 0):
            continue
        colour, line = (MUTED, "--") if model["steps"] == 0 else (COLOURS[drawn], "-")
        drawn += model["steps"] > 0
        entry = model[f"{convention}, p = 1"]
        yardstick = entry["total_variation_on_representation"]
        reaching = [value / yardstick for value in entry["on_representation"]]
        label = f"{name} ({model['steps']} steps)"
        rows = (entry["relative_loss"], entry["mean_gradient"], reaching)
        for axis, values in zip(axes, rows, strict=True):
            axis.plot(epsilons, values, line, color=colour, label=label)
            if own is not None:
                axis.plot(own, values[epsilons.index(own)], "o", color=colour, markersize=6)


def draw(found: dict[str, Any], path: Path) -> None:
    """Curves at p = 1: the published normalisation on the left, P2's on the right."""
    with style():
        import matplotlib

        figure = new_figure(11, 9, "What the Sinkhorn loss does at each ε, on real representations")
        axes = figure.subplots(3, 2, sharex=True, sharey="row")
        draw_models(axes[:, 0], found, "code")
        draw_models(axes[:, 1], found, "paper")
        axes[0, 0].set_title("published normalisation (over time)")
        axes[0, 1].set_title("P2's normalisation (over features)")
        axes[0, 0].set_ylabel("loss / mean(M)\n0: identity, 1: uniform plan")
        axes[1, 0].set_ylabel("T² · mean off-diagonal dL/dM\n− pushes apart, + pulls together")
        axes[2, 0].set_ylabel("‖dL/dA‖ / ‖dTV/dA‖")
        axes[2, 0].set_yscale("log")
        axes[2, 0].set_ylim(1e-4, 30)
        for axis in axes.flat:
            axis.set_xscale("log")
            axis.grid(True)
        for upper, middle, lower in axes.T:
            upper.legend()
            middle.axhline(0, color=INK, linewidth=0.8)
            lower.set_xlabel("ε (dots: where the run was trained)")
        with matplotlib.rc_context({"svg.hashsalt": "epsilon"}):
            figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Measure where runs are given; draw and tabulate what has been measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--root", type=Path, help="data folder with train and test")
    parser.add_argument("--cache", type=Path, help="folder for decoded tracks")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    path = arguments.out / "curves.json"
    if arguments.runs:
        if arguments.root is None:
            parser.error("--root is needed to measure runs")
        arguments.out.mkdir(parents=True, exist_ok=True)
        found = report(arguments.runs, arguments.root, arguments.cache, arguments.batches)
        write(found, path)
    found = json.loads(path.read_text())
    (arguments.out / "README.md").write_text(tables(found))
    draw(found, arguments.out / "curves.svg")
    print(tables(found))


if __name__ == "__main__":
    main()
