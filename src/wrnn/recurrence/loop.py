"""The definition: one step after the other, differentiated by autograd.

This is equation 2 of the paper (section 2), as plainly as PyTorch can say it. It runs on any device
and for any kernel size, and it is the oracle that every faster way of computing is tested against.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "identity": lambda value: value,
}


class Tensors(NamedTuple):
    """What a recurrence is computed from; `wrnn.recurrence.wave_recurrence` says what each is."""

    x: Tensor  # (T, B, input_size)
    h_0: Tensor  # (B, hidden)
    weight_ih: Tensor  # (hidden, input_size)
    bias_ih: Tensor | None  # (hidden,)
    weight_hh: Tensor  # (C, C, K), or (C, C, n, K) where it is local
    bias_hh: Tensor | None  # (C,), or (C, n)
    weight_out: Tensor | None = None  # (out, hidden)
    bias_out: Tensor | None = None  # (out,); added where the results are


def circular_convolution(h: Tensor, weight_hh: Tensor, bias_hh: Tensor | None) -> Tensor:
    """Cross-correlate every ring of a state with a shared kernel (u ⋆ h in section 2).

    `h` is (B, C, n), `weight_hh` (C, C, K) with K odd, `bias_hh` (C,) or None; returns (B, C, n).
    """
    reach = weight_hh.shape[-1] // 2
    around = F.pad(h, (reach, reach), mode="circular") if reach else h  # (B, C, n + K - 1)
    return F.conv1d(around, weight_hh, bias_hh)


def local_connection(h: Tensor, weight_hh: Tensor, bias_hh: Tensor | None) -> Tensor:
    """Apply a kernel of its own at every site: the locally connected variant of the released code.

    `h` is (B, C, n), `weight_hh` (C, C, n, K), `bias_hh` (C, n) or None; returns (B, C, n).
    """
    kernel_size = weight_hh.shape[-1]
    reach = kernel_size // 2
    around = F.pad(h, (reach, reach), mode="circular") if reach else h  # (B, C, n + K - 1)
    windows = around.unfold(-1, kernel_size, 1)  # (B, C, n, K)
    connected = torch.einsum("oixk,bixk->box", weight_hh, windows)
    return connected if bias_hh is None else connected + bias_hh


def one_step(
    x_t: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    nonlinearity: str,
    connection: Callable[[Tensor, Tensor, Tensor | None], Tensor] = circular_convolution,
) -> Tensor:
    """Map an input (B, input_size) and a state (B, C, n) to the next state (B, C, n)."""
    drive = F.linear(x_t, weight_ih, bias_ih).view_as(h)  # (B, C, n)
    return ACTIVATIONS[nonlinearity](connection(h, weight_hh, bias_hh) + drive)


def step_loop(
    tensors: Tensors,
    nonlinearity: str,
    last_only: bool = False,
    step: Callable[..., Tensor] = one_step,
) -> tuple[Tensor | None, Tensor]:
    """Run the recurrence over time.

    Returns the states after each step, (T, B, hidden), or their products with `weight_out`,
    (T, B, out), or None with `last_only`; and the last state, (B, hidden).
    """
    x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, _ = tensors
    channels = len(weight_hh)
    h = h_0.unflatten(-1, (channels, h_0.shape[-1] // channels))  # (B, C, n)
    states = []
    for x_t in x:
        h = step(x_t, h, weight_ih, bias_ih, weight_hh, bias_hh, nonlinearity)
        if not last_only:
            states.append(
                h.flatten(-2) if weight_out is None else F.linear(h.flatten(-2), weight_out)
            )
    # A copy, so that it may be changed in place: autograd keeps the last state.
    return torch.stack(states) if states else None, h.flatten(-2).clone()


def checkpointed(recurrence: Callable[..., tuple], every: int) -> Callable[..., tuple]:
    """Make `recurrence` keep only each `every`-th state and compute the others again when needed.

    `recurrence(tensors, last_only=...)` returns as `step_loop` does, and is run on stretches of
    `every` steps. The backward pass then holds T / every states and the states of one stretch,
    fewest at √T, for one forward pass more. The gradients are the same.
    """

    def run(tensors: Tensors, last_only: bool = False) -> tuple[Tensor | None, Tensor]:
        outputs, h = [], tensors.h_0
        for stretch in tensors.x.split(every):
            output, h = checkpoint(
                recurrence,
                tensors._replace(x=stretch, h_0=h),
                last_only=last_only,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            outputs.append(output)
        return None if last_only else torch.cat(outputs), h

    return run
