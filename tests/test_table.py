import math
from dataclasses import replace

import pandas as pd
import pytest
from samples import make_record

from companion.records.files import Store, committed_store
from companion.records.table import (
    curves_table,
    difference,
    experiment_table,
    gather,
    interval,
    ratio,
    records_table,
)
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
    assert reduced.description == "paper sizes, 20,000 steps, CPU: test, 1 seed"
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


def test_an_interval_is_students_on_the_scale_of_its_metric():
    assert interval([]) is None
    one = interval([2.0], "log")
    assert (one.mean, one.low, one.ends) == (2.0, None, (2.0, 2.0))
    found = interval([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half))
    losses = interval([1e-3, 1e-2, 1e-1], "log")
    assert losses.mean == pytest.approx(1e-2) and losses.low == pytest.approx(10 ** -(2 + half))
    rates = interval([99.0, 100.0, 98.0], "logit")  # 100 % is not infinitely far away
    assert 0 < rates.low < 98 < rates.mean < rates.high < 100
    assert interval([5.0, 6.0], bound=">=").ends[1] == math.inf
    assert interval([5.0, 6.0], bound="<=").ends[0] == -math.inf


def test_differences_are_paired_wherever_the_same_seeds_exist_and_only_then():
    first = pd.Series({0: 10.0, 1: 20.0, 2: 99.0})
    paired = difference(first, pd.Series({0: 9.0, 1: 18.0}))
    assert (paired.mean, paired.count, paired.values) == (1.5, 2, (1.0, 2.0))
    apart = difference(pd.Series({0: 10.0, 1: 14.0}), pd.Series({2: 5.0, 3: 9.0}))
    half = 4.302653 * (2 * 8 / 2) ** 0.5  # Welch: two degrees of freedom
    assert (apart.low, apart.high) == pytest.approx((5 - half, 5 + half)) and apart.values == ()
    assert difference(pd.Series({0: 1.0}), pd.Series({1: 3.0})).low is None
    assert difference(pd.Series(dtype=float), first) is None
    orders = difference(pd.Series({0: 1e-2}), pd.Series({0: 1e-7}), "log")
    assert orders.mean == pytest.approx(5)
    assert ratio(pd.Series({0: 8.0, 1: 2.0}), pd.Series({0: 2.0, 1: 2.0})).mean == pytest.approx(2)


def test_curves_are_in_long_form_and_metrics_are_taken_over_seeds(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    store.put(make_record(run, curves={"loss": [[1, 2.0], [2, 1.0]]}, metrics={"mse": None}))
    store.put(make_record(replace(run, seed=1, trace=False), curves={"loss": [[2, 3.0]]}))
    result = gather(FIG3, "paper", store)[0]
    curves = curves_table([result], "loss")
    assert curves[["seed", "step", "value"]].to_numpy().tolist() == [
        [0, 1, 2],
        [0, 2, 1],
        [1, 2, 3],
    ]
    assert set(curves["label"]) == {"wRNN"} and set(curves["configuration"]) == {run.id}
    assert curves_table([result], "accuracy").empty
    assert result.metric("cross_entropy").count == 1
    assert result.metric("mse") is None
    changed = result.with_metrics({"steps": {0: 3.0, 1: 5.0}})
    assert changed.metric("steps").values == (3.0, 5.0)
    assert changed.metric("cross_entropy") is None and changed.description == result.description


def test_a_loss_at_the_floor_is_a_bound_and_never_below_it(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    floor = run.task.float32_floor()
    store.put(make_record(run, metrics={"cross_entropy": 0.0, "printed_mse": floor / 49}))
    (result,) = (r for r in gather(FIG3, "paper", store) if r.records)
    assert (result.metric("cross_entropy").mean, result.metric("cross_entropy").bound) == (
        floor,
        "<=",
    )
    assert result.metric("printed_mse").bound == ""


def test_the_table_of_records_has_their_runs_their_cost_and_what_they_stand_for(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    adding = EXPERIMENTS["table1"].runs("paper")[0]
    made = {
        "paper": run,
        "other setting": replace(run, learning_rate=1e-2, trace=False),  # the whole budget as well
        "reduced": replace(run, steps=20_000),
        "quick": FIG3.runs("quick")[0],
        "smaller": EXPERIMENTS["mnist_cpu"].runs("paper")[0],
        "first steps": EXPERIMENTS["v_init"].runs("paper")[0],
    }
    for planned in made.values():
        store.put(make_record(planned))
    settled = replace(adding, stop="settled")
    store.put(
        make_record(
            settled,
            steps=5000,
            stopped="settled",
            metrics={"mse": 0.01, "solved_step": 1000},
            curves={"loss": [[100, 0.2], [200, 0.05], [300, 0.3]]},
        )
    )
    table = records_table(store).set_index("id")
    statuses = {name: table.loc[planned.id, "status"] for name, planned in made.items()}
    assert statuses == {
        "paper": "paper",
        "other setting": "paper",
        "reduced": "reduced",
        "quick": "quick",
        "smaller": "reduced",
        "first steps": "paper",
    }
    row = table.loc[settled.id]
    assert (row["status"], row["solved_step_training"], row["taken_steps"]) == (
        "settled",
        200,
        5000,
    )
    assert (row["kind"], row["length"], row["planned_steps"]) == ("wrnn", 100, 60_000)
    assert (row["seconds"], row["device"], row["without_biases"]) == (60.0, "CPU: test", 8)


def test_published_records_of_the_whole_budget_are_not_reduced():
    table = records_table(committed_store())
    copying = table[(table["profile"] == "paper") & (table["task_name"] == "copy")]
    whole = copying[copying["planned_steps"] == 60_000]
    assert len(whole) >= 8 and set(whole["status"]) <= {"paper", "settled"}
    assert set(copying[copying["planned_steps"] == 20_000]["status"]) <= {"reduced", "settled"}


def test_an_experiment_has_a_row_for_what_is_missing(tmp_path):
    store = Store(tmp_path)
    run = FIG3.runs("paper")[0]
    store.put(make_record(run))
    store.put(make_record(replace(run, seed=1, trace=False)))
    table = experiment_table(FIG3, "paper", store)
    assert table["configuration"].nunique() == len(FIG3.runs("paper"))
    assert table["status"].value_counts().to_dict() == {"missing": 11, "paper": 2}
    assert table[table["status"] == "missing"]["record"].isna().all()


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
        "paper sizes, settled at its floor after 17,000 to 23,000 of 25,000 or 60,000 steps, "
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
    assert shown() == ("reduced", f"paper sizes, 100 steps, {words}1 seed", 1)
    for seed in range(2):
        store.put(make_record(replace(jpeg, seed=seed)))
    whole = f"paper sizes, 22,080 steps, {words}2 seeds"
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
