"""A run: the frozen description of one training.

Two runs are the same run when every field is equal; :attr:`Run.id` is a hash of them, and the name
of the record's file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from companion.runs.models import LATER_FIELDS, ModelConfig, build_model
from companion.runs.models import irnn_config as irnn_config
from companion.runs.models import wrnn_config as wrnn_config
from wrnn import tasks
from wrnn.errors import WrnnError
from wrnn.lazy import torch

if TYPE_CHECKING:
    from wrnn import SequenceModel

PROFILES = ("smoke", "quick", "paper")
STOPS = ("budget", "settled")


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
        """Raise WrnnError for an unknown stop rule or a task that has no floor to settle at.

        Numbers become float, so that equal runs have one id.
        """
        for name in ("learning_rate", "clip", "drop_factor", "loss_scale"):
            object.__setattr__(self, name, float(getattr(self, name)))
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
        for name in LATER_FIELDS:
            if values["model"][name] == getattr(ModelConfig, name):  # its default
                del values["model"][name]
        values["task"] = {"name": self.task.name, **_fields(self.task)}
        values["drop_steps"] = list(self.drop_steps)
        if isinstance(self.model.velocity, tuple):
            values["model"]["velocity"] = list(self.model.velocity)
        return values

    @classmethod
    def from_dict(cls, values: dict) -> Run:
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
