"""Comparisons of results that share their seeds: differences, effects of switches, best rates.

What chapter 8 asks is answered by these: a value by seed, an interval, and the side on which it is.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from companion.records.table import Interval, Result, interval
from wrnn.errors import WrnnError
from wrnn.tasks import Task

CHOICES = {  # of the released code: what is done instead, and the two values of the switch
    "zero recurrent bias (not the default)": ("default", "zero"),
    "loss as it is (not divided)": (True, False),
    "V-init of the text (not of ones)": ("ones", "identity"),
}


def outcome(task: Task) -> tuple[str, str, float]:
    """Return a task's test metric, the name of its axis, and what no memory gets."""
    return {
        "copy": ("token_accuracy", "right symbols (%)", 100 / 8),
        "adding": ("mse", "squared error", 1 / 6),
    }.get(task.name, ("accuracy", "accuracy (%)", 10.0))


def by_task(results: Sequence[Result]) -> dict[Task, list[Result]]:
    """Return results by their task, in order."""
    groups: dict[Task, list[Result]] = {}
    for result in results:
        groups.setdefault(result.run.task, []).append(result)
    return groups


def outcomes(result: Result) -> dict[int, float]:
    """Return the outcome of a result's task by seed."""
    return by_seed(result, outcome(result.run.task)[0])


def side(found: Interval | None, line: float = 0.0) -> str:
    """Say whether an interval lies "above" a line, "below" it, or is "open".

    One seed has no interval and leaves it open.
    """
    if found is None or found.low is None or found.high is None:
        return "open"
    return "above" if found.low > line else "below" if found.high < line else "open"


def by_seed(result: Result, metric: str) -> dict[int, float]:
    """Return a test metric by seed; seeds that lack it are left out."""
    return result.seeds(metric).to_dict()


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Interval | None:
    """Estimate first minus second over the seeds of both; None where they share none."""
    seeds = sorted(first.keys() & second.keys())
    return interval([first[seed] - second[seed] for seed in seeds]) if seeds else None


def gained(
    first: Mapping[int, float], second: Mapping[int, float], *, chance: float, best: float
) -> Interval | None:
    """Estimate how much of what the second gains over chance the first has, in per cent.

    `best` is what a perfect model gets. Seeds in which the second gains less than a tenth of the
    way from chance to there have nothing to divide by and are left out; None where none is left.
    """
    shares = [
        100 * (first[seed] - chance) / (second[seed] - chance)
        for seed in sorted(first.keys() & second.keys())
        if (second[seed] - chance) / (best - chance) >= 0.1
    ]
    return interval(shares) if shares else None


def main_effects(
    outcomes: Mapping[tuple[Hashable, ...], Mapping[int, float]],
) -> list[Interval] | None:
    """Estimate what each two-valued switch of a full factorial does, over paired seeds.

    `outcomes` maps the values of all switches to an outcome by seed. The effect of a switch is the
    mean outcome at its second value minus that at its first, in the order in which the values
    appear, over all values of the other switches; one number per seed, and the estimate is over
    seeds. None where no seed has every outcome.
    """
    count = len(next(iter(outcomes)))
    levels = [list(dict.fromkeys(values[k] for values in outcomes)) for k in range(count)]
    if any(len(values) != 2 for values in levels) or len(outcomes) != 2**count:
        raise WrnnError(
            f"{len(outcomes)} outcomes are no full factorial of {count} two-valued switches"
        )
    seeds = sorted(set.intersection(*(set(by) for by in outcomes.values())))
    if not seeds:
        return None
    return [
        interval(
            [
                sum((1 if v[k] == levels[k][1] else -1) * by[seed] for v, by in outcomes.items())
                * 2
                / len(outcomes)
                for seed in seeds
            ]
        )
        for k in range(count)
    ]


def effect_of(results: Sequence[Result], **change: object) -> Interval | None:
    """Estimate what one change of the model does to the outcome, in all else alike.

    Averaged over the results that have a counterpart with `change`, within each seed; None where
    there is no such pair, or no seed that all of them have.
    """
    by_model = {result.run.model: outcomes(result) for result in results}
    pairs = [
        (before, after)
        for model, before in by_model.items()
        if (changed := replace(model, **change)) != model
        and (after := by_model.get(changed)) is not None
    ]
    if not pairs:
        return None
    seeds = set.intersection(*(before.keys() & after.keys() for before, after in pairs))
    return interval(
        sum(after[seed] - before[seed] for before, after in pairs) / len(pairs)
        for seed in sorted(seeds)
    )


def choice_effects(results: Sequence[Result]) -> list[Interval] | None:
    """Return the main effects of `CHOICES` on one task; None while a combination has no seed."""
    found = {
        (r.run.model.recurrent_bias, r.run.loss_scale < 1, r.run.model.input): outcomes(r)
        for r in results
    }
    return main_effects(found) if len(found) == 2 ** len(CHOICES) else None


def validation_score(result: Result) -> float:
    """Return the mean over seeds of the best validation, larger being better."""
    name, direction = result.run.task.selection
    best = []
    for record in result.records:
        values = [value for _, value in record.curves.get(name, ())]
        if not values or record.diverged:
            return -math.inf
        best.append(max(values) if direction == "max" else -min(values))
    return sum(best) / len(best) if best else -math.inf


def best_rates(results: Sequence[Result]) -> list[Result]:
    """Return of every task and model the recorded result whose learning rate validates best.

    Only rates with as many seeds as the best covered one count, so that a rate isn't chosen by the
    luck of fewer seeds.
    """
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        if result.records:
            groups.setdefault((result.run.task, result.run.model), []).append(result)
    chosen = []
    for group in groups.values():
        most = max(len(result.records) for result in group)
        chosen.append(max((r for r in group if len(r.records) == most), key=validation_score))
    return chosen
