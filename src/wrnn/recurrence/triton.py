"""The fused way on a GPU: all steps in one launch, forward and backward (section 2, equation 2).

Samples do not talk to each other, so one program carries one sample through all of time. States
are kept as (T + 1, B, n + K - 1, P): channels innermost and padded to P, a multiple of 4, every
ring with a halo of K // 2 sites at both ends. The K sites that reach a site are then K * P
neighbours in memory: one load and one product make a step. A state is stored, since the backward
pass needs it, and loaded again shifted; only the program that stored it does so, after a barrier.

An input of one or two numbers per step is multiplied inside the kernel; for a wider one, a matrix
product first writes V x_t + b where h_t will be. In the backward pass delta_t, the gradient at the
argument of the activation, takes the place of h_t, and one product gives the gradient of V and b.
So there is never more in memory than the states, and a graph can be differentiated once.

Sums over samples are made outside the kernels and in a fixed order: equal inputs give equal bits.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable


@triton.jit
def _store_ring(slot, site, channel, value, n: tl.constexpr, P: tl.constexpr, reach: tl.constexpr):
    """Store (sites, channels) of a ring, and its ends into the halo as well."""
    inside = (site < n) & (channel < P)
    address = slot + site * P + channel
    tl.store(address + reach * P, value, mask=inside)
    tl.store(address + (n + reach) * P, value, mask=inside & (site < reach))
    tl.store(address + (reach - n) * P, value, mask=inside & (site >= n - reach))


@triton.jit
def forward_kernel(
    states,  # (T + 1, B, n + K - 1, P); slot 0 is h_0, with its halo
    kernel,  # (WINDOW, WIDTH): row tap * P + c_in, column c_out; zero where padded
    x,  # (T, B, INPUTS)
    weight_ih,  # (INPUTS, n, P)
    bias,  # (n, P), both biases
    steps,
    batch,
    n: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    INPUTS: tl.constexpr,  # 0: slot t + 1 holds V x_t + b
    NONLINEARITY: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    WINDOW: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Carry one sample through all steps."""
    reach: tl.constexpr = K // 2
    sample = tl.program_id(0).to(tl.int64)
    row: tl.constexpr = (n + 2 * reach) * P
    stride = batch.to(tl.int64) * row
    before = states + sample * row
    tap = tl.arange(0, WINDOW)[None, :]
    channel = tl.arange(0, WIDTH)[None, :]
    u = tl.load(kernel + tl.arange(0, WINDOW)[:, None] * WIDTH + channel)  # (WINDOW, WIDTH)
    x += sample * INPUTS
    t = 0
    while t < steps:
        after = before + stride
        for tile in range(TILES):
            site = tl.arange(0, BLOCK)[:, None] + tile * BLOCK
            inside = (site < n) & (channel < P)
            window = tl.load(
                before + site * P + tap, mask=(site < n) & (tap < K * P), other=0.0
            )  # (BLOCK, WINDOW)
            if INPUTS == 0:
                place = after + (site + reach) * P + channel
                drive = tl.load(place, mask=inside, other=0.0)
            else:
                drive = tl.load(bias + site * P + channel, mask=inside, other=0.0)
                for i in tl.static_range(INPUTS):
                    v = tl.load(weight_ih + (i * n + site) * P + channel, mask=inside, other=0.0)
                    drive += v * tl.load(x + i)
            h = tl.dot(window, u, drive, input_precision=PRECISION)  # (BLOCK, WIDTH)
            if NONLINEARITY == "relu":
                h = tl.where(h < 0.0, 0.0, h)
            elif NONLINEARITY == "tanh":
                decay = tl.exp(-2.0 * tl.abs(h))
                size = (1.0 - decay) / (1.0 + decay)
                h = tl.where(h < 0.0, -size, size)
            _store_ring(after, site, channel, h, n, P, reach)
        tl.debug_barrier()
        before = after
        x += batch * INPUTS
        t += 1


@triton.jit
def backward_kernel(
    states,  # (T + 1, B, n + K - 1, P); from slot 1 on delta takes the place of h
    kernel,  # (WINDOW, WIDTH): row tap * P + c_out, column c_in, taps reversed
    grad_states,  # (T, B, n, P)
    grad_last,  # (B, n, P)
    grad_kernel,  # (B, WINDOW, WIDTH), one sum per sample
    steps,
    batch,
    n: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    EVERY_STEP: tl.constexpr,  # whether there are grad_states
    NONLINEARITY: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    WINDOW: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Carry the gradient of one sample back through all steps."""
    reach: tl.constexpr = K // 2
    sample = tl.program_id(0).to(tl.int64)
    row: tl.constexpr = (n + 2 * reach) * P
    stride = batch.to(tl.int64) * row
    grad_stride = batch.to(tl.int64) * (n * P)
    now = states + sample * row + stride * steps
    grad_states += sample * (n * P) + grad_stride * (steps - 1)
    grad_last += sample * (n * P)
    tap = tl.arange(0, WINDOW)[None, :]
    tap_column = tl.arange(0, WINDOW)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    u = tl.load(kernel + tap_column * WIDTH + channel)  # (WINDOW, WIDTH)
    grad_u = tl.zeros((WINDOW, WIDTH), tl.float32)
    t = steps - 1
    while t >= 0:
        before = now - stride
        later = now + stride
        is_last = t == steps - 1
        for tile in range(TILES):
            site = tl.arange(0, BLOCK)[:, None] + tile * BLOCK
            inside = (site < n) & (channel < P)
            in_window = (site < n) & (tap < K * P) & (t < steps - 1)
            window = tl.load(later + site * P + tap, mask=in_window, other=0.0)
            grad = tl.load(grad_last + site * P + channel, mask=inside & is_last, other=0.0)
            if EVERY_STEP:
                grad += tl.load(grad_states + site * P + channel, mask=inside, other=0.0)
            grad = tl.dot(window, u, grad, input_precision=PRECISION)  # (BLOCK, WIDTH)
            h = tl.load(now + (site + reach) * P + channel, mask=inside, other=0.0)
            if NONLINEARITY == "relu":
                grad = tl.where(h <= 0.0, 0.0, grad)
            elif NONLINEARITY == "tanh":
                grad = grad * (1.0 - h * h)
            _store_ring(now, site, channel, grad, n, P, reach)
            sites = tl.arange(0, BLOCK)[None, :] + tile * BLOCK
            in_window = (sites < n) & (tap_column < K * P)
            window = tl.load(before + sites * P + tap_column, mask=in_window, other=0.0)
            grad_u = tl.dot(window, grad, grad_u, input_precision=PRECISION)  # (WINDOW, WIDTH)
        tl.debug_barrier()
        now = before
        grad_states -= grad_stride
        t -= 1
    tl.store(grad_kernel + (sample * WINDOW + tap_column) * WIDTH + channel, grad_u)


def layout(n: int, channels: int, kernel_size: int, precision: str) -> dict[str, int | str]:
    """Choose what both kernels are compiled for.

    T and B have no part in it, so other lengths and batches compile nothing new. A tile of sites
    and its windows are small enough for registers and shared memory, which is tested by compiling
    every configuration of the paper.
    """
    padded = -(-channels // 4) * 4
    window = triton.next_power_of_2(kernel_size * padded)
    block = min(triton.next_power_of_2(n), max(16, 8192 // window))
    warps = 8  # spills nothing with tensor cores; exact products take more or fewer
    if precision == "ieee" and window >= 128:
        warps = 16
    elif precision == "ieee" and block * window <= 4096:
        warps = 4
    return {
        "n": n,
        "P": padded,
        "K": kernel_size,
        "BLOCK": block,
        "TILES": -(-n // block),
        "WINDOW": window,
        "WIDTH": triton.next_power_of_2(padded),
        "PRECISION": precision,
        "num_warps": warps,
        "num_stages": 1,
    }


def fused(
    x: Tensor,
    h_0: Tensor,
    weight_ih: Tensor,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    weight_out: Tensor | None,
    nonlinearity: str,
    precision: str = "float32",
    last_only: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """Run the recurrence over time; arguments and results are those of `loop.step_loop`."""
    channels, _, kernel_size = weight_hh.shape
    batch = x.shape[1]
    precision = {"float32": "ieee", "tf32": "tf32"}[precision]
    sizes = layout(len(weight_ih) // channels, channels, kernel_size, precision)
    bias = x.new_zeros(len(weight_ih))
    if bias_ih is not None:
        bias = bias + bias_ih
    if bias_hh is not None:
        bias = bias + bias_hh.repeat_interleave(sizes["n"])
    states, last = _Fused.apply(
        x.contiguous(),
        _site_major(h_0, sizes, channels),  # (B, n * P)
        _site_major(weight_ih.t(), sizes, channels),  # (d, n * P)
        _site_major(bias, sizes, channels),  # (n * P,)
        weight_hh,
        sizes,
        nonlinearity,
        last_only,
    )
    h_n = _channel_major(last, channels)
    if last_only:
        return None, h_n
    if weight_out is None:
        return _channel_major(states, channels), h_n
    readout = _site_major(weight_out, sizes, channels)
    return F.linear(states.reshape(*x.shape[:2], -1), readout).view(len(x), batch, -1), h_n


class _Fused(torch.autograd.Function):
    """Both kernels, with sites outermost and channels padded in everything that they see."""

    @staticmethod
    def forward(ctx, x, h_0, weight_ih, bias, weight_hh, sizes, nonlinearity, last_only):
        steps, batch, input_size = x.shape
        n, padded, kernel_size = sizes["n"], sizes["P"], sizes["K"]
        reach = kernel_size // 2
        ring = torch.arange(-reach, n + reach, device=x.device) % n
        states = x.new_empty(steps + 1, batch, n + 2 * reach, padded)
        states[0] = h_0.view(batch, n, padded)[:, ring]
        inputs = input_size if input_size <= 2 else 0
        if not inputs:
            weight = weight_ih.view(input_size, n, padded)[:, ring].flatten(1)
            around = bias.view(n, padded)[ring].flatten()
            drive = states[1:].view(steps * batch, -1)
            torch.addmm(around, x.view(steps * batch, input_size), weight, out=drive)
        forward_kernel[(batch,)](
            states,
            _stencil(weight_hh, sizes),
            x,
            weight_ih.contiguous(),
            bias.contiguous(),
            steps,
            batch,
            INPUTS=inputs,
            NONLINEARITY=nonlinearity,
            **sizes,
        )
        ctx.save_for_backward(x, weight_ih, weight_hh, states)
        ctx.sizes, ctx.nonlinearity = sizes, nonlinearity
        ctx.set_materialize_grads(False)
        inside = states[1:, :, reach : reach + n]  # (T, B, n, P)
        return None if last_only else inside, inside[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_states, grad_last):
        x, weight_ih, weight_hh, states = ctx.saved_tensors
        needs_x, needs_h_0, needs_ih, needs_bias, needs_hh, *_ = ctx.needs_input_grad
        sizes = ctx.sizes
        steps, batch, input_size = x.shape
        channels, _, kernel_size = weight_hh.shape
        n, padded, reach = sizes["n"], sizes["P"], kernel_size // 2
        if grad_last is None:
            grad_last = x.new_zeros(batch, n, padded)
        u = _stencil(weight_hh.transpose(0, 1).flip(2), sizes)
        grad_u = x.new_empty(batch, *u.shape)
        backward_kernel[(batch,)](
            states,
            u,
            grad_last if grad_states is None else grad_states.contiguous(),
            grad_last.contiguous(),
            grad_u,
            steps,
            batch,
            EVERY_STEP=grad_states is not None,
            NONLINEARITY=ctx.nonlinearity,
            **sizes,
        )
        torch.autograd.graph.increment_version(states)  # deltas now: a second backward must fail

        row = n * padded
        deltas = states[1:].view(steps * batch, -1)[:, reach * padded : reach * padded + row]
        grad_x = deltas @ weight_ih.t() if needs_x else None  # (T * B, d)
        grad_ih = grad_bias = grad_h_0 = grad_hh = None
        if needs_ih or needs_bias:
            inputs = F.pad(x.view(steps * batch, input_size), (0, 1), value=1.0)
            grad_ih, grad_bias = (inputs.t() @ deltas).split((input_size, 1))  # (d + 1, n * P)
        if needs_h_0:
            around = (batch, n, kernel_size * padded)
            windows = states[1].as_strided(around, (states.stride(1), padded, 1))
            grad_h_0 = (windows @ u[: kernel_size * padded, :padded]).view(batch, row)
        if needs_hh:
            taps = grad_u.sum(0)[: kernel_size * padded].unflatten(0, (kernel_size, padded))
            grad_hh = taps[:, :channels, :channels].permute(2, 1, 0)  # (C, C, K)
        return (
            None if grad_x is None else grad_x.view_as(x),
            grad_h_0,
            grad_ih,
            None if grad_bias is None else grad_bias.flatten(),
            grad_hh,
            *[None] * 3,
        )


def _stencil(weight_hh: Tensor, sizes: dict[str, int]) -> Tensor:
    """Return the kernel as a matrix that meets a window, (WINDOW, WIDTH), zero where padded."""
    spare = sizes["P"] - len(weight_hh)
    taps = F.pad(weight_hh.permute(2, 1, 0), (0, sizes["WIDTH"] - len(weight_hh), 0, spare))
    matrix = taps.flatten(0, 1)  # (K * P, WIDTH)
    return F.pad(matrix, (0, 0, 0, sizes["WINDOW"] - len(matrix))).contiguous()


def _site_major(tensor: Tensor, sizes: dict[str, int], channels: int) -> Tensor:
    """Reorder (..., C * n) to (..., n * P), with zeros for the channels that are padding."""
    sites = tensor.unflatten(-1, (channels, -1)).transpose(-1, -2)  # (..., n, C)
    return F.pad(sites, (0, sizes["P"] - channels)).flatten(-2)


def _channel_major(states: Tensor, channels: int) -> Tensor:
    """Reorder (..., n, P) to (..., C * n), in memory of its own."""
    return states[..., :channels].transpose(-1, -2).contiguous().flatten(-2)
