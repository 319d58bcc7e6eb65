"""How fast a run goes and where its time goes, for the log and for people."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch

_Item = TypeVar("_Item")
_PART = "part "


class Throughput:
    """Counts steps, waiting and the parts of steps, over the epoch and over the session.

    The parts of a step are told apart by marks at their ends: readings of the clock, and on a GPU
    events in its stream. (A profiler would cost more than some steps and print lines of its own.)
    Of the steps between two collections only the first is taken apart. Steps of a replayed graph
    have no marks: there the parts are those of the steps before the recording.

    Args:
        batch_size: B.
        seconds: length of a segment.
        device: where the steps run.
    """

    def __init__(self, batch_size: int, seconds: float, device: torch.device) -> None:
        self._batch_size = batch_size
        self._segment_seconds = seconds
        self._cuda = device if device.type == "cuda" else None
        self._marks: list[tuple[str, Any]] = []
        self._sampled = False
        self.restart()

    def restart(self) -> None:
        """Count from here."""
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._former: dict[str, float] = {}
        self._begin = self._epoch_begin = time.perf_counter()

    def waited(self, batches: Iterable[_Item]) -> Iterator[_Item]:
        """Pass batches on; the time until each comes is waiting, and part of its step's data."""
        source = iter(batches)
        while True:
            before = time.perf_counter()
            self.begin_step()
            try:
                batch = next(source)
            except StopIteration:
                self._drop_step()
                return
            self._sums["waited"] += time.perf_counter() - before
            yield batch

    def begin_step(self) -> None:
        """Take the next step apart, if none has been since the last collection."""
        self._sampled = not self._marks
        if self._sampled:
            self._stamp("")

    def mark(self, part: str) -> None:
        """What has passed since the last mark belongs to this part."""
        if self._sampled:
            self._stamp(part)

    def end_step(self) -> None:
        """Count a step."""
        self._sampled = False
        self._sums["steps"] += 1

    def collect(self) -> None:
        """Add up the marks; the device must have finished the steps."""
        for (_, earlier), (part, later) in zip(self._marks, self._marks[1:], strict=False):
            self._sums[_PART + part] += _seconds(earlier, later)
        self._marks.clear()

    def epoch(self) -> dict[str, Any]:
        """What was counted since the last call."""
        now = time.perf_counter()
        new = {key: value - self._former.get(key, 0) for key, value in self._sums.items()}
        record = self._record(new, now - self._epoch_begin)
        self._former, self._epoch_begin = dict(self._sums), now
        return record

    def session(self) -> dict[str, Any]:
        """What was counted since the start."""
        return self._record(self._sums, time.perf_counter() - self._begin)

    def _stamp(self, part: str) -> None:
        if self._cuda is None:
            self._marks.append((part, time.perf_counter()))
        else:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self._cuda))
            self._marks.append((part, event))

    def _drop_step(self) -> None:
        if self._sampled:
            self._marks.clear()
        self._sampled = False

    def _record(self, sums: Mapping[str, float], seconds: float) -> dict[str, Any]:
        parts = {key[len(_PART) :]: sums[key] for key in sums if key.startswith(_PART)}
        whole = sum(parts.values())
        rate = sums.get("steps", 0) / seconds
        segments = rate * self._batch_size
        return {
            "steps_per_second": rate,
            "segments_per_second": segments,
            "audio_per_second": segments * self._segment_seconds,
            "data_wait": sums.get("waited", 0.0) / seconds,
            "parts": {name: value / whole for name, value in parts.items()} if whole else {},
            "peak_memory": self._peak_memory(),
        }

    def _peak_memory(self) -> int:
        """Bytes that tensors held on the GPU, or that the process had resident, at most."""
        if self._cuda is not None:
            return torch.cuda.max_memory_allocated(self._cuda)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _seconds(earlier: Any, later: Any) -> float:
    if isinstance(earlier, torch.cuda.Event):
        return float(earlier.elapsed_time(later)) / 1000
    return float(later - earlier)


def describe_throughput(record: dict[str, Any]) -> str:
    """One line for people, from what :meth:`Throughput.epoch` or ``session`` returned."""
    parts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in record["parts"].items())
    return (
        f"{record['steps_per_second']:.3g} steps/s, "
        f"{record['segments_per_second']:.3g} segments/s, "
        f"{record['audio_per_second']:.3g} s of audio per second; "
        f"waited for data {100 * record['data_wait']:.1f} % of the time"
        f"{'; of a step ' + parts if parts else ''}; "
        f"peak memory {record['peak_memory'] / 1e9:.2f} GB"
    )
