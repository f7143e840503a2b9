import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samples import COPY

from companion.records.files import DamageWarning, Store
from companion.runs.experiments import EXPERIMENTS
from companion.runs.run import Run, irnn_config, wrnn_config
from companion.training.step import Replicas
from companion.training.train import (
    RunInTraining,
    TrainingStopped,
    evaluate,
    train,
    train_replicas,
)
from wrnn import WrnnError, recurrence
from wrnn import model as models
from wrnn.tasks import AddingTask, CopyTask, SequentialDigits

DIGITS = replace(
    COPY, task=SequentialDigits(), steps=12, keep="best", model=irnn_config(8, input="default")
)


COMMITTED = Store(Path(__file__).parents[1] / "records")
SETTLING = Run(
    AddingTask(4, test_batch_size=200),
    wrnn_config(8, 4),
    "smoke",
    steps=400,
    batch_size=64,
    learning_rate=5e-3,
    clip=1.0,
    log_every=20,
    evaluate_every=20,
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "records")


@pytest.mark.parametrize("run", [COPY, DIGITS], ids=["copy", "digits"])
def test_the_same_seed_gives_the_same_record(run, tmp_path):
    first = train(run, Store(tmp_path / "a"))
    torch.manual_seed(5)  # the global generator must not matter
    second = train(run, Store(tmp_path / "b"))
    assert first.outcome() == second.outcome()
    assert first.outcome() != train(replace(run, seed=1), Store(tmp_path / "c")).outcome()


def test_the_record_says_how_it_was_made_and_is_found_again(store):
    record = train(replace(COPY, trace=True), store)
    assert store.get(record.run) == record
    assert set(record.metrics) == {"cross_entropy", "printed_mse", "token_accuracy", "mse"}
    assert set(record.parameters) == {"with_biases", "without_biases"}
    assert record.device.startswith("CPU")
    assert record.versions["torch"] == torch.__version__
    assert record.data["sha256"]
    assert [step for step, _ in record.curves["loss"]] == [5, 10, 15, 20, 25, 30]
    assert [step for step, _ in record.curves["token_accuracy"]] == [10, 20, 30]
    trace = store.get(record.run).trace()
    assert trace["hidden"].shape == (20, 2, 12)
    assert trace["output"].shape == (20, 10)
    assert not list(store.folder.glob("*.checkpoint"))


def test_a_trace_keeps_a_channel_of_every_starting_speed(store):
    model = replace(COPY.model, num_channels=4, velocity=(0.25, 1.0, 0.25, 0.5))
    run = replace(COPY, model=model, trace=True)
    train(run, store)
    trace = store.get(run).trace()
    assert trace["hidden"].shape == (20, 3, 12)
    kept = trace["channels"].tolist()
    assert kept in ([0, 1, 3], [1, 2, 3])


def advance(trainer, until=None):
    """Take steps as training does, to a step or to the end."""
    group = Replicas([trainer])
    while trainer.stopped is None and trainer.step != until:
        group.take_step()
        if trainer.at_log:
            trainer.log()
    return trainer


def use_the_loop(monkeypatch):
    """Compute every recurrence step by step."""
    for module in (models, recurrence):
        monkeypatch.setattr(module, "choose_backend", lambda *_, **__: ("loop", "for a test"))


def leave_checkpoint(run, store, step):
    """Leave a run as if it had been stopped at a step."""
    store.save_checkpoint(run, advance(RunInTraining(run, torch.device("cpu")), step).state())


def test_learning_rate_drops_and_gradients_are_clipped():
    trainer = RunInTraining(COPY, torch.device("cpu"))
    norms = []
    trainer.optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm().item()
        )
    )
    advance(trainer, 12)
    assert trainer.optimizer.param_groups[0]["lr"] == 1e-3
    advance(trainer, 13)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert max(norms) <= 1.0001


def test_curves_are_thinned_to_500_points_with_both_ends(store):
    record = train(replace(COPY, steps=701, log_every=1, evaluate_every=701), store)
    steps = [step for step, _ in record.curves["loss"]]
    assert len(steps) <= 500
    assert (steps[0], steps[-1]) == (1, 701)


def test_validation_does_not_wait_for_a_logging_step(store):
    record = train(replace(COPY, steps=14, log_every=5, evaluate_every=7), store)
    assert [step for step, _ in record.curves["token_accuracy"]] == [7, 14]
    assert [step for step, _ in record.curves["loss"]] == [5, 7, 10, 14]


def test_best_on_validation_is_kept_and_the_test_split_is_read_once(store, monkeypatch):
    splits = []
    original = SequentialDigits.evaluation_batches

    def spy(self, split, *arguments, **options):
        splits.append(split)
        return original(self, split, *arguments, **options)

    monkeypatch.setattr(SequentialDigits, "evaluation_batches", spy)
    run = replace(DIGITS, steps=40, learning_rate=0.05)
    trainer = RunInTraining(run, torch.device("cpu"))
    group = Replicas([trainer])
    scores = {}
    while trainer.stopped is None:
        group.take_step()
        if trainer.at_log:
            trainer.log()
            if trainer.at_evaluation:
                scores[trainer.step] = (
                    trainer.curves.points["accuracy"][-1][1],
                    evaluate(trainer.model, run, "validation", trainer.device),
                )
    best = max(score for score, _ in scores.values())
    trainer.record()
    assert evaluate(trainer.model, run, "validation", trainer.device)["accuracy"] == best
    assert splits.count("test") == 1
    assert splits.index("test") > max(i for i, s in enumerate(splits[:-1]) if s != "test") - 1


def test_a_time_limit_stops_cleanly_and_the_rest_gives_the_same_record(store, tmp_path):
    whole = train(COPY, Store(tmp_path / "whole"))
    with pytest.raises(TrainingStopped):
        train(COPY, store, deadline=time.monotonic())
    assert store.get(COPY) is None
    assert store.path(COPY, ".checkpoint").exists()
    assert train(COPY, store).outcome() == whole.outcome()


KILLED = """
import json, sys
from companion.records.files import Store
from companion.runs.run import Run
from companion.training.train import train_replicas
runs = [Run.from_dict(values) for values in json.loads(sys.argv[1])]
print("ready", flush=True)
train_replicas(runs, Store(sys.argv[2]), checkpoint_seconds=0.0)
"""


def test_runs_killed_at_random_moments_get_the_records_of_runs_never_killed(store, tmp_path):
    """A process that trains two seeds is killed again and again; it saves after every step."""
    runs = [replace(COPY, steps=300, seed=s, trace=s == 0) for s in range(2)]
    whole = [train(run, Store(tmp_path / "whole")).outcome() for run in runs]
    moments = random.Random(0)

    def written():
        try:
            return {(path.name, path.stat().st_mtime_ns) for path in store.folder.glob("[!.]*")}
        except FileNotFoundError:  # a checkpoint whose record is there now
            return written()

    command = [sys.executable, "-c", KILLED, json.dumps([run.to_dict() for run in runs])]
    for attempt in range(3):
        with subprocess.Popen(
            [*command, str(store.folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        ) as process:
            process.stdout.readline()
            before = written()
            while attempt and process.poll() is None and written() == before:
                time.sleep(0.01)  # all but the first time until it has saved something
            delay = moments.uniform(0.0, 0.5)
            print(f"seed 0, attempt {attempt}: killed after {delay:.3f} s")
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        store.all()  # raises where a record is damaged
    assert written()
    print("left:", *(name for name, _ in written()))
    assert [record.outcome() for record in train_replicas(runs, store)] == whole


@pytest.mark.parametrize("backend", ["auto", "loop"])
@pytest.mark.parametrize("run", [COPY, DIGITS], ids=["copy", "digits"])
def test_replicas_get_the_records_they_get_alone(run, backend, store, tmp_path, monkeypatch):
    if backend == "loop":
        use_the_loop(monkeypatch)
    run = replace(run, clip=0.5, drop_steps=(4, 9))
    runs = [replace(run, seed=seed, trace=seed == 0) for seed in range(4)]
    alone = Store(tmp_path / "alone")
    whole = [train(one, alone).outcome() for one in runs]
    assert len({json.dumps(outcome["metrics"]) for outcome in whole}) == 4
    fresh = train_replicas(runs, Store(tmp_path / "fresh"))
    assert [record.outcome() for record in fresh] == whole
    assert [record.replicas for record in fresh] == [4] * 4
    store.put(alone.get(runs[2]))  # the others go on from where they were stopped, or start
    leave_checkpoint(runs[0], store, 7)
    leave_checkpoint(runs[3], store, run.steps)
    taken = []
    resumed = train_replicas(runs, store, progress=taken.append)
    assert [record.outcome() for record in resumed] == whole
    assert [record.replicas for record in resumed] == [2, 2, 1, 1]
    assert sum(taken) == 4 * run.steps
    assert not list(store.folder.glob("*.checkpoint"))


def test_a_replica_that_ends_leaves_the_others_training(store, tmp_path, monkeypatch):
    settle(monkeypatch, hold=20)
    runs = [replace(SETTLING, seed=seed, stop="settled") for seed in range(3)]
    alone = [train(run, Store(tmp_path / "alone")).outcome() for run in runs]
    assert len({outcome["steps"] for outcome in alone}) > 1
    assert [record.outcome() for record in train_replicas(runs, store)] == alone


def test_a_time_limit_saves_every_replica(store, tmp_path):
    runs = [replace(COPY, seed=seed) for seed in range(2)]
    with pytest.raises(TrainingStopped, match=r"seed 0 at step 1 and .* seed 1 at step 1"):
        train_replicas(runs, store, deadline=time.monotonic())
    assert len(list(store.folder.glob("*.checkpoint"))) == 2
    whole = [train(run, Store(tmp_path / "whole")).outcome() for run in runs]
    assert [record.outcome() for record in train_replicas(runs, store)] == whole


@pytest.mark.parametrize("backend", ["auto", "loop"])
def test_different_runs_together_get_the_records_they_get_alone(
    backend, store, tmp_path, monkeypatch
):
    if backend == "loop":
        use_the_loop(monkeypatch)
    runs = [
        COPY,
        replace(COPY, model=irnn_config(8), steps=7, clip=0.5, seed=1),
        replace(COPY, task=AddingTask(12, test_batch_size=8), drop_steps=(4,), trace=True),
        replace(COPY, task=SequentialDigits(), batch_size=3, log_every=2, keep="best"),
    ]
    whole = [train(run, Store(tmp_path / "alone")).outcome() for run in runs]
    leave_checkpoint(runs[2], store, 5)
    records = train_replicas(runs, store)
    assert [record.outcome() for record in records] == whole
    assert [record.replicas for record in records] == [4] * 4
    assert train_replicas([], store) == []
    assert len(train_replicas([COPY, COPY], store)) == 2


def test_the_seconds_of_replicas_are_shares_of_the_wall_time(store):
    runs = [replace(COPY, seed=seed, steps=60) for seed in range(3)]
    started = time.monotonic()
    records = train_replicas(runs, store)
    assert 0 < sum(record.seconds for record in records) <= time.monotonic() - started


def test_every_step_of_a_run_is_a_good_place_to_stop(tmp_path):
    run = replace(COPY, steps=8, log_every=2, evaluate_every=4, drop_steps=(3,))
    whole = train(run, Store(tmp_path / "whole")).outcome()
    for stop in range(1, 8):
        second = RunInTraining(run, torch.device("cpu"))
        second.load(advance(RunInTraining(run, torch.device("cpu")), stop).state())
        assert advance(second).record()[0].outcome() == whole, stop


def test_a_diverging_run_stops_and_says_so(store):
    run = replace(COPY, task=AddingTask(10, test_batch_size=8), learning_rate=1e30, clip=0.0)
    record = train(run, store)
    assert record.diverged
    assert record.metrics["mse"] is None
    assert record.metrics["solved_step"] is None
    assert store.get(run) == record


def test_a_solved_step_is_the_first_validation_at_or_below_the_threshold(store):
    record = train(SETTLING, store)
    below = [step for step, mse in record.curves["mse"] if mse <= 0.05]
    assert below
    assert record.metrics["solved_step"] == below[0]


def settle(monkeypatch, **rule):
    monkeypatch.setattr(AddingTask, "settled", replace(AddingTask.settled, **rule))


@pytest.mark.parametrize("hold", [0, 60])
def test_adding_settles_some_steps_after_both_of_its_criteria(hold, store, monkeypatch):
    settle(monkeypatch, hold=hold)
    record = train(replace(SETTLING, stop="settled"), store)
    whole = train(SETTLING, store)
    first = {
        name: next(step for step, value in whole.curves[name] if value <= 0.05)
        for name in ("mse", "loss")  # by a validation, by a training batch
    }
    assert (record.steps, record.stopped) == (max(first.values()) + hold, "settled")
    assert record.metrics["solved_step"] == first["mse"]
    assert record.metrics["solved_step_training"] == first["loss"]
    assert (whole.steps, whole.stopped) == (400, "budget")
    shared = [point for point in whole.curves["mse"] if point[0] <= record.steps]
    assert record.curves["mse"] == shared
    assert store.get(record.run) == record


@pytest.mark.parametrize("missing", ["solved_step", "solved_step_training"])
def test_adding_does_not_settle_by_one_criterion_alone(missing):
    trainer = RunInTraining(replace(SETTLING, stop="settled"), torch.device("cpu"))
    trainer.solved_step = trainer.solved_step_training = 20
    setattr(trainer, missing, None)
    trainer.step = 399
    trainer.note_floor({"mse": 0.0})
    assert not trainer.settled
    setattr(trainer, missing, 40)
    trainer.step = 40 + AddingTask.settled.hold
    trainer.note_floor({"mse": 1.0})  # a later rise takes nothing back
    assert trainer.settled


def test_copy_settles_after_its_floor_was_held_without_a_break(monkeypatch):
    monkeypatch.setattr(CopyTask, "settled", replace(CopyTask.settled, hold=20))
    trainer = RunInTraining(replace(COPY, stop="settled"), torch.device("cpu"))
    floor, settled = CopyTask.settled.floor, []
    for step, value in [(10, floor), (20, 2 * floor), (30, floor), (40, 0.0), (50, floor)]:
        trainer.step = step
        trainer.note_floor({"cross_entropy": value})
        settled.append(trainer.settled)
    assert settled == [False, False, False, False, True]


def test_a_run_that_does_not_settle_equals_the_run_with_the_whole_budget(store):
    settled = train(replace(COPY, stop="settled"), store).outcome()
    whole = train(COPY, store).outcome()
    assert settled.pop("run")["stop"] == "settled"
    assert "stop" not in whole.pop("run")
    assert settled == whole


def test_a_settling_run_is_resumed_bit_for_bit(tmp_path, monkeypatch):
    settle(monkeypatch, hold=60)
    run = replace(SETTLING, stop="settled")
    whole = train(run, Store(tmp_path)).outcome()
    for stop in (whole["steps"] - 45, whole["steps"] - 1, whole["steps"]):
        second = RunInTraining(run, torch.device("cpu"))
        second.load(advance(RunInTraining(run, torch.device("cpu")), stop).state())
        assert advance(second).record()[0].outcome() == whole, stop


def test_the_paper_tasks_say_when_they_are_settled():
    copy, adding = CopyTask(10).settled, AddingTask(100).settled
    assert (copy.metric, copy.floor, copy.hold) == ("cross_entropy", 2.0**-23, 2000)
    assert (adding.metric, adding.floor, adding.hold) == (*AddingTask.solved, 2000)


def test_small_weights_are_kept_and_give_back_the_tested_metrics(store):
    """Of seed 0 up to 1 MB, of other seeds up to 100 kB; of the best weights where these count."""
    for run in (COPY, DIGITS):
        record = store.get(train(run, store).run)
        model = RunInTraining(run, torch.device("cpu")).model
        weights = {name: torch.from_numpy(array) for name, array in record.weights().items()}
        model.load_state_dict(weights)
        metrics = evaluate(model, run, "test", torch.device("cpu"))
        assert {name: record.metrics[name] for name in metrics} == metrics
        assert record.trace() is None


@pytest.mark.parametrize(
    ("size", "seed", "kept"),
    [(100, 0, True), (100, 1, True), (300, 0, True), (300, 1, False), (600, 0, False)],
)
def test_large_weights_are_not_kept(size, seed, kept, store):
    run = replace(COPY, model=irnn_config(size), steps=1, seed=seed)
    bytes_of = 4 * train(run, store).parameters["with_biases"]
    assert kept == (bytes_of <= (1_000_000 if seed == 0 else 100_000))
    record = store.get(run)
    assert (record.weights() is not None) == kept
    assert store.path(run, ".npz").exists() == kept


def test_processor_seconds_are_measured_and_survive_a_stop(store):
    record = train(COPY, store)
    assert record.processor_seconds > 0
    run = replace(COPY, seed=1)
    trainer = RunInTraining(run, torch.device("cpu"))
    trainer.processor_seconds = 1000.0
    store.save_checkpoint(run, trainer.state())
    assert train(run, store).processor_seconds > 1000.0


def test_the_stop_rule_is_checked_and_leaves_older_ids_alone(monkeypatch):
    monkeypatch.setenv("WRNN_STRICT", "1")
    with pytest.raises(WrnnError, match="stop 'settled' is for copy and adding only"):
        replace(DIGITS, stop="settled")
    with pytest.raises(WrnnError, match="unknown stop rule 'never': use budget or settled"):
        replace(COPY, stop="never")
    settled = replace(COPY, stop="settled")
    assert "stop" not in COPY.to_dict()
    assert Run.from_dict(settled.to_dict()) == settled
    assert settled.id != COPY.id
    for record in COMMITTED.all():  # checks each id
        assert record.stopped in ("budget", "settled", "diverged")
        if record.stopped == "budget":
            assert record.steps == record.run.steps


def test_a_bad_device_is_one_line(store):
    with pytest.raises(WrnnError, match="auto, cpu or cuda"):
        train(COPY, store, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(WrnnError, match="no CUDA device"):
            train(COPY, store, device="cuda")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"not a checkpoint",
        lambda content: content[:-1],
        lambda content: content[len(content) // 2 :],
        *(
            lambda content, part=part: (
                content[: len(content) * part // 8]
                + bytes([content[len(content) * part // 8] ^ 16])
                + content[len(content) * part // 8 + 1 :]
            )
            for part in range(8)
        ),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_and_its_run_starts_again(damage, store, tmp_path):
    whole = train(COPY, Store(tmp_path / "whole")).outcome()
    leave_checkpoint(COPY, store, 20)
    checkpoint = store.path(COPY, ".checkpoint")
    damaged = damage(checkpoint.read_bytes())
    checkpoint.write_bytes(damaged)
    taken = []
    with pytest.warns(DamageWarning, match=f"it is now {checkpoint.name}.damaged"):
        record = train(COPY, store, progress=taken.append)
    assert record.outcome() == whole
    assert sum(taken) == COPY.steps
    assert checkpoint.with_name(f"{checkpoint.name}.damaged").read_bytes() == damaged
    assert not checkpoint.exists()


@pytest.mark.parametrize("change", [{"optimizer": {}}, {"model": {}}, {"best": None}])
def test_a_checkpoint_of_another_version_is_set_aside(change, store, tmp_path):
    whole = train(COPY, Store(tmp_path / "whole")).outcome()
    state = advance(RunInTraining(COPY, torch.device("cpu")), 20).state()
    if "best" in change:
        del state["settled_since"]
    store.save_checkpoint(COPY, {**state, **change})
    with pytest.warns(DamageWarning, match="it is now"):
        assert train(COPY, store).outcome() == whole


def test_a_checkpoint_of_another_device_stays(store):
    state = advance(RunInTraining(COPY, torch.device("cpu")), 20).state()
    store.save_checkpoint(COPY, {**state, "generator": torch.zeros(16, dtype=torch.uint8)})
    with pytest.raises(WrnnError, match="another type of device"):
        train(COPY, store)
    assert store.path(COPY, ".checkpoint").exists()


def test_quick_copy_separates_the_models(store):
    """Copy at lag 20: the wRNN solves it within 1,000 steps, the iRNN does not."""
    wave_run, *identity_runs = EXPERIMENTS["fig3"].runs("quick")
    wave_record = train(wave_run, store)
    assert (wave_run.model.size, wave_run.model.num_channels) == (100, 6)
    assert (wave_run.task.lag, wave_run.steps, wave_run.learning_rate) == (20, 1000, 1e-3)
    assert wave_record.metrics["token_accuracy"] == 100.0  # of the best weights on validation
    assert wave_record.metrics["cross_entropy"] < 0.02
    for identity_run in identity_runs:
        identity_record = train(identity_run, store)
        assert min(value for _, value in identity_record.curves["cross_entropy"]) > 0.5
