"""The fused kernels in Triton: one program carries one sample through all steps (equation 2).

A slot holds one state of one sample: every ring with a halo of K // 2 sites at both ends, so that
what reaches a site is read without a wrap around. Slots are (T + 1, B, slot). A state is stored,
since the backward pass needs it, and loaded again shifted; only the program that stored it does so,
after a barrier. In the backward pass delta_t, the gradient at the argument of the activation, takes
the place of h_t.

Each kernel has two ways to make a step. The wide one keeps a slot as (n + K - 1, P), channels
innermost and padded to P: the K sites that reach a site are K * P neighbours in memory, and a step
is one product with them, or two where powers of two, which Triton asks for, would mostly pad one:
of WINDOW neighbours and of the REST. The narrow one is for few channels, where such a product is
mostly padding: a slot is (C, n + K - 1), a thread has one site and C / GROUPS of its channels.

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
    if INPUTS <= 0:
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
    """Load what reaches the sites: the neighbours `tap` of each, in the wide layout."""
    return tl.load(slot + site * P + tap, mask=(site < n) & (tap < K * P) & when, other=0.0)


@triton.jit
def _parts(kernel, WINDOW: tl.constexpr, REST: tl.constexpr, WIDTH: tl.constexpr):
    """Load the wide kernel, (WINDOW + REST, WIDTH), in its one or two parts."""
    channel = tl.arange(0, WIDTH)[None, :]
    u = (tl.load(kernel + tl.arange(0, WINDOW)[:, None] * WIDTH + channel),)  # type: tuple
    if REST:
        tap = tl.arange(0, REST)[:, None] + WINDOW
        u += (tl.load(kernel + tap * WIDTH + channel),)
    return u


@triton.jit
def _product(
    slot,
    site,
    u,
    total,
    when,
    n: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    WINDOW: tl.constexpr,
    REST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add to (BLOCK, WIDTH) the product of what reaches the sites with the wide kernel."""
    window = _window(slot, site, tl.arange(0, WINDOW)[None, :], when, n, P, K)
    total = tl.dot(window, u[0], total, input_precision=PRECISION)
    if REST:
        window = _window(slot, site, tl.arange(0, REST)[None, :] + WINDOW, when, n, P, K)
        total = tl.dot(window, u[1], total, input_precision=PRECISION)
    return total


@triton.jit
def _near(slot, i, everywhere, when, n: tl.constexpr, K: tl.constexpr):
    """Load tap i % K of channel i // K at every site, in the narrow layout."""
    place = slot + i // K * (n + K - 1) + i % K + everywhere
    return tl.load(place, mask=(everywhere < n) & when, other=0.0)


@triton.jit(**RUN)
def forward(
    states,  # (T + 1, B, slot), or (2, B, slot) where states are not kept
    h_0,  # (B, C, n)
    kernel,  # (C, C, K), or (WINDOW + REST, WIDTH): row tap * P + c_in, column c_out
    x,  # (T, B, INPUTS), or (T, B) int32 where INPUTS is -1
    weight_ih,  # (INPUTS, slot)
    bias,  # (slot,), both biases
    shared,  # V x_t + b where several samples have the same, (T - own, slot) or (values, slot)
    steps,
    batch,
    own,  # steps before x is the same for every sample
    n: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    INPUTS: tl.constexpr,  # 0: slot t + 1 or `shared` hold V x_t + b; -1: row x of `shared` does
    KEEP: tl.constexpr,  # whether to keep every state
    NONLINEARITY: tl.constexpr,
    GROUPS: tl.constexpr,  # 0: wide
    P: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    WINDOW: tl.constexpr,
    REST: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Carry one sample through all steps."""
    ring: tl.constexpr = n + K - 1
    row: tl.constexpr = ring * P
    share: tl.constexpr = WIDTH  # channels of a thread
    numbers: tl.constexpr = 1 if INPUTS < 0 else INPUTS
    sample = tl.program_id(0).to(tl.int64)
    stride = batch.to(tl.int64) * row
    before = states + sample * row
    h_0 += sample * (C * n)
    x += sample * numbers
    if GROUPS:
        site = tl.arange(0, BLOCK)[None, :]
        group = tl.arange(0, GROUPS)[:, None] * share
        everywhere = site + group * 0  # (GROUPS, BLOCK)
        u = ()  # type: tuple
        for j in tl.static_range(share):
            channel = group + j
            inside = (site < n) & (channel < C)
            h = tl.load(h_0 + channel * n + site, mask=inside, other=0.0)
            _store_ring(before + channel * ring + site + K // 2, h, site, inside, n, K, 1)
            for i in tl.static_range(C * K):
                u += (tl.load(kernel + channel * (C * K) + i + site * 0, mask=inside, other=0.0),)
    else:
        channel = tl.arange(0, WIDTH)[None, :]
        for tile in range(TILES):
            site = tl.arange(0, BLOCK)[:, None] + tile * BLOCK
            inside = (site < n) & (channel < C)
            h = tl.load(h_0 + channel * n + site, mask=inside, other=0.0)
            inside = (site < n) & (channel < P)
            _store_ring(before + (site + K // 2) * P + channel, h, site, inside, n, K, P)
        u = _parts(kernel, WINDOW, REST, WIDTH)
    tl.debug_barrier()
    t = 0
    while t < steps:
        after = before + stride
        waiting = after
        if INPUTS < 0:
            waiting = shared + tl.load(x).to(tl.int64) * row
        elif t >= own:
            waiting = shared + (t - own).to(tl.int64) * row
        if GROUPS:
            window = ()  # type: tuple
            for i in tl.static_range(C * K):
                window += (_near(before, i, everywhere, True, n, K),)
            states_t = ()  # type: tuple
            for j in tl.static_range(share):
                inside = (site < n) & (group + j < C)
                offset = (group + j) * ring + site + K // 2
                h = _drive(waiting, offset, x, weight_ih, bias, inside, row, INPUTS)
                for i in tl.static_range(C * K):
                    h += u[j * C * K + i] * window[i]
                states_t += (_activate(h, NONLINEARITY),)
            for j in tl.static_range(share):
                inside = (site < n) & (group + j < C)
                place = after + (group + j) * ring + site + K // 2
                _store_ring(place, states_t[j], site, inside, n, K, 1)
        else:
            for tile in range(TILES):
                site = tl.arange(0, BLOCK)[:, None] + tile * BLOCK
                inside = (site < n) & (channel < P)
                offset = (site + K // 2) * P + channel
                h = _drive(waiting, offset, x, weight_ih, bias, inside, row, INPUTS)
                h = _product(before, site, u, h, True, n, P, K, WINDOW, REST, PRECISION)
                _store_ring(after + offset, _activate(h, NONLINEARITY), site, inside, n, K, P)
        tl.debug_barrier()
        before = after
        if not KEEP:
            stride = -stride
        x += batch.to(tl.int64) * numbers
        t += 1


@triton.jit(**RUN)
def backward(
    states,  # (T + 1, B, slot); from slot 1 on delta takes the place of h
    kernel,  # as forward's, with C in and C out exchanged and taps reversed
    grad_last,  # (B, C, n), wide: (B, slot)
    grad_output,  # (T, B, OUTPUTS), or for OUTPUTS = -1 (T, B, C, n), wide: (T, B, slot)
    weight_out,  # (OUTPUTS, slot)
    grad_kernel,  # (B, ...) as kernel, one sum per sample
    steps,
    batch,
    n: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    OUTPUTS: tl.constexpr,  # how many are read out at every step; 0: none, -1: the states are
    NEEDS_KERNEL: tl.constexpr,  # whether to compute grad_kernel
    NONLINEARITY: tl.constexpr,
    GROUPS: tl.constexpr,  # 0: wide
    P: tl.constexpr,
    BLOCK: tl.constexpr,
    TILES: tl.constexpr,
    WINDOW: tl.constexpr,
    REST: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Carry the gradient of one sample back through all steps."""
    ring: tl.constexpr = n + K - 1
    row: tl.constexpr = ring * P
    share: tl.constexpr = WIDTH  # channels of a thread
    numbers: tl.constexpr = C * n if GROUPS else row  # of a gradient at all of a state
    outputs: tl.constexpr = numbers if OUTPUTS < 0 else OUTPUTS
    sample = tl.program_id(0).to(tl.int64)
    stride = batch.to(tl.int64) * row
    now = states + sample * row + stride * steps
    grad_stride = batch.to(tl.int64) * outputs
    grad_output += sample * outputs + grad_stride * (steps - 1)
    grad_last += sample * numbers
    grad_u = ()  # type: tuple
    if GROUPS:
        grad_kernel += sample * (C * C * K)
        site = tl.arange(0, BLOCK)[None, :]
        group = tl.arange(0, GROUPS)[:, None] * share
        everywhere = site + group * 0  # (GROUPS, BLOCK)
        for _ in tl.static_range(share * C * K):
            grad_u += (tl.zeros((GROUPS, BLOCK), tl.float32),)
    else:
        grad_kernel += sample * ((WINDOW + REST) * WIDTH)
        channel = tl.arange(0, WIDTH)[None, :]
        tap = tl.arange(0, WINDOW)[:, None]
        u = _parts(kernel, WINDOW, REST, WIDTH)
        grad_u += (tl.zeros((WINDOW, WIDTH), tl.float32),)
        if REST:
            rest = tl.arange(0, REST)[:, None] + WINDOW
            grad_u += (tl.zeros((REST, WIDTH), tl.float32),)
    t = steps - 1
    while t >= 0:
        is_last = t == steps - 1
        if GROUPS:
            deltas = ()  # type: tuple
            for j in tl.static_range(share):
                index = (group + j) * n + site
                offset = (group + j) * ring + site + K // 2
                inside = (site < n) & (group + j < C)
                above = (grad_last, grad_output, weight_out, index, offset, inside, is_last)
                deltas += (_grad_above(*above, row, OUTPUTS),)
            for i in tl.static_range(C * K):
                later = _near(now + stride, i, everywhere, t < steps - 1, n, K)
                sums = ()  # type: tuple
                for j in tl.static_range(share):
                    place = kernel + (group + j) * (C * K) + i  # in registers it would not fit
                    u = tl.load(place, mask=group + j < C, other=0.0)
                    sums += (deltas[j] + u * later,)
                deltas = sums
            sums = ()
            for j in tl.static_range(share):
                inside = (site < n) & (group + j < C)
                place = now + (group + j) * ring + site + K // 2
                h = tl.load(place, mask=inside, other=0.0)
                delta = _through_activation(deltas[j], h, NONLINEARITY)
                _store_ring(place, delta, site, inside, n, K, 1)
                sums += (delta,)
            deltas = sums
            sums = ()
            if NEEDS_KERNEL:
                for i in tl.static_range(C * K):
                    before = _near(now - stride, i, everywhere, True, n, K)
                    for j in tl.static_range(share):
                        sums += (grad_u[i * share + j] + deltas[j] * before,)
            if NEEDS_KERNEL:
                grad_u = sums
        else:
            for tile in range(TILES):
                site = tl.arange(0, BLOCK)[:, None] + tile * BLOCK
                inside = (site < n) & (channel < P)
                offset = (site + K // 2) * P + channel
                above = (grad_last, grad_output, weight_out, offset, offset, inside, is_last)
                delta = _grad_above(*above, row, OUTPUTS)
                later = t < steps - 1
                delta = _product(
                    now + stride, site, u, delta, later, n, P, K, WINDOW, REST, PRECISION
                )
                h = tl.load(now + offset, mask=inside, other=0.0)
                delta = _through_activation(delta, h, NONLINEARITY)
                _store_ring(now + offset, delta, site, inside, n, K, P)
                if NEEDS_KERNEL:
                    sites = tl.arange(0, BLOCK)[None, :] + tile * BLOCK
                    window = _window(now - stride, sites, tap, True, n, P, K)
                    sums = (tl.dot(window, delta, grad_u[0], input_precision=PRECISION),)
                    if REST:
                        window = _window(now - stride, sites, rest, True, n, P, K)
                        sums += (tl.dot(window, delta, grad_u[1], input_precision=PRECISION),)
                    grad_u = sums
        tl.debug_barrier()
        now -= stride
        grad_output -= grad_stride
        t -= 1
    if NEEDS_KERNEL:
        if GROUPS:
            for j in tl.static_range(share):
                channels = tl.arange(0, GROUPS) * share + j
                for i in tl.static_range(C * K):
                    total = tl.sum(grad_u[i * share + j], 1)
                    tl.store(grad_kernel + channels * (C * K) + i, total, mask=channels < C)
        else:
            tl.store(grad_kernel + tap * WIDTH + channel, grad_u[0])
            if REST:
                tl.store(grad_kernel + rest * WIDTH + channel, grad_u[1])
