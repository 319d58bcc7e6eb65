"""Argument checks shared by the operators: each message names argument, expectation and finding."""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)
_FULL = (torch.float32, torch.float64)
_LARGEST = 2**40


def floating(op: str, name: str, tensor: Tensor) -> Tensor:
    """Return a float32 or float64 tensor; half types are upcast to float32.

    Raises:
        TypeError: not a tensor, or sparse, or not of a floating type.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{op}: {name} must be a dense tensor, got layout {tensor.layout}")
    if tensor.dtype in _FULL:
        return tensor
    if tensor.dtype in _HALF:
        return tensor.float()
    raise TypeError(f"{op}: {name} must be of a floating type, got {tensor.dtype}")


def shape(op: str, name: str, tensor: Tensor, expected: str, *sizes: int | None) -> None:
    """Check the number of dimensions and those sizes that are not None.

    Raises:
        ValueError: the shape differs; ``expected`` is how the message spells the shape.
    """
    fits = tensor.dim() == len(sizes) and all(
        want is None or have == want for have, want in zip(tensor.shape, sizes, strict=False)
    )
    if not fits:
        raise ValueError(f"{op}: {name} must have shape {expected}, got {tuple(tensor.shape)}")


def same_kind(op: str, first_name: str, first: Tensor, name: str, tensor: Tensor) -> None:
    """Check that two tensors share device and dtype.

    Raises:
        ValueError: different devices.
        TypeError: different dtypes.
    """
    if tensor.device != first.device:
        raise ValueError(
            f"{op}: {name} must be on the device of {first_name} ({first.device}), "
            f"got {tensor.device}"
        )
    if tensor.dtype != first.dtype:
        raise TypeError(
            f"{op}: {name} must have the dtype of {first_name} ({first.dtype}), got {tensor.dtype}"
        )


def real(op: str, name: str, value: object) -> float:
    """Return a float.

    Raises:
        TypeError: not a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    return float(value)


def integer(op: str, name: str, value: int, minimum: int | None = None) -> int:
    """Return an int of at least ``minimum``, if there is one, that products with sizes can hold.

    Raises:
        TypeError: not an integer.
        ValueError: too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{op}: {name} must be an int, got {type(value).__name__}")
    if minimum is not None and value < minimum:
        raise ValueError(f"{op}: {name} must be at least {minimum}, got {value}")
    if not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{op}: {name} must be at most 2**40 in magnitude, got {value}")
    return value


def choice(op: str, name: str, value: object, options: tuple[object, ...]) -> None:
    """Check that a value is one of the options, in value and type.

    Raises:
        ValueError: it is not.
    """
    for option in options:
        if value is option or (type(value) is type(option) and value == option):
            return
    listed = ", ".join(repr(option) for option in options)
    raise ValueError(f"{op}: {name} must be one of {listed}, got {value!r}")
