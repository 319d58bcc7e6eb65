"""Operators called from many threads, beside other threads, and in worker processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import CASES, Case
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rlsv_fast import ops

THREADS = 8
CALLS = 6
ONE_EACH = list({case.op: case for case in reversed(CASES)}.values())


def outcome(case: Case, inputs: list[Tensor]) -> list[Tensor]:
    """An operator's value and gradients."""
    output = case.call(ops, *inputs)
    grads = torch.autograd.grad(output.sum(), inputs, materialize_grads=True)
    return [output.detach(), *grads]


@pytest.mark.parametrize("inner", [1, 2])
def test_many_threads_get_the_bits_that_one_gets(inner: int) -> None:
    """All operators at once, so that different ones meet, too; ``inner`` threads in each kernel."""
    jobs = [(case, case.inputs(torch.float32)) for case in ONE_EACH]
    before = torch.get_num_threads()
    start = threading.Barrier(THREADS)

    def call(number: int) -> list[list[Tensor]]:
        start.wait()
        turned = [*jobs[number:], *jobs[:number]]
        found = [[outcome(*job) for job in turned] for _ in range(CALLS)]
        assert all(
            all(map(torch.equal, one, other))
            for repeat in found[1:]
            for one, other in zip(found[0], repeat, strict=True)
        )
        return found[0]

    try:
        torch.set_num_threads(inner)
        alone = [outcome(*job) for job in jobs]
        with ThreadPoolExecutor(THREADS) as pool:
            together = list(pool.map(call, range(THREADS)))
    finally:
        torch.set_num_threads(before)
    for number, results in enumerate(together):
        turned = [*alone[number:], *alone[:number]]
        for one, other in zip(turned, results, strict=True):
            assert all(map(torch.equal, one, other))


def _distance() -> Callable[[], object]:
    frames = torch.rand(1, 400, 5000)
    return lambda: ops.frame_distance(frames)


def _distance_backward() -> Callable[[], object]:
    frames = torch.rand(1, 400, 3000, requires_grad=True)
    total = ops.frame_distance(frames).sum()
    return lambda: torch.autograd.grad(total, frames, retain_graph=True)


def _transport() -> Callable[[], object]:
    cost = torch.rand(64, 400, 400)
    return lambda: ops.sinkhorn(cost, 1e-3, max_iterations=2000, tolerance=0)


def _cosines() -> Callable[[], object]:
    frequency, phase = torch.rand(2, 16000)
    modulator = torch.rand(1, 4096)
    return lambda: ops.modulated_cosines(frequency, phase, modulator)


@pytest.mark.parametrize("make", [_distance, _distance_backward, _transport, _cosines])
def test_other_threads_go_on_while_an_operator_works(
    make: Callable[[], Callable[[], object]],
) -> None:
    """A thread that held Python's lock would let nobody else count until it has finished."""
    operator = make()
    ticks: list[float] = []
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        while len(ticks) < 3:
            time.sleep(0.001)
        begin = time.perf_counter()
        operator()
        end = time.perf_counter()
    finally:
        stop.set()
        counter.join()
    assert end - begin > 0.02, "too short to tell"
    # the middle of the call: Python runs at both ends of it
    margin = (end - begin) / 10
    assert sum(begin + margin < tick < end - margin for tick in ticks) >= 3


class Distances(Dataset[Tensor]):
    """What a data set might do in its workers."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        signal = torch.rand(1, 4000, generator=generator)
        frames = ops.frames(signal, 40, kernel_size=64, count=90).transpose(1, 2)
        frames.requires_grad_()
        loss = ops.sinkhorn_loss(frames, 0.5) + ops.total_variation(frames).sum()
        loss.backward()
        assert frames.grad is not None
        return torch.cat([loss.detach()[None], frames.grad.flatten()])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader_get_the_same_bits(method: str) -> None:
    """Forked from a process whose kernels have used several threads, or started anew."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        ops.frame_distance(torch.rand(2, 200, 300))  # has the threads made that a fork loses
        loader = DataLoader(
            Distances(), batch_size=None, num_workers=1, multiprocessing_context=method, timeout=120
        )
        found = list(loader)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, Distances()[index]) for index, one in enumerate(found))
    assert len(found) == 4
