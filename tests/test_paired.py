"""Paired comparisons against numbers worked out by hand."""

from dataclasses import replace

import pytest
from samples import make_record, result_of

from companion.evidence.paired import (
    Outcome,
    best_rates,
    by_task,
    choice_effects,
    effect_of,
    gained,
    outcome,
    outcomes,
    side,
    validation_rank,
)
from companion.records.table import Result, interval
from companion.runs.run import Run, wrnn_config
from wrnn.tasks import AddingTask, CopyTask


def test_the_share_of_what_is_gained_over_chance():
    trained = {0: 90.0, 1: 50.0, 2: 10.5, 3: 2.0}  # the last two have not learned
    right, error = Outcome("accuracy", "", 10.0, 100.0), Outcome("mse", "", 0.15, 0.0)
    found = gained({0: 50.0, 1: 30.0, 2: 80.0, 3: 2.0}, trained, right)
    assert (found.mean, found.low, found.high, found.count) == (50.0, 50.0, 50.0, 2)
    assert gained({0: 0.1}, {0: 0.05}, error).mean == pytest.approx(50)
    assert gained({0: 0.9}, {0: 0.9}, error) is None  # no better than chance
    assert gained({0: 80.0}, {1: 90.0}, right) is None


def test_what_no_memory_gets_is_measured_on_the_test_set():
    task = AddingTask(200)
    ((_, y),) = task.evaluation_batches("test")
    assert outcome(task).chance == pytest.approx((y - 1).square().mean().item())
    assert abs(outcome(task).chance - 1 / 6) > 0.005  # of 1,000 sequences
    assert outcome(CopyTask(20))[2:] == (12.5, 100)


def recorded(run: Run, **by_seed: list) -> Result:
    """A result with one record per seed, of fields of a record by seed."""
    seeds = zip(*by_seed.values(), strict=True)
    records = [
        make_record(replace(run, seed=seed), **dict(zip(by_seed, values, strict=True)))
        for seed, values in enumerate(seeds)
    ]
    return result_of(run, *records)


def result(rate: float, validation: list[float], seeds: int = 2) -> Result:
    run = Run(AddingTask(10), wrnn_config(4, 1), "quick", steps=2, learning_rate=rate)
    curves = {"mse": [[step, value] for step, value in enumerate(validation)]}
    return recorded(run, metrics=[{"mse": rate}] * seeds, curves=[curves] * seeds)


def test_the_rate_is_chosen_by_validation_not_by_test():
    slow, fast = result(0.001, [3.0, 1.0, 2.0]), result(0.01, [2.5, 1.5, 1.4])
    lucky = result(0.1, [0.1], seeds=1)
    empty = result(0.03, [], seeds=0)
    assert best_rates([fast, slow, lucky, empty]) == [slow]
    assert outcomes(slow) == {0: 0.001, 1: 0.001}


def test_a_rate_of_which_seeds_diverged_is_not_the_best():
    safe, best = result(0.001, [3.0, 2.0]), result(0.01, [0.1])
    lost = [replace(r, diverged=True) for r in best.records[:1]]
    best = result_of(best.run, *lost, *best.records[1:])
    assert best_rates([best, safe]) == [safe]
    assert best_rates([best]) == [best]
    assert validation_rank(best) == (1, -0.1)
    assert outcomes(best) == {1: 0.01}  # a run that diverged has no result


def test_the_side_of_a_line_is_that_of_the_whole_interval():
    above, below = interval([1.0, 1.1, 1.2]), interval([-1.0, -1.1, -1.2])
    assert (side(above), side(below), side(above, 1.1)) == ("above", "below", "open")
    assert (side(above, 5), side(interval([9.0])), side(None)) == ("below", "open", "open")
    at_most, at_least = (interval([1.0, 1.1, 1.2], bound=bound) for bound in ("<=", ">="))
    assert (side(at_most, 0.5), side(at_most, 2)) == ("open", "below")
    assert (side(at_least, 0.5), side(at_least, 2)) == ("above", "open")


def copying(run: Run, outcome: dict[int, float]) -> Result:
    return recorded(run, metrics=[{"token_accuracy": value} for value in outcome.values()])


def test_a_change_of_the_model_is_averaged_over_its_pairs_within_seeds():
    effect = {"zero": 3.0, "default": 0.0, "identity": -2.0, "ones": 0.0}
    run = Run(CopyTask(20), wrnn_config(8, 2), "quick", steps=2)
    found = [
        copying(
            replace(
                run,
                model=replace(run.model, recurrent_bias=bias, input=kind),
                loss_scale=scale,
            ),
            {s: 50 + 10 * s + effect[bias] + effect[kind] + 4 * (scale == 1) for s in (0, 1)},
        )
        for bias in ("default", "zero")
        for scale in (0.5, 1.0)
        for kind in ("ones", "identity")
    ]
    assert [e.mean for e in choice_effects(found)] == [3.0, 4.0, -2.0]
    assert choice_effects(found)[0].values == (3.0, 3.0)
    assert choice_effects(found[:-1]) is None
    assert choice_effects([*found[:-1], copying(found[-1].run, {})]) is None
    divided = [result for result in found if result.run.loss_scale < 1]
    assert effect_of(divided, recurrent_bias="zero").mean == 3.0
    assert effect_of(divided, input="identity").values == (-2.0, -2.0)
    assert effect_of(divided, leak=0.05) is None
    assert list(by_task(found).values()) == [found]
    assert outcomes(found[0]) == {0: 50.0, 1: 60.0}
