"""A run: the frozen description of one training, and the models that it names.

Two runs are the same run when every field is equal; :attr:`Run.id` is a hash of them, and the name
of the record's file.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import nn

from companion.runs.models import LinearRecurrentUnit, ResidualBlocks
from wrnn import init, tasks
from wrnn.errors import WrnnError
from wrnn.model import IdentityRNN, LocalWaveRNN, SequenceModel, WaveRNN

PROFILES = ("smoke", "quick", "paper")
STOPS = ("budget", "settled")
LATER_FIELDS = ("input_bias", "frozen", "forget_bias", "leak", "depth", "width")  # of ModelConfig


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

    kind: str  # wrnn, local (wRNN without weight sharing), irnn, lstm, gru or lru
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
            start = {"shift": "shift", "identity": "identity"}.get(self.recurrent, "random kernel")
            return f"frozen {start}"
        if self.kind == "wrnn":
            if self.readout == "mlp":
                return "wRNN + MLP"
            without = [
                text
                for text, missing in (
                    ("V-init", self.input in ("normal", "default")),
                    (f"u-shift ({self.recurrent})", self.recurrent != "shift"),
                )
                if missing
            ]
            other = " (zero bias)" if self.recurrent_bias == "zero" else ""
            if (self.input, self.input_bias) == ("default", "zero"):
                other += " (uniform V, zero input bias)"
            if self.leak:
                other += f" (leak {self.leak:g})"
            if self.input == "identity":
                other += " (V-init of the text)"
            if isinstance(self.velocity, tuple):
                slowest, fastest = min(self.velocity), max(self.velocity)
                other += f" (speeds {slowest:g} to {fastest:g})"
            return " − ".join([f"wRNN{other}", *without])
        if self.kind == "local":
            return "local wRNN"
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


def build_model(
    config: ModelConfig, task, generator: torch.Generator | None = None
) -> SequenceModel:
    """Build the model for a task with every weight drawn from ``generator`` (on the CPU)."""
    if config.depth:
        rnn = ResidualBlocks(
            task.input_size,
            config.width,
            config.depth,
            lambda width: _build_layer(config, width, generator),
            generator,
        )
    else:
        rnn = _build_layer(config, task.input_size, generator)
    if config.frozen:
        for name, parameter in rnn.named_parameters():
            if "_hh" in name:
                parameter.requires_grad_(False)
    model = SequenceModel(rnn, task.output_size, readout=config.readout, every_step=task.every_step)
    for module in model.readout.modules():
        if isinstance(module, nn.Linear):
            init.fan_in_uniform_(module.weight, module.in_features, generator)
            init.fan_in_uniform_(module.bias, module.in_features, generator)
    return model


def _build_layer(
    config: ModelConfig, input_size: int, generator: torch.Generator | None
) -> nn.Module:
    if config.kind in ("wrnn", "local"):
        layer = WaveRNN if config.kind == "wrnn" else LocalWaveRNN
        rnn = layer(
            input_size,
            config.size,
            config.num_channels,
            kernel_size=config.kernel_size,
            nonlinearity=config.nonlinearity,
        )
        rnn.reset_parameters(
            recurrent=config.recurrent,
            velocity=config.velocity,
            input=config.input,
            input_bias=config.input_bias,
            recurrent_bias=config.recurrent_bias,
            generator=generator,
        )
        if config.leak:
            with torch.no_grad():
                rnn.weight_hh *= 1 - config.leak
    elif config.kind == "irnn":
        rnn = IdentityRNN(input_size, config.size, nonlinearity=config.nonlinearity)
        orthogonal = config.recurrent == "orthogonal"
        rnn.reset_parameters(
            recurrent="identity" if orthogonal else config.recurrent,
            input=config.input,
            input_bias=config.input_bias,
            recurrent_bias=config.recurrent_bias,
            generator=generator,
        )
        if orthogonal:
            nn.init.orthogonal_(rnn.weight_hh_l0, generator=generator)
    elif config.kind in ("lstm", "gru"):
        rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[config.kind](input_size, config.size)
        for parameter in rnn.parameters():
            init.fan_in_uniform_(parameter, config.size, generator)
        if config.forget_bias is not None:
            if config.kind != "lstm":
                raise WrnnError(f"forget_bias is for an lstm only, not for {config.kind!r}")
            with torch.no_grad():  # the gates are in the order input, forget, cell, output
                rnn.bias_ih_l0.view(4, -1)[1] = config.forget_bias
                rnn.bias_hh_l0.view(4, -1)[1] = 0
    elif config.kind == "lru":
        rnn = LinearRecurrentUnit(input_size, config.size, generator=generator)
    else:
        raise WrnnError(f"unknown model {config.kind!r}: use wrnn, local, irnn, lstm, gru or lru")
    return rnn


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _fields(instance) -> dict:
    """Return the fields of a dataclass of scalars, which dataclasses.asdict takes long to copy."""
    return {name: getattr(instance, name) for name in _names(type(instance))}


@dataclass(frozen=True)
class Run:
    """One training: task, model, optimiser (Adam), schedule, budget, seed and profile."""

    task: tasks.Task
    model: ModelConfig
    profile: str
    steps: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    clip: float = 0.0  # largest gradient norm; 0 does not clip
    drop_steps: tuple[int, ...] = ()  # steps after which the learning rate is multiplied
    drop_factor: float = 0.1
    loss_scale: float = 1.0  # the released code divides the copy loss by the batch size
    log_every: int = 100
    evaluate_every: int = 1000
    keep: str = "last"  # which weights are tested: "last", or "best" on the validation split
    trace: bool = False  # keep the hidden state and output of one test sample beside the record
    seed: int = 0
    stop: str = "budget"  # after all steps, or "settled": earlier where the task's floor is reached

    def __post_init__(self) -> None:
        """Raise WrnnError for an unknown stop rule or a task that has no floor to settle at."""
        if self.stop not in STOPS:
            raise WrnnError(f"unknown stop rule {self.stop!r}: use {' or '.join(STOPS)}")
        if self.stop == "settled" and self.task.settled is None:
            raise WrnnError(f"stop 'settled' is for copy and adding only, not {self.task.title}")

    def to_dict(self) -> dict:
        """Return the run as JSON types; ``Run.from_dict`` reverses it."""
        values = _fields(self) | {"model": _fields(self.model)}
        # Fields that came later are left out at their default, so that older runs keep their id.
        if self.stop == "budget":
            del values["stop"]
        defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
        for name in LATER_FIELDS:
            if values["model"][name] == defaults[name]:
                del values["model"][name]
        values["task"] = {"name": self.task.name, **_fields(self.task)}
        values["drop_steps"] = list(self.drop_steps)
        if isinstance(self.model.velocity, tuple):
            values["model"]["velocity"] = list(self.model.velocity)
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "Run":
        """Build a run from :meth:`to_dict`'s output."""
        values = dict(values)
        values["task"] = tasks.task_from_dict(values["task"])
        model = dict(values["model"])
        if isinstance(model["velocity"], list):
            model["velocity"] = tuple(model["velocity"])
        values["model"] = ModelConfig(**model)
        values["drop_steps"] = tuple(values["drop_steps"])
        return cls(**values)

    @cached_property
    def id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the run's canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def random_seeds(self) -> tuple[int, int]:
        """Seeds of the start's weights and of the data, so that neither depends on the other."""
        start, data = np.random.SeedSequence(self.seed).generate_state(2, np.uint64) >> 1
        return int(start), int(data)

    def start(self) -> SequenceModel:
        """Build the model as this run starts it, on the CPU."""
        return build_model(
            self.model, self.task, torch.Generator().manual_seed(self.random_seeds[0])
        )

    @property
    def description(self) -> str:
        """One line for progress bars and lists."""
        return f"{self.task.title} · {self.model.label} · seed {self.seed}"
