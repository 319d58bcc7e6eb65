"""Processes of one job, for tests; they come from a server that has imported torch already."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rlsv_fast.processes import Processes

_CONTEXT = multiprocessing.get_context("forkserver")
# Adam imports torch._dynamo, which takes as long as all else together
_CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "torch.onnx", "rlsv_fast.training", "rlsv_fast.evaluation", "pytest"]
)

Job = Callable[..., None]


def start(count: int, folder: Path, job: Job, *arguments: Any) -> list[Any]:
    """Start processes that each call ``job(processes, *arguments)``."""
    meeting = folder / f"meeting-{len(list(folder.glob('meeting-*')))}"
    workers = [
        _CONTEXT.Process(target=_work, args=(rank, count, meeting, job, arguments))
        for rank in range(count)
    ]
    for worker in workers:
        worker.start()
    return workers


def end(workers: Sequence[Any], seconds: float = 60) -> list[int | None]:
    """Exit codes, once all have ended."""
    for worker in workers:
        worker.join(seconds)
    codes = [worker.exitcode for worker in workers]
    for worker in workers:
        worker.kill()
    return codes


def run(count: int, folder: Path, job: Job, *arguments: Any) -> None:
    """Run a job in so many processes, which must succeed."""
    assert end(start(count, folder, job, *arguments)) == [0] * count


def _work(rank: int, count: int, meeting: Path, job: Job, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    try:
        job(Processes.of_group(), *arguments)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    dist.destroy_process_group()
