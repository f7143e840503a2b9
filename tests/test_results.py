from dataclasses import replace

import pytest
from samples import make_record

from companion.records.files import Store
from companion.records.results import estimate, gather
from companion.runs.experiments import EXPERIMENTS

FIG3 = EXPERIMENTS["fig3"]


def test_a_result_is_missing_then_reduced_then_paper(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    assert {result.status for result in gather(FIG3, "paper", store)} == {"missing"}
    store.put(make_record(replace(run, steps=100)))
    store.put(make_record(replace(run, steps=20_000, log_every=50)))
    reduced = gather(FIG3, "paper", store)[0]
    assert reduced.status == "reduced" and not reduced.complete
    assert [record.run.steps for record in reduced.records] == [20_000]
    assert "20,000 of 60,000 steps" in reduced.description
    store.put(make_record(run))
    store.put(make_record(replace(run, seed=3, trace=False)))
    full = gather(FIG3, "paper", store)[0]
    assert full.status == "paper"
    assert [record.run.seed for record in full.records] == [0, 3]
    assert full.description == "paper scale, CPU: test, 2 seeds"


def test_a_record_that_differs_in_more_than_the_budget_does_not_stand_in(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    store.put(make_record(replace(run, steps=100, learning_rate=1e-2)))
    assert gather(FIG3, "paper", store)[0].status == "missing"
    assert gather(FIG3, "quick", store)[0].status == "missing"


def test_estimates_have_students_interval():
    assert estimate([2.0]).half_width is None
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert found.count == 3


def test_curves_and_metrics_are_taken_over_seeds(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    store.put(make_record(run, curves={"loss": [[1, 2.0], [2, 1.0]]}, metrics={"mse": None}))
    store.put(make_record(replace(run, seed=1, trace=False), curves={"loss": [[2, 3.0]]}))
    result = gather(FIG3, "paper", store)[0]
    assert result.curve("loss") == ([2], [2.0], [1.0], [3.0])
    assert result.curve("accuracy") == ([], [], [], [])
    assert result.metric("cross_entropy").count == 1
    assert result.metric("mse") is None


def test_settled_runs_stand_in_for_the_seeds_whose_budget_is_not_recorded(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    settled = [replace(run, seed=seed, trace=False, stop="settled") for seed in range(3)]
    store.put(make_record(replace(run, steps=20_000)))
    store.put(make_record(settled[0], steps=17_000, stopped="settled"))
    store.put(make_record(replace(settled[1], steps=25_000), steps=23_000, stopped="settled"))
    result = gather(FIG3, "paper", store)[0]
    assert result.status == "settled" and result.complete
    assert [record.run.seed for record in result.records] == [0, 1]
    assert result.description == (
        "paper sizes, settled at its floor after 17,000 to 23,000 of 60,000 steps, "
        "CPU: test, 2 seeds"
    )
    store.put(make_record(settled[2]))  # never at its floor: it took the whole budget
    result = gather(FIG3, "paper", store)[0]
    assert result.status == "settled"
    assert "2 of 3 seeds settled at its floor after 17,000 to" in result.description
    for seed in range(2):
        store.put(make_record(replace(run, seed=seed, trace=seed == 0)))
    result = gather(FIG3, "paper", store)[0]
    assert result.status == "paper"
    assert result.description == "paper scale, CPU: test, 3 seeds"
    assert [record.run.stop for record in result.records] == ["budget", "budget", "settled"]


def test_records_on_images_from_jpeg_stand_in_and_say_so(tmp_path):
    store = Store(tmp_path)
    run = EXPERIMENTS["table3"].runs("paper")[0]
    jpeg = replace(run, task=replace(run.task, source="folder"))

    def shown():
        result = gather(EXPERIMENTS["table3"], "paper", store)[0]
        return result.status, result.description, len(result.records)

    words = "noisy sequential CIFAR10 (JPEG), CPU: test, "
    store.put(make_record(replace(jpeg, steps=100)))
    assert shown() == ("reduced", f"paper sizes, 100 of 22,080 steps, {words}1 seed", 1)
    for seed in range(2):
        store.put(make_record(replace(jpeg, seed=seed)))
    whole = f"paper sizes, 22,080 of 22,080 steps, {words}2 seeds"
    assert shown() == ("reduced", whole, 2)
    store.put(make_record(replace(run, steps=100)))
    assert shown() == ("reduced", whole, 2)
    store.put(make_record(run))
    assert shown() == ("paper", "paper scale, CPU: test, 1 seed", 1)


def test_a_settled_adding_run_is_described_as_solved(tmp_path):
    store = Store(tmp_path)
    run = EXPERIMENTS["table1"].runs("paper")[0]
    store.put(make_record(replace(run, stop="settled"), steps=5000, stopped="settled"))
    result = gather(EXPERIMENTS["table1"], "paper", store)[0]
    assert (result.status, result.label) == ("settled", "wRNN")
    assert result.description.startswith("paper sizes, solved, stopped after 5,000 of 60,000 steps")
