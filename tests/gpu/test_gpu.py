"""What only a GPU can show: streams, graphs, repeated bits, devices, the papers' sizes."""

from __future__ import annotations

import gpu_benchmarks
import pytest
import torch
from cases import CASES, Case
from catalogue import Kernel
from test_contract import TINY, Recorder, value_and_grads
from torch import Tensor

from rlsv_fast import ops
from rlsv_fast._library import has_cuda_kernels, raw

KINDS = ("typical", "symmetric", "unrolled", "weights", "strided", "gaps")
some_cases = pytest.mark.parametrize(
    "case", [case for case in CASES if any(kind in case.name for kind in KINDS)], ids=str
)
KERNELS = [kernel for name in gpu_benchmarks.MODULES for kernel in gpu_benchmarks.kernels(name)]
all_kernels = pytest.mark.parametrize(
    "kernel", KERNELS, ids=lambda kernel: f"{kernel.name}-{next(iter(kernel.sizes))}"
)


def leave_nan_behind() -> None:
    """Fill free memory with NaN: whatever is read before it is written shows."""
    blocks = [
        torch.full((size,), float("nan"), device="cuda") for size in (1 << 10, 1 << 18, 1 << 26)
    ]
    del blocks


def recorded(
    case: Case, dtype: torch.dtype
) -> list[tuple[object, list[object], dict[str, object]]]:
    """The raw forward and backward operators that a case runs, with their arguments."""
    with Recorder() as recorder:
        value_and_grads(case, ops, case.inputs(dtype, "cuda"))
    calls = []
    for operator, args, kwargs in recorder.calls:
        plain = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
        calls.append((operator, plain, dict(kwargs)))
    return calls


def listed(output: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def same_bits(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(
        torch.equal(one.nan_to_num(7e7), other.nan_to_num(7e7))
        for one, other in zip(some, others, strict=True)
    )


def test_every_operator_has_a_cuda_kernel(cuda: str) -> None:
    assert has_cuda_kernels()


@some_cases
def test_runs_on_the_current_stream(case: Case, cuda: str) -> None:
    """The inputs arrive late on a stream of their own: on any other one zeros would be read."""
    expected = value_and_grads(case, ops, case.inputs(torch.float32, cuda))
    late = [leaf.detach() for leaf in case.inputs(torch.float32, cuda)]
    inputs = [torch.zeros_like(leaf).requires_grad_() for leaf in late]
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        with torch.no_grad():
            for leaf, values in zip(inputs, late, strict=True):
                leaf.copy_(values)
        results = value_and_grads(case, ops, inputs)
    torch.cuda.synchronize()
    assert same_bits(results, expected)


@some_cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_graph_replays_equal_eager_calls(case: Case, dtype: torch.dtype, cuda: str) -> None:
    calls = recorded(case, dtype)
    assert calls
    for operator, args, kwargs in calls:
        expected = [output.clone() for output in listed(operator(*args, **kwargs))]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = listed(operator(*args, **kwargs))
        for _ in range(2):
            for output in outputs:
                output.fill_(float("nan") if output.is_floating_point() else -1)
            graph.replay()
            torch.cuda.synchronize()
            assert same_bits(outputs, expected), operator


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_runs_give_the_same_bits(case: Case, cuda: str) -> None:
    results = []
    for _ in range(2):
        leave_nan_behind()
        results.append(value_and_grads(case, ops, case.inputs(torch.float32, cuda)))
    assert same_bits(*results)


@all_kernels
def test_two_runs_of_a_training_batch_give_the_same_bits(kernel: Kernel, cuda: str) -> None:
    arguments = kernel.make(next(iter(kernel.sizes.values())), cuda, torch.float32)
    results = []
    for _ in range(2):
        leave_nan_behind()
        results.append(listed(kernel.call(*arguments)))
    assert same_bits(*results)


@all_kernels
def test_training_batches_are_as_exact_as_on_the_cpu(kernel: Kernel, cuda: str) -> None:
    """In float32 at most twice the CPU kernels' error against float64, as norms."""
    on_cpu = kernel.make(next(iter(kernel.sizes.values())), "cpu", torch.float32)
    floating = [isinstance(x, Tensor) and x.is_floating_point() for x in on_cpu]
    exact = [
        x.double() if is_floating else x for x, is_floating in zip(on_cpu, floating, strict=True)
    ]
    on_gpu = [x.to(cuda) if isinstance(x, Tensor) else x for x in on_cpu]
    # Sinkhorn's iterations and error are no functions of the problem alone.
    left_out = {
        "sinkhorn_forward": (4, 5),
        "sinkhorn_distance": (1,),
        "sinkhorn_unrolled_forward": (2,),
    }.get(kernel.name, ())
    slack = 1e-5 if kernel.name.startswith("sinkhorn") else TINY
    results = (listed(kernel.call(*a)) for a in (on_gpu, on_cpu, exact))
    for index, (mine, plain, true) in enumerate(zip(*results, strict=True)):
        if index in left_out:
            continue
        assert mine.shape == true.shape
        if not mine.is_floating_point():  # places: of what is rounded alike
            assert mine.cpu().equal(plain)
            continue
        error, peer = (float((x.cpu().double() - true).norm()) for x in (mine, plain))
        assert error <= 2 * peer + slack * float(true.norm())


@some_cases
def test_the_second_device_gives_the_same_bits(case: Case, cuda: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("only one CUDA device: the second device's index is not tested")
    first, second = (
        value_and_grads(case, ops, case.inputs(torch.float32, f"cuda:{index}")) for index in (0, 1)
    )
    assert all(tensor.device.index == 1 for tensor in second)
    assert torch.cuda.current_device() == 0
    assert same_bits([tensor.cpu() for tensor in first], [tensor.cpu() for tensor in second])


def test_tensors_on_different_devices_are_refused(cuda: str) -> None:
    there, here = torch.rand(3, 5, device=cuda), torch.rand(3, 5)
    for op in (ops.neg_snr, ops.si_sdr):
        with pytest.raises(ValueError, match=op.__name__):
            op(there, here)
    with pytest.raises(ValueError, match="modulated_cosines"):
        ops.modulated_cosines(there[:, 0], here[:, 0], there)
    with pytest.raises(ValueError, match="sinkhorn_plan"):
        ops.sinkhorn_plan(there, 0.5, row_marginal=torch.full((3,), 1 / 3))
    with pytest.raises(RuntimeError):
        raw._neg_snr_forward(there, here, False)
    with pytest.raises(RuntimeError):
        raw._frame_distance_backward(here[None, :3, :3], there[None], there[None, :3, :3], 1, 0)
