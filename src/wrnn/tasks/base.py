"""What every task offers, and the checks they share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wrnn.errors import (
    WrnnError,
    check_choice,
    check_device,
    check_generator,
    check_integer,
    check_tensor,
    shown,
)
from wrnn.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Settled:
    """When nothing more is to be learned: a validation metric is at or below a floor.

    The metric must have been there at every validation for ``hold`` steps in a row. A task that can
    be solved (``Task.solved``) is settled ``hold`` steps after both of its criteria were met first,
    whatever came after. ``words`` say so before a number of steps.
    """

    metric: str
    floor: float
    words: str
    hold: int


class Task(ABC):
    """A source of labelled sequences, a loss and the metrics that are reported.

    A task is a frozen dataclass of JSON scalars and holds no data, so that it can be part of a
    run's identity. T is time, B is batch.
    """

    name: ClassVar[str]  # key in wrnn.tasks.TASKS
    input_size: ClassVar[int]
    output_size: ClassVar[int]
    every_step: ClassVar[bool]  # whether the model answers at every step or at the last one only
    selection: ClassVar[tuple[str, str]]  # metric that chooses between checkpoints, "min" or "max"
    one_hot: ClassVar[bool] = False  # whether an input is a single 1 among zeros
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    evaluated: ClassVar[tuple[str, ...]] = splits  # those that can be gone through
    evaluation_batch_size: int = 250
    settled: ClassVar[Settled | None] = None  # None: such a task is always trained to the end
    # Metric and threshold of a task that can be solved: by a validation, and, the paper's
    # criterion, by the loss of a training batch at a logging step.
    solved: ClassVar[tuple[str, float] | None] = None
    length: int  # T, steps of a sequence

    def __post_init__(self) -> None:
        """Take NumPy's scalars as Python's, which JSON can hold."""
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())

    @property
    def shared_from(self) -> int | None:
        """First step from which on every sequence has the same input, if there is one."""
        return None

    @property
    def promises(self) -> dict[str, Any]:
        """What :class:`wrnn.SequenceModel` may know of the inputs to be faster."""
        return {"shared_from": self.shared_from, "one_hot": self.one_hot}

    @property
    @abstractmethod
    def title(self) -> str:
        """The task in words, as figures and tables print it."""

    def batch(
        self,
        batch_size: int,
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        split: str = "train",
    ) -> tuple[Tensor, Tensor]:
        """Draw `batch_size` sequences with `generator`, which may live on the CPU or on `device`.

        Returns x, float32 (T, B, input_size), and y, classes (int64) or numbers (float32): (T, B)
        where the task answers at every step, else (B,). `split` is "train" or "validation"; the
        test split is only ever read whole, through `evaluation_batches`.
        """
        check_generator(generator, required=True)
        check_choice("split", split, ("train", "validation"))
        batch_size, device = check_integer("batch_size", batch_size, 1), check_device(device)
        return self._batch(batch_size, generator, device, split)

    def evaluation_batches(
        self, split: str, batch_size: int | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole of a split in a fixed order, `batch_size` sequences at a time."""
        check_choice("split", split, self.evaluated)
        batch_size = self.evaluation_batch_size if batch_size is None else batch_size
        batch_size, device = check_integer("batch_size", batch_size, 1), check_device(device)
        return self._evaluation_batches(split, batch_size, device)

    @abstractmethod
    def _batch(
        self, batch_size: int, generator: torch.Generator, device: torch.device, split: str
    ) -> tuple[Tensor, Tensor]:
        """What `batch` returns, of arguments that are right."""

    @abstractmethod
    def _evaluation_batches(
        self, split: str, batch_size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What `evaluation_batches` returns, of arguments that are right."""

    @abstractmethod
    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """The training loss, a scalar, from the model's output and the target y."""

    @abstractmethod
    def metrics(self, output: Tensor, y: Tensor) -> dict[str, float]:
        """What is reported about one batch; each value is a mean over its sequences."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data: data set, checksum, split sizes and seeds."""

    def to_dict(self) -> dict[str, Any]:
        """The task as JSON scalars; `wrnn.tasks.task_from_dict` is the inverse."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


class SyntheticTask(Task):
    """Sequences made on demand; validation and test are fixed sets drawn from stated seeds.

    A set of `test_batches * test_batch_size` sequences depends on the task and `test_seed` only.
    """

    evaluated: ClassVar[tuple[str, ...]] = ("validation", "test")
    test_batch_size: int
    test_batches: int
    test_seed: int

    def __post_init__(self) -> None:
        """Check what both generated tasks share."""
        super().__post_init__()
        check_integer("test_batch_size", self.test_batch_size, 1)
        check_integer("test_batches", self.test_batches, 1)
        check_integer("test_seed", self.test_seed, 0)

    @abstractmethod
    def _draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """x and y on the generator's device."""

    def _batch(
        self, batch_size: int, generator: torch.Generator, device: torch.device, split: str
    ) -> tuple[Tensor, Tensor]:
        x, y = self._draw(batch_size, generator)  # every split has the same distribution
        return x.to(device), y.to(device)

    @property
    def evaluation_batch_size(self) -> int:  # type: ignore[override]
        """As many as the test set has in one of its batches; it does not change the set."""
        return self.test_batch_size

    def _evaluation_batches(
        self, split: str, batch_size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self._evaluation_set(split)
        parts = zip(x.split(batch_size, dim=1), y.split(batch_size, dim=-1), strict=True)
        return ((x_part.to(device), y_part.to(device)) for x_part, y_part in parts)

    def _evaluation_set(self, split: str) -> tuple[Tensor, Tensor]:
        generator = seeded_generator(self.name, split, self.test_seed)
        return self._draw(self.test_batches * self.test_batch_size, generator)

    def fingerprint(self) -> dict[str, Any]:
        """Where the sequences come from, and the checksum of the fixed test set."""
        return {
            "data": f"{self.name}, generated",
            "sha256": checksum(*self._evaluation_set("test")),
            "validation": self.test_batches * self.test_batch_size,
            "test": self.test_batches * self.test_batch_size,
            "test_seed": self.test_seed,
        }


def check_output(output: Tensor, y: Tensor, axes: int, classes: int | None) -> None:
    """Raise WrnnError unless the output (..., classes) fits the targets y, which have `axes`.

    Targets are classes, int64, or, where there are none, numbers that have an output (..., 1).
    """
    check_tensor("output", output)
    if not isinstance(y, torch.Tensor) or y.dim() != axes:
        raise WrnnError(f"y must be a tensor with {axes} axes, not {shown(y)}")
    if classes is None:
        check_tensor("y", y)
    elif y.dtype != torch.int64:
        raise WrnnError(f"y must hold classes as torch.int64, not {y.dtype}")
    shape = (*y.shape, classes or 1)
    if tuple(output.shape) != shape:
        raise WrnnError(f"the output has shape {tuple(output.shape)}, the targets need {shape}")
    if output.device != y.device:
        raise WrnnError(f"the output is on {output.device}, the targets are on {y.device}")


def seeded_generator(*words: str | int) -> torch.Generator:
    """A CPU generator whose seed is the SHA-256 of `words`, so no two purposes share a stream."""
    digest = hashlib.sha256(repr(words).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def checksum(*tensors: Tensor) -> str:
    """SHA-256 of the tensors' bytes, one after the other."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().cpu().numpy().data)
    return digest.hexdigest()
