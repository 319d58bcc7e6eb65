"""What every operator must satisfy, over the sample inputs of cases."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, Case
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from rlsv_fast import ops, reference

# A few float32 epsilons of the largest float64 magnitude: one constant for all operators.
TINY = 8 * torch.finfo(torch.float32).eps

all_cases = pytest.mark.parametrize("case", CASES, ids=str)
small_cases = pytest.mark.parametrize("case", [c for c in CASES if c.small], ids=str)
one_per_operator = pytest.mark.parametrize(
    "case", list({case.op: case for case in reversed(CASES)}.values()), ids=str
)


class Recorder(TorchDispatchMode):
    """Records the raw operators of this library that run under it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[object, tuple[object, ...], dict[str, object]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.namespace == "rlsv_fast":
            self.calls.append((func, args, kwargs))
        return func(*args, **kwargs)


def value_and_grads(case: Case, module: object, inputs: list[Tensor]) -> list[Tensor]:
    output = case.call(module, *inputs)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    grads = torch.autograd.grad((output * weight.to(output)).sum(), inputs, materialize_grads=True)
    return [output.detach(), *grads]


def magnitude(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


@all_cases
def test_float64_agrees_with_the_reference(case: Case, device: str) -> None:
    mine = value_and_grads(case, ops, case.inputs(device=device))
    truth = value_and_grads(case, reference, case.inputs())
    for one, other in zip(mine, truth, strict=True):
        assert one.shape == other.shape and one.dtype == torch.float64
        assert magnitude(one.cpu() - other) <= 1e-10 * max(magnitude(other), 1e-30)


@all_cases
def test_float32_stays_within_the_error_budget(case: Case, device: str) -> None:
    inputs = case.inputs(torch.float32, device)
    exact = [leaf.detach().double().cpu().requires_grad_() for leaf in inputs]
    mine = value_and_grads(case, ops, inputs)
    eager = value_and_grads(case, reference, case.inputs(torch.float32))
    truth = value_and_grads(case, reference, exact)
    for fused, plain, true in zip(mine, eager, truth, strict=True):
        error = magnitude(fused.cpu().double() - true)
        budget = 2 * magnitude(plain.double() - true) + TINY * magnitude(true)
        assert fused.dtype == torch.float32
        assert error <= budget


@small_cases
def test_gradcheck(case: Case, device: str) -> None:
    inputs = case.inputs(device=device)
    assert torch.autograd.gradcheck(lambda *leaves: case.call(ops, *leaves), inputs)


@all_cases
def test_opcheck_of_the_raw_operators(case: Case, device: str) -> None:
    for dtype in (torch.float32, torch.float64):
        with Recorder() as recorder:
            value_and_grads(case, ops, case.inputs(dtype, device))
        assert recorder.calls
        for operator, args, kwargs in recorder.calls:
            plain = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
            torch.library.opcheck(operator, plain, kwargs)


@all_cases
def test_compiles_as_one_graph(case: Case, device: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(
        lambda *leaves: case.call(ops, *leaves), fullgraph=True, backend=counter
    )
    plain = value_and_grads(case, ops, case.inputs(device=device))
    for _ in range(2):
        inputs = case.inputs(device=device)
        output = compiled(*inputs)
        weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
        loss = (output * weight.to(output)).sum()
        grads = torch.autograd.grad(loss, inputs, materialize_grads=True)
        for one, other in zip([output, *grads], plain, strict=True):
            torch.testing.assert_close(one, other)
    assert counter.frame_count == 1, "a second call with the same shapes must not compile again"


@one_per_operator
def test_compiles_where_nothing_requires_a_gradient(case: Case, device: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *leaves: case.call(ops, *leaves), fullgraph=True, backend="aot_eager"
    )
    inputs = [leaf.detach() for leaf in case.inputs(device=device)]
    torch.testing.assert_close(compiled(*inputs), case.call(ops, *inputs))


@one_per_operator
def test_inductor_compiles_it(case: Case, device: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda *leaves: case.call(ops, *leaves), fullgraph=True)
    plain = value_and_grads(case, ops, case.inputs(torch.float32, device))
    inputs = case.inputs(torch.float32, device)
    output = compiled(*inputs)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    loss = (output * weight.to(output)).sum()
    grads = torch.autograd.grad(loss, inputs, materialize_grads=True)
    for one, other in zip([output, *grads], plain, strict=True):
        torch.testing.assert_close(one, other)


@one_per_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_are_upcast(case: Case, dtype: torch.dtype, device: str) -> None:
    inputs = case.inputs(dtype, device)
    output = case.call(ops, *inputs)
    assert output.dtype == torch.float32
    upcast = case.call(ops, *(leaf.detach().float() for leaf in inputs))
    assert torch.equal(output.detach(), upcast)
    grads = torch.autograd.grad(output.sum(), inputs, materialize_grads=True)
    assert all(grad.dtype == dtype for grad in grads)
    with torch.autocast(device, dtype=torch.bfloat16):
        assert case.call(ops, *case.inputs(torch.float32, device)).dtype == torch.float32


@pytest.mark.parametrize("case", [c for c in CASES if c.op != "spectral_loss"], ids=str)
def test_same_bits_for_any_number_of_threads(case: Case, device: str) -> None:
    """All but spectral_loss, whose Fourier transforms are torch's: the rest has its own test."""
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (4, 1):
            torch.set_num_threads(count)
            results.append(value_and_grads(case, ops, case.inputs(torch.float32, device)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@one_per_operator
def test_an_exported_graph_takes_other_strides(case: Case, device: str) -> None:
    class Module(torch.nn.Module):
        def forward(self, *leaves: Tensor) -> Tensor:
            return case.call(ops, *leaves)

    inputs = tuple(leaf.detach() for leaf in case.inputs(device=device))
    exported = torch.export.export(Module(), inputs).module()
    strided = [torch.stack([leaf, leaf], -1)[..., 0] for leaf in inputs]
    assert not any(leaf.is_contiguous() for leaf in strided if leaf.numel() > 1)
    torch.testing.assert_close(exported(*strided), case.call(ops, *inputs))


@one_per_operator
def test_double_backward_raises(case: Case, device: str) -> None:
    inputs = case.inputs(device=device)
    output = case.call(ops, *inputs)
    grads = torch.autograd.grad((output**2).sum(), inputs, create_graph=True)
    total = sum((grad**2).sum() for grad in grads)
    with pytest.raises(RuntimeError, match="once_differentiable|twice"):
        total.backward()
    with pytest.raises(RuntimeError):
        torch.autograd.grad(grads[0].sum(), inputs[0])


@one_per_operator
def test_autograd_graphs_show_the_operator(case: Case) -> None:
    output = case.call(ops, *case.inputs())
    nodes, names = [output.grad_fn], []
    while nodes:
        node = nodes.pop()
        names.append(type(node).__name__)
        nodes += [parent for parent, _ in node.next_functions if parent is not None]
    plain = case.op.replace("_", "")
    assert any(name.lower().startswith(plain) for name in names), names


@one_per_operator
def test_wrong_types_raise_type_error(case: Case) -> None:
    inputs = [leaf.detach() for leaf in case.inputs()]
    with pytest.raises(TypeError, match=f"{case.op}: .*floating"):
        case.call(ops, inputs[0].long(), *inputs[1:])
    with pytest.raises(TypeError, match=f"{case.op}: .*Tensor"):
        case.call(ops, inputs[0].numpy(), *inputs[1:])
