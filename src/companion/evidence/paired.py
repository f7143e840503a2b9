"""Comparisons of results that share their seeds: differences, effects of switches, best rates.

What chapter 8 asks is answered by these: a value by seed, an interval, and the side on which it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from companion.records.table import Interval, Result, interval
from companion.records.table import difference as difference
from wrnn.tasks import AddingTask, CopyTask, Task
from wrnn.tasks.copying import SYMBOLS

CHOICES = {  # of the released code: what is done instead, and the two values of the switch
    "zero recurrent bias (not the default)": ("default", "zero"),
    "loss as it is (not divided)": (True, False),
    "V-init of the text (not of ones)": ("ones", "identity"),
}


class Outcome(NamedTuple):
    """How a task is scored on its test set.

    `chance` is what no memory gets there, `best` what a perfect model does.
    """

    metric: str
    axis: str
    chance: float
    best: float

    @property
    def is_error(self) -> bool:
        """Whether less is better; errors differ by factors, and are compared as such."""
        return self.best < self.chance

    def gain(self, score: float) -> float:
        """Return how far a score is on the way from chance (0) to perfect (1)."""
        return (score - self.chance) / (self.best - self.chance)


def outcome(task: Task) -> Outcome:
    """Return how a task is scored."""
    if isinstance(task, CopyTask):
        return Outcome("token_accuracy", "right symbols (%)", 100 / SYMBOLS, 100.0)
    if isinstance(task, AddingTask):
        return Outcome("mse", "squared error", _constant_error(task), 0.0)
    return Outcome("accuracy", "accuracy (%)", 10.0, 100.0)


@cache
def _constant_error(task: AddingTask) -> float:
    return task.constant_baseline()


def by_task(results: Sequence[Result]) -> dict[Task, list[Result]]:
    """Return results by their task, in order."""
    groups: dict[Task, list[Result]] = {}
    for result in results:
        groups.setdefault(result.run.task, []).append(result)
    return groups


def outcomes(result: Result) -> dict[int, float]:
    """Return the outcome of a result's task by seed; seeds that lack it are left out."""
    return result.seeds(outcome(result.run.task).metric).to_dict()


def side(found: Interval | None, line: float = 0.0) -> str:
    """Say whether an interval, bounds included, lies "above" a line, "below" it, or is "open".

    One seed has no interval and leaves it open.
    """
    if found is None or found.low is None or found.high is None:
        return "open"
    low, high = found.ends
    return "above" if low > line else "below" if high < line else "open"


def with_gain(scores: Mapping[int, float], scored: Outcome) -> dict[int, float]:
    """Return the seeds' scores that are a tenth or more of the way from chance to perfect."""
    return {seed: score for seed, score in scores.items() if scored.gain(score) >= 0.1}


def gained(
    first: Mapping[int, float], second: Mapping[int, float], scored: Outcome
) -> Interval | None:
    """Estimate how much of what the second gains over chance the first has, in per cent.

    Both are by seed. Seeds in which the second has no gain (`with_gain`) have nothing to divide by
    and are left out; None where none is left.
    """
    second = with_gain(second, scored)
    return interval(
        100 * scored.gain(first[seed]) / scored.gain(score)
        for seed, score in second.items()
        if seed in first
    )


def losses(result: Result) -> dict[int, float]:
    """Return the logarithm (base 10) of a result's cross-entropy by seed."""
    return np.log10(result.seeds("cross_entropy")).to_dict()


def choice_effects(
    results: Sequence[Result], values: Callable[[Result], Mapping[int, float]] = outcomes
) -> list[Interval] | None:
    """Return the main effects of `CHOICES` on one task; None while a combination has no seed.

    The effect of a choice is the mean of `values` over the four combinations at its second setting
    less that over the four at its first; one number per seed that all have, and the interval over
    seeds.
    """
    table = pd.DataFrame(
        {
            (r.run.model.recurrent_bias, r.run.loss_scale < 1, r.run.model.input): values(r)
            for r in results
        }
    ).dropna()  # a row per seed, a column per combination
    if table.shape[1] != 2 ** len(CHOICES) or table.empty:
        return None
    means = [
        [table.xs(setting, axis=1, level=level).mean(axis=1) for setting in settings]
        for level, settings in enumerate(CHOICES.values())
    ]
    return [interval(second - first) for first, second in means]


def effect_of(results: Sequence[Result], **change: object) -> Interval | None:
    """Estimate what one change of the model does to the outcome, in all else alike.

    Averaged over the results that have a counterpart with `change`, within each seed; None where
    there is no such pair, or no seed that all of them have.
    """
    by_model = {result.run.model: result for result in results}
    pairs = [(r, by_model.get(replace(model, **change))) for model, r in by_model.items()]
    changes = [
        pd.Series(outcomes(after), dtype=float) - pd.Series(outcomes(before), dtype=float)
        for before, after in pairs
        if after not in (None, before)
    ]
    return interval(pd.DataFrame(changes).dropna(axis=1).mean())


def survivors(result: Result) -> int:
    """Return how many seeds did not diverge."""
    return sum(not record.diverged for record in result.records)


def validation_rank(result: Result) -> tuple[int, float]:
    """Return what ranks a result without its test: seeds that survived, then their validations.

    The second is the mean of the best validation, larger being better.
    """
    name, direction = result.run.task.selection
    sign = 1 if direction == "max" else -1
    curves = [r.curves.get(name, ()) for r in result.records if not r.diverged]
    scores = [max(sign * value for _, value in curve) for curve in curves if curve]
    return survivors(result), sum(scores) / len(scores) if scores else -math.inf


def best_rates(results: Sequence[Result]) -> list[Result]:
    """Return of every task and model the recorded result whose learning rate validates best.

    Only rates with as many seeds as the best covered one count, and of these the ones of which the
    fewest diverged, so that a rate isn't chosen by the luck of fewer seeds.
    """
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        if result.records:
            groups.setdefault((result.run.task, result.run.model), []).append(result)
    return [
        max(group, key=lambda result: (len(result.records), *validation_rank(result)))
        for group in groups.values()
    ]
