"""Images shown pixel by pixel (figures 6 and 7, table 2), and what all image tasks share.

MNIST is the paper's data. The digits (8 × 8, bundled with scikit-learn) need no download; they
stand where a small task is enough, and always under their own name.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from wrnn.errors import check_choice, check_device, check_flag, check_integer
from wrnn.lazy import torch
from wrnn.tasks import data
from wrnn.tasks.base import Task, check_output, checksum, seeded_generator

if TYPE_CHECKING:
    from torch import Tensor


class ImageTask(Task):
    """Classify an image shown as a sequence, from the model's answer at the last step.

    Validation images are taken out of the training images with `split_seed`. `batch` draws images
    independently, with replacement; the released code shuffles whole epochs.
    """

    output_size: ClassVar[int] = 10
    every_step: ClassVar[bool] = False
    selection: ClassVar[tuple[str, str]] = ("accuracy", "max")
    validation_size: ClassVar[int] = 3000
    test_size: ClassVar[int] = 10000
    split_seed: int

    def __post_init__(self) -> None:
        """Raise WrnnError for a seed that is not an integer of at least 0."""
        super().__post_init__()
        check_integer("split_seed", self.split_seed, 0)

    @abstractmethod
    def data(self) -> data.ImageData:
        """The images; loaded on first use and kept in memory. Raises WrnnError without them."""

    def split_indices(self, split: str, device: torch.device | str = "cpu") -> Tensor:
        """Which images (indices into `data()`) belong to a split, int64."""
        check_choice("split", split, self.splits)
        device = check_device(device)
        loaded = self.data()
        total, official = len(loaded.labels), loaded.official_test
        sizes = self.validation_size, self.test_size
        return _split(total, official, *sizes, self.split_seed, str(device))[split].clone()

    @abstractmethod
    def _sequence(self, pixels: Tensor, noise: Tensor | None) -> Tensor:
        """Pixels in [0, 1], (B, ...), as x (T, B, input_size)."""

    def _noise(self, batch_size: int, generator: torch.Generator) -> Tensor | None:
        """The noise of a batch of `batch_size` random images, if the task has any."""
        return None

    def _evaluation_noise(self, index: Tensor, device: torch.device | str) -> Tensor | None:
        """The noise that the images `index` have in every evaluation, if the task has any."""
        return None

    def _gather(
        self, index: Tensor, noise: Tensor | None, device: torch.device | str
    ) -> tuple[Tensor, Tensor]:
        loaded = self.data()
        images, labels = loaded.on(device)
        index = index.to(device)
        noise = None if noise is None else noise.to(device)
        return self._sequence(images[index].float() / loaded.max_value, noise), labels[index]

    def _batch(
        self, batch_size: int, generator: torch.Generator, device: torch.device, split: str
    ) -> tuple[Tensor, Tensor]:
        members = self.split_indices(split, generator.device)
        drawn = torch.randint(
            len(members), (batch_size,), generator=generator, device=generator.device
        )  # (B,)
        return self._gather(members[drawn], self._noise(batch_size, generator), device)

    def _evaluation_batches(
        self, split: str, batch_size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        parts = self.split_indices(split).split(batch_size)
        return (self._gather(part, self._evaluation_noise(part, device), device) for part in parts)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy in nats of output (B, 10) against the classes y (B,), mean over B."""
        check_output(output, y, 1, self.output_size)
        return torch.nn.functional.cross_entropy(output.float(), y)

    def metrics(self, output: Tensor, y: Tensor) -> dict[str, float]:
        """accuracy in per cent and cross_entropy in nats, means over the batch."""
        with torch.no_grad():
            cross_entropy = self.loss(output, y).item()
        accuracy = 100 * (output.argmax(-1) == y).double().mean().item()
        return {"accuracy": accuracy, "cross_entropy": cross_entropy}

    def fingerprint(self) -> dict[str, Any]:
        """Data set, SHA-256 of its raw arrays, split sizes and seed."""
        loaded = self.data()
        sizes = {split: len(self.split_indices(split)) for split in self.splits}
        return {
            "data": loaded.name,
            "sha256": loaded.sha256,
            **sizes,
            "split_seed": self.split_seed,
        }


class DigitsTask(ImageTask):
    """What tasks on scikit-learn's 8 × 8 digits share: 1,297 / 200 / 300 images.

    There is no official test set: all three splits are drawn with `split_seed`.
    """

    validation_size: ClassVar[int] = 200
    test_size: ClassVar[int] = 300

    def data(self) -> data.ImageData:
        """The digits bundled with scikit-learn; see wrnn.tasks.data.digits."""
        return data.digits()


@lru_cache(maxsize=8)
def _split(
    total: int, official: int, validation: int, test: int, seed: int, device: str
) -> dict[str, Tensor]:
    """Indices of each split: the official test images in order, or `test` random images."""
    order = torch.randperm(total - official, generator=seeded_generator("split", seed))
    drawn = 0 if official else test
    indices = {
        "train": order[drawn + validation :],
        "validation": order[drawn : drawn + validation],
        "test": torch.arange(total - official, total) if official else order[:drawn],
    }
    return {split: index.to(device) for split, index in indices.items()}


@lru_cache(maxsize=8)
def _pixel_order(size: int, seed: int, device: str) -> Tensor:
    return torch.randperm(size, generator=seeded_generator("permutation", seed)).to(device)


@dataclass(frozen=True)
class PixelTask(ImageTask):
    """One pixel in [0, 1] per step, row by row or in one fixed random order (`permuted`)."""

    input_size: ClassVar[int] = 1
    pixels: ClassVar[int]

    permuted: bool = False
    permutation_seed: int = 0  # the released code's permutation is unseeded and lost
    split_seed: int = 0

    def __post_init__(self) -> None:
        """Raise WrnnError for a flag or seed that is not one."""
        super().__post_init__()
        check_flag("permuted", self.permuted)
        check_integer("permutation_seed", self.permutation_seed, 0)

    @property
    def length(self) -> int:  # type: ignore[override]
        """T, the number of pixels."""
        return self.pixels

    def permutation(self, device: torch.device | str = "cpu") -> Tensor:
        """The pixel shown at each step, int64 (T,)."""
        device = check_device(device)
        if not self.permuted:
            return torch.arange(self.pixels, device=device)
        return _pixel_order(self.pixels, self.permutation_seed, str(device)).clone()

    def _sequence(self, pixels: Tensor, noise: Tensor | None) -> Tensor:
        flat = pixels.flatten(1)  # (B, T)
        if self.permuted:
            flat = flat[:, self.permutation(flat.device)]
        return flat.t().unsqueeze(-1).contiguous()  # (T, B, 1)

    def fingerprint(self) -> dict[str, Any]:
        """As for every image task, and the checksum of the pixel order."""
        order = {
            "permutation_seed": self.permutation_seed if self.permuted else None,
            "permutation_sha256": checksum(self.permutation()),
        }
        return {**super().fingerprint(), **order}


@dataclass(frozen=True)
class SequentialMNIST(PixelTask):
    """sMNIST and, permuted, psMNIST: 784 pixels, 57,000 / 3,000 / 10,000 images."""

    name: ClassVar[str] = "sequential_mnist"
    pixels: ClassVar[int] = 784

    @property
    def title(self) -> str:
        """The task in words."""
        return "permuted sequential MNIST" if self.permuted else "sequential MNIST"

    def data(self) -> data.ImageData:
        """MNIST from `$WRNN_DATA`; see wrnn.tasks.data.mnist."""
        return data.mnist()


@dataclass(frozen=True)
class SequentialDigits(DigitsTask, PixelTask):
    """The same on scikit-learn's 8 × 8 digits: 64 pixels, 1,297 / 200 / 300 images.

    >>> x, y = SequentialDigits().batch(4, generator=torch.Generator().manual_seed(0))
    >>> x.shape, y.shape
    (torch.Size([64, 4, 1]), torch.Size([4]))
    """

    name: ClassVar[str] = "sequential_digits"
    pixels: ClassVar[int] = 64

    @property
    def title(self) -> str:
        """The task in words."""
        return f"{'permuted ' if self.permuted else ''}sequential digits (8 × 8)"
