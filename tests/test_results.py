from dataclasses import replace

import pytest
from test_records import make

from wrnn.experiments import EXPERIMENTS
from wrnn.records import Store
from wrnn.results import estimate, gather

FIG3 = EXPERIMENTS["fig3"]


def test_a_result_is_missing_then_reduced_then_paper(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    assert {result.status for result in gather(FIG3, "paper", store)} == {"missing"}
    store.put(make(replace(run, steps=100)))
    store.put(make(replace(run, steps=20_000, log_every=50)))
    reduced = gather(FIG3, "paper", store)[0]
    assert reduced.status == "reduced"
    assert [record.run.steps for record in reduced.records] == [20_000]
    assert "20,000 of 60,000 steps" in reduced.description
    store.put(make(run))
    store.put(make(replace(run, seed=3, trace=False)))
    full = gather(FIG3, "paper", store)[0]
    assert full.status == "paper"
    assert [record.run.seed for record in full.records] == [0, 3]
    assert full.description == "paper scale, CPU: test, 2 seeds"


def test_a_record_that_differs_in_more_than_the_budget_does_not_stand_in(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    store.put(make(replace(run, steps=100, learning_rate=1e-2)))
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
    store.put(make(run, curves={"loss": [[1, 2.0], [2, 1.0]]}, metrics={"mse": None}))
    store.put(make(replace(run, seed=1, trace=False), curves={"loss": [[2, 3.0]]}))
    result = gather(FIG3, "paper", store)[0]
    assert result.curve("loss") == ([2], [2.0], [1.0], [3.0])
    assert result.curve("accuracy") == ([], [], [], [])
    assert result.metric("cross_entropy").count == 1
    assert result.metric("mse") is None
