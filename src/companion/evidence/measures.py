"""What is measured on results: gaps of losses, steps to learn or solve, parameters needed."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from companion.records.files import Record
from companion.records.table import Interval, Result, difference, interval, ratio
from wrnn.tasks import CopyTask

SPEED_LENGTHS = (100, 200, 400)  # lengths of the adding task that the paper's iRNN solves


def every_seed(result: Result, metric: str) -> pd.Series:
    """Return a metric of every recorded seed, NaN where a run diverged or never got there."""
    if not result.records:
        return pd.Series(dtype=float)
    return result.rows.set_index("seed").get(metric, pd.Series(dtype=float)).astype(float)


def gap(better: Result, worse: Result, metric: str = "cross_entropy") -> Interval | None:
    """Powers of ten between two losses; a bound where one of them ends at the task's floor.

    None where neither end is known: one loss is at the floor in one seed, the other in another.
    """
    low, high = better.seeds(metric), worse.seeds(metric)
    floor = (better.floor(metric) or 0.0) * (1 + 1e-9)
    shared = low.index.intersection(high.index)
    if len(shared):  # within a seed two losses at the floor are equal
        low, high = low[shared], high[shared]
        floored = set(zip(low <= floor, high <= floor, strict=True)) - {(True, True)}
    else:
        floored = {(bool((low <= floor).any()), bool((high <= floor).any()))}
    bounds = [">="] * ((True, False) in floored) + ["<="] * ((False, True) in floored)
    if len(bounds) > 1 or (True, True) in floored:
        return None  # may be larger in one seed and smaller in another
    return difference(high, low, "log", *bounds)


def validation_loss(result: Result, metric: str = "cross_entropy") -> float:
    """Return the lowest validation loss, over seeds on the log scale; infinite where one diverged.

    Infinite, too, where nothing is recorded.
    """
    curves = [() if r.diverged else r.curves.get(metric, ()) for r in result.records]
    lowest = [max(min((v for _, v in curve), default=math.inf), 1e-45) for curve in curves]
    return float(np.exp(np.mean(np.log(lowest)))) if lowest else math.inf


def best_on_validation(results: Sequence[Result], metric: str = "cross_entropy") -> Result:
    """Return the result with the lowest `validation_loss`; the first one where all are infinite."""
    return min(results, key=lambda result: validation_loss(result, metric))


def learned_loss(task: CopyTask) -> float:
    """The loss, a tenth of the memoryless one, from which a copy task counts as learned."""
    return task.memoryless_baseline() / 10


def steps_to_learn(result: Result) -> pd.Series:
    """Steps by seed until the validation loss of a copy run says that it is learned.

    Infinite where it never is. Seeds that were validated less often than planned are left out.
    """
    level = learned_loss(result.run.task)
    steps = {}
    for record in _validated_as_planned(result):
        curve = record.curves.get("cross_entropy", ())  # none where it diverged before
        steps[record.run.seed] = next((step for step, v in curve if v <= level), math.inf)
    return pd.Series(steps, dtype=float)


def steps_to_solve(result: Result, criterion: str = "solved_step_training") -> pd.Series:
    """Steps by seed until adding is solved; infinite where it never is.

    By the paper's criterion, the loss of a training batch at a logging step, or by that of a
    validation ("solved_step"), of the seeds that were validated as often as planned.
    """
    steps = every_seed(result, criterion).fillna(math.inf)
    if criterion == "solved_step":
        steps = steps[[record.run.seed for record in _validated_as_planned(result)]]
    return steps


def _validated_as_planned(result: Result) -> list[Record]:
    """The records whose steps until a validation says something can be compared."""
    often = result.run.evaluate_every
    return [record for record in result.records if record.run.evaluate_every <= often]


def times(first: pd.Series, second: pd.Series, *results: Result) -> Interval | None:
    """How many times as many steps the first takes as the second, by seed.

    Where a run never got there (infinite), the steps that it took count, or all that were planned
    where it diverged, and the ratio is a bound; None where neither got there.
    """
    never = [bool(np.isinf(steps).any()) for steps in (first, second)]
    if all(never):
        return None
    taken = (
        steps.where(np.isfinite(steps), _spent(result))
        for steps, result in zip((first, second), results, strict=True)
    )
    return ratio(*taken, bound=">=" if never[0] else "<=" if never[1] else "")


def _spent(result: Result) -> pd.Series:
    """Steps by seed that a run took, or had to take where it diverged before."""
    spent = {r.run.seed: r.run.steps if r.diverged else r.steps for r in result.records}
    return pd.Series(spent, dtype=float)


def parameters_needed(points: Sequence[tuple[int, float]], level: float) -> float:
    """Parameters from which a model of growing size reaches an accuracy.

    `points` are (parameters, accuracy); between two sizes the logarithm of the parameters is
    interpolated. The smallest size where that reaches the level already; infinite where none does.
    """
    points = sorted(points)
    for (size, low), (larger, high) in zip(points[:1] + points, points, strict=False):
        if high >= level:
            share = (level - low) / (high - low) if low < level else 1.0
            return size ** (1 - share) * larger**share
    return math.inf


def efficiency(results: Sequence[Result]) -> Interval | None:
    """Parameters of iRNN over those of wRNN at the best accuracy that both reach (Figure 7).

    Within the seeds that every recorded size has. Biases are left out, as the paper mostly counts.
    A lower bound where the smallest wRNN has that accuracy already, an upper one where the smallest
    iRNN has; None where neither can be said, and where one of them has fewer than two sizes.
    """
    recorded = [(r, seeds) for r in results if not (seeds := r.seeds("accuracy")).empty]
    by_kind = [
        [(r.parameters, seeds) for r, seeds in recorded if r.run.model.kind == kind]
        for kind in ("irnn", "wrnn")
    ]
    if min(map(len, by_kind)) < 2:
        return None
    times, bounds = [], set()
    for seed in pd.DataFrame([seeds for _, seeds in recorded]).T.dropna().index:
        irnn, wrnn = ([(size, seeds[seed]) for size, seeds in of] for of in by_kind)
        level = min(max(reached for _, reached in points) for points in (irnn, wrnn))
        slow, fast = (parameters_needed(points, level) for points in (irnn, wrnn))
        at_most, at_least = slow == min(irnn)[0], fast == min(wrnn)[0]
        if at_most != at_least:
            bounds.add(">=" if at_least else "<=")
        if not (at_most and at_least):
            times.append(slow / fast)
    return None if len(bounds) > 1 else interval(times, "log", *bounds)
