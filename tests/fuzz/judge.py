"""Make a call and say whether what came of it is allowed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fuzz.calls import Call
from torch import Tensor

from rlsv_fast import ops

# What torch says where memory does not suffice, for its own functions, too.
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "Storage size calculation overflow")


@dataclass
class Verdict:
    """The end of a call: "answered", "not finite", "refused", "out of memory", or "WRONG"."""

    end: str
    detail: str = ""


class Wrong(Exception):
    """What the documentation does not allow."""


def judge(call: Call, seed: int) -> Verdict:
    """Call forward and backward; every way in which the result is wrong is a WRONG verdict."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unfinished iterations: that is documented
            return _forward_and_backward(call, np.random.default_rng(seed))
    except Wrong as wrong:
        return Verdict("WRONG", str(wrong))


def _forward_and_backward(call: Call, random: np.random.Generator) -> Verdict:
    try:
        outputs = _outputs(getattr(ops, call.op)(**call.arguments))
    except (ValueError, TypeError, RuntimeError) as error:
        _check_unchanged(call)
        return _refusal(call, error)
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {error}") from error
    _check_unchanged(call)
    if call.shapes is None and any(output.device.type == "meta" for output in outputs):
        return Verdict("answered", "shapes only")
    if call.shapes is not None:
        got = tuple(tuple(output.shape) for output in outputs)
        if got != call.shapes:
            raise Wrong(f"shapes {got}, documented are {call.shapes}")
    end = "answered"
    if not all(_finite(output) for output in outputs):
        if call.tame and not _documented(call, outputs):
            raise Wrong(f"not finite: {[output.tolist() for output in outputs]}"[:300])
        end = "not finite"
    if call.shapes is not None:
        _check_layouts(call, outputs)
    _backward(call, outputs, random)
    return Verdict(end)


def _outputs(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _refusal(call: Call, error: Exception) -> Verdict:
    text = str(error)
    if any(part in text for part in OUT_OF_MEMORY):
        if "these sizes" in text and not text.lower().startswith(call.op.replace("_", "")[:5]):
            raise Wrong(f"does not name the operator: {text[:300]}")
        return Verdict("out of memory", text[:200])
    if call.shapes is not None and not call.lenient:
        raise Wrong(f"refused a documented call: {type(error).__name__}: {text[:300]}")
    if call.op not in text:
        raise Wrong(f"does not name the operator: {type(error).__name__}: {text[:300]}")
    return Verdict("refused", f"{type(error).__name__}: {text[:200]}")


def _documented(call: Call, outputs: Sequence[Tensor]) -> bool:
    """Where the docstrings promise something that is not finite."""
    if call.op == "si_sdr":
        target = call.arguments["target"].detach().double()
        silent = (target == 0).all(-1)
        return torch.equal(~outputs[0].isfinite(), silent)
    if call.op == "sinkhorn":  # potentials are -inf exactly where a weight is zero
        for field, name in ((outputs[0], "row_marginal"), (outputs[1], "column_marginal")):
            weights = call.arguments.get(name)
            zero = torch.zeros_like(field) if weights is None else weights.detach().float()
            zero = (zero == 0).expand(field.shape) if weights is not None else zero.bool()
            if not torch.equal(~field.isfinite(), zero) or bool(field.isposinf().any()):
                return False
        return all(_finite(field) for field in outputs[2:])
    return False


def _check_unchanged(call: Call) -> None:
    for made in call.watched:
        if not made.unchanged():
            raise Wrong("an argument, or memory beside it, was written to")


def _check_layouts(call: Call, outputs: Sequence[Tensor]) -> None:
    """The same bits from contiguous copies (frame_convolution reads layouts as hints)."""
    plain = {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        if isinstance(value, Tensor)
        else value
        for name, value in call.arguments.items()
    }
    if call.arguments.get("symmetric") and plain.get("row_marginal") is not None:
        plain["column_marginal"] = plain["row_marginal"]  # one tensor, as is asked for
    if any(isinstance(value, Tensor) and value.requires_grad for value in call.arguments.values()):
        with torch.no_grad():
            again = _outputs(getattr(ops, call.op)(**plain))
    else:
        again = _outputs(getattr(ops, call.op)(**plain))
    for one, other in zip(outputs, again, strict=True):
        if call.op == "frame_convolution":
            same = torch.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)
            same = same or not call.tame
        else:
            same = torch.equal(one.nan_to_num(7.25), other.nan_to_num(7.25))
        if not same:
            raise Wrong("other values from contiguous copies of the arguments")


def _backward(call: Call, outputs: Sequence[Tensor], random: np.random.Generator) -> None:
    leaves = call.leaves()
    wanted = [output for output in outputs if output.requires_grad]
    if not wanted or not leaves:
        return
    upstream = [_upstream(output, random) for output in wanted]
    try:
        grads = torch.autograd.grad(wanted, leaves, upstream, allow_unused=True)
    except (ValueError, TypeError, RuntimeError) as error:
        if any(part in str(error) for part in OUT_OF_MEMORY):
            return
        raise Wrong(f"backward: {type(error).__name__}: {error}"[:300]) from error
    _check_unchanged(call)
    for leaf, grad in zip(leaves, grads, strict=True):
        if grad is None:
            continue
        if grad.shape != leaf.shape or grad.dtype != leaf.dtype:
            raise Wrong(f"gradient {tuple(grad.shape)} {grad.dtype} of {tuple(leaf.shape)}")
        # half types end at 65504, below the slope of a decibel next to a perfect estimate
        if call.tame and grad.dtype in (torch.float32, torch.float64) and not _finite(grad):
            raise Wrong("a gradient is not finite")


def _upstream(output: Tensor, random: np.random.Generator) -> Tensor:
    """Upstream gradients as autograd makes them: expanded, transposed, plain."""
    kind = int(random.integers(3))
    if kind == 0:
        return torch.ones((), dtype=output.dtype).expand(output.shape)
    backwards = tuple(output.shape)[::-1]
    weights = torch.as_tensor(random.standard_normal(backwards), dtype=output.dtype)
    weights = weights.permute(tuple(range(weights.dim()))[::-1])
    return weights.contiguous() if kind == 1 else weights
