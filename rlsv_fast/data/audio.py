"""Where the samples of a training set lie, and how segments are taken from there."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from rlsv_fast.data.sound import FloatArray
from rlsv_fast.errors import InputError

Batch: TypeAlias = tuple[Tensor, Tensor]
_Made = TypeVar("_Made")

AHEAD = 2
"""Batches read or made in advance: one to take while the next is in the making."""

_RESERVE = 8 << 30
"""Bytes of device memory left to the model; the papers' training step needs about one GB."""


class MappedAudio:
    """Tracks laid end to end; segments are copied out of their memory maps.

    Args:
        parts: samples of each track.
        pinned: whether batches go into pinned memory, from where a device fetches them by itself.
    """

    def __init__(self, parts: Sequence[FloatArray], *, pinned: bool = False) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        self._maps = [_map_of(part) for part in parts]
        self._pinned = pinned

    def copy(self, start: int, length: int, out: FloatArray | None = None) -> FloatArray:
        """The samples [start, start + length), over the borders of tracks where need be."""
        out = np.empty(length, dtype=np.float32) if out is None else out
        done = 0
        for index, first, last in self._pieces(start, length):
            _check_whole(self.parts[index], self._maps[index])
            out[done : done + last - first] = self.parts[index][first:last]
            done += last - first
        return out

    def gather(self, starts: Tensor, length: int) -> Tensor:
        """The segments that begin at ``starts`` (B,), as a new tensor (B, length) on the CPU."""
        batch = torch.empty(len(starts), length, pin_memory=self._pinned)
        for row, start in zip(batch.numpy(), starts.tolist(), strict=True):
            self.copy(start, length, row)
        return batch

    def expect(self, starts: Tensor, length: int) -> None:
        """Have the kernel read these segments from the disk, without waiting for it."""
        for start in starts.tolist():
            for index, first, last in self._pieces(start, length):
                found = self._maps[index]
                if found is not None:
                    pages, offset = found
                    begin = (offset + 4 * first) // mmap.PAGESIZE * mmap.PAGESIZE
                    pages.madvise(mmap.MADV_WILLNEED, begin, offset + 4 * last - begin)

    def _pieces(self, start: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Track, first and last sample (exclusive) of what a segment takes of each track."""
        index = int(np.searchsorted(self.ends, start, side="right"))
        while length:
            size = len(self.parts[index])
            first = start - (int(self.ends[index]) - size)
            last = min(first + length, size)
            yield index, first, last
            start, length = start + last - first, length - (last - first)
            index += 1


def check_whole(samples: FloatArray) -> None:
    """Make sure that the file behind a memory map still has its length.

    The system ends a process that reads a page which its file no longer has (SIGBUS), without a
    word. A file cut short between this check and the reading still does that; one that is removed
    stays readable until the process ends.

    Raises:
        InputError: the file has been cut short.
    """
    _check_whole(samples, _map_of(samples))


def _check_whole(samples: FloatArray, found: tuple[mmap.mmap, int] | None) -> None:
    if found is None:
        return
    pages = found[0]
    try:
        there = pages.size()
    except OSError:  # its file system has gone
        there = 0
    if there < len(pages):
        path = getattr(samples, "filename", None) or "a memory-mapped track"
        raise InputError(
            f"{path}: cut short while in use, {there} of {len(pages)} bytes are left; start again: "
            "it is then decoded anew"
        )


def _map_of(part: FloatArray) -> tuple[mmap.mmap, int] | None:
    """The memory map that an array lies in, and at which byte; None where it is no map's."""
    owner: object = part
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap):
        return None
    return owner, part.ctypes.data - np.frombuffer(owner, dtype=np.uint8).ctypes.data


class DeviceAudio:
    """The same, in one tensor on an accelerator, where segments are gathered by index."""

    def __init__(self, parts: Sequence[FloatArray], device: torch.device) -> None:
        self.flat = torch.empty(sum(map(len, parts)), dtype=torch.float32, device=device)
        place = 0
        for part in parts:  # track by track: no second copy of the whole set in host memory
            self.flat[place : place + len(part)] = torch.from_numpy(np.array(part))
            place += len(part)

    def gather(self, starts: Tensor, length: int) -> Tensor:
        """The segments that begin at ``starts`` (B,), there, as a new tensor (B, length)."""
        return self.flat.unfold(0, length, 1)[starts]


def place(
    sources: Sequence[Sequence[FloatArray]], device: torch.device
) -> list[MappedAudio] | list[DeviceAudio]:
    """Put the sources of a training set onto a device if they all fit, else leave them mapped.

    They stay the float32 that the cache holds: the mean of two 16-bit channels, a resampled and a
    decoded stem all have more than 16 bits.
    """
    if device.type == "cpu":
        return [MappedAudio(parts) for parts in sources]
    needed = 4 * sum(len(part) for parts in sources for part in parts)
    if fits(needed, *torch.cuda.mem_get_info(device)):
        return [DeviceAudio(parts, device) for parts in sources]
    return [MappedAudio(parts, pinned=True) for parts in sources]


def fits(needed: int, free: int, total: int) -> bool:
    """Whether audio leaves enough of a device's memory to the model; all in bytes."""
    return needed + min(_RESERVE, total // 4) <= free


def announced(
    make: Callable[[int], Batch], expect: Callable[[int], None], numbers: Sequence[int]
) -> Iterator[Batch]:
    """Yield ``make(number)``, with ``expect`` called some numbers before that.

    This hides the disk behind the steps, as a background thread would. But such a thread must get
    a core and Python's lock each time, and where all cores compute, the step waits for both.
    """
    told = 0
    for place, number in enumerate(numbers):
        for later in numbers[told : place + AHEAD + 1]:
            expect(later)
        told = place + AHEAD + 1
        yield make(number)


def ahead(make: Callable[[int], _Made], numbers: Sequence[int]) -> Iterator[_Made]:
    """Yield ``make(number)``, made in a background thread before it is asked for."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        waiting: deque[Future[_Made]] = deque()
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for job in waiting:
                job.cancel()


def sent(
    make: Callable[[int], Batch], numbers: Sequence[int], device: torch.device
) -> Iterator[Batch]:
    """Yield ``make(number)`` on a GPU; made, and copied there, in the background.

    The copies run on a stream of their own, beside the steps.

    Args:
        make: gives a batch in pinned memory.
        numbers: what to call it with, in this order.
        device: where the batches go.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(number: int) -> tuple[Batch, torch.cuda.Event]:
        voice, accompaniment = make(number)
        # pinned blocks that a copy still reads are not handed out again by torch's allocator
        with torch.cuda.stream(stream):
            batch = (
                voice.to(device, non_blocking=True),
                accompaniment.to(device, non_blocking=True),
            )
            return batch, stream.record_event()

    for batch, arrived in ahead(send, numbers):
        current = torch.cuda.current_stream(device)
        current.wait_event(arrived)  # the stream waits, not the host
        for tensor in batch:
            tensor.record_stream(current)
        yield batch
