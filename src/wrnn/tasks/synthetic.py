"""The two generated tasks: copy (figures 3 and 4, table 4) and adding (figure 5, table 1)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wrnn.tasks.base import (
    Task,
    check_choice,
    check_integer,
    check_output,
    checksum,
    seeded_generator,
)

ANSWER_STEPS = 10  # symbols to remember, and steps at the end on which they are asked for
DELIMITER = 9  # 0 is blank, 1 to 8 are the symbols
SYMBOLS = 8


class SyntheticTask(Task):
    """Sequences made on demand; validation and test are fixed sets drawn from stated seeds."""

    test_batch_size: int
    test_batches: int
    test_seed: int

    def __post_init__(self) -> None:
        """Check what both generated tasks share."""
        check_integer("test_batch_size", self.test_batch_size, 1)
        check_integer("test_batches", self.test_batches, 1)
        check_integer("test_seed", self.test_seed, 0)

    def _draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """x and y on the generator's device."""
        raise NotImplementedError

    def batch(self, batch_size, *, generator, device="cpu", split="train"):
        """Draw fresh sequences; see Task.batch. Every split has the same distribution."""
        check_integer("batch_size", batch_size, 1)
        check_choice("split", split, ("train", "validation"))
        x, y = self._draw(batch_size, generator)
        return x.to(device), y.to(device)

    def evaluation_batches(
        self, split: str, batch_size: int | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The fixed set of `test_batches * test_batch_size` sequences of a split.

        The set depends on the task and `test_seed` only; `batch_size` (default: test_batch_size)
        is how many sequences are handed out at a time.
        """
        check_choice("split", split, ("validation", "test"))
        batch_size = self.test_batch_size if batch_size is None else batch_size
        check_integer("batch_size", batch_size, 1)
        x, y = self._evaluation_set(split)
        return (
            (x_part.to(device), y_part.to(device))
            for x_part, y_part in zip(
                x.split(batch_size, dim=1), y.split(batch_size, dim=-1), strict=True
            )
        )

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


@dataclass(frozen=True)
class CopyTask(SyntheticTask):
    """Repeat ten symbols after a lag of S steps (figures 3 and 4, table 4).

    Both layouts last S + 10 steps; the symbols are at steps 0 to 9, the targets on the last ten
    steps, and every other target is blank. The delimiter, which asks for the answer, comes
    - "code": at step S - 1, as in the released code. At S = 10 it replaces the tenth symbol, and
      since the targets copy the input, the last target is then always the delimiter;
    - "text": at step S, the first answer step, as the paper describes it.

    The paper prints T = S - 10 where this class says lag S.
    """

    name: ClassVar[str] = "copy"
    input_size: ClassVar[int] = 10
    output_size: ClassVar[int] = 10
    every_step: ClassVar[bool] = True
    selection: ClassVar[tuple[str, str]] = ("cross_entropy", "min")

    lag: int  # S, steps between a symbol and the moment it is asked for
    layout: str = "code"
    test_batch_size: int = 50  # the released code's; it also scales its printed "MSE"
    test_batches: int = 10
    test_seed: int = 0

    def __post_init__(self) -> None:
        """Raise WrnnError for a lag below ten or an unknown layout."""
        super().__post_init__()
        check_integer("lag", self.lag, ANSWER_STEPS)
        check_choice("layout", self.layout, ("code", "text"))

    @property
    def length(self) -> int:
        """S + 10 steps."""
        return self.lag + ANSWER_STEPS

    @property
    def paper_label(self) -> str:
        """The paper's name for this lag: "T = " and S - 10."""
        return f"T = {self.lag - ANSWER_STEPS}"

    @property
    def title(self) -> str:
        """The task in words."""
        layout = "" if self.layout == "code" else ", layout of the text"
        return f"copy task (lag {self.lag}, {self.paper_label} in the paper{layout})"

    def _draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        size = (ANSWER_STEPS, batch_size)
        symbols = torch.randint(
            1, 1 + SYMBOLS, size, generator=generator, device=generator.device
        )  # (10, B)
        x = symbols.new_zeros(self.length, batch_size)  # (T, B)
        x[:ANSWER_STEPS] = symbols
        x[self.lag - 1 if self.layout == "code" else self.lag] = DELIMITER
        y = torch.zeros_like(x)
        y[-ANSWER_STEPS:] = x[:ANSWER_STEPS]
        return F.one_hot(x, self.input_size).float(), y  # (T, B, 10), (T, B)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over all S + 10 steps and the batch.

        The released code divides this by the batch size before it differentiates.
        """
        check_output(output, (*y.shape, self.output_size))
        return F.cross_entropy(output.flatten(0, 1).float(), y.flatten())

    @torch.no_grad()
    def metrics(self, output: Tensor, y: Tensor) -> dict[str, float]:
        """Means over the batch.

        - cross_entropy: nats per step, over all S + 10 steps;
        - printed_mse: what the released code prints, and the paper plots, as "MSE". It is not a
          squared error: it is cross_entropy / test_batch_size;
        - mse: mean squared difference of softmax probabilities and one-hot targets, over all
          steps and classes;
        - token_accuracy: per cent of right symbols on the ten answer steps.
        """
        cross_entropy = self.loss(output, y).item()
        one_hot = F.one_hot(y, self.output_size)  # (T, B, 10)
        answers = output[-ANSWER_STEPS:].argmax(-1) == y[-ANSWER_STEPS:]  # (10, B)
        return {
            "cross_entropy": cross_entropy,
            "printed_mse": cross_entropy / self.test_batch_size,
            "mse": (output.float().softmax(-1) - one_hot).square().mean().item(),
            "token_accuracy": 100 * answers.double().mean().item(),
        }

    def memoryless_baseline(self, metric: str = "cross_entropy") -> float:
        """Cross-entropy of a model that knows the step but remembers no symbol.

        It is certain of every fixed target and spreads 1/8 over the symbols elsewhere. `metric` is
        "cross_entropy" or "printed_mse" (see `metrics`).
        """
        overwritten = self.layout == "code" and self.lag == ANSWER_STEPS
        unknown = ANSWER_STEPS - overwritten
        return self._on_scale(unknown * math.log(SYMBOLS) / self.length, metric)

    def float32_floor(self, metric: str = "cross_entropy") -> float:
        """The smallest value above 0 that one test batch can have in float32.

        Near certainty the cross-entropy of a token is either 0 or 2**-23, so this is one such
        token among the test batch's. `metric` as in `memoryless_baseline`.
        """
        tokens = self.length * self.test_batch_size
        return self._on_scale(torch.finfo(torch.float32).eps / tokens, metric)

    def _on_scale(self, cross_entropy: float, metric: str) -> float:
        check_choice("metric", metric, ("cross_entropy", "printed_mse"))
        return cross_entropy / (self.test_batch_size if metric == "printed_mse" else 1)


@dataclass(frozen=True)
class AddingTask(SyntheticTask):
    """Add the two marked numbers of a sequence (figure 5, table 1).

    Input: a number drawn uniformly from [0, 1) and a marker, 1 at one step of the first half and
    at one step of the second half. Target: the sum of the two marked numbers, at the last step.
    """

    name: ClassVar[str] = "adding"
    input_size: ClassVar[int] = 2
    output_size: ClassVar[int] = 1
    every_step: ClassVar[bool] = False
    selection: ClassVar[tuple[str, str]] = ("mse", "min")
    solved: ClassVar[tuple[str, float]] = ("mse", 0.05)  # Table 1 calls it solved at or below this

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
        numbers = torch.rand(self.length, batch_size, generator=generator, device=device)  # (T, B)
        first = torch.randint(0, half, (1, batch_size), generator=generator, device=device)
        second = torch.randint(
            half, self.length, (1, batch_size), generator=generator, device=device
        )
        marked = torch.cat([first, second])  # (2, B)
        markers = torch.zeros_like(numbers).scatter_(0, marked, 1.0)  # (T, B)
        return torch.stack([numbers, markers], dim=-1), numbers.gather(0, marked).sum(0)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Mean squared error of output (B, 1) against y (B,)."""
        check_output(output, (*y.shape, self.output_size))
        return F.mse_loss(output.squeeze(-1).float(), y)

    @torch.no_grad()
    def metrics(self, output: Tensor, y: Tensor) -> dict[str, float]:
        """mse: the mean squared error over the batch."""
        return {"mse": self.loss(output, y).item()}

    def constant_baseline(self) -> float:
        """Mean squared error, on the test set, of always answering 1.

        Measured on the sequences that models are tested on. Its expectation is the variance of a
        sum of two uniform numbers, 2/12 = 1/6.
        """
        x, y = self._evaluation_set("test")
        return self.metrics(torch.ones(x.shape[1], 1), y)["mse"]
