"""Ratios of steps where a run never gets there, and parameters for an accuracy."""

from dataclasses import replace

import pytest
from samples import make_record, result_of

from companion.evidence import measures
from companion.page import chapter
from companion.runs.run import Run, irnn_config, wrnn_config
from wrnn.tasks import AddingTask, CopyTask

PLANNED = Run(AddingTask(100), wrnn_config(100, 27), "paper", steps=60000)


def adding(*solved, taken=5000, diverged=False, **fields):
    """A result with one seed for every step at which it was solved (None: never)."""
    run = replace(PLANNED, **fields)
    records = [
        replace(
            make_record(replace(run, seed=seed), metrics={"solved_step_training": step}),
            steps=taken,
            diverged=diverged,
            stopped="diverged" if diverged else "budget",
        )
        for seed, step in enumerate(solved)
    ]
    return result_of(run, *records)


def speed(slow, fast):
    return measures.times(*map(measures.steps_to_solve, (slow, fast)), slow, fast)


def test_steps_are_compared_within_seeds_and_bounded_where_a_run_never_got_there():
    fast = adding(100, 200)
    slow = adding(1000, 3000, model=irnn_config(100))
    assert speed(slow, fast).values == pytest.approx((10, 15))
    assert (speed(slow, fast).bound, speed(adding(None), fast).bound) == ("", ">=")
    assert speed(adding(None), fast).values == pytest.approx((50,))
    assert speed(adding(None), adding(None)) is None


def test_a_run_that_diverged_counts_with_all_planned_steps_and_is_named():
    lost = adding(None, taken=300, diverged=True)
    found = speed(adding(3000, model=irnn_config(100)), lost)
    assert (found.bound, found.mean) == ("<=", pytest.approx(3000 / 60000))
    assert chapter.divergence(lost) == "diverged at step 300 (seed 0)"
    assert chapter.divergence(adding(100)) == ""
    assert "diverged at step 300" in chapter.Chapter().value(lost, "solved_step_training")
    assert "never" in chapter.Chapter().value(adding(None), "solved_step_training")


def test_steps_until_a_validation_are_those_of_as_many_validations():
    often, seldom = (
        replace(make_record(replace(PLANNED, **fields), metrics={"solved_step": 1000}))
        for fields in (dict(evaluate_every=100), dict(evaluate_every=1000, seed=1))
    )
    planned = replace(PLANNED, evaluate_every=100)
    found = result_of(planned, often, seldom)
    assert len(found.records) == 2
    assert measures.steps_to_solve(found, "solved_step").to_dict() == {0: 1000}
    assert len(measures.steps_to_solve(found)) == 2


def losses(by_seed, model=PLANNED.model):
    """A result on the copy task with these losses, on the scale of the floor."""
    run = replace(PLANNED, task=CopyTask(10), model=model)
    records = [
        make_record(replace(run, seed=seed), metrics={"cross_entropy": loss * CopyTask.floor})
        for seed, loss in by_seed.items()
    ]
    return result_of(run, *records)


def test_the_bound_of_a_gap_is_that_of_its_seeds():
    def gap(better, worse):
        found = measures.gap(losses(better), losses(worse, irnn_config(100)))
        return found and (found.bound, pytest.approx(found.mean))

    assert gap({0: 10, 1: 10}, {0: 1000, 1: 1000}) == ("", 2)
    assert gap({0: 0, 1: 1}, {0: 1000, 1: 1}) == (">=", 1.5)  # at the floor both are equal
    assert gap({0: 100, 1: 1}, {0: 0, 1: 1}) == ("<=", -1)
    assert gap({0: 1, 1: 10}, {0: 10, 1: 1}) is None
    assert gap({0: 1}, {1: 100}) == (">=", 2)  # of no seed in common
    assert gap({0: 1}, {1: 1}) is None


def test_the_best_on_validation_has_not_diverged():
    def validated(rate, lowest, diverged=False):
        run = replace(PLANNED, learning_rate=rate)
        curves = {"mse": [[1, 1.0], [2, lowest]]}
        return result_of(run, make_record(run, curves=curves, diverged=diverged))

    safe, lost = validated(1e-4, 0.1), validated(1e-3, 0.01, diverged=True)
    assert measures.best_on_validation([lost, safe], "mse") is safe
    assert measures.best_on_validation([lost], "mse") is lost
    assert measures.validation_loss(safe, "mse") == pytest.approx(0.1)


def test_parameters_needed_for_an_accuracy():
    needed = measures.parameters_needed
    points = [(10_000, 90.0), (100, 50.0), (1000, 70.0)]
    assert needed(points, 70.0) == pytest.approx(1000)
    assert needed(points, 80.0) == pytest.approx(10**3.5)  # half way on a logarithmic scale
    assert needed(points, 40.0) == 100  # the smallest has it already
    assert needed(points, 95.0) == float("inf")
