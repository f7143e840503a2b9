"""The fused way on a GPU: all steps in one launch, forward and backward (section 2, equation 2).

The kernels are in `wrnn.recurrence.gpu_kernels`; here is what they are launched with. In memory
there is never more than the states, in slots that the kernels describe, and what is passed in and
out:

- An input of one or two numbers per step is multiplied inside the kernel; for a wider one, a matrix
  product first writes V x_t + b where h_t will be, or once for all samples where their inputs are
  the same.
- A readout is a matrix product with all slots at once; its gradient is made inside the kernel.
- Deltas take the place of the states, so that a graph can be differentiated once; one product of
  the inputs with all of them gives the gradient of V and b.
- Without gradients only two states are kept, or a few where a matrix product wants several.

Sums over samples are made outside the kernels and in a fixed order: equal inputs give equal bits.
Nothing here waits for the GPU or outlives a call, so a call can be recorded in a CUDA graph.
"""

import sys
from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from wrnn.recurrence import gpu_kernels as kernels
from wrnn.recurrence import without_autocast
from wrnn.recurrence.loop import Tensors

INPUTS = 2  # the widest input that is multiplied inside the kernel
OUTPUTS = 16  # the widest readout whose gradient is made inside the kernel
STRETCH = 32  # states that are kept at once where no gradient is wanted


class Layout(NamedTuple):
    """What a kernel is compiled for, by the names in `gpu_kernels`, which says what they are."""

    n: int
    C: int
    K: int
    GROUPS: int  # 0: wide
    P: int  # channels of a slot, with padding
    BLOCK: int
    TILES: int
    WINDOW: int
    REST: int
    WIDTH: int  # narrow: channels of a thread
    PRECISION: str
    num_warps: int
    maxnreg: int
    num_stages: int = 1


class Plan(NamedTuple):
    """How a sequence is computed."""

    layout: Layout
    layout_back: Layout
    nonlinearity: str
    last_only: bool
    own: int  # steps at which every sample's input is multiplied
    one_hot: bool


def layouts(
    n: int, channels: int, kernel_size: int, precision: str, capability: int = 90
) -> tuple[Layout, Layout]:
    """Choose what the forward and the backward kernel are compiled for; they share their slots.

    T and B have no part in it, so other lengths and batches compile nothing new. Every choice fits
    registers and shared memory at a GPU's `capability` (80, 90, ...), which is tested by compiling
    every configuration of the paper.
    """
    window = channels * kernel_size
    share = max(1, 54 // window)  # channels of a thread: a number each per tap stays in registers
    groups = triton.next_power_of_2(-(-channels // share))
    sites = triton.next_power_of_2(n)
    if channels <= 8 and groups * sites <= 256:
        width, warps = -(-channels // groups), -(-groups * sites // 32)
        sizes = (n, channels, kernel_size, groups, channels, sites, 1, 0, 0, width)
        # With 128 registers two samples share a multiprocessor.
        narrow = Layout(*sizes, "ieee", num_warps=warps, maxnreg=128)
        return narrow, narrow
    # Aligned addresses, as far as they cost little memory.
    rounded = [-(-channels // multiple) * multiple for multiple in (4, 2, 1)]
    padded = next(size for size in rounded if size <= 1.125 * channels)
    window, rest = _powers_of_2(kernel_size * padded)
    width = max(8, triton.next_power_of_2(padded))
    if precision == "ieee":
        blocks = (32, 32) if window >= 64 else (128, 128)
    elif capability >= 90:
        blocks = (64, 32 if window >= 64 else 64)
    elif precision == "tf32x3":
        blocks = (16, 16) if window >= 64 else (64, 32)
    else:
        blocks = (64, 16 if window >= 64 else 64)

    def wide(block: int) -> Layout:
        block = min(block, max(16, sites))
        # No more than there are elements: a thread that repeats another one could see its store.
        warps = min(4, block * width // 32)
        tiles = -(-n // block)
        sizes = (n, channels, kernel_size, 0, padded, block, tiles, window, rest, width)
        return Layout(*sizes, precision, num_warps=warps, maxnreg=255)

    return wide(blocks[0]), wide(blocks[1])


def _powers_of_2(size: int) -> tuple[int, int]:
    """Return the powers of two, 16 at least or the second 0, whose sum covers a size most closely.

    >>> _powers_of_2(84), _powers_of_2(48), _powers_of_2(57)
    ((64, 32), (32, 16), (64, 0))
    """
    whole = max(16, triton.next_power_of_2(size))
    rest = max(16, triton.next_power_of_2(size - whole // 2))
    return (whole, 0) if whole == 16 or rest >= whole // 2 else (whole // 2, rest)


def fused(
    tensors: Tensors,
    nonlinearity: str,
    precision: str = "float32",
    last_only: bool = False,
    shared_from: int | None = None,
    one_hot: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """Run the recurrence over time; arguments and results are those of `loop.step_loop`.

    `precision` is "float32", "tf32x3" or "tf32"; the narrow kernels are exact under every name.
    From step `shared_from` on the input is the same for every sample; `one_hot` says that it is one
    1 among zeros at every step.
    """
    x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, _ = tensors
    channels, _, kernel_size = weight_hh.shape
    n = len(weight_ih) // channels
    precision = "ieee" if precision == "float32" else precision
    major, minor = torch.cuda.get_device_capability(x.device) if x.is_cuda else (9, 0)
    sizes, sizes_back = layouts(n, channels, kernel_size, precision, 10 * major + minor)
    bias = x.new_zeros(len(weight_ih))
    if bias_ih is not None:
        bias = bias + bias_ih
    if bias_hh is not None:
        bias = bias + bias_hh[:, None].expand(channels, n).flatten()
    used = (
        x.contiguous(),
        h_0.contiguous(),
        _slots(weight_ih.t(), sizes).contiguous(),  # (d, slot)
        _slots(bias, sizes).contiguous(),  # (slot,)
        weight_hh,
        None if last_only or weight_out is None else _slots(weight_out, sizes).contiguous(),
    )
    differentiate = torch.is_grad_enabled()
    wide = x.shape[2] > INPUTS
    own = len(x)
    if shared_from is not None and wide and not (x.requires_grad and differentiate):
        own = min(shared_from, own)
    plan = Plan(sizes, sizes_back, nonlinearity, last_only, own, one_hot and wide)
    if differentiate and any(t is not None and t.requires_grad for t in used):
        return _Fused.apply(*used, plan)
    two_are_enough = last_only and (not wide or own == 0 or one_hot)
    kept = 2 if two_are_enough else 1 + min(STRETCH, len(x))
    return _forward(*used, plan, kept)[1:]


def _forward(
    x, h_0, weight_ih, bias, weight_hh, weight_out, plan: Plan, kept: int
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Run forward with `kept` slots: T + 1, or fewer to be used again and again.

    Returns the slots, (kept, B, slot), and the outputs and the last state as `loop.step_loop`.
    """
    sizes, _, nonlinearity, last_only, own, one_hot = plan
    steps, batch, input_size = x.shape
    hidden = len(weight_hh) * sizes.n
    inputs = -1 if one_hot else input_size if input_size <= INPUTS else 0
    states = x.new_empty(kept, batch, len(bias))
    kernel = _matrix(weight_hh, sizes)
    shared = bias  # for nothing, or (T - own, slot), or (d, slot)
    if one_hot:
        x, shared = x.argmax(2).int(), weight_ih + bias
    elif own < steps:
        shared = torch.addmm(bias, x[own:, 0], weight_ih)
    output = None
    if not last_only:
        width = hidden if weight_out is None else len(weight_out)
        output = weight_ih.new_empty(steps, batch, width)
    start, h = 0, h_0
    for stretch in x.split(steps if kept == 2 else kept - 1):
        length = len(stretch)
        slots = states[1 : 1 + length].flatten(0, 1)  # (length * B, slot)
        own_here = min(max(own - start, 0), length)
        if inputs == 0 and own_here:
            own_x, own_slots = (
                v.flatten(0, 1) for v in (stretch[:own_here], states[1 : 1 + own_here])
            )
            torch.addmm(bias, own_x, weight_ih, out=own_slots)
        with torch.cuda.device_of(h):
            kernels.forward[(batch,)](
                *(states, h, kernel, stretch, weight_ih, bias),
                shared if one_hot else shared[max(start - own, 0) :],
                *(length, batch, own_here),
                INPUTS=inputs,
                KEEP=kept > 2,
                NONLINEARITY=nonlinearity,
                **sizes._asdict(),
            )
        if output is not None:
            part = output[start : start + length].flatten(0, 1)
            if weight_out is None:
                part.unflatten(1, (-1, sizes.n)).copy_(_inside(slots, sizes))
            else:
                torch.mm(slots, weight_out.t(), out=part)
        h = weight_ih.new_empty(batch, hidden)
        last = _inside(states[length % 2 if kept == 2 else length], sizes)  # (B, C, n)
        h.view_as(last).copy_(last)
        start += length
    return states, output, h


class _Fused(torch.autograd.Function):
    """Both passes, with V, b and W as slots."""

    @staticmethod
    def forward(ctx, x, h_0, weight_ih, bias, weight_hh, weight_out, plan):
        tensors = (x, h_0, weight_ih, bias, weight_hh, weight_out)
        states, output, h_n = _forward(*tensors, plan, kept=len(x) + 1)
        ctx.save_for_backward(x, weight_ih, weight_hh, weight_out, states)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        return output, h_n

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output, grad_last):
        saved = ctx.saved_tensors  # once: a checkpoint gives them a single time
        with without_autocast(saved[0]):
            return _backward(ctx, saved, grad_output, grad_last)


def _backward(ctx, saved: tuple, grad_output: Tensor | None, grad_last: Tensor | None) -> tuple:
    """Return the gradients of what `_Fused.forward` takes."""
    x, weight_ih, weight_hh, weight_out, states = saved
    needs_x, needs_h_0, needs_ih, needs_bias, needs_hh, needs_out, _ = ctx.needs_input_grad
    sizes, own = ctx.plan.layout_back, ctx.plan.own
    steps, batch, input_size = x.shape
    channels, _, kernel_size = weight_hh.shape
    slots = states[1:].flatten(0, 1)  # (T * B, slot)
    outputs, grad_out = 0, None
    if grad_output is not None:
        outputs = -1 if weight_out is None else len(weight_out)
        if needs_out:
            grad_out = grad_output.flatten(0, 1).t() @ slots  # (out, slot)
        if outputs > OUTPUTS:
            grad_output = grad_output @ _inside(weight_out, sizes).flatten(1)  # (T, B, hidden)
            outputs = -1
        grad_output = _as_read(grad_output, sizes) if outputs < 0 else grad_output.contiguous()
    if not any(ctx.needs_input_grad[:5]):
        return *[None] * 5, grad_out, None
    if grad_last is None:
        grad_last = x.new_zeros(batch, channels * sizes.n)
    kernel = _matrix(weight_hh.transpose(0, 1).flip(2), sizes)
    grad_kernel = x.new_empty(batch, *kernel.shape) if needs_hh else None
    kernels.backward[(batch,)](
        *(states, kernel, _as_read(grad_last, sizes)),
        grad_last if outputs == 0 else grad_output,
        weight_ih if outputs <= 0 else weight_out,
        kernel if grad_kernel is None else grad_kernel,
        *(steps, batch),
        OUTPUTS=outputs,
        NEEDS_KERNEL=needs_hh,
        NONLINEARITY=ctx.plan.nonlinearity,
        **sizes._asdict(),
    )
    torch.autograd.graph.increment_version(states)  # deltas now: a second backward must fail

    grad_x = grad_h_0 = grad_ih = grad_bias = grad_hh = None
    if needs_x:
        grad_x = (slots @ weight_ih.t()).view_as(x)
    if needs_ih or needs_bias:
        inputs = F.pad(x[:own], (0, 1), value=1.0).flatten(0, 1)  # (own * B, d + 1)
        grad_drive = inputs.t() @ states[1 : 1 + own].flatten(0, 1)  # (d + 1, slot)
        if own < steps:
            shared = F.pad(x[own:, 0], (0, 1), value=1.0)  # (T - own, d + 1)
            grad_drive.addmm_(shared.t(), states[1 + own :].sum(1))
        grad_ih, grad_bias = grad_drive.split((input_size, 1))
        grad_bias = grad_bias.flatten()
    if needs_h_0:
        delta = _inside(states[1], sizes)  # (B, C, n)
        around = F.pad(delta, (kernel_size // 2,) * 2, mode="circular")
        windows = around.unfold(2, kernel_size, 1)  # (B, C, n, K)
        weight = weight_hh.flip(2)
        grad_h_0 = torch.einsum("bonk,oik->bin", windows, weight).flatten(1)
    if grad_kernel is not None:
        grad_hh = _taps(grad_kernel.sum(0), sizes)
    return grad_x, grad_h_0, grad_ih, grad_bias, grad_hh, grad_out, None


def _slots(tensor: Tensor, sizes: Layout) -> Tensor:
    """Reorder (..., C * n) to (..., slot), with zeros in the halo and in padding."""
    rings = tensor.unflatten(-1, (-1, sizes.n))  # (..., C, n)
    halo = (sizes.K // 2,) * 2
    if sizes.GROUPS:
        return F.pad(rings, halo).flatten(-2)
    return F.pad(rings.transpose(-1, -2), (0, sizes.P - sizes.C, *halo)).flatten(-2)


def _inside(slots: Tensor, sizes: Layout) -> Tensor:
    """View (..., slot) as (..., C, n), without halo and padding."""
    n, reach = sizes.n, sizes.K // 2
    if sizes.GROUPS:
        return slots.unflatten(-1, (sizes.C, -1))[..., reach : reach + n]
    rings = slots.unflatten(-1, (-1, sizes.P))  # (..., n + K - 1, P)
    return rings[..., reach : reach + n, : sizes.C].transpose(-1, -2)


def _as_read(grad: Tensor, sizes: Layout) -> Tensor:
    """Return a gradient (..., C * n) as the kernels read it: as it is, or as slots."""
    return (grad if sizes.GROUPS else _slots(grad, sizes)).contiguous()


def _matrix(weight_hh: Tensor, sizes: Layout) -> Tensor:
    """Return the kernel as the kernels read it: (C, C, K) or (WINDOW + REST, WIDTH)."""
    if sizes.GROUPS:
        return weight_hh.contiguous()
    padding = (0, sizes.WIDTH - sizes.C, 0, sizes.P - sizes.C)
    matrix = F.pad(weight_hh.permute(2, 1, 0), padding).flatten(0, 1)  # (K * P, WIDTH)
    return F.pad(matrix, (0, 0, 0, sizes.WINDOW + sizes.REST - len(matrix)))


def _taps(matrix: Tensor, sizes: Layout) -> Tensor:
    """Undo `_matrix`."""
    if sizes.GROUPS:
        return matrix
    taps = matrix[: sizes.K * sizes.P].unflatten(0, (sizes.K, sizes.P))
    return taps[:, : sizes.C, : sizes.C].permute(2, 1, 0)


def _say_compiled(*, src, times, cache_hit: bool, **_) -> None:
    """Tell whoever waits at a terminal that a kernel was compiled, once per machine."""
    name = src.fn.__name__ if hasattr(src, "fn") else ""
    if cache_hit or not hasattr(kernels, name) or not sys.stderr.isatty():
        return
    values = {src.fn.arg_names[place[0]]: value for place, value in src.constants.items()}
    print(
        f"wrnn: compiled {name} for n = {values['n']}, C = {values['C']}, K = {values['K']} "
        f"in {times.total / 1e6:.1f} s (once per machine)",
        file=sys.stderr,
    )


if triton.knobs.compilation.listener is None:
    triton.knobs.compilation.listener = _say_compiled
