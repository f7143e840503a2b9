"""Layers that the wRNN is compared with or built into, and that are no part of the small package.

The linear recurrent unit of Orvieto et al. (2023), and residual blocks around any layer that is
called as torch.nn.RNN is.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wrnn import init
from wrnn.errors import WrnnError


class _DiagonalScan(torch.autograd.Function):
    """States h_t = decay * h_{t-1} + drive_t of a diagonal linear recurrence, from h = 0."""

    @staticmethod
    def forward(ctx, decay: Tensor, drive: Tensor) -> Tensor:
        states = drive.clone()  # (T, B, N)
        for before, state in pairwise(states):
            state.addcmul_(decay, before)
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        adjoint = gradient.clone()  # (T, B, N)
        for t in range(len(adjoint) - 1, 0, -1):
            adjoint[t - 1].addcmul_(decay.conj(), adjoint[t])
        return (states[:-1].conj() * adjoint[1:]).sum(dim=(0, 1)), adjoint


def diagonal_scan(decay: Tensor, drive: Tensor) -> Tensor:
    """Return every state of h_t = decay * h_{t-1} + drive_t from a state of zero.

    `decay` is (N,), `drive` (T, B, N), both real or both complex; returns (T, B, N). What autograd
    would do with the plain loop, in two operations a step.
    """
    return _DiagonalScan.apply(decay, drive)


class LinearRecurrentUnit(nn.Module):
    """The LRU of Orvieto et al. (2023, arXiv 2303.06349), sections 3.2 to 3.4 and appendix A.

    h_t = lambda * h_{t-1} + gamma * (B x_t), y_t = Re(C h_t) + D * x_t, with a complex diagonal
    lambda = exp(-exp(nu_log) + i exp(theta_log)), which is stable whatever the parameters are, and
    gamma = exp(gamma_log), which starts at sqrt(1 - |lambda|^2). It is linear in its input:
    `ResidualBlocks` has the nonlinearity.

    Called as torch.nn.RNN is: x (T, B, width) to y (T, B, width) and the last state (1, B,
    state_size). B (state_size, width, 2) and C (width, state_size, 2) hold real and imaginary
    parts.

    Args:
        radii: smallest and largest |lambda| at the start, which is uniform on that ring.
    """

    def __init__(
        self,
        width: int,
        state_size: int,
        *,
        radii: tuple[float, float] = (0.9, 0.999),
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.hidden_size = width
        low, high = (radius**2 for radius in radii)
        squared = torch.rand(state_size, generator=generator) * (high - low) + low  # |lambda|^2
        phase = 2 * math.pi * torch.rand(state_size, generator=generator).clamp(min=1e-6)
        self.nu_log = nn.Parameter((-0.5 * squared.log()).log())
        self.theta_log = nn.Parameter(phase.log())
        self.gamma_log = nn.Parameter(0.5 * (1 - squared).log())
        self.B = nn.Parameter(
            torch.randn(state_size, width, 2, generator=generator) / math.sqrt(2 * width)
        )
        self.C = nn.Parameter(
            torch.randn(width, state_size, 2, generator=generator) / math.sqrt(2 * state_size)
        )
        self.D = nn.Parameter(torch.randn(width, generator=generator))

    @property
    def decay(self) -> Tensor:
        """The complex diagonal lambda, (state_size,)."""
        return torch.exp(torch.complex(-self.nu_log.exp(), self.theta_log.exp()))

    def forward(self, x: Tensor, h_0: None = None) -> tuple[Tensor, Tensor]:
        """Run the whole sequence from a state of zero, the only one; shapes as in the class."""
        _refuse_state(h_0)
        gain = self.gamma_log.exp()[:, None]  # (N, 1)
        B, C = gain[..., None] * self.B, self.C
        drive = torch.complex(F.linear(x, B[..., 0]), F.linear(x, B[..., 1]))  # (T, B, N)
        states = diagonal_scan(self.decay, drive)  # (T, B, N)
        real = F.linear(states.real, C[..., 0]) - F.linear(states.imag, C[..., 1])  # Re(C h)
        return real + self.D * x, states[-1:]


class ResidualBlocks(nn.Module):
    """Recurrent layers on top of each other: x + MLP(layer(normalise(x))), block after block.

    Called as torch.nn.RNN is: input (T, B, input_size) to output (T, B, width), and the last output
    (1, B, width). A linear layer maps the input to the width; every block normalises its input
    (layer norm), runs its own recurrent layer and mixes that one's units with one hidden GELU layer
    of `width` units.

    Args:
        make_layer: makes the recurrent layer of one block from its input width.
        depth: number of blocks, at least 1.
    """

    def __init__(
        self,
        input_size: int,
        width: int,
        depth: int,
        make_layer: Callable[[int], nn.Module],
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if depth < 1:
            raise WrnnError(f"depth is {depth}: residual blocks need at least 1")
        self.hidden_size = width
        self.encoder = nn.Linear(input_size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.layers = nn.ModuleList(make_layer(width) for _ in range(depth))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(layer.hidden_size, width), nn.GELU(), nn.Linear(width, width))
            for layer in self.layers
        )
        for module in [self.encoder, *self.mlps.modules()]:
            if isinstance(module, nn.Linear):
                init.fan_in_uniform_(module.weight, module.in_features, generator)
                init.fan_in_uniform_(module.bias, module.in_features, generator)

    def forward(self, x: Tensor, h_0: None = None) -> tuple[Tensor, Tensor]:
        """Run the whole sequence from a state of zero, the only one; shapes as in the class."""
        _refuse_state(h_0)
        x = self.encoder(x)  # (T, B, width)
        for norm, layer, mlp in zip(self.norms, self.layers, self.mlps, strict=True):
            x = x + mlp(layer(norm(x))[0])
        return x, x[-1:]


def _refuse_state(h_0: None) -> None:
    if h_0 is not None:
        raise WrnnError("h_0 was given: this layer starts from a state of zero only")
