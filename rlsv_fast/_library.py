"""Loads the compiled operators and turns raw forward/backward pairs into differentiable ones."""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlsv_fast.errors import InstallationError

_OLDEST_TORCH = (2, 11)
"""What setup.py builds for (TARGET_TORCH): older ones lack symbols of the stable ABI."""


def _check_torch(version: str) -> None:
    """Raise InstallationError where the binary cannot be loaded, before the loader says it."""
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST_TORCH:
        raise InstallationError(
            f"rlsv_fast: needs torch 2.11 or newer, this environment has {version}; "
            "install one, such as: pip install torch==2.13.0"
        )


def _load_operators() -> None:
    """Import ``_C``, which registers the operators; raise InstallationError where it is unfit."""
    here = f"{platform.system()} {platform.machine()} with torch {torch.__version__}"
    remedy = (
        "build them in the source tree with: python setup.py build_ext\n"
        "(or reinstall the wheel that was made for this platform)"
    )
    try:
        importlib.import_module("rlsv_fast._C")
    except ModuleNotFoundError as error:
        found = [path.name for path in Path(__file__).parent.glob("_C.*")]
        what = f"are of another platform ({', '.join(found)})" if found else "are missing"
        raise InstallationError(
            f"rlsv_fast: the compiled operators (rlsv_fast._C) {what}, this is {here}; {remedy}"
        ) from error
    except ImportError as error:
        raise InstallationError(
            f"rlsv_fast: the compiled operators (rlsv_fast._C) cannot be loaded on {here} "
            f"({error}); {remedy}"
        ) from error


_check_torch(torch.__version__)
_load_operators()

raw = torch.ops.rlsv_fast
"""The raw operators: validated by ``rlsv_fast.ops``, without gradients of their own."""


def build_info() -> dict[str, str]:
    """Return what the build holds (torch, CUDA kernels, compiler) and the SIMD level in use.

    Raises:
        ImportError: the helper module was built for another Python; operators work without it.
    """
    try:
        host = importlib.import_module("rlsv_fast._host")
    except ImportError as error:
        raise ImportError(
            "rlsv_fast: build_info() needs rlsv_fast._host, which is tied to the Python it was "
            f"built with ({error}); rebuild it with: python setup.py build_ext"
        ) from error
    return dict(host.build_info())


def has_cuda_kernels() -> bool:
    """Whether every raw operator of this build has a CUDA kernel."""
    names = [name for name in torch._C._dispatch_get_all_op_names() if name[:10] == "rlsv_fast:"]
    return all(
        torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CUDA") for name in names
    )


def fake(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the shape function of a raw operator, for torch.compile and torch.export."""
    register: Callable[[Callable[..., Any]], Callable[..., Any]] = torch.library.register_fake(
        f"rlsv_fast::{name}"
    )
    return register


def readable(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of raw operators name itself where memory does not suffice.

    What torch says of a failed allocation does not come through the stable ABI.
    """

    def call(*inputs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*inputs)
        try:
            return function(*inputs)
        except RuntimeError as error:
            raise _explained(name, error) from error

    return call


def _explained(name: str, error: RuntimeError) -> RuntimeError:
    if "torch_call_dispatcher" not in str(error):
        return error
    return RuntimeError(f"{name}: not enough memory for results of these sizes")


def differentiable(
    name: str,
    forward: Callable[..., Any],
    *,
    save: Callable[[tuple[Any, ...], Any], Sequence[Tensor | None]],
    backward: Callable[..., Sequence[Tensor | None]],
    constants: Callable[[tuple[Any, ...]], Any] = lambda inputs: None,
    non_differentiable: Sequence[int] = (),
) -> Callable[..., Any]:
    """Wrap raw operators into a function that can be differentiated once.

    An ``autograd.Function`` around dispatcher operators works under
    ``torch.compile(fullgraph=True)`` and raises on double backward and forward-mode
    differentiation, where ``torch.library.register_autograd`` is silently wrong.

    Args:
        name: name of the operator, shown in autograd graphs.
        forward: ``forward(*inputs)`` returns a tensor or a tuple of tensors.
        save: ``save(inputs, outputs)`` returns the tensors that the backward pass needs.
        backward: ``backward(saved, constants, needs, *grads)`` returns one gradient (or None) per
            input; ``needs`` tells which inputs want one.
        constants: ``constants(inputs)`` returns whatever non-tensor values backward needs.
        non_differentiable: positions of outputs that carry no gradient.

    Returns:
        The differentiable function; it takes positional arguments only.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*save(inputs, output))
        ctx.constants = constants(inputs)
        ctx.inputs = len(inputs)
        if non_differentiable:
            ctx.mark_non_differentiable(*(output[index] for index in non_differentiable))
            ctx.set_materialize_grads(False)  # no zeros for outputs that have no gradient

    explained = readable(name, backward)

    def differentiate(ctx: Any, *grads: Tensor) -> Any:
        if all(grad is None for grad in grads):
            return (None,) * ctx.inputs
        return tuple(explained(ctx.saved_tensors, ctx.constants, ctx.needs_input_grad, *grads))

    guarded = once_differentiable(differentiate)

    def differentiate_once(ctx: Any, *grads: Tensor) -> Any:
        # Where no graph of the backward pass is recorded there is nothing to guard.
        return guarded(ctx, *grads) if torch.is_grad_enabled() else differentiate(ctx, *grads)

    # Made by type(), because the class's name becomes that of the node in autograd graphs.
    members = {
        "forward": staticmethod(lambda *inputs: forward(*inputs)),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(differentiate_once),
    }
    function: Any = type(name, (torch.autograd.Function,), members)
    apply: Callable[..., Any] = function.apply
    # What apply comes to after binding default arguments, of which there are none, and outside of
    # torch.func: binding takes as long as a small kernel does.
    apply_now: Callable[..., Any] = super(torch.autograd.Function, function).apply

    def call(*inputs: Any) -> Any:
        # Dynamo hands a context to a forward of variable length where nothing requires a gradient.
        if torch.compiler.is_compiling():
            wanted = torch.is_grad_enabled() and any(
                isinstance(value, Tensor) and value.requires_grad for value in inputs
            )
            return apply(*inputs) if wanted else forward(*inputs)
        if torch._C._are_functorch_transforms_active():
            return apply(*inputs)
        try:
            return apply_now(*inputs)
        except RuntimeError as error:
            raise _explained(name, error) from error

    return call
