"""What is measured: the types of the lists that every bench_<op>.py holds. Needs torch alone.

`BENCHMARKS` compare public functions with their peers, side by side; `KERNELS` are the raw
operators with their floors. pytest (benchmarks/conftest.py) and the GPU report
(gpu_benchmarks.py) read the same lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from timing import Timed, captured, rotating
from torch import Tensor

Sizes = Mapping[str, int]
DIRECTIONS = ("forward", "forward+backward")
COMPILED, GRAPH = "torch.compile", "fused, graph"


class Row(Protocol):
    """One number of a report: who is measured at what, where."""

    group: str
    peer: str
    shape: str
    device: str
    effort: tuple[int, int]  # rounds, calls per round, of pytest-benchmark

    def prepare(self) -> Timed:
        """What to time."""
        ...

    def facts(self) -> dict[str, Any]:
        """What to keep beside the times."""
        ...


class Rows(Protocol):
    """What a `BENCHMARKS` list holds."""

    def rows(self, device: str) -> Iterator[Row]:
        """The numbers of one device."""
        ...


@dataclass(frozen=True)
class Target:
    """What a GPU has to reach: `times` as fast as the peer `than`, or `seconds` at most."""

    direction: str
    peer: str = "fused"
    than: str = ""
    times: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Benchmark:
    """One operation at one shape, by several peers.

    Attributes:
        op: what is computed.
        shape: name of the sizes.
        make: inputs on a device; gradients go to those that require them.
        peers: who computes it; "fused" is this library.
        plain: the whole batch in plain PyTorch: on a GPU "reference", and compiled by inductor.
        graph: on a GPU also "fused" as a CUDA graph, without the launches' gaps.
        effort: rounds and calls per round of a peer under pytest-benchmark.
        cuda_only: directions that a slow peer is measured in on a GPU; all where it is not named.
        targets: see above.
    """

    op: str
    shape: str
    make: Callable[[str], tuple[Tensor, ...]]
    peers: Mapping[str, Callable[..., Tensor]]
    plain: Callable[..., Tensor] | None = None
    graph: bool = True
    effort: Callable[[str], tuple[int, int]] = lambda peer: (10, 5)
    cuda_only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    targets: Sequence[Target] = ()

    def who(self, device: str) -> dict[str, Callable[..., Tensor]]:
        """The peers on a device."""
        who = dict(self.peers)
        if device != "cpu":
            if self.plain is not None:
                who.setdefault("reference", self.plain)
                who[COMPILED] = self.plain
            if self.graph and "fused" in who:
                who[GRAPH] = who["fused"]
        return who

    def rows(self, device: str) -> Iterator[Row]:
        """Every comparison on a device."""
        for peer in self.who(device):
            for direction in DIRECTIONS:
                if device == "cpu" or direction in self.cuda_only.get(peer, DIRECTIONS):
                    yield OperatorRow(self, peer, direction, device)


@dataclass(frozen=True)
class OperatorRow:
    """A peer of a benchmark in one direction on one device."""

    benchmark: Benchmark
    peer: str
    direction: str
    device: str

    @property
    def group(self) -> str:
        """What is compared."""
        return f"{self.benchmark.op} {self.direction}"

    @property
    def shape(self) -> str:
        """Name of the sizes."""
        return self.benchmark.shape

    @property
    def effort(self) -> tuple[int, int]:
        """Rounds and calls per round; one call marks a peer of seconds."""
        return self.benchmark.effort(self.peer)

    def facts(self) -> dict[str, Any]:
        """Nothing beside the times."""
        return {}

    def prepare(self) -> Timed:
        """Calls in turn on several sets of inputs, where a cache would hold one."""
        torch.manual_seed(218)
        plain = call = self.benchmark.who(self.device)[self.peer]
        if self.peer == COMPILED:
            torch._dynamo.reset()
            call = torch.compile(plain)

        def one_set() -> tuple[Tensor, ...]:
            leaves = self.benchmark.make(self.device)
            with torch.no_grad():
                return (*leaves, torch.rand_like(plain(*leaves)))

        def forward(*leaves: Tensor) -> Any:
            with torch.no_grad():
                return call(*leaves[:-1])

        def both(*leaves: Tensor) -> Any:
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            return torch.autograd.grad(call(*leaves[:-1]), wanted, leaves[-1])

        slow = self.effort[1] == 1
        function = forward if self.direction == "forward" else both
        timed = rotating(one_set, function, self.device, cache=0 if slow else None)
        return captured(timed) if self.peer == GRAPH else timed

    def __str__(self) -> str:
        """Identify it in a list of tests."""
        return "-".join((self.device, self.direction, self.peer, self.shape, self.benchmark.op))


@dataclass(frozen=True)
class Ceilings:
    """What a device can do at most: bytes read and written, and float32 instructions, per second.

    The defaults are an H200's: a device-to-device copy, 132 processors x 128 lanes x 1.98 GHz, and
    16 special functions per processor and clock.
    """

    bandwidth: float = 4.3e12
    float32: float = 33.5e12

    @property
    def special(self) -> float:
        """Special functions per second: 16 lanes of 128."""
        return self.float32 / 8


@dataclass(frozen=True)
class Kernel:
    """A raw operator with its two floors, of which the larger is the floor of its time.

    Attributes:
        name: of the raw operator, without the underscore it begins with.
        sizes: what it is measured at, by name; the first is the papers' batch.
        make: the operator's arguments, from sizes, device and dtype.
        numbers: the fewest numbers read and written, each input and output once.
        operations: float32 instructions of the formula (a multiply-add counts one).
        special: special functions (sine, exponential).
        target: fraction of the floor to be reached at the sizes named in `target_at`.
        note: what the counts say; part of the table.
    """

    name: str
    sizes: Mapping[str, Sizes]
    make: Callable[[Sizes, str, torch.dtype], tuple[Any, ...]]
    numbers: Callable[[Sizes], float]
    operations: Callable[[Sizes], float]
    special: Callable[[Sizes], float] = lambda n: 0.0
    target: float | None = None
    target_at: Sequence[str] = ()
    note: str = ""

    def floors(self, sizes: Sizes, ceilings: Ceilings) -> tuple[float, float]:
        """Seconds for the bytes of float32 numbers, and for the arithmetic."""
        arithmetic = max(
            self.operations(sizes) / ceilings.float32, self.special(sizes) / ceilings.special
        )
        return 4 * self.numbers(sizes) / ceilings.bandwidth, arithmetic

    def call(self, *arguments: Any) -> Any:
        """Run it."""
        return getattr(torch.ops.rlsv_fast, f"_{self.name}")(*arguments)

    def prepare(self, sizes: Sizes, device: str) -> Timed:
        """Replays of a CUDA graph: the kernels' own time; plain calls on a CPU."""
        torch.manual_seed(218)
        timed = rotating(lambda: self.make(sizes, device, torch.float32), self.call, device)
        return timed if device == "cpu" else captured(timed)
