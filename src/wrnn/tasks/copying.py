"""The copy task (figures 3 and 4, table 4), laid out as in the released code or as in the text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from wrnn.errors import check_choice, check_integer
from wrnn.lazy import torch
from wrnn.tasks.base import Settled, SyntheticTask, check_output

if TYPE_CHECKING:
    from torch import Tensor

ANSWER_STEPS = 10  # symbols to remember, and steps at the end on which they are asked for
DELIMITER = 9  # 0 is blank, 1 to 8 are the symbols
SYMBOLS = 8


@dataclass(frozen=True)
class CopyTask(SyntheticTask):
    """Repeat ten symbols after a lag of S steps (figures 3 and 4, table 4).

    Both layouts last S + 10 steps; the symbols are at steps 0 to 9, the targets on the last ten
    steps, and every other target is blank. The delimiter, which asks for the answer, comes

    - "code": at step S - 1, as in the released code. At S = 10 it replaces the tenth symbol, and
      since the targets copy the input, the last target is then always the delimiter;
    - "text": at step S, the first answer step, as the paper describes it.

    The paper prints T = S - 10 where this class says lag S.

    >>> x, y = CopyTask(lag=20).batch(4, generator=torch.Generator().manual_seed(0))
    >>> x.shape, y.shape
    (torch.Size([30, 4, 10]), torch.Size([30, 4]))
    """

    name: ClassVar[str] = "copy"
    input_size: ClassVar[int] = 10
    output_size: ClassVar[int] = 10
    every_step: ClassVar[bool] = True
    one_hot: ClassVar[bool] = True
    selection: ClassVar[tuple[str, str]] = ("cross_entropy", "min")
    # The floor, in nats: a loss of 2^-23 for the average symbol is one step of float32 below
    # certainty. Less than that counts how many symbols were rounded to certainty, and no longer
    # how well the model copies. On the scale that the paper plots (see `metrics`) it is 2.4e-9.
    floor: ClassVar[float] = 2.0**-23
    settled: ClassVar[Settled] = Settled(
        "cross_entropy", floor, "settled at its floor after", hold=2000
    )

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
    def length(self) -> int:  # type: ignore[override]
        """S + 10 steps."""
        return self.lag + ANSWER_STEPS

    @property
    def paper_label(self) -> str:
        """The paper's name for this lag, "T = " and S - 10."""
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
        x[self.lag - 1 if self.layout == "code" else self.lag].fill_(DELIMITER)
        y = torch.zeros_like(x)
        y[-ANSWER_STEPS:] = x[:ANSWER_STEPS]
        # As F.one_hot, but float at once and without a look at every value, which would wait.
        one_hot = x.new_zeros(*x.shape, self.input_size, dtype=torch.float32)  # (T, B, 10)
        return one_hot.scatter_(-1, x.unsqueeze(-1), 1.0), y  # y (T, B)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over all S + 10 steps and the batch.

        The released code divides this by the batch size before it differentiates.
        """
        check_output(output, y, 2, self.output_size)
        return torch.nn.functional.cross_entropy(output.flatten(0, 1).float(), y.flatten())

    def metrics(self, output: Tensor, y: Tensor) -> dict[str, float]:
        """Means over the batch.

        - cross_entropy: nats per step, over all S + 10 steps;
        - printed_mse: what the released code prints, and the paper plots, as "MSE". It is not a
          squared error: it is cross_entropy / test_batch_size;
        - mse: mean squared difference of softmax probabilities and one-hot targets, over all
          steps and classes;
        - token_accuracy: per cent of right symbols on the ten answer steps.
        """
        with torch.no_grad():
            cross_entropy = self.loss(output, y).item()
        output = output.detach()
        one_hot = torch.nn.functional.one_hot(y, self.output_size)  # (T, B, 10)
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
        """The loss below which float32 no longer tells two models apart, 2^-23 nats a symbol.

        `metric` as in `memoryless_baseline`.
        """
        return self._on_scale(self.floor, metric)

    def _on_scale(self, cross_entropy: float, metric: str) -> float:
        check_choice("metric", metric, ("cross_entropy", "printed_mse"))
        return cross_entropy / (self.test_batch_size if metric == "printed_mse" else 1)
