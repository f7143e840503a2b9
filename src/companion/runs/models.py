"""The models that a run names: their kinds and sizes, how they start, and what they are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import wrnn
from wrnn.errors import WrnnError
from wrnn.lazy import torch
from wrnn.tasks import Task

if TYPE_CHECKING:
    from torch import nn

    from wrnn import SequenceModel


@dataclass(frozen=True)
class ModelConfig:
    """One model of the paper: its kind, its size and how it starts.

    ``size`` is the number of units per channel for a wRNN, as the paper's n, and the number of
    hidden units otherwise. ``recurrent``, ``input``, ``input_bias`` and ``recurrent_bias`` are the
    switches of the models' ``reset_parameters``, and an iRNN may also start at a random orthogonal
    matrix (``recurrent="orthogonal"``); a gated model (LSTM, GRU) keeps PyTorch's own
    initialisation but for ``forget_bias``. With a ``depth``, that many layers stand in residual
    blocks of ``width`` units.
    """

    kind: str  # one of LAYERS
    size: int
    num_channels: int = 1
    kernel_size: int = 3
    nonlinearity: str = "relu"
    readout: str = "linear"
    recurrent: str = "shift"
    input: str = "ones"
    recurrent_bias: str = "default"
    velocity: float | tuple[float, ...] = 1.0  # of the shift, one or one per channel
    input_bias: str = "zero"
    frozen: bool = False  # the recurrent kernel and its bias keep their start
    forget_bias: float | None = None  # of an LSTM's start; None is PyTorch's
    leak: float = 0.0  # share that the start of a wRNN's kernel loses in every step
    depth: int = 0  # residual blocks; 0 is the layer alone
    width: int = 0  # of the residual blocks

    def __post_init__(self) -> None:
        """Make numbers float, so that equal models have one id."""
        several = isinstance(self.velocity, tuple)
        velocity = tuple(map(float, self.velocity)) if several else float(self.velocity)
        object.__setattr__(self, "velocity", velocity)
        object.__setattr__(self, "leak", float(self.leak))

    @property
    def switches(self) -> dict[str, str]:
        """The switches that every model's ``reset_parameters`` has."""
        names = ("recurrent", "input", "input_bias", "recurrent_bias")
        return {name: getattr(self, name) for name in names}

    @property
    def label(self) -> str:
        """Short name for legends and tables, such as "wRNN" or "iRNN (n=100)"."""
        if self.depth:
            if self.kind != "wrnn":
                return f"{self.depth} {self.kind.upper()} blocks (width {self.width})"
            entry = {"ones": "V-init", "default": "uniform V"}.get(self.input, f"{self.input} V")
            remarks = [f"{self.recurrent_bias} bias", entry]
            remarks += [f"leak {self.leak:g}"] * (self.leak > 0)
            return f"{self.depth} wRNN blocks ({', '.join(remarks)})"
        if self.frozen:
            return f"frozen {'random kernel' if self.recurrent == 'default' else self.recurrent}"
        if self.kind in ("wrnn", "local"):
            name = "wRNN" if self.kind == "wrnn" else "local wRNN"
            speeds = self.velocity if isinstance(self.velocity, tuple) else ()
            uniform = (self.input, self.input_bias) == ("default", "zero")
            remarks = {
                " + MLP": self.readout == "mlp",
                " (zero bias)": self.recurrent_bias == "zero",
                " (uniform V, zero input bias)": uniform,
                f" (leak {self.leak:g})": self.leak,
                " (V-init of the text)": self.input == "identity",
                f" (kernel {self.kernel_size})": self.kernel_size != 3,
                f" ({self.nonlinearity})": self.nonlinearity != "relu",
                f" (speeds {min(speeds, default=1):g} to {max(speeds, default=1):g})": speeds,
                " − V-init": self.input in ("normal", "default"),
                f" − u-shift ({self.recurrent})": self.recurrent != "shift",
            }
            return name + "".join(text for text, there in remarks.items() if there)
        if self.kind == "irnn":
            added = ["Σ-init"] * (self.recurrent == "shift") + ["V-init"] * (self.input == "ones")
            name = " + ".join([f"iRNN (n={self.size})", *added])
            remarks = [self.nonlinearity] * (self.nonlinearity != "relu")
            remarks += ["default start"] * (self.recurrent == "default")
            remarks += ["orthogonal start"] * (self.recurrent == "orthogonal")
            remarks += ["V of torch.nn.RNN"] * (self.input == "default")
            without_v_init = self.input not in ("ones", "identity")
            remarks += ["zero input bias"] * (without_v_init and self.input_bias == "zero")
            return f"{name}, {', '.join(remarks)}" if remarks else name
        forget = "" if self.forget_bias is None else f", forget bias {self.forget_bias:g}"
        return f"{self.kind.upper()} (n={self.size}{forget})"


# Fields that are younger than the first records: at their defaults no part of a run's id.
LATER_FIELDS = tuple(field.name for field in fields(ModelConfig)[10:])


def wrnn_config(size: int, num_channels: int, **options) -> ModelConfig:
    """Describe a wRNN: ``num_channels`` rings of ``size`` units."""
    return ModelConfig("wrnn", size, num_channels, **options)


def irnn_config(
    size: int,
    input: str = "normal",
    recurrent: str = "identity",
    input_bias: str = "uniform",
    **options,
) -> ModelConfig:
    """Describe an iRNN of ``size`` units, by default as in the released copy and adding code.

    The released code for images starts it with ``input="uniform"``.
    """
    options |= dict(input=input, recurrent=recurrent, input_bias=input_bias)
    return ModelConfig("irnn", size, **options)


def _ring(config: ModelConfig, input_size: int, generator: torch.Generator | None) -> nn.Module:
    layer = wrnn.LocalWaveRNN if config.kind == "local" else wrnn.WaveRNN
    rnn = layer(
        input_size,
        config.size,
        config.num_channels,
        kernel_size=config.kernel_size,
        nonlinearity=config.nonlinearity,
    )
    rnn.reset_parameters(velocity=config.velocity, generator=generator, **config.switches)
    if config.leak:
        with torch.no_grad():
            rnn.weight_hh *= 1 - config.leak
    return rnn


def _irnn(config: ModelConfig, input_size: int, generator: torch.Generator | None) -> nn.Module:
    rnn = wrnn.IdentityRNN(input_size, config.size, nonlinearity=config.nonlinearity)
    orthogonal = config.recurrent == "orthogonal"
    instead = {"recurrent": "identity"} if orthogonal else {}
    rnn.reset_parameters(generator=generator, **config.switches | instead)
    if orthogonal:
        torch.nn.init.orthogonal_(rnn.weight_hh_l0, generator=generator)
    return rnn


def _gated(config: ModelConfig, input_size: int, generator: torch.Generator | None) -> nn.Module:
    rnn = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[config.kind](input_size, config.size)
    for parameter in rnn.parameters():
        wrnn.init.fan_in_uniform_(parameter, config.size, generator)
    if config.forget_bias is not None:
        if config.kind != "lstm":
            raise WrnnError(f"forget_bias is for an lstm only, not for {config.kind!r}")
        with torch.no_grad():  # the gates are in the order input, forget, cell, output
            rnn.bias_ih_l0.view(4, -1)[1] = config.forget_bias
            rnn.bias_hh_l0.view(4, -1)[1] = 0
    return rnn


def _lru(config: ModelConfig, input_size: int, generator: torch.Generator | None) -> nn.Module:
    from companion.runs.layers import LinearRecurrentUnit

    return LinearRecurrentUnit(input_size, config.size, generator=generator)


# kind -> what makes its layer, called as torch.nn.RNN is, with all weights from the generator
LAYERS: dict[str, Callable[[ModelConfig, int, torch.Generator | None], nn.Module]] = {
    "wrnn": _ring,
    "local": _ring,
    "irnn": _irnn,
    "lstm": _gated,
    "gru": _gated,
    "lru": _lru,
}


def build_model(
    config: ModelConfig, task: Task, generator: torch.Generator | None = None
) -> SequenceModel:
    """Build the model for a task with every weight drawn from ``generator`` (on the CPU)."""
    if config.kind not in LAYERS:
        raise WrnnError(f"unknown model {config.kind!r}: use {', '.join(LAYERS)}")

    def layer(input_size: int) -> nn.Module:
        return LAYERS[config.kind](config, input_size, generator)

    if config.depth:
        from companion.runs.layers import ResidualBlocks

        rnn = ResidualBlocks(task.input_size, config.width, config.depth, layer, generator)
    else:
        rnn = layer(task.input_size)
    if config.frozen:
        for name, parameter in rnn.named_parameters():
            if "_hh" in name:
                parameter.requires_grad_(False)
    model = wrnn.SequenceModel(
        rnn, task.output_size, readout=config.readout, every_step=task.every_step
    )
    for module in model.readout.modules():
        if isinstance(module, torch.nn.Linear):
            wrnn.init.fan_in_uniform_(module.weight, module.in_features, generator)
            wrnn.init.fan_in_uniform_(module.bias, module.in_features, generator)
    return model
