"""Training: the same record however a run is stopped, grouped or resumed, and when it settles."""

import math
import time
from dataclasses import replace

import pytest
import torch
from samples import COPY, SETTLING, advance, leave_checkpoint, settle

from companion.records.files import DamageWarning, Store
from companion.runs.run import Run, irnn_config
from companion.training.train import (
    Curves,
    RunInTraining,
    TrainingStopped,
    evaluate,
    train,
    train_replicas,
)
from wrnn import WrnnError
from wrnn.tasks import AddingTask, CopyTask, SequentialDigits

CPU = torch.device("cpu")
DIGITS = replace(
    COPY, task=SequentialDigits(), steps=12, keep="best", model=irnn_config(8, input="default")
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The record of each run, trained alone and in one go."""
    store = Store(tmp_path_factory.mktemp("whole"))
    return lambda run: store.get(run) or train(run, store)


def test_the_record_says_how_it_was_made_and_is_found_again(store):
    model = replace(COPY.model, num_channels=4, velocity=(0.25, 1.0, 0.25, 0.5))
    run = replace(COPY, model=model, trace=True, steps=14, evaluate_every=7)
    record = train(run, store)
    assert store.get(run) == record
    assert set(record.metrics) == {"cross_entropy", "printed_mse", "token_accuracy", "mse"}
    assert set(record.parameters) == {"with_biases", "without_biases"}
    assert record.device.startswith("CPU") and record.versions["torch"] == torch.__version__
    assert record.data["sha256"]
    assert [step for step, _ in record.curves["loss"]] == [5, 7, 10, 14]
    assert [step for step, _ in record.curves["token_accuracy"]] == [7, 14]
    trace = store.get(run).trace()
    assert trace["hidden"].shape == (20, 3, 12)  # one channel of every starting speed
    assert trace["channels"].tolist() in ([0, 1, 3], [1, 2, 3])
    assert trace["output"].shape == (20, 10)
    assert not list(store.folder.glob("*.checkpoint"))


def test_learning_rate_drops_and_gradients_are_clipped():
    member = RunInTraining(COPY, CPU)
    norms = []
    member.optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            torch.stack([p.grad.norm() for p in member.model.parameters()]).norm().item()
        )
    )
    advance(member, 12)
    assert member.optimizer.param_groups[0]["lr"] == 1e-3
    advance(member, 13)
    assert member.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert max(norms) <= 1.0001


def test_curves_are_finite_and_thinned_to_500_points_with_both_ends():
    curves = Curves()
    for step in range(1, 702):
        curves.add(step, {"loss": 1.0 if step % 2 else math.nan, "mse": 0.5})
    thinned = curves.thinned()
    assert len(thinned["loss"]) == 351
    assert len(thinned["mse"]) <= 500 and thinned["mse"][0][0] == 1 and thinned["mse"][-1][0] == 701


def test_best_on_validation_is_kept_and_the_test_split_is_read_once(monkeypatch):
    splits = []
    original = SequentialDigits.evaluation_batches

    def spy(self, split, *arguments, **options):
        splits.append(split)
        return original(self, split, *arguments, **options)

    monkeypatch.setattr(SequentialDigits, "evaluation_batches", spy)
    member = advance(RunInTraining(replace(DIGITS, steps=40, learning_rate=0.01), CPU))
    scores = [score for _, score in member.curves.points["accuracy"]]
    assert scores[-1] < max(scores)
    record, _ = member.record()
    assert (splits.count("test"), splits[-1]) == (1, "test")
    assert evaluate(member.model, member.run, "validation", CPU)["accuracy"] == max(scores)
    assert record.metrics == evaluate(member.model, member.run, "test", CPU)
    assert resumed_at(member.run, 35) == record.outcome()  # with the best of before


def test_a_score_that_is_no_number_is_not_the_best(monkeypatch):
    scores = iter([math.nan, 0.5, 0.9, math.inf, 0.7])
    monkeypatch.setattr(
        "companion.training.train.evaluate", lambda *_: {"cross_entropy": next(scores)}
    )
    member = advance(RunInTraining(replace(COPY, steps=5, evaluate_every=1, keep="best"), CPU))
    assert member.best[0] == -0.5


def test_runs_together_get_the_records_they_get_alone(store, whole, tmp_path):
    runs = [
        COPY,
        replace(COPY, model=irnn_config(8), steps=7, clip=0.5, seed=1),
        replace(COPY, task=AddingTask(12, test_batch_size=8), drop_steps=(4,), trace=True),
        replace(DIGITS, batch_size=3, log_every=2),
    ]
    alone = [whole(run).outcome() for run in runs]
    torch.manual_seed(5)  # the global generator must not matter
    fresh = train_replicas(runs, Store(tmp_path / "fresh"))
    assert [record.outcome() for record in fresh] == alone
    assert [record.replicas for record in fresh] == [4] * 4
    store.put(whole(runs[0]))  # the others go on from where they were stopped, or start
    leave_checkpoint(runs[1], store, 7)
    leave_checkpoint(runs[2], store, 5)
    taken = []
    resumed = train_replicas(runs, store, progress=taken.append)
    assert [record.outcome() for record in resumed] == alone
    assert [record.replicas for record in resumed] == [1, 1, 2, 2]
    assert sum(taken) == sum(run.steps for run in runs)
    assert not list(store.folder.glob("*.checkpoint"))
    assert train_replicas([], store) == []
    assert len(train_replicas([COPY, COPY], store)) == 2


def test_a_time_limit_saves_every_replica(store, whole):
    runs = [replace(COPY, seed=seed) for seed in range(2)]
    with pytest.raises(TrainingStopped, match=r"seed 0 at step 1 and .* seed 1 at step 1"):
        train_replicas(runs, store, deadline=time.monotonic())
    assert store.all() == [] and len(list(store.folder.glob("*.checkpoint"))) == 2
    resumed = train_replicas(runs, store)
    assert [record.outcome() for record in resumed] == [whole(run).outcome() for run in runs]


def test_seconds_are_shares_of_what_passed_and_survive_a_stop(store):
    runs = [replace(COPY, seed=seed) for seed in range(3)]
    started, processor_started = time.monotonic(), time.process_time()
    records = train_replicas(runs, store)
    assert 0 < sum(record.seconds for record in records) <= time.monotonic() - started
    spent = sum(record.processor_seconds for record in records)
    assert 0 < spent <= time.process_time() - processor_started
    member = RunInTraining(replace(COPY, seed=3), CPU)
    member.seconds = member.processor_seconds = 1000.0
    store.save_checkpoint(member.run, member.state())
    record = train(member.run, store)
    assert min(record.seconds, record.processor_seconds) > 1000.0


def resumed_at(run: Run, step: int) -> dict:
    """What comes out where a run was stopped at a step and went on elsewhere."""
    second = RunInTraining(run, CPU)
    second.load(advance(RunInTraining(run, CPU), step).state())
    return advance(second).record()[0].outcome()


def test_every_step_of_a_run_is_a_good_place_to_stop(whole):
    run = replace(COPY, steps=8, log_every=2, evaluate_every=4, drop_steps=(3,))
    for step in range(1, 8):
        assert resumed_at(run, step) == whole(run).outcome(), step


def test_a_diverging_run_stops_and_says_so(store):
    run = replace(COPY, task=AddingTask(10, test_batch_size=8), learning_rate=1e30, clip=0.0)
    record = train(run, store)
    assert record.diverged and record.stopped == "diverged"
    assert record.metrics["mse"] is None and record.metrics["solved_step"] is None
    assert store.get(run) == record


@pytest.mark.parametrize("hold", [0, 60])
def test_adding_settles_some_steps_after_both_of_its_criteria(hold, store, whole, monkeypatch):
    budget = whole(SETTLING)
    settle(monkeypatch, hold=hold)
    record = train(replace(SETTLING, stop="settled"), store)
    first = {
        name: next(step for step, value in budget.curves[name] if value <= 0.05)
        for name in ("mse", "loss")  # by a validation, by a training batch
    }
    assert (record.steps, record.stopped) == (max(first.values()) + hold, "settled")
    for one in (record, budget):
        assert one.metrics["solved_step"] == first["mse"]
        assert one.metrics["solved_step_training"] == first["loss"]
    assert (budget.steps, budget.stopped) == (400, "budget")
    shared = [point for point in budget.curves["mse"] if point[0] <= record.steps]
    assert record.curves["mse"] == shared
    assert store.get(record.run) == record
    if hold:  # and resumed, bit for bit, while it is held
        assert resumed_at(record.run, record.steps - 45) == record.outcome()


@pytest.mark.parametrize("missing", ["solved_step", "solved_step_training"])
def test_adding_does_not_settle_by_one_criterion_alone(missing):
    member = RunInTraining(replace(SETTLING, stop="settled"), CPU)
    member.solved_step = member.solved_step_training = 20
    setattr(member, missing, None)
    member.step = 9000
    member.note_floor({"mse": 0.0})
    assert not member.settled
    setattr(member, missing, 40)
    for member.step, settled in ((2039, False), (2040, True)):
        member.note_floor({"mse": 1.0})  # a later rise takes nothing back
        assert member.settled == settled


def test_copy_settles_after_its_floor_was_held_for_2000_steps_without_a_break():
    member = RunInTraining(replace(COPY, stop="settled"), CPU)
    floor, settled = CopyTask.settled.floor, []
    losses = [(1000, floor), (2000, 2 * floor), (3000, floor), (4000, 0.0), (4999, floor)]
    for step, value in [*losses, (5000, floor)]:
        resumed = RunInTraining(member.run, CPU)
        resumed.load(member.state())
        member, member.step = resumed, step
        member.note_floor({"cross_entropy": value})
        settled.append(member.settled)
    assert settled == [False] * 5 + [True]


def test_a_run_that_does_not_settle_equals_the_run_with_the_whole_budget(whole, store):
    settled, budget = train(replace(COPY, stop="settled"), store).outcome(), whole(COPY).outcome()
    assert settled.pop("run")["stop"] == "settled" and "stop" not in budget.pop("run")
    assert settled == budget


def test_an_unknown_or_useless_stop_rule_is_one_line():
    with pytest.raises(WrnnError, match="stop 'settled' is for copy and adding only"):
        replace(DIGITS, stop="settled")
    with pytest.raises(WrnnError, match="unknown stop rule 'never': use budget or settled"):
        replace(COPY, stop="never")


@pytest.mark.parametrize("run", [COPY, DIGITS], ids=["copy", "digits"])
def test_small_weights_are_kept_and_give_back_the_tested_metrics(run, store):
    """Of the best weights, where these count."""
    record = store.get(train(run, store).run)
    model = run.start()
    model.load_state_dict({n: torch.from_numpy(array) for n, array in record.weights().items()})
    metrics = evaluate(model, run, "test", CPU)
    assert {name: record.metrics[name] for name in metrics} == metrics
    assert record.trace() is None


@pytest.mark.parametrize(
    ("size", "seed", "kept"), [(300, 0, True), (300, 1, False), (600, 0, False)]
)
def test_large_weights_are_not_kept(size, seed, kept, store):
    """They are kept up to 1 MB of seed 0, and up to 100 kB of the others."""
    run = replace(COPY, model=irnn_config(size), steps=1, seed=seed, batch_size=1)
    train(run, store)
    assert (store.get(run).weights() is not None) == kept
    assert store.path(run, ".npz").exists() == kept


@pytest.mark.parametrize(
    "change", [None, {"optimizer": {}}, {"model": {}}, {"settled_since": "left out"}]
)
def test_a_checkpoint_damaged_or_of_another_version_is_set_aside(change, store, whole):
    state = advance(RunInTraining(COPY, CPU), 20).state() | (change or {})
    if state["settled_since"] == "left out":
        del state["settled_since"]
    store.save_checkpoint(COPY, state)
    checkpoint = store.path(COPY, ".checkpoint")
    if change is None:
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    useless, taken = checkpoint.read_bytes(), []
    with pytest.warns(DamageWarning, match=rf"set aside as {checkpoint.stem}\.\*\.damaged"):
        record = train(COPY, store, progress=taken.append)
    assert record.outcome() == whole(COPY).outcome()
    assert sum(taken) == COPY.steps
    assert checkpoint.with_name(f"{checkpoint.name}.damaged").read_bytes() == useless
    assert not checkpoint.exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), MemoryError(), OSError(24, "?")])
def test_a_checkpoint_stays_where_the_machine_is_at_fault(error, store, monkeypatch):
    store.save_checkpoint(COPY, advance(RunInTraining(COPY, CPU), 20).state())

    def fail(*arguments):
        raise error

    if isinstance(error, torch.OutOfMemoryError):
        monkeypatch.setattr(RunInTraining, "load", fail)
    else:
        monkeypatch.setattr("companion.records.checks.read_bounded", fail)
    with pytest.raises(type(error)):
        train(COPY, store)
    assert store.path(COPY, ".checkpoint").exists()


def test_a_record_names_the_commits_that_trained_it(store, monkeypatch):
    for commit in ("first", "second", "third"):
        monkeypatch.setattr("companion.training.train.git_commit", lambda commit=commit: commit)
        if commit == "third":
            assert train(COPY, store).commit == "first..third"
            break
        with pytest.raises(TrainingStopped):
            train(COPY, store, stop=lambda: True)


def test_a_checkpoint_of_another_type_of_device_stays(store):
    state = advance(RunInTraining(COPY, CPU), 20).state()
    state["generator"] = torch.zeros(16, dtype=torch.uint8)  # as long as that of a GPU
    store.save_checkpoint(COPY, state)
    with pytest.raises(WrnnError, match="another type of device than cpu"):
        train(COPY, store)
    assert store.path(COPY, ".checkpoint").exists()
