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
RUN = FIG3.runs("paper")[0]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def first(store, experiment=FIG3, profile="paper"):
    return gather(experiment, profile, store)[0]


def seeded(seed, **changes):
    return replace(RUN, seed=seed, trace=RUN.trace and not seed, **changes)


def test_a_result_is_missing_then_reduced_then_paper(store):
    store.put(make_record(replace(RUN, steps=100, learning_rate=1e-2)))  # differs in more
    assert {result.status for result in gather(FIG3, "paper", store)} == {"missing"}
    assert first(store, profile="quick").status == "missing"
    store.put(make_record(replace(RUN, steps=100)))
    store.put(make_record(replace(RUN, steps=20_000, log_every=50)))
    reduced = first(store)
    assert reduced.status == "reduced" and not reduced.complete
    assert [record.run.steps for record in reduced.records] == [20_000]
    assert (
        reduced.description == "paper sizes, reduced to 20,000 of 60,000 steps, CPU: test, 1 seed"
    )
    longer = replace(RUN, steps=30_000)
    store.put(make_record(longer, steps=300, stopped="diverged", diverged=True))
    assert first(store).description.startswith("paper sizes, diverged after 300 of 60,000 steps")
    for seed in (0, 3):
        store.put(make_record(seeded(seed)))
    full = first(store)
    assert (full.status, [record.run.seed for record in full.records]) == ("paper", [0, 3])
    assert full.description == "paper scale, CPU: test, 2 seeds"


def test_an_interval_is_students_on_the_scale_of_its_metric():
    assert interval([]) is None
    one = interval([2.0], "log")
    assert (one.mean, one.low, one.ends) == (2.0, None, (2.0, 2.0))
    found = interval([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half))
    losses = interval([1e-3, 1e-2, 1e-1], "log")
    assert losses.mean == pytest.approx(1e-2) and losses.low == pytest.approx(10 ** -(2 + half))
    rates = interval([99.0, 99.9, 98.0], "logit")
    assert 0 < rates.low < 98 < rates.mean < rates.high < 100
    ends = interval([99.0, 100.0, 98.0], "logit")  # 100 % has no logit
    assert (ends.mean, ends.low, ends.high) == pytest.approx((99.0, 99 - half, 100))
    assert interval([5.0, 6.0], bound=">=").ends[1] == math.inf
    assert interval([5.0, 6.0], bound="<=").ends[0] == -math.inf


def test_differences_are_paired_wherever_the_same_seeds_exist_and_only_then():
    one = {0: 10.0, 1: 20.0, 2: 99.0}
    paired = difference(one, pd.Series({0: 9.0, 1: 18.0}))
    assert (paired.mean, paired.count, paired.values) == (1.5, 2, (1.0, 2.0))
    apart = difference(pd.Series({0: 10.0, 1: 14.0}), pd.Series({2: 5.0, 3: 9.0}))
    half = 4.302653 * (2 * 8 / 2) ** 0.5  # Welch: two degrees of freedom
    assert (apart.low, apart.high) == pytest.approx((5 - half, 5 + half)) and apart.values == ()
    assert difference(pd.Series({0: 1.0}), pd.Series({1: 3.0})).low is None
    assert difference({}, one) is None
    orders = difference(pd.Series({0: 1e-2}), pd.Series({0: 1e-7}), "log")
    assert orders.mean == pytest.approx(5)
    assert ratio(pd.Series({0: 8.0, 1: 2.0}), pd.Series({0: 2.0, 1: 2.0})).mean == pytest.approx(2)


def test_curves_are_in_long_form_and_metrics_are_taken_over_seeds(store):
    store.put(make_record(RUN, curves={"loss": [[1, 2.0], [2, 1.0]]}, metrics={"mse": None}))
    store.put(make_record(seeded(1), curves={"loss": [[2, 3.0]]}))
    result = first(store)
    curves = curves_table([result], "loss")
    points = curves[["seed", "step", "value"]].to_numpy().tolist()
    assert points == [[0, 1, 2], [0, 2, 1], [1, 2, 3]]
    assert set(curves["label"]) == {"wRNN"} and set(curves["configuration"]) == {RUN.id}
    assert curves_table([result], "accuracy").empty
    assert result.metric("cross_entropy").count == 1 and result.metric("mse") is None
    changed = result.with_metrics({"steps": {0: 3.0, 1: 5.0}})
    assert changed.metric("steps").values == (3.0, 5.0)
    assert changed.metric("cross_entropy") is None and changed.description == result.description


def test_a_loss_at_the_floor_is_a_bound_and_never_below_it(store):
    floor = RUN.task.float32_floor()
    store.put(make_record(RUN, metrics={"cross_entropy": 0.0, "printed_mse": floor / 49}))
    loss = first(store).metric("cross_entropy")
    assert (loss.mean, loss.bound) == (floor, "<=")
    assert first(store).metric("printed_mse").bound == ""


def test_the_table_of_records_has_their_runs_their_cost_and_what_they_stand_for(store):
    expected = [
        (RUN, "paper"),
        (replace(RUN, learning_rate=1e-2, trace=False), "paper"),  # the whole budget as well
        (replace(RUN, steps=20_000), "reduced"),
        (FIG3.runs("quick")[0], "quick"),
        (EXPERIMENTS["mnist_cpu"].runs("paper")[0], "reduced"),
        (EXPERIMENTS["v_init"].runs("paper")[0], "paper"),  # the first steps are all that counts
    ]
    for run, _ in expected:
        store.put(make_record(run))
    settled = make_record(
        replace(EXPERIMENTS["table1"].runs("paper")[0], stop="settled"),
        steps=5000,
        stopped="settled",
        metrics={"mse": 0.01, "solved_step": 1000},
        curves={"loss": [[100, 0.2], [200, 0.05], [300, 0.3]]},
    )
    store.put(settled)
    table = records_table(store).set_index("id")
    assert [table.loc[run.id, "status"] for run, _ in expected] == [s for _, s in expected]
    values = {
        **dict(status="settled", solved_step_training=200, taken_steps=5000, planned_steps=60_000),
        **dict(kind="wrnn", length=100, seconds=60.0, device="CPU: test", without_biases=8),
    }
    assert {name: table.loc[settled.id, name] for name in values} == values


def test_published_records_of_the_whole_budget_are_not_reduced():
    table = records_table(committed_store())
    copying = table[(table["profile"] == "paper") & (table["task_name"] == "copy")]
    whole = copying[copying["planned_steps"] == 60_000]
    assert len(whole) >= 8 and set(whole["status"]) <= {"paper", "settled"}
    assert set(copying[copying["planned_steps"] == 20_000]["status"]) <= {"reduced", "settled"}


def test_an_experiment_has_a_row_for_what_is_missing(store):
    for seed in range(2):
        store.put(make_record(seeded(seed)))
    table = experiment_table(FIG3, "paper", store)
    planned = len(FIG3.runs("paper"))
    assert table["configuration"].nunique() == planned
    assert table["status"].value_counts().to_dict() == {"missing": planned - 1, "paper": 2}
    assert table[table["status"] == "missing"]["record"].isna().all()


def test_settled_runs_stand_in_for_the_seeds_whose_budget_is_not_recorded(store):
    settled = dict(stop="settled")
    store.put(make_record(replace(RUN, steps=20_000)))
    store.put(make_record(seeded(0, **settled), steps=17_000, stopped="settled"))
    store.put(make_record(seeded(1, steps=25_000, **settled), steps=23_000, stopped="settled"))
    result = first(store)
    assert result.status == "settled" and result.complete
    assert [record.run.seed for record in result.records] == [0, 1]
    assert result.description == (
        "paper sizes, settled at its floor after 17,000 to 23,000 of 25,000 or 60,000 steps, "
        "CPU: test, 2 seeds"
    )
    store.put(make_record(seeded(2, **settled)))  # never at its floor: it took the whole budget
    assert first(store).status == "settled"
    assert "2 of 3 seeds settled at its floor after 17,000 to" in first(store).description
    for seed in range(2):
        store.put(make_record(seeded(seed)))
    result = first(store)
    assert (result.status, result.description) == ("paper", "paper scale, CPU: test, 3 seeds")
    assert [record.run.stop for record in result.records] == ["budget", "budget", "settled"]


def test_seeds_that_did_not_settle_are_not_passed_over_for_one_that_did(store):
    plan = dict(steps=8000, stop="settled")
    store.put(make_record(seeded(0, **plan), steps=5000, stopped="settled"))
    store.put(make_record(seeded(3, steps=2000)))  # of another plan
    assert [record.run.seed for record in first(store).records] == [0]
    store.put(make_record(seeded(1, **plan), steps=300, diverged=True))
    assert [record.run.seed for record in first(store).records] == [0, 1]
    assert first(store).status == "settled"  # a longer run diverges too
    store.put(make_record(seeded(2, **plan)))
    assert [record.run.seed for record in first(store).records] == [0, 1, 2]
    assert first(store).status == "reduced" and not first(store).complete


def test_a_point_of_a_figure_of_training_stands_in_for_no_later_one(store):
    fig18 = EXPERIMENTS["fig18"]
    first_step, *others = [r for r in fig18.runs("paper") if r.model.recurrent == "shift"]
    store.put(make_record(first_step))
    recorded = [result for result in gather(fig18, "paper", store) if result.records]
    assert [result.run for result in recorded] == [first_step]
    store.put(make_record(replace(others[-1], steps=first_step.steps + 1)))
    recorded = [result for result in gather(fig18, "paper", store) if result.records]
    assert len(recorded) == 1 + len(others)


def test_records_on_images_from_jpeg_stand_in_and_say_so(store):
    run = EXPERIMENTS["table3"].runs("paper")[0]
    jpeg = replace(run, task=replace(run.task, source="folder"))
    words = "noisy sequential CIFAR10 (JPEG), CPU: test, "
    whole = f"paper sizes, 22,080 steps, {words}2 seeds"
    for put, status, description in (
        (
            [replace(jpeg, steps=100)],
            "reduced",
            f"paper sizes, reduced to 100 of 22,080 steps, {words}1 seed",
        ),
        ([replace(jpeg, seed=seed) for seed in range(2)], "reduced", whole),
        ([replace(run, steps=100)], "reduced", whole),
        ([run], "paper", "paper scale, CPU: test, 1 seed"),
    ):
        for one in put:
            store.put(make_record(one))
        result = first(store, EXPERIMENTS["table3"])
        assert (result.status, result.description) == (status, description)


def test_a_settled_adding_run_is_described_as_solved(store):
    run = EXPERIMENTS["table1"].runs("paper")[0]
    store.put(make_record(replace(run, stop="settled"), steps=5000, stopped="settled"))
    result = first(store, EXPERIMENTS["table1"])
    assert (result.status, result.label) == ("settled", "wRNN")
    assert result.description.startswith("paper sizes, solved, stopped after 5,000 of 60,000 steps")
