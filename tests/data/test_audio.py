from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_segments import N, track

from rlsv_fast.data import PreparedTrack, SegmentStore, audio, segments
from rlsv_fast.data.audio import Batch
from rlsv_fast.errors import InputError


def _batch(number: int) -> Batch:
    return torch.full((1,), float(number)), torch.full((1,), -float(number))


def _numbers(limit: int) -> list[int]:
    return [int(voice) for voice, _ in audio.ahead(_batch, range(limit))]


@pytest.mark.parametrize("count", [0, 1, audio.AHEAD, audio.AHEAD + 1, 20])
def test_batches_come_in_order(count: int) -> None:
    assert _numbers(count) == list(range(count))


def test_batches_are_made_while_the_former_is_used() -> None:
    made = []

    def make(number: int) -> Batch:
        made.append((number, threading.current_thread() is threading.main_thread()))
        return _batch(number)

    batches = audio.ahead(make, range(10))
    next(batches)
    deadline = time.monotonic() + 5
    while len(made) < audio.AHEAD + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [(number, False) for number in range(audio.AHEAD + 1)]


def test_what_fails_in_the_background_is_raised_where_it_is_used() -> None:
    def make(number: int) -> Batch:
        if number == 2:
            raise OSError("the disk has gone")
        return _batch(number)

    batches = audio.ahead(make, range(10))
    assert [int(next(batches)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk has gone"):
        next(batches)


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    batches = audio.ahead(_batch, range(100))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_batches_are_expected_before_they_are_made(count: int) -> None:
    calls: list[tuple[str, int]] = []

    def make(number: int) -> Batch:
        calls.append(("make", number))
        return _batch(number)

    numbers = range(10, 10 + count)
    batches = audio.announced(make, lambda number: calls.append(("expect", number)), numbers)
    assert [int(voice) for voice, _ in batches] == list(numbers)
    for kind in ("make", "expect"):
        assert [number for what, number in calls if what == kind] == list(numbers)
    for number in numbers:
        lead = calls.index(("make", number)) - calls.index(("expect", number))
        assert number - 10 < audio.AHEAD or lead > audio.AHEAD


def _in_memory(path: Path, first: int, last: int) -> bool:
    """Whether the pages that hold these bytes of a file are all in the page cache."""
    with path.open("rb") as file:
        found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole = np.frombuffer(found, dtype=np.uint8)
        state = (ctypes.c_ubyte * -(-len(whole) // mmap.PAGESIZE))()
        address, size = ctypes.c_void_p(whole.ctypes.data), ctypes.c_size_t(len(whole))
        assert ctypes.CDLL(None).mincore(address, size, state) == 0
    return all(page & 1 for page in state[first // mmap.PAGESIZE : last // mmap.PAGESIZE + 1])


def test_expected_samples_are_read_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "track.npy"
    np.save(path, np.ones((3, 1 << 20), dtype=np.float32))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    rows = np.load(path, mmap_mode="r")
    # 100 samples of another track, then the last row without its first five
    mapped = audio.MappedAudio([np.zeros(100, dtype=np.float32), rows[2][5:]])
    begin = 128 + 4 * (2 * (1 << 20) + 5)
    places = [(begin, begin + 4 * 3000), (begin + 4 * 500_000, begin + 4 * 503_050)]
    if any(_in_memory(path, *place) for place in places):
        pytest.skip("this file system keeps its pages")
    mapped.expect(torch.tensor([50, 500_100]), 3050)
    deadline = time.monotonic() + 5
    while not all(_in_memory(path, *place) for place in places) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(_in_memory(path, *place) for place in places)


def test_the_place_in_a_map(tmp_path: Path) -> None:
    np.save(tmp_path / "track.npy", np.arange(300, dtype=np.float32).reshape(3, 100))
    rows = np.load(tmp_path / "track.npy", mmap_mode="r")
    found = audio._map_of(rows[1][7:])
    assert found is not None
    pages, offset = found
    assert np.frombuffer(pages, np.float32, count=1, offset=offset) == 107
    assert audio._map_of(np.zeros(3, dtype=np.float32)) is None


def test_a_file_cut_short_while_in_use_is_named(tmp_path: Path) -> None:
    path = tmp_path / "track.npy"
    np.save(path, np.ones((3, 200), dtype=np.float32))  # one page: the system would read on
    rows = np.load(path, mmap_mode="r")
    mapped = audio.MappedAudio([rows[1], rows[2]])
    cut = PreparedTrack("cut", 8000, rows[0], rows[1], rows[2])
    mapped.gather(torch.tensor([150]), 100)
    next(segments.test_segments(cut, 100))
    path.rename(tmp_path / "removed")  # as good as there
    mapped.gather(torch.tensor([150]), 100)
    os.truncate(tmp_path / "removed", 1000)
    with pytest.raises(InputError, match=r"track\.npy: cut short while in use, 1000 of 2528 bytes"):
        mapped.gather(torch.tensor([150]), 100)
    with pytest.raises(InputError, match=r"track\.npy: cut short while in use"):
        next(segments.test_segments(cut, 100))


def test_how_much_audio_fits() -> None:
    giga = 1 << 30
    assert audio.fits(8 * giga, 79 * giga, 80 * giga)
    assert audio.fits(71 * giga, 79 * giga, 80 * giga)
    assert not audio.fits(72 * giga, 79 * giga, 80 * giga)
    # a small device keeps a quarter of itself
    assert audio.fits(5 * giga, 7 * giga, 8 * giga)
    assert not audio.fits(6 * giga, 7 * giga, 8 * giga)


@pytest.mark.parametrize("free, resident", [(16000, True), (15999, False)])
def test_a_set_goes_to_the_device_only_if_it_fits(
    free: int, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(audio, "_RESERVE", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 30))
    monkeypatch.setattr(audio, "DeviceAudio", lambda parts, device: made.append(device) or "there")
    part = np.zeros(1000, dtype=np.float32)
    found = audio.place([[part, part], [part, part]], torch.device("cuda"))
    assert (found == ["there"] * 2) == resident
    assert all(isinstance(x, audio.MappedAudio) and x._pinned for x in found) != resident
    assert made == [torch.device("cuda")] * 2 * resident


@pytest.mark.parametrize("start_batch", [0, 2])
def test_a_resident_set_gives_the_batches_of_a_mapped_one(
    start_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = [track(9 * N), track(3 * N, first=5000)]
    mapped = SegmentStore(tracks, N, 50)
    monkeypatch.setattr(
        segments,
        "place",
        lambda sources, device: [audio.DeviceAudio(parts, device) for parts in sources],
    )
    resident = SegmentStore(tracks, N, 50)
    assert resident.resident and not mapped.resident
    pairs = list(
        zip(
            mapped.epoch(4, seed=7, epoch=2, start_batch=start_batch),
            resident.epoch(4, seed=7, epoch=2, start_batch=start_batch),
            strict=True,
        )
    )
    assert len(pairs) == 6 - start_batch
    for one, other in pairs:
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    voice, accompaniment = resident.order(4, seed=7, epoch=2)
    assert voice.shape == accompaniment.shape == (6, 4)
    assert torch.equal(resident.gather(voice[5], accompaniment[5])[1], pairs[-1][1][1])
