"""The processes of one job: which of them this one is, and how they agree. torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from rlsv_fast.errors import InputError, LostProcess, MissingPackage

STEP_TIMEOUT = timedelta(minutes=10)
"""What the processes do together in a step fails after so long: one of them has vanished. (One that
was killed on a reachable machine is noticed at once.)"""

_PATIENCE = timedelta(hours=2)
"""For what they do one by one or unevenly: decoding tracks, evaluating, reading a checkpoint."""

_LOST = ("gloo", "Operation timed out")
"""What gloo's errors say, which have no class of their own."""

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Processes:
    """The processes that share one piece of work; a single one by default.

    Process 0 alone reads and writes the run folder and speaks to people.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        local_rank: number of this process among those of its machine.
        local_size: how many this machine has.
        host: group for what lies in host memory; None for a single process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: dist.ProcessGroup | None = None

    @classmethod
    def of_group(cls) -> Processes:
        """All processes of the default group, which has been initialised; call it in each."""
        if dist.get_world_size() == 1:
            return ALONE
        return cls(
            dist.get_rank(),
            dist.get_world_size(),
            int(os.environ.get("LOCAL_RANK", dist.get_rank())),
            int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size())),
            dist.new_group(backend="gloo", timeout=_PATIENCE),
        )

    @property
    def first(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def rows(self, count: int) -> slice:
        """This process's rows of a batch of ``count``, which ``size`` must divide."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def gather(self, value: _Made) -> list[_Made]:
        """Values of all processes, in the order of their numbers; any that can be pickled."""
        if not self.several:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.host)
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context for what any process can fail in: an InputError of one is raised in all."""
        message = None
        try:
            yield
        except (InputError, MissingPackage) as error:
            if not self.several:
                raise
            message = str(error)
        for rank, found in enumerate(self.gather(message)):
            if found is not None:
                # process 0 reports for all of them
                raise InputError(found if rank == 0 else f"process {rank}: {found}")

    def from_first(self, action: Callable[[], _Made]) -> _Made:
        """Do something in process 0 and give its result, or its InputError, to all."""
        if not self.several:
            return action()
        made: list[Any] = [None]
        with self.together():
            if self.first:
                made = [action()]
        dist.broadcast_object_list(made, src=0, group=self.host)
        result: _Made = made[0]
        return result

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers."""
        if not self.several:
            return number
        found = torch.tensor([number])
        work = dist.all_reduce(found, dist.ReduceOp.MAX, group=self.host, async_op=True)
        work.wait(STEP_TIMEOUT)  # a part of the step: no patience for one that has vanished
        return int(found)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.several:
            dist.barrier(group=self.host)


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Context for a command: the processes that torchrun started, or a single one.

    Tensors in host memory go through gloo, those on GPUs through NCCL.

    Raises:
        LostProcess: another process of the job has ended before its time.
    """
    if not (dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1):
        yield ALONE
        return
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    store, rank, size = next(rendezvous("env://", timeout=STEP_TIMEOUT))
    if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
        # After a restart torchrun's store still holds the addresses of those that were killed. On
        # several machines the counts of restarts differ, and torchrun has to be told.
        attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
        store = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined]
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=STEP_TIMEOUT,
    )
    processes = Processes.of_group()
    try:
        yield processes
    except (InputError, MissingPackage, KeyboardInterrupt) as error:
        # all processes end with it, and one line is enough
        error.told_elsewhere = not processes.first  # type: ignore[union-attr]
        raise
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(text in str(error) for text in _LOST):
            raise LostProcess(
                f"process {processes.rank}: another process of the job has ended or does not "
                "answer; what was saved last is intact, continue with --resume"
            ) from error
        raise
    dist.destroy_process_group()
