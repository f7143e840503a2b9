"""The adding task (figure 5, table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from wrnn.errors import check_integer
from wrnn.lazy import torch
from wrnn.tasks.base import Settled, SyntheticTask, check_output

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AddingTask(SyntheticTask):
    """Add the two marked numbers of a sequence (figure 5, table 1).

    Input: a number drawn uniformly from [0, 1) and a marker, 1 at one step of the first half and
    at one step of the second half. Target: the sum of the two marked numbers, at the last step.

    >>> x, y = AddingTask(length=50).batch(4, generator=torch.Generator().manual_seed(0))
    >>> x.shape, y.shape
    (torch.Size([50, 4, 2]), torch.Size([4]))
    """

    name: ClassVar[str] = "adding"
    input_size: ClassVar[int] = 2
    output_size: ClassVar[int] = 1
    every_step: ClassVar[bool] = False
    selection: ClassVar[tuple[str, str]] = ("mse", "min")
    solved: ClassVar[tuple[str, float]] = ("mse", 0.05)  # Table 1 calls it solved at or below this
    settled: ClassVar[Settled] = Settled(*solved, "solved, stopped after", hold=2000)

    length: int  # T, steps
    test_batch_size: int = 1000  # the released code's
    test_batches: int = 1
    test_seed: int = 0

    def __post_init__(self) -> None:
        """Raise WrnnError for a sequence too short to have two halves."""
        super().__post_init__()
        check_integer("length", self.length, 2)

    @property
    def title(self) -> str:
        """The task in words."""
        return f"adding task (T = {self.length})"

    def _draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device, half = generator.device, self.length // 2
        size = (self.length, batch_size)
        numbers = torch.rand(
            size, generator=generator, device=device, dtype=torch.float32
        )  # (T, B)
        first = torch.randint(0, half, (1, batch_size), generator=generator, device=device)
        second = torch.randint(
            half, self.length, (1, batch_size), generator=generator, device=device
        )
        marked = torch.cat([first, second])  # (2, B)
        markers = torch.zeros_like(numbers).scatter_(0, marked, 1.0)  # (T, B)
        return torch.stack([numbers, markers], dim=-1), numbers.gather(0, marked).sum(0)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Mean squared error of output (B, 1) against y (B,)."""
        check_output(output, y, 1, None)
        return torch.nn.functional.mse_loss(output.squeeze(-1).float(), y.float())

    def metrics(self, output: Tensor, y: Tensor) -> dict[str, float]:
        """mse: the mean squared error over the batch."""
        with torch.no_grad():
            return {"mse": self.loss(output, y).item()}

    def constant_baseline(self) -> float:
        """Mean squared error, on the test set, of always answering 1.

        Measured on the sequences that models are tested on. Its expectation is the variance of a
        sum of two uniform numbers, 2/12 = 1/6.
        """
        x, y = self._evaluation_set("test")
        return self.metrics(torch.ones(x.shape[1], 1), y)["mse"]
