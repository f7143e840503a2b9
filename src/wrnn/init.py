"""Initialisers of the Wave-RNN and of the identity RNN (paper section 2, "initialization").

Paper symbols: ``u`` is ``weight_hh`` (the convolution kernel), ``V`` is ``weight_ih`` and ``Sigma``
is the shift matrix. Every function changes its tensor in place and returns it.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wrnn.errors import (
    WrnnError,
    check_choice,
    check_generator,
    check_integer,
    check_number,
    check_tensor,
)


def shift_(
    weight_hh: Tensor, velocity: float | Sequence[float] | Tensor | np.ndarray = 1.0
) -> Tensor:
    """Fill a ring kernel with the one-way wave ``[0, 1 - v, v]``, channel by channel (u-shift).

    One step then moves activity from site x + 1 to site x at ``v`` sites per step: exactly for
    v = 0 and v = 1, and spread over two sites in between. It is the explicit upwind discretisation
    of the one-way wave equation (paper section 2, eq. 1).

    Args:
        weight_hh: (num_channels, num_channels, kernel_size), or the untied
            (num_channels, num_channels, channel_size, kernel_size).
        velocity: sites per step in [0, 1], one for all channels or one per channel.

    Raises:
        WrnnError: a velocity outside [0, 1], a wrong number of velocities, or a kernel of size 1
            asked to move.

    >>> shift_(torch.empty(1, 1, 3), 0.25)
    tensor([[[0.0000, 0.7500, 0.2500]]])
    """
    check_tensor("weight_hh", weight_hh, 3, 4)
    num_channels, kernel_size = weight_hh.shape[0], weight_hh.shape[-1]
    if isinstance(velocity, Tensor | np.ndarray):
        velocity = velocity.tolist()
    several = isinstance(velocity, list | tuple)
    given: list = list(velocity) if several else [velocity] * num_channels  # type: ignore
    if len(given) != num_channels:
        raise WrnnError(f"{len(given)} velocities for {num_channels} channels: give one each")
    velocities: list[float] = [check_number("velocity", v, 0, 1) for v in given]
    if weight_hh.shape[1] != num_channels or not weight_hh.numel():
        raise WrnnError(
            f"weight_hh has shape {tuple(weight_hh.shape)}: expected as many channels in as out, "
            "and not empty"
        )
    if kernel_size % 2 == 0:
        raise WrnnError(f"weight_hh has a kernel of size {kernel_size}: it must be odd")
    if kernel_size == 1 and any(velocities):
        raise WrnnError(
            "a kernel of size 1 cannot shift: use velocity 0 or a kernel size of 3 or more"
        )
    centre = kernel_size // 2
    with torch.no_grad():
        weight_hh.zero_()
        for channel, v in enumerate(velocities):
            weight_hh[channel, channel, ..., centre] = 1 - v
            if v:
                weight_hh[channel, channel, ..., centre + 1] = v
    return weight_hh


def single_site_(weight_ih: Tensor, num_channels: int, kind: str = "ones") -> Tensor:
    """Let input enter at site 0 of every channel and nowhere else (V-init).

    Args:
        weight_ih: (num_channels * channel_size, input_size).
        num_channels: number of rings that ``weight_ih`` feeds.
        kind: "ones" is the released code: every input weight of site 0 is 1, so that one-hot
            inputs all look alike at the start. "identity" is the paper's text: input i enters
            channel i with weight 1 (inputs beyond the number of channels start unconnected).

    >>> single_site_(torch.empty(4, 2), num_channels=2, kind="identity")
    tensor([[1., 0.],
            [0., 0.],
            [0., 1.],
            [0., 0.]])
    """
    check_tensor("weight_ih", weight_ih, 2)
    check_choice("kind of single-site input", kind, ("ones", "identity"))
    num_channels = check_integer("num_channels", num_channels, 1)
    if weight_ih.shape[0] % num_channels or not weight_ih.numel():
        raise WrnnError(
            f"weight_ih has shape {tuple(weight_ih.shape)}: its rows must be a multiple of "
            f"{num_channels} channels, and it must not be empty"
        )
    input_size = weight_ih.shape[1]
    with torch.no_grad():
        weight_ih.zero_()
        sites = weight_ih.view(num_channels, -1, input_size)  # (channels, sites, input)
        sites[:, 0] = 1 if kind == "ones" else torch.eye(num_channels, input_size)
    return weight_ih


def identity_(weight: Tensor) -> Tensor:
    """Fill a square recurrent matrix (hidden, hidden) with the identity (iRNN, Le et al. 2015).

    >>> identity_(torch.empty(2, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    _check_square(weight)
    with torch.no_grad():
        return nn.init.eye_(weight)


def shift_matrix_(weight: Tensor) -> Tensor:
    """Fill (hidden, hidden) with the shift matrix: h_new[x] = h[x + 1] (Table 4, Sigma-init).

    >>> shift_matrix_(torch.empty(3, 3))
    tensor([[0., 1., 0.],
            [0., 0., 1.],
            [1., 0., 0.]])
    """
    _check_square(weight)
    with torch.no_grad():
        return weight.copy_(torch.eye(weight.shape[0]).roll(1, dims=1))


def fan_in_uniform_(
    tensor: Tensor, fan_in: int, generator: torch.Generator | None = None
) -> Tensor:
    """Fill with U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of PyTorch's layers.

    >>> bool(fan_in_uniform_(torch.empty(1000), fan_in=4).abs().max() <= 0.5)
    True
    """
    check_tensor("tensor", tensor)
    check_generator(generator)
    bound = 1 / math.sqrt(check_integer("fan_in", fan_in, 1))
    return nn.init.uniform_(tensor, -bound, bound, generator=generator)


def _check_square(weight: Tensor) -> None:
    """Raise WrnnError unless a tensor is a square matrix."""
    check_tensor("weight", weight, 2)
    if weight.shape[0] != weight.shape[1]:
        raise WrnnError(f"weight has shape {tuple(weight.shape)}: expected a square matrix")
