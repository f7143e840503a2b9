"""The fused kernels in Triton: one program carries one sample through all steps (equation 2).

A slot holds one state of one sample: every ring with a halo of K // 2 sites at both ends, so that
what reaches a site is read without a wrap around. Slots are (T + 1, B, slot). A state is stored,
since the backward pass needs it, and loaded again shifted; only the program that stored it does so,
after a barrier. In the backward pass delta_t, the gradient at the argument of the activation, takes
the place of h_t.

There are two pairs of kernels. `forward_wide` and `backward_wide` keep a slot as (n + K - 1, P),
channels innermost and padded to P: the K sites that reach a site are K * P neighbours in memory,
and one load and one product make a step. `forward_narrow` and `backward_narrow` are for few
channels, where such a product is mostly padding: a slot is (C, n + K - 1), a thread has one site
and C / GROUPS of its channels, and keeps its part of the kernel in registers.

Pointers step through time in 64 bits, so that T * B * slot may pass 2^31.
"""

import triton
import triton.language as tl

# Not specialised: other lengths and batches compile nothing new.
RUN = {"do_not_specialize": ("steps", "batch", "own"), "do_not_specialize_on_alignment": ("x",)}


@triton.jit
def _activate(h, NONLINEARITY: tl.constexpr):
    """Apply the nonlinearity; tanh is exact where exp(2 h) would overflow."""
    if NONLINEARITY == "relu":
        h = tl.where(h < 0.0, 0.0, h)
    elif NONLINEARITY == "tanh":
        decay = tl.exp(-2.0 * tl.abs(h))
        size = (1.0 - decay) / (1.0 + decay)
        h = tl.where(h < 0.0, -size, size)
    return h


@triton.jit
def _through_activation(grad, h, NONLINEARITY: tl.constexpr):
    """Turn the gradient at h into that at the argument of the nonlinearity."""
    if NONLINEARITY == "relu":
        grad = tl.where(h <= 0.0, 0.0, grad)
    elif NONLINEARITY == "tanh":
        grad = grad * (1.0 - h * h)
    return grad


@triton.jit
def _store_ring(place, value, site, inside, n: tl.constexpr, K: tl.constexpr, SITE: tl.constexpr):
    """Store values at their places in a slot, and the ends of a ring in its halo as well."""
    tl.store(place, value, mask=inside)
    tl.store(place + n * SITE, value, mask=inside & (site < K // 2))
    tl.store(place - n * SITE, value, mask=inside & (site >= n - K // 2))


@triton.jit
def _drive(waiting, offset, x, weight_ih, bias, inside, row: tl.constexpr, INPUTS: tl.constexpr):
    """Return V x_t + b: from where it waits, or for one or two inputs computed here."""
    if INPUTS == 0:
        drive = tl.load(waiting + offset, mask=inside, other=0.0)
    else:
        drive = tl.load(bias + offset, mask=inside, other=0.0)
        for i in tl.static_range(INPUTS):
            v = tl.load(weight_ih + i * row + offset, mask=inside, other=0.0)
            drive += v * tl.load(x + i)
    return drive


@triton.jit
def _grad_above(
    grad_last,  # at index
    grad_output,  # at index, or (OUTPUTS,)
    weight_out,  # (OUTPUTS, slot)
    index,
    offset,
    inside,
    is_last,
    row: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """Return the gradient at h_t that does not come through h_{t+1}."""
    grad = tl.load(grad_last + index, mask=inside & is_last, other=0.0)
    if OUTPUTS < 0:
        grad += tl.load(grad_output + index, mask=inside, other=0.0)
    for i in tl.static_range(OUTPUTS):
        w = tl.load(weight_out + i * row + offset, mask=inside, other=0.0)
        grad += w * tl.load(grad_output + i)
    return grad


@triton.jit
def _window(slot, site, tap, when, n: tl.constexpr, P: tl.constexpr, K: tl.constexpr):
    """Load what reaches the sites: K * P neighbours each, in the wide layout."""
    return tl.load(slot + site * P + tap, mask=(site < n) & (tap < K * P) & when, other=0.0)


@triton.jit(**RUN)
def forward_wide(
    states,  # (T + 1, B, slot), or (2, B, slot) where states are not kept
    h_0,  # (B, C, n)
    kernel,  # (WINDOW, WIDTH): row tap * P + c_in, column c_out; zero where padded
    x,  # (T, B, INPUTS)
    weight_ih,  # (INPUTS, slot)
    bias,  # (slot,), both biases
    shared,  # (T - own, slot): V x_t + b where it is the same for every sample
    steps,
    batch,
    own,  # steps before that
    n: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    INPUTS: tl.constexpr,  # 0: slot t + 1 holds V x_t + b, or `shared` does
    KEEP: tl.constexpr,  # whether to keep every state
    NONLINEARITY: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    WINDOW: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Carry one sample through all steps, with one product for each tile of sites."""
    row: tl.constexpr = (n + K - 1) * P
    sample = tl.program_id(0).to(tl.int64)
    stride = batch.to(tl.int64) * row
    before = states + sample * row
    tap = tl.arange(0, WINDOW)[None, :]
    channel = tl.arange(0, WIDTH)[None, :]
    for tile in range(TILES):
        site = tl.arange(0, BLOCK)[:, None] + tile * BLOCK
        inside = (site < n) & (channel < C)
        h = tl.load(h_0 + sample * (C * n) + channel * n + site, mask=inside, other=0.0)
        place = before + (site + K // 2) * P + channel
        _store_ring(place, h, site, (site < n) & (channel < P), n, K, P)
    tl.debug_barrier()
    u = tl.load(kernel + tl.arange(0, WINDOW)[:, None] * WIDTH + channel)  # (WINDOW, WIDTH)
    x += sample * INPUTS
    t = 0
    while t < steps:
        after = before + stride
        waiting = after
        if t >= own:
            waiting = shared + (t - own).to(tl.int64) * row
        for tile in range(TILES):
            site = tl.arange(0, BLOCK)[:, None] + tile * BLOCK
            inside = (site < n) & (channel < P)
            offset = (site + K // 2) * P + channel
            window = _window(before, site, tap, True, n, P, K)  # (BLOCK, WINDOW)
            drive = _drive(waiting, offset, x, weight_ih, bias, inside, row, INPUTS)
            h = tl.dot(window, u, drive, input_precision=PRECISION)  # (BLOCK, WIDTH)
            _store_ring(after + offset, _activate(h, NONLINEARITY), site, inside, n, K, P)
        tl.debug_barrier()
        before = after
        if not KEEP:
            stride = -stride
        x += batch.to(tl.int64) * INPUTS
        t += 1


@triton.jit(**RUN)
def backward_wide(
    states,  # (T + 1, B, slot); from slot 1 on delta takes the place of h
    kernel,  # (WINDOW, WIDTH): row tap * P + c_out, column c_in, taps reversed
    grad_last,  # (B, slot)
    grad_output,  # (T, B, slot) or (T, B, OUTPUTS)
    weight_out,  # (OUTPUTS, slot)
    grad_kernel,  # (B, WINDOW, WIDTH), one sum per sample
    steps,
    batch,
    n: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    OUTPUTS: tl.constexpr,  # how many are read out at every step; 0: none, -1: the states are
    NEEDS_KERNEL: tl.constexpr,  # whether to compute grad_kernel
    NONLINEARITY: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    WINDOW: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Carry the gradient of one sample back through all steps."""
    row: tl.constexpr = (n + K - 1) * P
    outputs: tl.constexpr = row if OUTPUTS < 0 else OUTPUTS
    sample = tl.program_id(0).to(tl.int64)
    stride = batch.to(tl.int64) * row
    now = states + sample * row + stride * steps
    grad_stride = batch.to(tl.int64) * outputs
    grad_output += sample * outputs + grad_stride * (steps - 1)
    grad_last += sample * row
    tap = tl.arange(0, WINDOW)[None, :]
    tap_column = tl.arange(0, WINDOW)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    u = tl.load(kernel + tap_column * WIDTH + channel)  # (WINDOW, WIDTH)
    grad_u = tl.zeros((WINDOW, WIDTH), tl.float32)
    t = steps - 1
    while t >= 0:
        is_last = t == steps - 1
        for tile in range(TILES):
            site = tl.arange(0, BLOCK)[:, None] + tile * BLOCK
            inside = (site < n) & (channel < P)
            offset = (site + K // 2) * P + channel
            window = _window(now + stride, site, tap, t < steps - 1, n, P, K)  # (BLOCK, WINDOW)
            grad = _grad_above(
                grad_last,
                grad_output,
                weight_out,
                offset,
                offset,
                inside,
                is_last,
                row,
                OUTPUTS,
            )
            grad = tl.dot(window, u, grad, input_precision=PRECISION)  # (BLOCK, WIDTH)
            h = tl.load(now + offset, mask=inside, other=0.0)
            grad = _through_activation(grad, h, NONLINEARITY)
            _store_ring(now + offset, grad, site, inside, n, K, P)
            if NEEDS_KERNEL:
                sites = tl.arange(0, BLOCK)[None, :] + tile * BLOCK
                window = _window(now - stride, sites, tap_column, True, n, P, K)
                grad_u = tl.dot(window, grad, grad_u, input_precision=PRECISION)  # (WINDOW, WIDTH)
        tl.debug_barrier()
        now -= stride
        grad_output -= grad_stride
        t -= 1
    if NEEDS_KERNEL:
        tl.store(grad_kernel + (sample * WINDOW + tap_column) * WIDTH + channel, grad_u)


@triton.jit(**RUN)
def forward_narrow(
    states,  # (T + 1, B, slot), or (2, B, slot) where states are not kept
    h_0,  # (B, C, n)
    kernel,  # (C, C, K)
    x,  # (T, B, INPUTS)
    weight_ih,  # (INPUTS, slot)
    bias,  # (slot,), both biases
    shared,  # (T - own, slot): V x_t + b where it is the same for every sample
    steps,
    batch,
    own,  # steps before that
    n: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    INPUTS: tl.constexpr,  # 0: slot t + 1 holds V x_t + b, or `shared` does
    KEEP: tl.constexpr,  # whether to keep every state
    NONLINEARITY: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Carry one sample through all steps, with the kernel in registers."""
    ring: tl.constexpr = n + K - 1
    row: tl.constexpr = C * ring
    share: tl.constexpr = (C + GROUPS - 1) // GROUPS  # channels of a thread
    sample = tl.program_id(0).to(tl.int64)
    stride = batch.to(tl.int64) * row
    before = states + sample * row
    site = tl.arange(0, BLOCK)[None, :]
    group = tl.arange(0, GROUPS)[:, None] * share
    everywhere = site + group * 0  # (GROUPS, BLOCK)
    u = ()
    for j in tl.static_range(share):
        channel = group + j
        inside = (site < n) & (channel < C)
        h = tl.load(h_0 + sample * (C * n) + channel * n + site, mask=inside, other=0.0)
        _store_ring(before + channel * ring + site + K // 2, h, site, inside, n, K, 1)
        for i in tl.static_range(C * K):
            u += (tl.load(kernel + channel * (C * K) + i + site * 0, mask=inside, other=0.0),)
    tl.debug_barrier()
    x += sample * INPUTS
    t = 0
    while t < steps:
        after = before + stride
        waiting = after
        if t >= own:
            waiting = shared + (t - own).to(tl.int64) * row
        window = ()
        for i in tl.static_range(C * K):
            place = before + i // K * ring + i % K + everywhere
            window += (tl.load(place, mask=everywhere < n, other=0.0),)
        states_t = ()
        for j in tl.static_range(share):
            channel = group + j
            inside = (site < n) & (channel < C)
            offset = channel * ring + site + K // 2
            h = _drive(waiting, offset, x, weight_ih, bias, inside, row, INPUTS)
            for i in tl.static_range(C * K):
                h += u[j * C * K + i] * window[i]
            states_t += (_activate(h, NONLINEARITY),)
        for j in tl.static_range(share):
            channel = group + j
            inside = (site < n) & (channel < C)
            offset = channel * ring + site + K // 2
            _store_ring(after + offset, states_t[j], site, inside, n, K, 1)
        tl.debug_barrier()
        before = after
        if not KEEP:
            stride = -stride
        x += batch.to(tl.int64) * INPUTS
        t += 1


@triton.jit(**RUN)
def backward_narrow(
    states,  # (T + 1, B, slot); from slot 1 on delta takes the place of h
    kernel,  # (C, C, K): c_in, c_out, taps reversed
    grad_last,  # (B, C, n)
    grad_output,  # (T, B, C, n) or (T, B, OUTPUTS)
    weight_out,  # (OUTPUTS, slot)
    grad_kernel,  # (B, C, C, K), one sum per sample
    steps,
    batch,
    n: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    OUTPUTS: tl.constexpr,  # how many are read out at every step; 0: none, -1: the states are
    NEEDS_KERNEL: tl.constexpr,  # whether to compute grad_kernel
    NONLINEARITY: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Carry the gradient of one sample back through all steps, with the kernel in registers."""
    ring: tl.constexpr = n + K - 1
    row: tl.constexpr = C * ring
    share: tl.constexpr = (C + GROUPS - 1) // GROUPS  # channels of a thread
    outputs: tl.constexpr = C * n if OUTPUTS < 0 else OUTPUTS
    sample = tl.program_id(0).to(tl.int64)
    stride = batch.to(tl.int64) * row
    now = states + sample * row + stride * steps
    grad_stride = batch.to(tl.int64) * outputs
    grad_output += sample * outputs + grad_stride * (steps - 1)
    grad_last += sample * (C * n)
    site = tl.arange(0, BLOCK)[None, :]
    group = tl.arange(0, GROUPS)[:, None] * share
    everywhere = site + group * 0  # (GROUPS, BLOCK)
    u = ()
    grad_u = ()
    for j in tl.static_range(share):
        for i in tl.static_range(C * K):
            address = kernel + (group + j) * (C * K) + i + site * 0
            u += (tl.load(address, mask=(site < n) & (group + j < C), other=0.0),)
            grad_u += (tl.zeros((GROUPS, BLOCK), tl.float32),)
    t = steps - 1
    while t >= 0:
        is_last = t == steps - 1
        deltas = ()
        for j in tl.static_range(share):
            channel = group + j
            deltas += (
                _grad_above(
                    grad_last,
                    grad_output,
                    weight_out,
                    channel * n + site,
                    channel * ring + site + K // 2,
                    (site < n) & (channel < C),
                    is_last,
                    row,
                    OUTPUTS,
                ),
            )
        for i in tl.static_range(C * K):
            place = now + stride + i // K * ring + i % K + everywhere
            later = tl.load(place, mask=(everywhere < n) & (t < steps - 1), other=0.0)
            sums = ()
            for j in tl.static_range(share):
                sums += (deltas[j] + u[j * C * K + i] * later,)
            deltas = sums
        before = ()
        if NEEDS_KERNEL:
            for i in tl.static_range(C * K):
                place = now - stride + i // K * ring + i % K + everywhere
                before += (tl.load(place, mask=everywhere < n, other=0.0),)
        sums = ()
        for j in tl.static_range(share):
            channel = group + j
            inside = (site < n) & (channel < C)
            place = now + channel * ring + site + K // 2
            h = tl.load(place, mask=inside, other=0.0)
            delta = _through_activation(deltas[j], h, NONLINEARITY)
            _store_ring(place, delta, site, inside, n, K, 1)
            if NEEDS_KERNEL:
                for i in tl.static_range(C * K):
                    sums += (grad_u[j * C * K + i] + delta * before[i],)
        if NEEDS_KERNEL:
            grad_u = sums
        tl.debug_barrier()
        now -= stride
        grad_output -= grad_stride
        t -= 1
    if NEEDS_KERNEL:
        for j in tl.static_range(share):
            channel = tl.arange(0, GROUPS) * share + j
            for i in tl.static_range(C * K):
                place = grad_kernel + (sample * C + channel) * (C * K) + i
                tl.store(place, tl.sum(grad_u[j * C * K + i], 1), mask=channel < C)
