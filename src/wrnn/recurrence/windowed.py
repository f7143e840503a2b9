"""The fast way on a CPU: one batched matrix product per step, and a backward pass by hand.

A state is kept as (n + K - 1, C, B): sites outermost, every ring with a halo of K // 2 sites at
both ends, the batch innermost. The K sites that reach a site are then neighbours in memory, so the
overlapping windows (n, K * C, B) are a strided view of the state, and the circular convolution of
equation 2 (section 2 of the paper) is one batched product without a copy. The input layer is one
product straight into the memory that the state will take.
"""

import weakref

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ACTIVATE_ = {"relu": torch.relu_, "tanh": torch.tanh_, "identity": lambda h: h}
_spare: list[Tensor] = []


def windowed(
    x: Tensor,
    h_0: Tensor,
    weight_ih: Tensor,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    weight_out: Tensor | None,
    nonlinearity: str,
    last_only: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """Run the recurrence over time; arguments and results are those of `loop.step_loop`.

    Where a gradient is needed all states are kept, otherwise two. It can be differentiated once.
    """
    tensors = (x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out)
    channels = len(weight_hh)
    if channels > 16 and channels % 4 == 3:  # one silent channel more is faster: 28 for 27
        output, h_n = windowed(*_one_channel_more(*tensors), nonlinearity, last_only)
        if output is not None and weight_out is None:
            output = output[..., : len(weight_ih)]
        return output, h_n[:, : len(weight_ih)]
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Windowed.apply(*tensors, nonlinearity, last_only)
    two_states = _empty(x, 2, len(weight_ih), weight_hh)
    return _forward(two_states, *tensors, nonlinearity, last_only)


def _one_channel_more(x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out):
    """Add a channel that is zero and stays zero."""
    n = len(weight_ih) // len(weight_hh)
    return (
        x,
        F.pad(h_0, (0, n)),
        F.pad(weight_ih, (0, 0, 0, n)),
        None if bias_ih is None else F.pad(bias_ih, (0, n)),
        F.pad(weight_hh, (0, 0, 0, 1, 0, 1)),
        None if bias_hh is None else F.pad(bias_hh, (0, 1)),
        None if weight_out is None else F.pad(weight_out, (0, n)),
    )


class _States:
    """Views of padded states (slots, n + K - 1, C, B), one of each kind for every slot."""

    def __init__(self, padded: Tensor, kernel_size: int):
        slots, padded_size, channels, batch = padded.shape
        reach = kernel_size // 2
        n = padded_size - 2 * reach
        inside = padded[:, reach : reach + n]
        windows = padded.as_strided((slots, n, kernel_size * channels, batch), padded.stride())
        self.inside = inside.unbind()  # (n, C, B) each
        self.rows = inside.flatten(1, 2).unbind()  # (n * C, B) each
        self.windows = windows.unbind()  # (n, K * C, B) each
        ends = (padded[:, n : n + reach], padded[:, reach : 2 * reach])
        halos = (padded[:, :reach], padded[:, reach + n :])
        self.halos = [(h.unbind(), e.unbind()) for h, e in zip(halos, ends, strict=True) if reach]

    def put(self, slot: int, h: Tensor) -> None:
        """Write a state (B, hidden) into a slot, without its halo."""
        n, channels, batch = self.inside[slot].shape
        self.inside[slot].copy_(h.view(batch, channels, n).permute(2, 1, 0))

    def close_rings(self, slot: int) -> None:
        """Copy the ends of the rings into the halo."""
        for halo, end in self.halos:
            halo[slot].copy_(end[slot])


def _forward(
    padded, x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, nonlinearity, last_only
):
    """Compute every step in `padded`, whose slots are used in turn."""
    channels, _, kernel_size = weight_hh.shape
    steps, batch, _ = x.shape
    n = len(weight_ih) // channels
    states = _States(padded, kernel_size)
    stencil = _stencil(weight_hh, n)
    weight = _site_major(weight_ih, channels)  # (n * C, d)
    bias = weight.new_zeros(len(weight), 1)
    if bias_ih is not None:
        bias += _site_major(bias_ih, channels).unsqueeze(1)
    if bias_hh is not None:
        bias += bias_hh.repeat(n).unsqueeze(1)
    if last_only:
        output = None
    elif weight_out is None:
        output = x.new_empty(steps, batch, channels, n)
    else:
        readout = _site_major(weight_out.t(), channels).t()  # (out, n * C)
        output = x.new_empty(steps, len(weight_out), batch)
    activate_ = ACTIVATE_[nonlinearity]
    states.put(0, h_0)
    states.close_rings(0)
    for t, x_t in enumerate(x.transpose(1, 2).unbind()):  # (d, B)
        before, after = t % len(padded), (t + 1) % len(padded)
        torch.addmm(bias, weight, x_t, out=states.rows[after])
        h = states.inside[after]  # (n, C, B)
        h.baddbmm_(stencil, states.windows[before])
        activate_(h)
        states.close_rings(after)
        if last_only:
            continue
        if weight_out is None:
            output[t].copy_(h.permute(2, 1, 0))
        else:
            torch.mm(readout, states.rows[after], out=output[t])
    if not last_only:
        output = output.flatten(-2) if weight_out is None else output.transpose(1, 2)
    return output, h.permute(2, 1, 0).reshape(batch, -1)


class _Windowed(torch.autograd.Function):
    """The recurrence with its backward pass: a flipped and transposed kernel over windows of delta.

    delta_t is the gradient at the argument of the activation of step t; two slots hold it.
    """

    @staticmethod
    def forward(
        ctx, x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, nonlinearity, last_only
    ):
        padded = _empty(x, len(x) + 1, len(weight_ih), weight_hh, reuse=True)
        ctx.save_for_backward(x, weight_ih, weight_hh, weight_out, padded)
        ctx.nonlinearity = nonlinearity
        ctx.set_materialize_grads(False)
        tensors = (x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out)
        return _forward(padded, *tensors, nonlinearity, last_only)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output, grad_h_n):
        x, weight_ih, weight_hh, weight_out, padded = ctx.saved_tensors
        needs_x, needs_h_0, *needs_ih, needs_hh, needs_bias_hh, needs_out, _, _ = (
            ctx.needs_input_grad
        )
        channels, _, kernel_size = weight_hh.shape
        steps, batch, input_size = x.shape
        hidden = len(weight_ih)
        n = hidden // channels

        states = _States(padded, kernel_size)
        deltas = _States(_empty(x, 2, hidden, weight_hh), kernel_size)
        stencil = _stencil(weight_hh.transpose(0, 1).flip(2), n)
        weight = _site_major(weight_ih, channels).t()  # (d, n * C)
        ones = x.new_ones(1, 1, 1).expand(steps, 1, batch)
        inputs = torch.cat((x.transpose(1, 2), ones), 1).unbind()  # (d + 1, B) each
        grad_x = x.new_empty(steps, input_size, batch) if needs_x else None
        grad_ih = x.new_zeros(input_size + 1, hidden)  # the last row is the gradient of a bias
        grad_hh = x.new_zeros(n, channels, kernel_size * channels)  # per site, summed at the end
        if weight_out is not None:
            readout = _site_major(weight_out.t(), channels)  # (n * C, out)
            grad_out = x.new_zeros(len(weight_out), hidden)
        for t in reversed(range(steps)):
            now, later = t % 2, (t + 1) % 2
            delta = deltas.inside[now]  # (n, C, B)
            if t == steps - 1:
                delta.zero_() if grad_h_n is None else deltas.put(now, grad_h_n)
            else:
                torch.bmm(stencil, deltas.windows[later], out=delta)
            if grad_output is not None and weight_out is None:
                delta += grad_output[t].view(batch, channels, n).permute(2, 1, 0)
            elif grad_output is not None:
                deltas.rows[now].addmm_(readout, grad_output[t].t())
                if needs_out:
                    grad_out.addmm_(grad_output[t].t(), states.rows[t + 1].t())
            _differentiate_(delta, states.inside[t + 1], ctx.nonlinearity)
            deltas.close_rings(now)
            if needs_hh:
                grad_hh.baddbmm_(delta, states.windows[t].transpose(1, 2))
            if any(needs_ih) or needs_bias_hh:
                grad_ih.addmm_(inputs[t], deltas.rows[now].t())
            if needs_x:
                torch.mm(weight, deltas.rows[now], out=grad_x[t])

        grad_bias = grad_ih[-1].view(n, channels)
        by_channel = grad_ih.view(-1, n, channels).transpose(1, 2).flatten(1)  # (d + 1, hidden)
        grad_h_0 = torch.bmm(stencil, deltas.windows[0]) if needs_h_0 else None  # (n, C, B)
        grad_hh = grad_hh.sum(0).view(channels, kernel_size, channels).transpose(1, 2)
        return (
            grad_x.transpose(1, 2) if needs_x else None,
            grad_h_0.permute(2, 1, 0).reshape(batch, hidden) if needs_h_0 else None,
            by_channel[:-1].t() if needs_ih[0] else None,
            by_channel[-1] if needs_ih[1] else None,
            grad_hh if needs_hh else None,
            grad_bias.sum(0) if needs_bias_hh else None,
            grad_out.view(-1, n, channels).transpose(1, 2).flatten(1) if needs_out else None,
            None,
            None,
        )


def _differentiate_(delta: Tensor, h: Tensor, nonlinearity: str) -> None:
    """Multiply `delta` by the derivative of the activation whose value is `h`, in place."""
    if nonlinearity == "relu":
        torch.ops.aten.threshold_backward.grad_input(delta, h, 0, grad_input=delta)
    elif nonlinearity == "tanh":
        torch.ops.aten.tanh_backward.grad_input(delta, h, grad_input=delta)


def _stencil(weight_hh: Tensor, n: int) -> Tensor:
    """Return the kernel as a matrix that meets a window, the same for each of the n sites."""
    return weight_hh.transpose(1, 2).flatten(1).expand(n, -1, -1)  # (n, C, K * C)


def _site_major(rows: Tensor, channels: int) -> Tensor:
    """Reorder rows from channel * n + site to site * C + channel."""
    return rows.unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1)


def _empty(x: Tensor, slots: int, hidden: int, weight_hh: Tensor, reuse: bool = False) -> Tensor:
    """Return memory for states, (slots, n + K - 1, C, B).

    With `reuse` it may be that of an earlier graph, because memory fresh from the system costs as
    much time as a third of the steps. It is handed on when nothing refers to the returned tensor
    any more, neither Python nor autograd, so graphs that are alive together never share it.
    """
    channels, _, kernel_size = weight_hh.shape
    shape = torch.Size((slots, hidden // channels + kernel_size - 1, channels, x.shape[1]))
    if not reuse:
        return x.new_empty(shape)
    size = shape.numel()
    memory = _spare.pop() if _spare else x.new_empty(0)
    if memory.dtype != x.dtype or not size <= len(memory) <= 2 * size:
        memory = x.new_empty(size)
    states = memory[:size].view(shape)
    weakref.finalize(states, _hand_on, memory).atexit = False
    return states


def _hand_on(memory: Tensor) -> None:
    """Keep the memory of one finished graph for the next."""
    _spare[:] = [memory]
