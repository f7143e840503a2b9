"""Images shown row by row and then buried under noise (figure 8, table 3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from wrnn.errors import check_choice, check_device, check_flag, check_integer
from wrnn.lazy import torch
from wrnn.tasks import data
from wrnn.tasks.base import checksum, seeded_generator
from wrnn.tasks.images import DigitsTask, ImageTask

if TYPE_CHECKING:
    from torch import Tensor

# Mean and standard deviation of CIFAR10's training pixels in [0, 1]: red, green, blue.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@lru_cache(maxsize=8)
def _fixed_noise(steps: int, width: int, seed: int, device: str) -> Tensor:
    generator = seeded_generator("noise", seed)
    return torch.randn(steps, width, generator=generator, dtype=torch.float32).to(device)


@lru_cache(maxsize=12)  # a validation in batches of 256: 1.1 GB for CIFAR10
def _own_noise(steps: int, width: int, seed: int, images: tuple[int, ...], device: str) -> Tensor:
    generators = (seeded_generator("noise", seed, image) for image in images)
    draws = (torch.randn(steps, width, generator=g, dtype=torch.float32) for g in generators)
    return torch.stack(list(draws), dim=1).to(device)  # (steps, B, width)


@lru_cache(maxsize=8)
def _colour_scale(device: str) -> tuple[Tensor, Tensor]:
    """CIFAR10's mean and standard deviation, (3, 1) each."""
    scale = torch.tensor((CIFAR10_MEAN, CIFAR10_STD), device=device, dtype=torch.float32)
    mean, std = scale.unsqueeze(-1)
    return mean, std


class NoisyRowsTask(ImageTask):
    """One image row per step, then standard normal noise up to `length` steps.

    `noise="fixed"` is the released code's: ONE noise tensor, drawn with `noise_seed`, follows every
    image, in training and in test, so that a model may learn it by heart. `noise="fresh"` draws
    new noise for every sequence; in evaluation each image then keeps its own, drawn with
    `noise_seed` and the image's index.
    """

    rows: ClassVar[int]
    noise: str
    noise_seed: int
    length: int

    def __post_init__(self) -> None:
        """Raise WrnnError for an unknown kind of noise or a length shorter than the image."""
        super().__post_init__()
        check_choice("noise", self.noise, ("fixed", "fresh"))
        check_integer("noise_seed", self.noise_seed, 0)
        check_integer("length", self.length, self.rows)

    @property
    def shared_from(self) -> int | None:
        """Where fixed noise begins, which is the same for every image."""
        return self.rows if self.noise == "fixed" and self.noise_steps else None

    @property
    def noise_steps(self) -> int:
        """Steps of noise after the image."""
        return self.length - self.rows

    def fixed_noise(self, device: torch.device | str = "cpu") -> Tensor:
        """The noise that all images share when `noise` is "fixed", (noise_steps, input_size)."""
        device = str(check_device(device))
        return _fixed_noise(self.noise_steps, self.input_size, self.noise_seed, device).clone()

    def _noise(self, batch_size: int, generator: torch.Generator) -> Tensor | None:
        if self.noise == "fixed":
            return None
        shape = (self.noise_steps, batch_size, self.input_size)
        device = generator.device
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float32)

    def _evaluation_noise(self, index: Tensor, device: torch.device | str) -> Tensor | None:
        if self.noise == "fixed":
            return None
        # A GPU keeps it, so that only the first validation draws it on the CPU and copies it.
        draw = _own_noise if torch.device(device).type == "cuda" else _own_noise.__wrapped__
        images = tuple(index.tolist())
        return draw(self.noise_steps, self.input_size, self.noise_seed, images, str(device))

    def _rows(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1], (B, rows, ...), as (B, rows, input_size)."""
        return pixels.flatten(2)

    def _sequence(self, pixels: Tensor, noise: Tensor | None) -> Tensor:
        image = self._rows(pixels).transpose(0, 1)  # (rows, B, input_size)
        if noise is None:
            noise = self.fixed_noise(image.device).unsqueeze(1).expand(-1, image.shape[1], -1)
        return torch.cat([image, noise])  # (T, B, input_size)

    def fingerprint(self) -> dict[str, Any]:
        """As for every image task, and where the noise comes from."""
        noise = {"noise": self.noise, "noise_seed": self.noise_seed}
        if self.noise == "fixed":
            noise["noise_sha256"] = checksum(self.fixed_noise())
        return {**super().fingerprint(), **noise}


@dataclass(frozen=True)
class NoisySequentialCIFAR10(NoisyRowsTask):
    """nsCIFAR10: 32 rows of 96 values and noise to step 1000; 47,000 / 3,000 / 10,000 images.

    Rows run from top to bottom. Within a row come the 32 red values from left to right, then the
    32 green, then the 32 blue, as in the released code, which scales pixels to [0, 1] and no
    further; `normalised=True` also subtracts each colour's mean and divides by its standard
    deviation over the training images. `source` says which files are read: see
    wrnn.tasks.data.cifar10.
    """

    name: ClassVar[str] = "noisy_sequential_cifar10"
    input_size: ClassVar[int] = 96
    rows: ClassVar[int] = 32

    noise: str = "fixed"
    noise_seed: int = 0
    length: int = 1000
    source: str = "torchvision"
    normalised: bool = False
    split_seed: int = 0

    def __post_init__(self) -> None:
        """Raise WrnnError for an unknown source, and as NoisyRowsTask does."""
        super().__post_init__()
        check_choice("source", self.source, data.CIFAR10_SOURCES)
        check_flag("normalised", self.normalised)

    @property
    def title(self) -> str:
        """The task in words."""
        remarks = []
        if self.source == "folder":
            remarks.append("JPEG")
        if self.length != 1000:
            remarks.append(f"T = {self.length}")
        name = f"CIFAR10 ({', '.join(remarks)})" if remarks else "CIFAR10"
        return f"noisy sequential {name}{', fresh noise' if self.noise == 'fresh' else ''}"

    def data(self) -> data.ImageData:
        """CIFAR10 from `$WRNN_DATA`; see wrnn.tasks.data.cifar10."""
        return data.cifar10(self.source)

    def _rows(self, pixels: Tensor) -> Tensor:
        if self.normalised:  # pixels (B, rows, 3, columns)
            mean, std = _colour_scale(str(pixels.device))
            pixels = (pixels - mean) / std
        return super()._rows(pixels)


@dataclass(frozen=True)
class NoisySequentialDigits(DigitsTask, NoisyRowsTask):
    """The same on scikit-learn's digits: 8 rows of 8 and noise to step 100; 1,297 / 200 / 300.

    >>> x, y = NoisySequentialDigits().batch(4, generator=torch.Generator().manual_seed(0))
    >>> x.shape, y.shape
    (torch.Size([100, 4, 8]), torch.Size([4]))
    """

    name: ClassVar[str] = "noisy_sequential_digits"
    input_size: ClassVar[int] = 8
    rows: ClassVar[int] = 8

    noise: str = "fixed"
    noise_seed: int = 0
    length: int = 100
    split_seed: int = 0

    @property
    def title(self) -> str:
        """The task in words."""
        return f"noisy sequential digits (8 × 8){', fresh noise' if self.noise == 'fresh' else ''}"
