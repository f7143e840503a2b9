"""The recurrence of the Wave-RNN (section 2 of the paper): one function, several ways to run it.

`loop` is the definition, `numba` the fast way on a CPU, `triton` the fused way on a GPU. All of
them agree; `auto` takes the fastest that can compute what is asked for.
"""

import importlib.util
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from wrnn.errors import WrnnError, check_choice, check_flag, check_integer, check_tensor
from wrnn.recurrence import loop
from wrnn.recurrence.loop import Tensors

__all__ = ["BACKENDS", "choose_backend", "wave_recurrence"]
BACKENDS = ("auto", "loop", "numba", "triton")
NONLINEARITIES = tuple(loop.ACTIVATIONS)
PRECISIONS = ("float32", "tf32x3", "tf32")
REQUIRED = "x", "h_0", "weight_ih", "weight_hh"
Compute = Callable[..., tuple[Tensor | None, Tensor]]
INSTALLED = [name for name in ("numba", "triton") if importlib.util.find_spec(name)]


def wave_recurrence(
    x: Tensor,
    h_0: Tensor,
    weight_ih: Tensor,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    *,
    nonlinearity: str = "relu",
    backend: str = "auto",
    precision: str = "float32",
    weight_out: Tensor | None = None,
    bias_out: Tensor | None = None,
    last_only: bool = False,
    checkpoint_every: int | None = None,
    shared_from: int | None = None,
    one_hot: bool = False,
) -> Tensor:
    """Run h_t = act(u ⋆ h_{t-1} + V x_t + b) over a sequence (section 2, equation 2).

    Args:
        x: the input, (T, B, input_size), float32 or float64.
        h_0: the state before the first step, (B, hidden); hidden = C * n, that is C channels, each
            a ring of n sites, with index = channel * n + site.
        weight_ih: V, (hidden, input_size).
        bias_ih: (hidden,) or None.
        weight_hh: the kernel u, (C, C, K) with K odd and K <= n, cross-correlated on the rings.
        bias_hh: (C,) or None.
        nonlinearity: "relu", "tanh" or "identity".
        backend: "auto", "loop", "numba" or "triton". `choose_backend` tells what "auto" takes.
        precision: "float32" is exact; "tf32" lets the GPU round the factors of products, and
            "tf32x3" splits each factor into two such parts and adds up three products, which is
            nearly exact. The last two need backend "triton"; where "auto" cannot take it, the exact
            loop runs.
        weight_out: W, (out, hidden): return W h_t + bias_out in place of h_t, which saves writing
            all states out for a readout to read.
        bias_out: (out,) or None.
        last_only: return the last step only, which needs less memory and time.
        checkpoint_every: keep each k-th state only and compute the others again in the backward
            pass; useful with `last_only`, k about √T. Gradients do not change.
        shared_from: from this step on (counted from 0) every sample has the same input, as after an
            image that fixed noise follows: V x_t + b is then computed once per step and not per
            sample. Results differ by rounding only. The loop, and all with `checkpoint_every` or
            where the gradient of x is wanted, compute as without it. "numba" checks the promise; on
            a GPU that would wait for the device.
        one_hot: whether the input of every sample is at every step a single 1 among zeros: a GPU
            then takes a column of V in place of a product. The others compute as without it, and
            "numba" checks the promise.

    Returns:
        The states after each step, (T, B, hidden), or what is read out of them, (T, B, out); with
        `last_only` those of the last step, (1, B, hidden) or (1, B, out).

    Raises:
        WrnnError: an unknown name, sizes that do not fit, a backend that cannot compute this, or
            inputs that differ where they are said to be shared.

    >>> x, h_0 = torch.rand(5, 4, 2), torch.zeros(4, 24)
    >>> V, u = torch.rand(24, 2), torch.rand(3, 3, 3)
    >>> wave_recurrence(x, h_0, V, None, u, None).shape
    torch.Size([5, 4, 24])
    """
    tensors = Tensors(x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, bias_out)
    results = recurrent_states(
        tensors,
        nonlinearity=nonlinearity,
        backend=backend,
        precision=precision,
        last_only=last_only,
        checkpoint_every=checkpoint_every,
        shared_from=shared_from,
        one_hot=one_hot,
    )
    return read_out(*results, weight_out, bias_out)


def read_out(
    output: Tensor | None,
    h_n: Tensor,
    weight_out: Tensor | None = None,
    bias_out: Tensor | None = None,
) -> Tensor:
    """Return the output of all steps or, where there is none, what is read out of the last."""
    if output is not None:
        return output
    last = h_n.unsqueeze(0)  # (1, B, hidden)
    return last if weight_out is None else F.linear(last, weight_out, bias_out)


def recurrent_states(
    tensors: Tensors,
    *,
    nonlinearity: str = "relu",
    backend: str = "auto",
    precision: str = "float32",
    last_only: bool = False,
    checkpoint_every: int | None = None,
    batch_first: bool = False,
    local: bool = False,
    shared_from: int | None = None,
    one_hot: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """Run either recurrence; arguments and errors as in `wave_recurrence`, `local` says which.

    Returns what that returns for all steps, or None with `last_only`, and the last state (B,
    hidden), each with a gradient of its own. All states lie in memory time first or `batch_first`;
    their shape is (T, B, hidden) either way. Where autocast is on, float32 is computed with.
    """
    _check_names(nonlinearity, backend, precision)
    check_flag("last_only", last_only)
    check_flag("one_hot", one_hot)
    tensors = check_tensors(tensors, local=local)
    x, weight_hh, bias_out = tensors.x, tensors.weight_hh, tensors.bias_out
    if last_only:
        tensors = tensors._replace(weight_out=None)
    if local or not x.shape[1]:
        backend = "loop"
    elif backend == "auto":
        backend, _ = choose_backend(x, weight_hh, nonlinearity=nonlinearity, precision=precision)
    elif reason := _cannot(backend, x, weight_hh, precision):
        raise WrnnError(f"backend {backend!r} cannot compute this: {reason}")
    compute: Compute = partial(_backend_function(backend), nonlinearity=nonlinearity)
    if local:
        step = partial(loop.one_step, connection=loop.local_connection)
        compute = partial(compute, step=step)
    elif backend == "triton":
        compute = partial(compute, precision=precision, one_hot=one_hot)
    elif backend == "numba":
        compute = partial(compute, batch_first=batch_first)
        if one_hot and not torch.compiler.is_compiling():
            _check_one_hot(x)
    if shared_from is not None:
        check_integer("shared_from", shared_from, 0)
        if backend != "loop" and checkpoint_every is None:
            compute = partial(compute, shared_from=shared_from)
    if checkpoint_every is not None:
        every = check_integer("checkpoint_every", checkpoint_every, 1)
        compute = loop.checkpointed(compute, every)
    with without_autocast(x):
        output, h_n = compute(tensors, last_only=last_only)
    if backend == "triton" and h_n.requires_grad:
        for result in (output, h_n):
            if result is not None:
                result.register_hook(_refuse_a_second_derivative)
    return output if output is None or bias_out is None else output + bias_out, h_n


def _check_one_hot(x: Tensor) -> None:
    """Raise where an input is not a single 1 among zeros."""
    if not ((x.amax(-1) == 1) & (x.abs().sum(-1) == 1)).all():
        raise WrnnError("x is not one_hot: at some step a sample has no single 1 among zeros")


def choose_backend(
    x: Tensor, weight_hh: Tensor, *, nonlinearity: str = "relu", precision: str = "float32"
) -> tuple[str, str]:
    """Say which backend "auto" takes for an input (T, B, input_size) and a kernel, and why.

    >>> choose_backend(torch.rand(5, 1, 2), torch.rand(50, 50, 1))[0]
    'loop'
    """
    _check_names(nonlinearity, "auto", precision)
    check_tensor("x", x, 3)
    check_tensor("weight_hh", weight_hh, 3)
    refused: list[str] = []
    for backend, praise in (
        ("triton", "the whole sequence in one launch"),
        ("numba", "the fastest on a CPU"),
    ):
        reason = _cannot(backend, x, weight_hh, precision)
        if reason is None and backend == "numba" and x.shape[1] < -(-weight_hh.shape[0] // 6):
            reason = "a batch under a sixth of the channels is faster step by step"
        if reason is None:
            return backend, "; ".join((praise, *refused))
        refused.append(f"not {backend}: {reason}")
    return "loop", "; ".join(("it runs on every device", *refused))


def _cannot(backend: str, x: Tensor, weight_hh: Tensor, precision: str) -> str | None:
    """Return why a backend cannot compute this, or None where it can."""
    if backend == "triton":
        return _triton_cannot(x, weight_hh)
    if precision != "float32":
        return f"precision {precision!r} needs backend 'triton'"
    if backend == "numba" and x.device.type != "cpu":
        return f"it runs on the CPU and the input is on {x.device}"
    if backend == "numba" and "numba" not in INSTALLED:
        return "the package numba is not installed"
    if backend == "numba" and os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return "NUMBA_DISABLE_JIT is set"
    return None


def _triton_cannot(x: Tensor, weight_hh: Tensor) -> str | None:
    """Return why the fused kernels cannot compute this, or None where they can."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if x.device.type != "cuda" and not interpreted:
        return f"it runs on CUDA and the input is on {x.device}"
    if "triton" not in INSTALLED:
        return "the package triton is not installed"
    channels, kernel_size = weight_hh.shape[0], weight_hh.shape[-1]
    if x.dtype != torch.float32:
        return f"it computes in float32 and the input is {x.dtype}"
    if kernel_size not in (3, 5, 7):
        return f"it has kernel sizes 3, 5 and 7, not {kernel_size}"
    if channels > 64:
        return f"it has up to 64 channels, not {channels}"
    if not interpreted and torch.cuda.get_device_capability(x.device) < (8, 0):
        return f"{torch.cuda.get_device_name(x.device)} is older than compute capability 8.0"
    return None


def _backend_function(backend: str) -> Compute:
    """Return the function that computes a backend."""
    if backend == "triton":
        from wrnn.recurrence.gpu import fused  # only here: a CPU can do without triton

        return fused
    if backend == "numba":
        from wrnn.recurrence.cpu import tiled  # only here: a GPU can do without numba

        return tiled
    return loop.step_loop


def without_half(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 where autocast is on and made it float16 or bfloat16."""
    halved = tensor.dtype in (torch.float16, torch.bfloat16) and _autocast_is_on(tensor)
    return tensor.float() if halved else tensor


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Return a context in which nothing is rounded to half precision on the device of x."""
    return torch.autocast(x.device.type, enabled=False) if _autocast_is_on(x) else nullcontext()


def _autocast_is_on(x: Tensor) -> bool:
    kind = x.device.type
    return kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)


def _refuse_a_second_derivative(grad: Tensor) -> None:
    """Raise where a gradient of the fused kernels is to be differentiated: they have none."""
    if torch.is_grad_enabled():
        raise WrnnError(
            "backend 'triton' has no second derivatives: use backend='loop' with create_graph=True"
        )


def _check_names(nonlinearity: str, backend: str, precision: str) -> None:
    """Raise where a name is unknown."""
    check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
    check_choice("backend", backend, BACKENDS)
    check_choice("precision", precision, PRECISIONS)


def check_tensors(tensors: Tensors, *, local: bool = False) -> Tensors:
    """Return tensors as they are computed with; raise where one is wrong or does not fit."""
    for name, tensor in zip(Tensors._fields, tensors, strict=True):
        if tensor is not None or name in REQUIRED:
            check_tensor(name, tensor)
    tensors = Tensors._make(None if t is None else without_half(t) for t in tensors)
    x, _, weight_ih, _, weight_hh, _, weight_out, _ = tensors
    for name, form, least in (
        ("x", "(T, B, input_size)", (1, 0, 1)),
        ("h_0", "(B, hidden)", (0, 1)),
        ("weight_ih", "(hidden, input_size)", (1, 1)),
        ("weight_hh", "(C, C, n, K)" if local else "(C, C, K)", (1, 1, 1, 1)),
        ("weight_out", "(out, hidden)", (1, 1)),
    ):
        tensor = getattr(tensors, name)
        if tensor is None:
            continue
        fits = tensor.dim() == form.count(",") + 1
        if not fits or any(size < low for size, low in zip(tensor.shape, least, strict=False)):
            raise WrnnError(f"{name} must be {form} and not empty, but is {_shape_of(tensor)}")
    hidden, channels, kernel_size = weight_ih.shape[0], weight_hh.shape[0], weight_hh.shape[-1]
    if hidden % channels:
        raise WrnnError(f"hidden = {hidden} is no multiple of the {channels} channels of weight_hh")
    n = hidden // channels
    check_kernel_size(kernel_size, n)
    sites = (n,) if local else ()
    outputs = () if weight_out is None else weight_out.shape[:1]
    for name, shape in (
        ("h_0", (x.shape[1], hidden)),
        ("weight_ih", (hidden, x.shape[2])),
        ("bias_ih", (hidden,)),
        ("weight_hh", (channels, channels, *sites, kernel_size)),
        ("bias_hh", (channels, *sites)),
        ("weight_out", (*outputs, hidden)),
        ("bias_out", tuple(outputs)),
    ):
        tensor = getattr(tensors, name)
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise WrnnError(f"{name} is {_shape_of(tensor)} where {shape} fits")
        if (tensor.dtype, tensor.device) != (x.dtype, x.device):
            raise WrnnError(
                f"{name} is {tensor.dtype} on {tensor.device}, but x is {x.dtype} on {x.device}"
            )
    if x.dtype not in (torch.float32, torch.float64):
        raise WrnnError(f"x must be float32 or float64, not {x.dtype}")
    return tensors


def check_kernel_size(kernel_size: int, n: int) -> None:
    """Raise unless a kernel fits on a ring of n sites."""
    if kernel_size % 2 == 0 or kernel_size > n:
        raise WrnnError(
            f"kernel size {kernel_size} does not fit a ring of {n} sites: "
            "it must be odd and no larger than the ring"
        )


def _shape_of(tensor: Tensor) -> str:
    """Return a shape as text."""
    return str(tuple(tensor.shape))
