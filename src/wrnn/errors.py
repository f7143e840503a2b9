"""The one error that a user's input can cause, and the checks that raise it."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

LARGEST = 2**31 - 1


class WrnnError(ValueError):
    """Bad input: one line that says what was wrong and what is allowed.

    The command line prints it to stderr and ends with exit status 2.
    """


def check_integer(name: str, value: Any, minimum: int) -> int:
    """Return a whole number, Python's or NumPy's, as an int.

    Raises WrnnError below `minimum`, and above `LARGEST`, which fits no size of a tensor.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise WrnnError(f"{name} must be an integer of at least {minimum}, not {shown(value)}")
    if int(value) > LARGEST:
        raise WrnnError(f"{name} must be an integer of at most {LARGEST}, not {shown(value)}")
    return int(value)


def check_number(name: str, value: Any, low: float, high: float) -> float:
    """Return a number as a float; raise WrnnError outside [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise WrnnError(f"{name} {shown(value)} is not allowed: use a number from {low} to {high}")
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    """Return True or False, Python's or NumPy's; raise WrnnError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise WrnnError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise WrnnError unless `value` is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise WrnnError(f"{name} must be one of {choices}, not {shown(value)}")


def check_tensor(name: str, value: Any, *dimensions: int) -> None:
    """Raise WrnnError unless `value` is a floating-point tensor with one of these numbers of axes.

    Without any, the axes do not matter.
    """
    import torch  # here, as records are read without it; torch.compile follows this

    if not isinstance(value, torch.Tensor):
        raise WrnnError(f"{name} must be a torch.Tensor, not {shown(value)}")
    if not value.is_floating_point():
        raise WrnnError(f"{name} must hold floating-point numbers, not {value.dtype}")
    if dimensions and value.dim() not in dimensions:
        axes = " or ".join(map(str, dimensions))
        raise WrnnError(f"{name} has shape {tuple(value.shape)}: expected {axes} axes")


def check_generator(value: Any, required: bool = False) -> None:
    """Raise WrnnError unless `value` is a source of randomness, or None where that will do."""
    import torch

    if not isinstance(value, torch.Generator) and (required or value is not None):
        raise WrnnError(f"generator must be a torch.Generator, not {shown(value)}")


def check_device(value: Any) -> torch.device:
    """Return a device by its name; raise WrnnError where there is no such name or device."""
    import torch

    try:
        device = torch.device(value)
    except (RuntimeError, TypeError, ValueError):
        raise WrnnError(
            f"device must be a torch.device or its name, such as 'cpu', not {shown(value)}"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise WrnnError(f"device {shown(value)} is not here: there is no CUDA device")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, NotImplementedError, AssertionError):
        raise WrnnError(f"device {shown(value)} is not here: use another one") from None
    return device


def shown(value: Any) -> str:
    """Return a value as one short line, and what is long by its type."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"
