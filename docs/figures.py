"""Draws the figures of these pages, all from synthetic data and by the library's own code.

    python docs/figures.py [--out docs/figures] [--only operators|reading] [--run RUN --root DIR]

Those of the operators take seconds. Those of ``reading.md`` show a model trained for 400 steps, as
in ``quick_start.md``: trained here, in minutes, unless ``--run`` and ``--root`` give one. Needs
matplotlib.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rlsv_fast import data, nn, ops, reference, report, training
from rlsv_fast.cli import main as command
from rlsv_fast.report.style import COLOUR_MAP, INK, LEARNED, MUTED, STFT, new_figure, style

Out = Path


def write_svg(figure: Any, path: Path) -> None:
    """The same figure gives the same bytes, with its text as text."""
    import matplotlib

    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with style(), matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata=nothing)


def write_png(figure: Any, path: Path, *, dpi: int = 75, colours: int = 96) -> None:
    """An image of few colours: a third of the bytes."""
    file = io.BytesIO()
    with style():
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    image = Image.open(file).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def line(axis: Any, x: Any, y: Any, colour: str, label: str, **options: Any) -> None:
    """One curve, with the house's grid."""
    axis.plot(np.asarray(x), np.asarray(y), color=colour, label=label, **options)
    axis.grid(True)


def glide(seconds: float = 0.5, sample_rate: int = 16000) -> torch.Tensor:
    """Two notes with six harmonics and a glide between, (1, N): a stand-in for singing."""
    time = torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    place = torch.sigmoid((time - seconds / 2) * 40 / seconds)
    turns = torch.cumsum(220 * 1.5**place, 0) / sample_rate
    signal = sum(torch.sin(2 * math.pi * k * turns) / k for k in range(1, 7))
    return (0.2 * signal).float()[None]


def spectrogram() -> torch.Tensor:
    """Magnitudes of that signal, (1, C, T): a representation without a training."""
    window = torch.hann_window(512)
    return torch.stft(glide(), 512, 128, window=window, return_complex=True).abs()[:, :64]


def modulated_cosines(out: Out) -> None:
    """A kernel and its factors; and what the phase's precision does."""
    length = 2048
    taps = torch.arange(length)
    envelope = torch.exp(-(((taps - 900) / 350.0) ** 2))[None]
    frequency, phase = torch.tensor([math.sqrt(220 / 44100)]), torch.zeros(1)
    kernel, _ = ops.modulated_cosines(frequency, phase, envelope)

    many = nn.mel_frequencies(800)
    one, none = torch.ones(1, length), torch.zeros(800)
    exact, _ = reference.modulated_cosines(many.double(), none.double(), one.double(), sort=False)
    with style():
        figure = new_figure(11, 3.6, "One kernel, and the error of all at C = 800, 44.1 kHz")
        left, right = figure.subplots(1, 2)
        line(left, taps, envelope[0], STFT, "modulator b", linestyle="--")
        line(left, taps, kernel[0], LEARNED, "kernel: b cos(2π f² l), 220 Hz", linewidth=1)
        left.set(xlabel="tap l", ylabel="amplitude")
        for label, form, colour in (
            ("float32 formula in PyTorch", reference.modulated_cosines, STFT),
            ("ops.modulated_cosines, float32", ops.modulated_cosines, LEARNED),
        ):
            error = (form(many, none, one, sort=False)[0].double() - exact).abs().amax(0)
            line(right, taps[::16], error.view(-1, 16).amax(1).clamp(min=1e-9), colour, label)
        right.set(xlabel="tap l", ylabel="largest error over all kernels", yscale="log")
        for axis in (left, right):
            axis.legend(loc="lower right" if axis is left else "center right")
    write_svg(figure, out / "modulated_cosines.svg")


def frame_distance(out: Out) -> None:
    """A representation and the distances of its frames, by both normalisations."""
    representation = spectrogram()
    pictures = [
        ("representation", representation[0].sqrt(), "component"),
        ('distances, "features"', ops.frame_distance(representation)[0], "frame"),
        ('distances, "time"', ops.frame_distance(representation, normalize="time")[0], "frame"),
    ]
    with style():
        figure = new_figure(11, 3.6, "Two notes with a glide between them")
        for axis, (title, values, label) in zip(figure.subplots(1, 3), pictures, strict=True):
            drawn = axis.imshow(values, origin="lower", aspect="auto", cmap=COLOUR_MAP)
            axis.set(title=title, xlabel="frame", ylabel=label)
            figure.colorbar(drawn, ax=axis, pad=0.02).outline.set_visible(False)
    write_png(figure, out / "frame_distance.png")


def total_variation(out: Out) -> None:
    """The gradient of both norms on one representation."""
    sound = spectrogram()
    with style():
        figure = new_figure(11, 3.6, "What total variation asks of a representation")
        axes = figure.subplots(1, 3)
        axes[0].imshow(sound[0].sqrt(), origin="lower", aspect="auto", cmap=COLOUR_MAP)
        axes[0].set(title="representation", xlabel="frame", ylabel="component")
        for axis, norm in zip(axes[1:], (1, 2), strict=True):
            leaf = sound.clone().requires_grad_()
            ops.total_variation(leaf, norm=norm).sum().backward()
            assert leaf.grad is not None
            top = float(leaf.grad.abs().max())
            drawn = axis.imshow(
                -leaf.grad[0], origin="lower", aspect="auto", cmap="PuOr", vmin=-top, vmax=top
            )
            axis.set(title=f"descent direction, norm {norm}", xlabel="frame")
            figure.colorbar(drawn, ax=axis, pad=0.02).outline.set_visible(False)
    write_png(figure, out / "total_variation.png")


def overlap_add(out: Out) -> None:
    """Frames at multiples of the hop, and their sum."""
    length, hop, count = 64, 16, 9
    window = torch.hann_window(length)
    offset = (length - hop) // 2
    pieces = window.expand(1, count, length)
    samples = count * hop
    total = ops.overlap_add(pieces, hop, length=samples, offset=offset)[0]
    with style():
        figure = new_figure(11, 3.2, "Nine Hann windows, L = 64, S = 16, added; o = 24 cropped")
        axis = figure.subplots()
        for t in range(count):
            start = t * hop - offset
            label = "frames" if t == 0 else ""
            line(axis, range(start, start + length), window, MUTED, label, linewidth=0.9)
        line(axis, range(samples), total, LEARNED, "overlap_add", linewidth=2)
        for edge in (0, samples - 1):
            axis.axvline(edge, color=INK, linewidth=0.8, linestyle=":")
        axis.set(xlabel="sample n", ylabel="amplitude")
        axis.legend(loc="upper right")
    write_svg(figure, out / "overlap_add.svg")


def ratios(out: Out) -> None:
    """neg_snr against the size of the error, and si_sdr beside the SNR against a gain."""
    target = glide()
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    noise *= target.norm() / noise.norm()
    levels = torch.logspace(-16, 2, 145, dtype=torch.float64)
    values, slopes = [], []
    for level in levels:
        estimate = (target.double() + level * noise.double()).requires_grad_()
        value = ops.neg_snr(estimate, target.double())
        (slope,) = torch.autograd.grad(value, estimate)
        values.append(float(value.detach()))
        slopes.append(float(slope.norm()))
    with style():
        figure = new_figure(11, 3.4, "neg_snr against the size of the error")
        left, right = figure.subplots(1, 2)
        line(left, levels, values, LEARNED, "value")
        left.set(xscale="log", xlabel="|error| / |target|", ylabel="dB")
        line(right, levels, slopes, STFT, "gradient")
        right.set(
            xscale="log", yscale="log", xlabel="|error| / |target|", ylabel="norm of gradient"
        )
    write_svg(figure, out / "neg_snr.svg")

    gains = torch.logspace(-2, 2, 161)
    with style():
        figure = new_figure(11, 3.4, "An estimate with noise 20 dB below the target, times a gain")
        axis = figure.subplots()
        estimates = gains[:, None] * (target + 0.1 * noise)
        targets = target.expand_as(estimates)
        line(axis, gains, ops.si_sdr(estimates, targets), LEARNED, "si_sdr")
        line(axis, gains, -ops.neg_snr(estimates, targets), STFT, "SNR = −neg_snr", linestyle="--")
        axis.set(xscale="log", xlabel="gain", ylabel="dB")
        axis.legend(loc="lower left")
    write_svg(figure, out / "si_sdr.svg")


def frame_convolution(out: Out) -> None:
    """Matrix products per output frame against the length of the transform."""
    with style():
        figure = new_figure(11, 3.4, "Matrix products per output frame, of J taps")
        axis = figure.subplots()
        for taps, colour in ((2, MUTED), (5, STFT), (8, LEARNED)):
            points = range(taps, 49)
            products = [(n + (n - 1) // 2) / (n - taps + 1) for n in points]
            line(axis, points, products, colour, f"J = {taps}, transformed")
            axis.axhline(taps, color=colour, linewidth=0.9, linestyle=":")
        axis.axhline(1.5, color=INK, linewidth=0.8)
        axis.set(xlabel="points N of the transform", ylabel="products", ylim=(0, 12))
        axis.legend(loc="upper right")
    write_svg(figure, out / "frame_convolution.svg")


def trained(folder: Path) -> tuple[Path, Path]:
    """Run and data of the quick start, made anew."""
    root, run = folder / "music", folder / "run"
    steps = ["train", "--root", str(root), "--preset", "demo", "--out", str(run)]
    for arguments in (
        ["synthesize", str(root), "--train-tracks=12", "--test-tracks=3", "--sample-rate=16000"],
        [*steps, "--cache", str(folder / "cache"), "--set=training.max_steps=400"],
    ):
        if status := command(arguments):
            raise SystemExit(status)
    return run, root


def reading(out: Out, run: Path, root: Path) -> None:
    """What a trained model has learnt, by the report's own figures."""
    with tempfile.TemporaryDirectory() as cache:
        config, model = training.load_run(run)
        rate = config.data.sample_rate
        found = data.find_tracks(root, "test")[:1]
        track = data.prepare_tracks(found, rate, Path(cache))[0]
        order = model.order()
        decoder = model.decoder
        assert isinstance(decoder, nn.ModulatedCosineDecoder)
        with torch.inference_mode():
            hertz = (decoder.carriers()[order] * rate).double().numpy()
            basis = model.basis().double().numpy()
            modulators = decoder.modulator[order].double().numpy()
            flat = torch.ones(1, decoder.kernel_size)
            carriers, _ = ops.modulated_cosines(decoder.frequency, decoder.phase, flat, sort=False)
            start = 3 * rate
            sources = (track.mixture, track.voice, track.accompaniment)
            signals = np.stack([source[start : start + 3 * rate] for source in sources])
            encoded = model.encode(torch.from_numpy(signals))[:, order]
    mixture, voice, accompaniment = encoded.numpy()
    untrained = training.build_model(config)
    started = nn.mel_frequencies(model.components, rate).double() ** decoder.power
    initial = started.numpy() * rate
    before = untrained.basis().detach().double().numpy()
    for name, kernels, line_at in (("responses", basis, hertz), ("untrained", before, initial)):
        figure = report.basis_image(kernels, sample_rate=rate, frequencies=line_at)
        write_png(figure, out / f"{name}.png", dpi=58, colours=72)
    figure = report.carrier_figure(hertz, initial, sample_rate=rate)
    write_png(figure, out / "carriers.png", dpi=70, colours=32)
    cosines = carriers[order].double().numpy()
    figure = report.basis_figure(cosines, modulators, basis, hertz, sample_rate=rate, columns=5)
    write_png(figure, out / "components.png", colours=48)
    figure = report.representation_figure(
        mixture, voice, accompaniment, hop=model.hop, sample_rate=rate, carriers=hertz,
        name=track.name, start=start / rate,
    )  # fmt: skip
    write_png(figure, out / "representation.png", dpi=62, colours=48)


OPERATORS: tuple[Callable[[Out], None], ...] = (
    modulated_cosines,
    frame_distance,
    total_variation,
    overlap_add,
    ratios,
    frame_convolution,
)


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("figures"))
    parser.add_argument("--only", choices=("operators", "reading"))
    parser.add_argument("--run", type=Path, help="a trained run, with its --root")
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only != "reading":
        for draw in OPERATORS:
            draw(options.out)
    if options.only != "operators":
        with tempfile.TemporaryDirectory() as folder:
            given = options.run and options.root
            reading(options.out, *((options.run, options.root) if given else trained(Path(folder))))


if __name__ == "__main__":
    main()
