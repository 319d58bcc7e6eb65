from __future__ import annotations

import numpy as np
import pytest
import torch

from rlsv_fast.data import PreparedTrack, SegmentStore, audio, check_not_silent, segments
from rlsv_fast.errors import InputError

N = 100


def track(length: int, name: str = "x", *, first: int = 1, rate: int = 8000) -> PreparedTrack:
    """Voice counts up from `first`, accompaniment is its negative: values tell the place."""
    voice = np.arange(first, first + length, dtype=np.float32)
    return PreparedTrack(name, rate, 0 * voice, voice, -voice)


def starts(store: SegmentStore, **options: bool) -> list[int]:
    """First sample of each voice segment of an epoch, sorted."""
    batches = list(store.epoch(1, seed=0, epoch=0, **options))
    return sorted(int(voice[0, 0]) for voice, _ in batches)


def silenced(prepared: PreparedTrack, where: slice) -> PreparedTrack:
    voice = prepared.voice.copy()
    voice[where] = 0.0
    return PreparedTrack(prepared.name, 8000, prepared.mixture, voice, prepared.accompaniment)


@pytest.mark.parametrize(
    "length, overlap, expected",
    [
        (100, 50, [1]),
        (200, 50, [1, 51, 101]),
        (230, 50, [1, 51, 101, 131]),  # the last one ends with the track
        (230, 0, [1, 101, 131]),
        (101, 99, [1, 2]),
    ],
)
def test_segments_cover_the_track(length: int, overlap: int, expected: list[int]) -> None:
    assert starts(SegmentStore([track(length)], N, overlap)) == expected


def test_segments_stay_within_tracks_unless_concatenated() -> None:
    tracks = [track(150, "a"), track(130, "b", first=1000)]
    store = SegmentStore(tracks, N, 50)
    assert starts(store) == [1, 51, 1000, 1030]
    for voice, _ in store.epoch(1, seed=0, epoch=0):
        assert torch.equal(voice.diff(dim=1), torch.ones(1, N - 1))

    joined = SegmentStore(tracks, N, 50, concatenate=True)
    assert starts(joined) == [1, 51, 101, 1000, 1030]
    (crossing,) = (voice for voice, _ in joined.epoch(1, seed=0, epoch=0) if voice[0, 0] == 101)
    assert crossing[0, 49:51].tolist() == [150.0, 1000.0]


def test_joined_short_tracks_make_a_segment() -> None:
    store = SegmentStore([track(30), track(30, first=100), track(50)], N, 0, concatenate=True)
    assert starts(store) == [1, 11]


def test_short_tracks_are_padded_or_skipped() -> None:
    store = SegmentStore([track(200), track(60, "short", first=500), track(40, "tiny")], N, 0)
    assert store.skipped == ["tiny"]
    assert starts(store) == [1, 101, 500]
    (padded,) = (voice for voice, _ in store.epoch(1, seed=0, epoch=0) if voice[0, 0] == 500)
    assert padded[0, 59] == 559
    assert not padded[0, 60:].any()


def test_silent_voice_segments_are_dropped_and_counted() -> None:
    prepared = silenced(track(400), slice(100, 300))
    store = SegmentStore([prepared], N, 0)
    assert len(store) == store.voice_segments == 2
    assert store.accompaniment_segments == 4
    assert store.silent_segments == 2
    assert starts(store) == [1, 301]
    # the accompaniment below a silent voice is still used, over the epochs
    seen = {
        int(accompaniment[0, 0])
        for epoch in range(20)
        for _, accompaniment in store.epoch(1, seed=0, epoch=epoch)
    }
    assert seen == {-1, -101, -201, -301}


def test_epochs_shuffle_independently_and_repeatably() -> None:
    store = SegmentStore([track(10 * N)], N, 50)
    epochs = [
        [(int(v[0, 0]), int(a[0, 0])) for v, a in store.epoch(1, seed=seed, epoch=epoch)]
        for seed, epoch in [(3, 0), (3, 0), (3, 1), (4, 0)]
    ]
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2]
    assert epochs[0] != epochs[3]
    voices, accompaniments = zip(*epochs[0], strict=True)
    assert sorted(voices) == sorted(-place for place in accompaniments)
    assert sum(v == -a for v, a in epochs[0]) < len(voices) / 2


def test_paired_accompaniment_belongs_to_the_voice() -> None:
    store = SegmentStore([silenced(track(5 * N), slice(100, 200))], N, 50)
    for voice, accompaniment in store.epoch(3, seed=0, epoch=0, paired=True):
        sounding = voice != 0
        assert torch.equal(voice[sounding], -accompaniment[sounding])


@pytest.mark.parametrize("start_batch", [0, 1, 3, 5])
def test_resuming_inside_an_epoch_gives_the_same_bits(start_batch: int) -> None:
    store = SegmentStore([track(9 * N), track(3 * N, first=5000)], N, 50)
    whole = list(store.epoch(4, seed=7, epoch=2))
    resumed = list(store.epoch(4, seed=7, epoch=2, start_batch=start_batch))
    assert len(whole) == store.batches(4) == 6
    assert len(resumed) == 6 - start_batch
    for one, other in zip(whole[start_batch:], resumed, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_last_batch_wraps_round() -> None:
    store = SegmentStore([track(5 * N)], N, 0)
    first, second = (v[:, 0].tolist() for v, _ in store.epoch(3, seed=0, epoch=0))
    assert len(set(first + second)) == 5
    assert second[2] == first[0]
    (batch,) = (v[:, 0].tolist() for v, _ in store.epoch(12, seed=0, epoch=0))
    assert batch[:5] == batch[5:10]


def test_batches_are_fresh_float32_tensors() -> None:
    store = SegmentStore([track(3 * N)], N, 0)
    voice, accompaniment = next(store.epoch(2, seed=0, epoch=0))
    assert voice.shape == accompaniment.shape == (2, N)
    assert voice.dtype == accompaniment.dtype == torch.float32
    voice.zero_()  # must not reach the store
    assert next(store.epoch(2, seed=0, epoch=0))[0].all()


@pytest.mark.parametrize("concatenate", [False, True])
def test_audio_on_a_device_gives_the_same_segments(device: str, concatenate: bool) -> None:
    tracks = [track(250, "a"), track(70, "b", first=1000), track(130, "c", first=2000)]
    store = SegmentStore(tracks, N, 30, concatenate=concatenate)
    moved = SegmentStore(tracks, N, 30, device=device, concatenate=concatenate)
    batches = zip(store.epoch(3, seed=1, epoch=0), moved.epoch(3, seed=1, epoch=0), strict=True)
    for one, other in batches:
        assert other[0].device.type == other[1].device.type == device
        assert torch.equal(one[0], other[0].cpu())
        assert torch.equal(one[1], other[1].cpu())


def test_flat_audio_is_gathered_like_mapped_audio() -> None:
    """The accelerators' class, on the CPU where every machine can run it."""
    parts = [np.arange(70, dtype=np.float32), np.arange(100, 160, dtype=np.float32)]
    places = torch.tensor([0, 5, 40, 30])
    mapped = audio.MappedAudio(parts).gather(places, 90)
    flat = audio.DeviceAudio(parts, torch.device("cpu")).gather(places, 90)
    assert torch.equal(mapped, flat)


def test_stores_that_cannot_work() -> None:
    with pytest.raises(InputError, match=r"longest track 'b' \(90 samples, 0.01 s\)"):
        SegmentStore([track(80, "a"), track(90, "b")], N, 0)
    with pytest.raises(InputError, match="all tracks together"):
        SegmentStore([track(40), track(50)], N, 0, concatenate=True)
    with pytest.raises(InputError, match="overlap must be"):
        SegmentStore([track(200)], N, N)
    with pytest.raises(InputError, match="segment length must be"):
        SegmentStore([track(200)], 0, 0)
    with pytest.raises(InputError, match="'x' 8000 Hz, 'y' 44100 Hz"):
        SegmentStore([track(200), track(200, "y", rate=44100)], N, 0)
    with pytest.raises(InputError, match="no tracks"):
        SegmentStore([], N, 0)
    store = SegmentStore([track(200)], N, 0)
    with pytest.raises(InputError, match="batch size"):
        next(store.epoch(0, seed=0, epoch=0))
    with pytest.raises(InputError, match="must be at least 0"):
        next(store.epoch(1, seed=-1, epoch=0))


def test_silent_set() -> None:
    silent = [silenced(track(200, name), slice(None)) for name in "ab"]
    with pytest.raises(InputError, match="silent in all 2 track"):
        SegmentStore(silent, N, 0)
    with pytest.raises(InputError, match="from 'a' to 'b'"):
        check_not_silent(silent)
    check_not_silent([*silent, track(10)])


@pytest.mark.parametrize("length, expected", [(300, 3), (350, 4), (349, 3), (60, 1), (49, 0)])
def test_test_segments(length: int, expected: int) -> None:
    prepared = track(length)
    batches = list(segments.test_segments(prepared, N, batch_size=2))
    assert all(len(batch.voice) <= 2 for batch in batches)
    flat = torch.cat([batch.voice.flatten() for batch in batches]) if batches else torch.empty(0)
    assert flat.numel() == expected * N
    audio = min(length, expected * N)
    np.testing.assert_array_equal(flat[:audio].numpy(), prepared.voice[:audio])
    assert not flat[audio:].any()
    for voice, accompaniment, mixture in batches:
        assert torch.equal(voice, -accompaniment)
        assert mixture.shape == voice.shape
    with pytest.raises(InputError, match="at least 1"):
        next(segments.test_segments(prepared, 0))
