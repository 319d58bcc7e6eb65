"""The papers' evaluation of a representation, beside the STFT, on held-out tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast.data import PreparedTrack, SegmentBatch, test_segments
from rlsv_fast.errors import InputError
from rlsv_fast.evaluation.masks import binary_mask
from rlsv_fast.evaluation.metrics import additivity, check_convention, is_active
from rlsv_fast.evaluation.result import Evaluation, Segment, summarize
from rlsv_fast.evaluation.stft import STFT
from rlsv_fast.nn import Convention, RepresentationModel
from rlsv_fast.processes import ALONE, Processes

Analysis: TypeAlias = Callable[[Tensor], Tensor]
Synthesis: TypeAlias = Callable[[Tensor, int], Tensor]


def evaluate(
    model: RepresentationModel,
    tracks: Sequence[PreparedTrack],
    *,
    segment_length: int,
    convention: Convention = "paper",
    stft_window: int | None = None,
    stft_hop: int | None = None,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    r"""Measure a representation on the non-overlapping segments whose voice is not silent.

    For the learned representation and for the STFT with a Hamming window (the papers') and with a
    Hann window (the published code's):

    - ``reconstruction_si_sdr``: SI-SDR in dB of the voice, encoded and decoded;
    - ``mask_si_sdr``: SI-SDR in dB of the voice from the mixture through the oracle binary mask,
      :math:`D(A_m \circ G)`;
    - ``additivity``: see :func:`rlsv_fast.evaluation.additivity`.

    For the unprocessed ``mixture``: ``si_sdr``, as if it were an estimate of the voice. What is not
    finite, such as the SI-SDR of an estimate without any signal, is counted and left out of the
    statistics.

    Args:
        model: the representation; moved to ``device`` and left there, in its former mode.
        tracks: test tracks, all of one sample rate.
        segment_length: N in samples, one second in the papers.
        convention: of the silence rule, the mask and the additivity.
        stft_window: window of the STFTs in samples; default the model's kernel size.
        stft_hop: hop of the STFTs in samples; default the model's.
        batch_size: segments processed at a time.
        device: where to compute.
        progress: called before each track and at the end with (tracks done, tracks, name).
        processes: those that share the tracks; each calls this, and gets the whole result.

    Returns:
        All segments' values and their summary.

    Raises:
        InputError: no tracks, different sample rates, no segment with an active voice, or an STFT
            that cannot work.

    Reference:
        Mimilakis, Drossos, Schuller, "Revisiting Representation Learning for Singing Voice
        Separation with Sinkhorn Distances", 2020, section 4.
    """
    check_convention(convention)
    rates = sorted({track.sample_rate for track in tracks})
    if len(rates) != 1:
        raise InputError(f"evaluation needs test tracks of one sample rate, got {rates or 'none'}")
    window = model.encoder.kernel_size if stft_window is None else stft_window
    hop = model.encoder.hop if stft_hop is None else stft_hop
    stfts = [STFT(window, hop, window="hamming"), STFT(window, hop, window="hann")]

    mine: dict[int, _Found] = {}
    training = model.training
    model.to(device).eval()
    try:
        with torch.inference_mode():
            transforms = {
                "learned": _transform(model),
                "stft_hamming": (stfts[0].analyze, stfts[0].synthesize),
                "stft_hann": (stfts[1].analyze, stfts[1].synthesize),
            }
            for index in range(processes.rank, len(tracks), processes.size):
                track = tracks[index]
                if progress is not None:
                    progress(index, len(tracks), track.name)
                batches = test_segments(track, segment_length, batch_size=batch_size)
                mine[index] = _evaluate_track(
                    track, batches, segment_length, transforms, convention, device
                )
    finally:
        model.train(training)
    found = {index: one for part in processes.gather(mine) for index, one in part.items()}
    if progress is not None:
        progress(len(tracks), len(tracks), "")
    in_order = [found[index] for index in range(len(tracks))]
    segments = [segment for one in in_order for segment in one.segments]
    silent = sum(one.silent for one in in_order)
    too_short = [track.name for track, one in zip(tracks, in_order, strict=True) if one.total == 0]
    if not segments:
        raise InputError(
            f"no test segment of {segment_length} samples has an active voice ({silent} silent, "
            f"{len(too_short)} of {len(tracks)} tracks shorter than half a segment); check the "
            "vocals of the test tracks or choose another segment length"
        )
    notes = [f"shorter than half a segment, left out: {name}" for name in too_short]
    return Evaluation(
        settings={
            "convention": convention,
            "sample_rate": rates[0],
            "segment_length": segment_length,
            "encoder": type(model.encoder).__name__,
            "decoder": type(model.decoder).__name__,
            "components": model.encoder.components,
            "kernel_size": model.encoder.kernel_size,
            "hop": model.encoder.hop,
            "stft_window": window,
            "stft_hop": hop,
            "tracks": [track.name for track in tracks],
        },
        summary=summarize(segments),
        segments=segments,
        silent_segments=silent,
        notes=notes,
    )


class _Found(NamedTuple):
    """What there is to know of a track: of its ``total`` segments, ``silent`` have no values."""

    segments: list[Segment]
    total: int
    silent: int


def _evaluate_track(
    track: PreparedTrack,
    batches: Iterable[SegmentBatch],
    segment_length: int,
    transforms: dict[str, tuple[Analysis, Synthesis]],
    convention: Convention,
    device: torch.device | str,
) -> _Found:
    segments: list[Segment] = []
    count = silent = 0
    for batch in batches:
        active = is_active(batch.voice, convention=convention)
        starts = (count + active.nonzero().flatten()) * segment_length
        count += len(active)
        silent += int((~active).sum())
        if not active.any():
            continue
        sources = torch.stack(
            [batch.voice[active], batch.accompaniment[active], batch.mixture[active]]
        ).to(device)
        segments += _rows(track, starts, _scores(sources, transforms, convention))
    return _Found(segments, count, silent)


def _transform(model: RepresentationModel) -> tuple[Analysis, Synthesis]:
    """The model as analysis and synthesis; its basis is generated here, once."""
    basis = model.decoder.basis()
    return model.encode, lambda coefficients, length: model.decode(
        coefficients, length=length, basis=basis
    )


def _scores(
    sources: Tensor, transforms: dict[str, tuple[Analysis, Synthesis]], convention: Convention
) -> dict[str, dict[str, Tensor]]:
    """All values of a batch of voice, accompaniment and mixture, shape (3, n, N)."""
    voice, _, mixture = sources
    count, length = voice.shape
    scores = {}
    for name, (analyze, synthesize) in transforms.items():
        coefficients = analyze(sources.reshape(3 * count, length))
        of_voice, of_accompaniment, of_mixture = coefficients.abs().chunk(3)
        mask = binary_mask(of_voice, of_accompaniment, convention=convention)
        reconstruction, masked = synthesize(
            torch.cat([coefficients[:count], coefficients[2 * count :] * mask]), length
        ).chunk(2)
        scores[name] = {
            "reconstruction_si_sdr": _si_sdr(reconstruction, voice),
            "mask_si_sdr": _si_sdr(masked, voice),
            "additivity": additivity(of_mixture, of_voice, of_accompaniment, convention=convention),
        }
    scores["mixture"] = {"si_sdr": _si_sdr(mixture, voice)}
    return scores


def _si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """SI-SDR in dB, −∞ for a silent estimate: its −240 dB by convention would rule every mean."""
    silent = (estimate == 0).all(-1)
    return ops.si_sdr(estimate, target).masked_fill(silent, -torch.inf)


def _rows(
    track: PreparedTrack, starts: Tensor, scores: dict[str, dict[str, Tensor]]
) -> list[Segment]:
    columns = {
        method: {quantity: values.tolist() for quantity, values in quantities.items()}
        for method, quantities in scores.items()
    }
    return [
        Segment(
            track=track.name,
            start=start / track.sample_rate,
            values={
                method: {quantity: values[row] for quantity, values in quantities.items()}
                for method, quantities in columns.items()
            },
        )
        for row, start in enumerate(starts.tolist())
    ]
