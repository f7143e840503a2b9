"""The fast way on a CPU: the whole sequence in compiled loops, with a backward pass by hand.

Sixteen samples are one tile, and a tile runs through all steps on its own, so its state stays in
the processor's cache. A state is kept as (n + K - 1, C, lanes): sites outermost, every ring with a
halo of K // 2 sites at both ends, one lane per sample innermost. The K sites that reach a site are
then neighbours in memory, and the circular convolution of equation 2 (section 2 of the paper) is,
at every site, a product of the kernel (C, K * C) with the window (K * C, lanes). Vectors of lanes
hold the sums in registers (see `lanes`). Tiles are shared out among PyTorch's threads; sums over
tiles are added in a fixed order, so results do not depend on how many threads there are.
"""

import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from wrnn.errors import WrnnError
from wrnn.recurrence.lanes import (
    LANES,
    add_multiples,
    add_outer_product,
    load,
    store,
    sum_lanes,
    transpose,
    where_positive,
    zeros,
)
from wrnn.recurrence.loop import Tensors
from wrnn.recurrence.operator import TENSOR_COUNT, forward, states_shape

RELU, TANH = 1, 2
ACTIVATIONS = {"identity": 0, "relu": RELU, "tanh": TANH}
STEPS_HELD = 16  # deltas held before the gradients of input and output weights are added up
ROWS_HELD = 256  # rows of lanes of deltas that stay in the fastest cache for the kernel's gradient
NO_PRODUCT = (0, 0, 0, 0)
CONTIGUOUS = torch.contiguous_format
inlined = njit(nogil=True, error_model="numpy", forceinline=True)
_spare: dict[str, Tensor] = {}


def jit(function):
    """Compile a function; for the next process too, where there is a folder to keep it in."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:
        return njit(nogil=True, error_model="numpy")(function)


def tiled(
    tensors: Tensors,
    nonlinearity: str,
    last_only: bool = False,
    batch_first: bool = False,
    shared_from: int | None = None,
) -> tuple[Tensor | None, Tensor]:
    """Run the recurrence over time; arguments and results are those of `loop.step_loop`.

    Where a gradient is needed all states are kept, otherwise two. From step `shared_from` on the
    input is the same for every sample: there V x_t + b is computed once and not per sample.
    """
    used = tensors[:TENSOR_COUNT]
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in used)
    options = (nonlinearity, shared_from, last_only, batch_first, keep)
    output, h_n, _ = forward(*used, *options)
    return None if last_only else output, h_n


@torch.library.impl("wrnn::forward", "cpu")
def _forward(x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, *options):
    """Return output (T, B, ...), h_n (B, hidden) and, to `keep` them, all states in a row.

    States are (tiles, slots, n + K - 1, C, lanes): T + 1 slots where they are kept, otherwise two
    that are used in turn. What is not asked for is empty.
    """
    nonlinearity, shared_from, last_only, batch_first, keep = options
    channels, _, kernel_size = weight_hh.shape
    steps, batch, _ = x.shape
    hidden, reach = weight_ih.shape[0], kernel_size // 2
    n, slots = hidden // channels, steps + 1 if keep else 2
    shape = states_shape(x, weight_ih, weight_hh, slots)
    states = _memory("states", x, shape) if keep else x.new_empty(shape)
    bias = weight_ih.new_zeros(hidden) if bias_ih is None else bias_ih
    if bias_hh is not None:
        bias = bias + bias_hh.repeat_interleave(n)
    drive = torch.cat((weight_ih, bias.unsqueeze(1)), 1)  # (hidden, d + 1)
    drive = drive.view(channels, n, -1).permute(1, 2, 0).flatten()  # (n, d + 1, C)
    own = _own_steps(x, shared_from)
    if own < steps:
        if not torch.equal(x[own:], x[own:, :1].expand_as(x[own:])):
            raise WrnnError(f"the samples of x differ after step {own}: they are not shared")
        shared = torch.addmm(bias, x[own:, 0], weight_ih.t())  # (T - own, hidden)
        drive = torch.cat((drive, _site_major(shared.t(), channels).t().flatten()))
    kernel = weight_hh.permute(2, 1, 0).contiguous()  # (K, C in, C out)
    outputs = 0 if weight_out is None or last_only else weight_out.shape[0]
    readout, output = x.new_empty(0, outputs), x.new_empty(0, 0, 0)
    if outputs:
        readout = _site_major(weight_out.t(), channels).contiguous()  # (n * C, out)
    elif not last_only:
        output = _memory("output", x, (steps, batch, hidden), batch_first)
    read = x.new_empty(states.shape[0], steps, outputs, LANES)
    states[:, 0, reach : reach + n] = _to_tiles(h_0.reshape(batch, channels, n).transpose(1, 2))
    _over_tiles(
        _run_forward,
        (states, _with_ones(x[:own]), read),
        (drive, kernel, readout, _flat(output)),
        (
            *(n, channels, reach, steps, own, slots, ACTIVATIONS[nonlinearity]),
            *(batch, *output.stride()[:2]),
        ),
    )
    last = states[:, steps % slots, reach : reach + n]  # (tiles, n, C, lanes)
    # Results are copied, since `states` may be memory that a later call takes.
    h_n = x.new_empty(batch, hidden)
    h_n.view(batch, channels, n).copy_(_from_tiles(last, batch).transpose(1, 2))
    if outputs:
        output = _from_tiles(read.transpose(0, 1), batch, 1).clone(memory_format=CONTIGUOUS)
    return output, h_n, states.flatten() if keep else x.new_empty(0)


@torch.library.impl("wrnn::backward", "cpu")
def _backward(x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, *options):
    """Return the gradients that are needed, in the order of the tensors.

    The pass back is a product of the flipped and transposed kernel with windows of delta, which is,
    for step t, the gradient at the argument of the activation.
    """
    nonlinearity, shared_from, grad_output, grad_h_n, states, needs = options
    needs_x, needs_h_0, needs_ih, needs_bias_ih, needs_hh, needs_bias_hh, needs_out = needs
    channels, _, kernel_size = weight_hh.shape
    steps, batch, input_size = x.shape
    hidden, n = weight_ih.shape[0], weight_ih.shape[0] // channels
    states = states.view(states_shape(x, weight_ih, weight_hh, steps + 1))
    tiles = states.shape[0]
    needs_bias = needs_bias_ih or needs_bias_hh
    own = steps if needs_x else _own_steps(x, shared_from)
    outputs = 0 if weight_out is None or grad_output is None else weight_out.shape[0]

    flipped = weight_hh.permute(2, 0, 1).flip(0).contiguous()  # (K, C out, C in)
    readout, grad_every = x.new_empty(0, hidden), x.new_empty(0, 0, 0)
    grad_read = x.new_empty(tiles, steps, 0, LANES)
    grad_last = x.new_zeros(tiles, n, channels, LANES)
    if outputs:
        readout = weight_out.reshape(-1, channels, n).permute(2, 0, 1).contiguous()  # (n, out, C)
        grad_read = _to_tiles(grad_output, 1).transpose(0, 1).contiguous()
    elif grad_output is not None:
        grad_every = _with_rows(grad_output)  # (T, B, hidden)
    if grad_h_n is not None:
        grad_last = _to_tiles(grad_h_n.reshape(batch, channels, n).transpose(1, 2)).contiguous()
    weight = _site_major(weight_ih, channels).contiguous()  # (n * C, d)

    held = min(steps, STEPS_HELD)
    columns = slice(0 if needs_ih else input_size, input_size + needs_bias)
    inputs = _with_ones(x[:own])[:, :, columns].contiguous()  # (tiles, T, d + 1, lanes) at most
    grad_x = x.new_empty(tiles, steps, input_size * needs_x, LANES)
    grad_h_0 = x.new_empty(tiles, n * needs_h_0, channels, LANES)
    grad_ih = x.new_zeros(tiles, hidden, inputs.shape[2])  # site-major; a bias's column is last
    grad_shared = x.new_empty(tiles, (steps - own) * (needs_ih or needs_bias), hidden)
    grad_hh = x.new_zeros(tiles, channels * needs_hh, kernel_size, channels)
    grad_out = x.new_zeros(tiles, outputs * needs_out, hidden)
    gradients = (grad_x, grad_h_0, grad_ih, grad_shared, grad_hh, grad_out)
    sizes = (n, channels, kernel_size // 2, steps, own, held, ACTIVATIONS[nonlinearity])
    _over_tiles(
        _run_backward,
        (states, inputs, grad_read, grad_last, *gradients),
        (weight, flipped, readout, _flat(grad_every)),
        (*sizes, batch, *grad_every.stride()[:2]),
    )
    grad_ih = grad_ih.sum(0)
    if grad_shared.shape[1]:
        factors = F.pad(x[own:, 0], (0, 1), value=1.0)[:, columns]  # (T - own, d + 1)
        grad_ih.addmm_(grad_shared.sum(0).t(), factors)
    by_channel = grad_ih.view(n, channels, -1).transpose(0, 1).flatten(0, 1)
    grad_bias = by_channel[:, -1] if needs_bias else None
    gradients = (
        _from_tiles(grad_x.transpose(0, 1), batch, 1) if needs_x else None,
        _from_tiles(grad_h_0, batch).transpose(1, 2).flatten(1) if needs_h_0 else None,
        by_channel[:, :input_size],
        grad_bias,
        grad_hh.sum(0).permute(0, 2, 1) if needs_hh else None,
        grad_bias.reshape(channels, n).sum(1) if needs_bias_hh else None,
        grad_out.sum(0).view(-1, n, channels).transpose(1, 2).flatten(1) if outputs else None,
    )
    if needs_out and not outputs:
        gradients = (*gradients[:-1], torch.zeros_like(weight_out))
    # Results of an operator share no memory.
    return [
        g.clone(memory_format=CONTIGUOUS) for g, need in zip(gradients, needs, strict=True) if need
    ]


def _own_steps(x: Tensor, shared_from: int | None) -> int:
    """Return for how many steps every sample's input is multiplied: at least one, for its ones."""
    return len(x) if shared_from is None else min(len(x), max(1, shared_from))


@jit
def _run_forward(tile, own_arrays, shared, sizes):
    """Run one tile through all steps; every array is flat, and laid out as `_forward` says."""
    states, x, read = own_arrays
    drive, kernel, readout, output = shared
    n, channels, reach, steps, own, slots, activation, batch, step_stride, sample_stride = sizes
    used = min(LANES, batch - tile * LANES)
    hidden, window = n * channels, (2 * reach + 1) * channels
    width, outputs = len(x) // (own * LANES), len(readout) // hidden
    ones = len(x) - LANES
    halo = reach * channels * LANES
    size = hidden * LANES + 2 * halo
    _close_rings(states, 0, size, halo)
    for t in range(steps):
        before, after = t % slots * size, (t + 1) % slots * size
        for site in range(n):
            row = site * channels
            target, near = after + halo + row * LANES, before + row * LANES
            drives = (row * width, channels, t * width * LANES, width)
            if t >= own:
                drives = (hidden * (width + t - own) + row, channels, ones, 1)
            windows = (0, channels, near, window)
            _products(channels, states, target, drive, x, drives, kernel, states, windows)
            _activate(states, target, channels, activation)
            _clear(states, target, channels, used)
        _close_rings(states, after, size, halo)
        if len(output):
            first = t * step_stride + tile * LANES * sample_stride
            _exchange(states, after + halo, output, first, sample_stride, n, channels, used, True)
        reads = (0, outputs, after + halo, hidden)
        target = t * outputs * LANES
        _products(outputs, read, target, readout, states, reads, readout, states, NO_PRODUCT)


@jit
def _run_backward(tile, own_arrays, shared, sizes):
    """Run one tile back through all steps; every array is flat, and laid out as in `_backward`."""
    states, x, grad_read, grad_last = own_arrays[:4]
    grad_x, grad_h_0, grad_ih, grad_shared, grad_hh, grad_out = own_arrays[4:]
    weight, kernel, readout, grad_every = shared
    n, channels, reach, steps, own, held, activation, batch, step_stride, sample_stride = sizes
    used = min(LANES, batch - tile * LANES)
    hidden, window = n * channels, (2 * reach + 1) * channels
    inputs, outputs, width = len(weight) // hidden, len(readout) // hidden, len(x) // (own * LANES)
    halo = reach * channels * LANES
    size = hidden * LANES + 2 * halo
    sites_held = max(8, ROWS_HELD // channels)
    deltas = np.empty(held * size, states.dtype)
    grads = np.zeros(hidden * LANES if len(grad_every) else 0, states.dtype)
    for t in range(steps - 1, -1, -1):
        now, later = t % held * size, (t + 1) % held * size
        after = (t + 1) * size + halo
        is_last = t == steps - 1
        if len(grad_every):
            first = t * step_stride + tile * LANES * sample_stride
            _exchange(grads, 0, grad_every, first, sample_stride, n, channels, used, False)
        for site in range(n):
            row = site * channels
            target, near = now + halo + row * LANES, later + row * LANES
            reads = (row * outputs, channels, t * outputs * LANES, outputs)
            windows = (0, channels, near, 0 if is_last else window)
            _products(channels, deltas, target, readout, grad_read, reads, kernel, deltas, windows)
            if is_last:
                _add(deltas, target, grad_last, row * LANES, channels)
            if len(grad_every):
                _add(deltas, target, grads, row * LANES, channels)
            _differentiate(deltas, target, states, after + row * LANES, channels, activation)
            _clear(deltas, target, channels, used)
        _close_rings(deltas, now, size, halo)
        if len(grad_hh) and n >= held:
            for site in range(0, n, sites_held):
                row = site * channels * LANES
                strides = (channels * LANES, channels * LANES, min(sites_held, n - site))
                starts = (now + halo + row, t * size + row)
                _add_outer(channels, window, grad_hh, deltas, states, starts, strides)
        if len(grad_x):
            back = (0, inputs, now + halo, hidden)
            target = t * inputs * LANES
            _products(inputs, grad_x, target, weight, deltas, back, weight, deltas, NO_PRODUCT)
        if len(grad_shared) and t >= own:
            for row in range(hidden):
                lanes = load(deltas, now + halo + row * LANES)
                grad_shared[(t - own) * hidden + row] = sum_lanes((lanes,))[0]
        if t % held == 0:
            count = min(held, steps - t)
            starts, strides = (halo, t * width * LANES), (size, width * LANES, min(held, own - t))
            if t < own:
                _add_outer(hidden, width, grad_ih, deltas, x, starts, strides)
            if len(grad_hh) and n < held:
                for row in range(0, hidden * LANES, channels * LANES):
                    starts, strides = (halo + row, t * size + row), (size, size, count)
                    _add_outer(channels, window, grad_hh, deltas, states, starts, strides)
            if len(grad_out):
                starts, strides = (t * outputs * LANES, after), (outputs * LANES, size, count)
                _add_outer(outputs, hidden, grad_out, grad_read, states, starts, strides)
    if len(grad_h_0):
        for site in range(n):
            row = site * channels * LANES
            windows = (0, channels, row, window)
            _products(channels, grad_h_0, row, kernel, deltas, NO_PRODUCT, kernel, deltas, windows)


@inlined
def _close_rings(states, start, size, halo):
    """Copy the ends of the rings of the state at `start` into its halo."""
    end = start + size
    states[start : start + halo] = states[end - 2 * halo : end - halo]
    states[end - halo : end] = states[start + halo : start + 2 * halo]


@inlined
def _activate(h, start, rows, activation):
    """Apply the activation to rows of lanes, in place."""
    for i in range(start, start + rows * LANES, LANES):
        if activation == RELU:
            lanes = load(h, i)
            store(h, i, (where_positive(lanes, lanes),))
        elif activation == TANH:
            for lane in range(i, i + LANES):
                h[lane] = np.tanh(h[lane])


@inlined
def _differentiate(deltas, start, h, first, rows, activation):
    """Multiply rows of deltas by the derivative of the activation whose value is h, in place."""
    for i in range(0, rows * LANES, LANES):
        if activation == RELU:
            lanes = where_positive(load(h, first + i), load(deltas, start + i))
            store(deltas, start + i, (lanes,))
        elif activation == TANH:
            for lane in range(i, i + LANES):
                deltas[start + lane] *= 1 - h[first + lane] ** 2


@inlined
def _clear(rows, start, count, used):
    """Set the lanes of rows that hold no sample to zero: a product with infinity is not."""
    if used < LANES:
        for i in range(start, start + count * LANES, LANES):
            rows[i + used : i + LANES] = 0


@inlined
def _exchange(tile, start, flat, first, stride, n, channels, used, outward):
    """Copy one step of a tile to or from `flat`, where each sample's units are neighbours."""
    # A ring has `length` units, in the tile `site` rows apart; rings of one unit are one of C.
    rings, length, site = (channels, n, channels) if n > 1 else (1, channels, 1)
    for ring in range(rings):
        near, far = start + ring * LANES, first + ring * length
        if used == LANES and length >= LANES:
            for block in range(0, length, LANES):
                unit = min(block, length - LANES)
                row = near + unit * site * LANES
                if outward:
                    transpose(tile, row, site * LANES, flat, far + unit, stride)
                else:
                    transpose(flat, far + unit, stride, tile, row, site * LANES)
        else:
            for lane in range(used):
                for unit in range(length):
                    row, place = near + unit * site * LANES + lane, far + lane * stride + unit
                    if outward:
                        flat[place] = tile[row]
                    else:
                        tile[row] = flat[place]


@inlined
def _add(deltas, start, grads, first, rows):
    """Add rows of lanes to deltas, in place."""
    for i in range(rows * LANES):
        deltas[start + i] += grads[first + i]


@inlined
def _products(rows, out, start, weights, factors, where, weights_2, factors_2, where_2):
    """Store a sum of two products of a matrix with lanes; every array is flat.

    With where = (weight, stride, factor, count), and likewise everything named _2, for q < rows:
    out[start + q, lanes] = sum_{j < count} weights[weight + j * stride + q] * factors[factor + j,
    lanes], where the index in front of `lanes` counts in steps of `LANES`, plus the second sum.
    """
    one = (zeros(out),)
    two = one + one
    for q in range(0, rows - 3, 4):
        sums = _add_products(two + two, q, weights, factors, where)
        store(out, start + q * LANES, _add_products(sums, q, weights_2, factors_2, where_2))
    if rows & 2:
        q = rows & ~3
        sums = _add_products(two, q, weights, factors, where)
        store(out, start + q * LANES, _add_products(sums, q, weights_2, factors_2, where_2))
    if rows & 1:
        q = rows - 1
        sums = _add_products(one, q, weights, factors, where)
        store(out, start + q * LANES, _add_products(sums, q, weights_2, factors_2, where_2))


@inlined
def _add_products(sums, q, weights, factors, where):
    """Add the products of row q and those behind it, as many as there are sums; see `_products`."""
    weight, stride, factor, count = where
    last = factor + count * LANES
    near = weight + q
    while factor < last:
        lanes = load(factors, factor)
        sums = add_multiples(sums, weights, near, lanes)
        factor += LANES
        near += stride
    return sums


@inlined
def _add_outer(rows, columns, grads, deltas, factors, starts, strides):
    """Add to grads (rows, columns), flat, what deltas and factors give summed over lanes and time.

    With starts = (delta, factor) and strides = (delta, factor, count): grads[q, r] += the sum over
    i < count and all lanes of deltas[delta + i * stride + q] * factors[factor + i * stride + r],
    where q and r count in steps of `LANES`.
    """
    delta, factor = starts
    one = (zeros(deltas),)
    three = one + one + one
    even, whole = rows - rows % 2, columns - columns % 3
    for q in range(0, even, 2):
        for r in range(0, whole, 3):
            near = (delta + q * LANES, factor + r * LANES)
            upper, lower = _outer((three, three), deltas, factors, near, strides)
            sums = sum_lanes(upper + lower)
            for i in range(3):
                grads[q * columns + r + i] += sums[i]
                grads[(q + 1) * columns + r + i] += sums[3 + i]
    for q in range(rows):
        for r in range(whole if q < even else 0, columns):
            near = (delta + q * LANES, factor + r * LANES)
            (single,) = _outer((one,), deltas, factors, near, strides)
            grads[q * columns + r] += sum_lanes(single)[0]


@inlined
def _outer(sums, deltas, factors, starts, strides):
    """Add a block of rows and columns, as large as there are sums; see `_add_outer`."""
    delta, factor = starts
    delta_stride, factor_stride, count = strides
    last = delta + count * delta_stride
    while delta < last:
        sums = add_outer_product(sums, deltas, delta, factors, factor)
        delta += delta_stride
        factor += factor_stride
    return sums


def _over_tiles(run, per_tile: tuple[Tensor, ...], shared: tuple[Tensor, ...], sizes: tuple):
    """Call `run` once for every tile with its part of each array, on as many threads as PyTorch."""
    flat = [tensor.flatten(1).numpy() for tensor in per_tile]
    rest = tuple(tensor.flatten().numpy() for tensor in shared)

    def run_tile(tile: int) -> None:
        run(tile, tuple(array[tile] for array in flat), rest, sizes)

    tiles = range(len(flat[0]))
    threads = min(torch.get_num_threads(), len(tiles))
    if threads == 1 or not threading.main_thread().is_alive():  # after which no thread can start
        for tile in tiles:
            run_tile(tile)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(run_tile, tiles):
            pass


def _flat(values: Tensor) -> Tensor:
    """Return the memory of a tensor in a row; strides lead from its first element to the others."""
    span = 1 + sum(
        (size - 1) * stride for size, stride in zip(values.shape, values.stride(), strict=True)
    )
    return values.as_strided((span if values.numel() else 0,), (1,))


def _with_rows(grad: Tensor) -> Tensor:
    """Return a gradient (T, B, hidden) with neighbouring units; what is expanded stays so."""
    if grad.stride(2) == 1 or not grad.numel():
        return grad
    once = [slice(1) if stride == 0 else slice(None) for stride in grad.stride()[:2]]
    return grad[tuple(once)].contiguous().expand(grad.shape)


def _to_tiles(values: Tensor, axis: int = 0) -> Tensor:
    """Turn an axis of B samples into tiles there and lanes at the end, filled up with zeros."""
    batch = values.shape[axis]
    values = F.pad(values.movedim(axis, -1), (0, -batch % LANES))
    return values.unflatten(-1, (-1, LANES)).movedim(-2, axis)


def _from_tiles(values: Tensor, batch: int, axis: int = 0) -> Tensor:
    """Reverse `_to_tiles` for the first `batch` samples."""
    return values.movedim(-1, axis + 1).flatten(axis, axis + 1).narrow(axis, 0, batch)


def _with_ones(x: Tensor) -> Tensor:
    """Return the input (T, B, d) as (tiles, T, d + 1, lanes), with ones that meet a bias."""
    return _to_tiles(F.pad(x, (0, 1), value=1.0), 1).transpose(0, 1).contiguous()


def _site_major(rows: Tensor, channels: int) -> Tensor:
    """Reorder rows from channel * n + site to site * C + channel."""
    return rows.unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1)


def _memory(role: str, like: Tensor, shape: tuple[int, ...], batch_first: bool = False) -> Tensor:
    """Return memory of a type, which may be that of an earlier call in the same role.

    Memory fresh from the system costs as much time as a third of the steps. It is handed on when
    its storage ends, that is when no tensor, view or graph refers to it any more, so results and
    graphs that are alive together never share it. With `batch_first` the second axis leads in
    memory. NumPy gives the shape, since a view that an operator returns can't be changed in place.
    """
    size = math.prod(shape)
    memory = _spare.pop(role, None)
    if memory is None or memory.dtype != like.dtype or not size <= len(memory) <= 2 * size:
        memory = like.new_empty(size)
    if batch_first:
        array = memory.numpy()[:size].reshape(shape[1], shape[0], *shape[2:]).swapaxes(0, 1)
    else:
        array = memory.numpy()[:size].reshape(shape)
    # The storage of what is returned holds the array.
    weakref.finalize(array, _spare.__setitem__, role, memory).atexit = False
    return torch.from_numpy(array)
