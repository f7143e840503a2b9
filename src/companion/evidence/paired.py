"""Comparisons of results that share their seeds: differences, effects of switches, best rates."""

import math
from collections.abc import Hashable, Mapping, Sequence

from companion.records.table import Interval, Result, interval
from wrnn.errors import WrnnError


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
