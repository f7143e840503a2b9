import contextlib
import os
import pty
import re
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch
from samples import COPY, make_record

from companion.records.files import Store
from companion.records.provenance import device_name
from companion.runs.experiments import EXPERIMENTS
from companion.runs.run import Run, irnn_config, wrnn_config
from companion.training.queue import Interrupted, RunQueue, duration, signals_noted
from wrnn import WrnnError

RUN = replace(COPY, model=wrnn_config(8, 2), steps=20, batch_size=4)
OTHER = replace(RUN, model=irnn_config(8))
SEEDS = [replace(run, seed=seed) for seed in range(4) for run in (RUN, OTHER)]


class Fake:
    """Stands in for the clock and for training: every step takes half a second."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.groups: list[list[Run]] = []
        self.during = lambda runs: None
        monkeypatch.setattr("companion.training.queue.train_replicas", self.train_replicas)
        monkeypatch.setattr("companion.training.queue.time.monotonic", lambda: self.now)

    def train_replicas(self, runs, store, *, progress, **options):
        self.groups.append(runs)
        progress(0)
        for _ in range(2):
            self.now += 5.0
            progress(10 * len(runs))
            self.during(runs)
        for run in runs:
            store.put(make_record(run))


@pytest.fixture
def fake(monkeypatch):
    return Fake(monkeypatch)


def left_behind(store: Store) -> set[str]:
    return {path.name for path in store.folder.iterdir() if path.suffix not in (".json", ".npz")}


def test_runs_of_one_length_are_trained_together_and_seed_0_first(store, fake):
    longer = [replace(run, task=replace(run.task, lag=11)) for run in SEEDS[:4]]
    runs = [*SEEDS[:1], *longer[:2], *SEEDS[1:], *longer[2:]]
    RunQueue(runs, store, replicas=3).train(device="cpu")
    assert [[(r.task.lag, r.model.kind, r.seed) for r in group] for group in fake.groups] == [
        [(10, "wrnn", 0), (10, "irnn", 0)],
        [(11, "wrnn", 0), (11, "irnn", 0)],
        [(10, "wrnn", 1), (10, "irnn", 1), (10, "wrnn", 2)],
        [(10, "irnn", 2), (10, "wrnn", 3), (10, "irnn", 3)],
        [(11, "wrnn", 1), (11, "irnn", 1)],
    ]
    assert {record.run for record in store.all()} == set(runs)
    assert left_behind(store) == set()
    with pytest.raises(WrnnError, match="at least 1"):
        RunQueue(SEEDS, store, replicas=0)


def test_a_group_of_different_runs_is_counted_for_each_of_them(store, fake):
    runs = [RUN, replace(OTHER, steps=30)]
    queue = RunQueue(runs, store, replicas=2)
    seen = []
    fake.during = lambda group: seen.append([row[2:] for row in queue.rows()])
    queue.train(device="cpu")
    assert seen[0] == [
        ("10 of 20, 4 per second", "5.0 s left"),
        ("10 of 30, 4 per second", "10.0 s left"),
    ]
    assert queue.spent == {runs[0]: (16.0, 4.0), runs[1]: (24.0, 6.0)}
    again = [replace(run, seed=1) for run in runs]
    queue.runs += again
    assert queue.seconds_left() == (12.5, 0)


def test_a_run_that_another_process_has_is_left_out_of_its_group(store, fake):
    runs = [replace(RUN, seed=seed) for seed in range(1, 5)]
    store.put(make_record(runs[0]))
    with store.claim(runs[2]):
        RunQueue(runs, store, replicas=4).train(device="cpu")
    assert fake.groups == [[runs[1], runs[3]]]
    assert {record.run for record in store.all()} == {runs[0], runs[1], runs[3]}


def test_a_group_that_does_not_fit_is_halved_until_it_does(store, fake):
    runs = [replace(RUN, seed=seed) for seed in range(1, 7)]

    def fail(group):
        if len(group) > 2:
            raise RuntimeError("CUDA out of memory\nsecond line")

    fake.during = fail
    queue = RunQueue(runs, store, replicas=5)
    queue.train(device="cpu")
    assert fake.groups == [runs[:5], runs[:2], runs[2:5], runs[2:3], runs[3:5], runs[5:]]
    assert (queue.exit_status, queue.errors, queue.left()) == (0, {}, [])


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(RuntimeError, 1, ""), (MemoryError, 1, ""), (WrnnError, 2, ""), (KeyError, 1, "KeyError: ")],
)
def test_a_run_that_fails_does_not_keep_the_others_from_training(error, status, said, store, fake):
    def fail(group):
        if group == [RUN]:
            raise error("no such file\nsecond line")

    fake.during = fail
    queue = RunQueue([RUN, OTHER], store)
    queue.train(device="cpu")
    assert queue.exit_status == status
    (reason,) = queue.errors.values()
    assert reason.startswith(f"{RUN.description}: {said}") and "no such file" in reason
    assert store.get(OTHER) is not None
    assert "1 of 2 records" in queue.headline()


def test_what_is_left_is_estimated_from_rates_measured_here(store, fake):
    runs = [replace(run, seed=seed) for seed in (0, 1) for run in (RUN, OTHER)]
    queue = RunQueue(runs, store)
    assert queue.seconds_left() == (0.0, 4)
    assert queue.headline().endswith("; 4 left (4 of a rate not yet measured)")
    seen = []

    def look(group):
        seen.append((queue.seconds_left(), queue.headline(), queue.rows()))

    fake.during = look
    queue.train(device="cpu")
    (first, headline, rows), *_ = seen
    assert first == (15.0, 2)  # 10 of 20 steps in 5 s: 5 s of this run and 10 of its other seed
    assert headline == (
        f"0 of 4 records in {store.folder}; 4 left (about 15.0 s and 2 of a rate not yet measured)"
    )
    assert [row[0] for row in rows] == ["now", "next", "next", "next"]
    assert rows[0][2:] == ("10 of 20, 2 per second", "5.0 s left")
    assert [row[3] for row in rows[1:]] == ["not yet measured", "about 10.0 s", "not yet measured"]
    assert seen[-1][0] == (0.0, 0)
    assert queue.headline() == f"4 of 4 records in {store.folder}"


def test_steps_of_a_checkpoint_and_those_not_needed_are_not_counted(store, monkeypatch, fake):
    def resumed(runs, store, *, progress, **options):
        progress(0)
        progress(12)  # what the checkpoint had
        fake.now += 2.0
        progress(4)
        progress(4)  # not needed
        store.put(make_record(RUN, steps=16))

    monkeypatch.setattr("companion.training.queue.train_replicas", resumed)
    store.folder.mkdir()
    store.path(RUN, ".checkpoint").touch()
    queue = RunQueue([RUN, replace(RUN, seed=1)], store)
    queue.train_group([RUN], {})
    assert queue.spent == {RUN: (4.0, 2.0)}
    assert queue.seconds_left() == (10.0, 0)


def test_the_summary_gives_every_experiment_its_time(store, fake):
    fig3, table1 = EXPERIMENTS["fig3"], EXPERIMENTS["table1"]
    runs = [*fig3.runs("smoke")[:2], table1.runs("smoke")[0]]
    queue = RunQueue(runs, store)
    assert queue.summary([fig3, table1]) == []
    queue.train(device="cpu")
    head, *rows, last = queue.summary([fig3, table1])
    assert head.split() == ["experiment", "runs", "steps", "time", "share", "steps/s"]
    assert [row.split() for row in rows] == [
        ["fig3", "2", "40", "20.0", "s", "67%", "2.0"],
        ["table1", "1", "20", "10.0", "s", "33%", "2.0"],
    ]
    assert last.startswith("together 30.0 s") and runs[0].description in last
    assert [duration(s) for s in (0.04, 90, 7199, 7200)] == [
        "0.0 s",
        "90.0 s",
        "120.0 min",
        "2.0 h",
    ]


def test_a_deadline_ends_it_and_a_log_has_a_line_for_every_start_and_end(store, capsys):
    runs = [replace(RUN, steps=10**6), OTHER]
    RunQueue(runs, store).train(device="cpu", deadline=time.monotonic() + 0.2)
    assert left_behind(store) == {f"{runs[0].id}.checkpoint"}
    started, ended, left = capsys.readouterr().out.splitlines()
    assert left.startswith(f"0 of 2 records in {store.folder}; 2 left")
    assert started == f"training {RUN.description}, 1,000,000 steps"
    assert re.fullmatch(rf"stopped {re.escape(RUN.description)} in [0-9.]+ s", ended)


def test_a_terminal_shows_a_live_table(tmp_path):
    command = "run fig3 --profile smoke --device cpu --records records"
    code = f"import sys; sys.argv[1:] = {command.split()!r}; from companion.cli import main; main()"
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.environ.update(COLUMNS="150", TERM="xterm")
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the other end was closed
            break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    first, second, *others = EXPERIMENTS["fig3"].runs("smoke")
    count = 2 + len(others)
    assert re.search(rf"now +{re.escape(first.description)}", text)
    assert re.search(rf"next +{re.escape(second.description)} +20 +not yet measured", text)
    assert re.search(rf"done +{re.escape(first.description)} +20 +[0-9.]+ s", text)
    assert f"0 of {count} records" in text
    assert text.rstrip().endswith(f"{count} of {count} records in records")
    assert f"training {first.description}" not in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_leaves_no_lock(number, store):
    long = replace(RUN, steps=10**6)
    before = signal.getsignal(number)
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    with pytest.raises(Interrupted) as interrupted:
        RunQueue([long, OTHER], store).train(device="cpu", deadline=time.monotonic() + 20)
    assert interrupted.value.number == number and signal.getsignal(number) == before
    assert left_behind(store) == {f"{long.id}.checkpoint"}
    assert store.checkpoint(long)["step"] > 0


def test_a_later_signal_does_not_wait(fake):
    with signals_noted() as received:
        for _ in range(2):  # as from a terminal and a parent
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
        fake.now += 2.0
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


def test_runs_that_another_process_holds_to_the_end_are_an_exit_status(store, fake):
    with store.claim(OTHER):
        queue = RunQueue([RUN, OTHER], store)
        queue.train(device="cpu")
    assert (queue.elsewhere, queue.exit_status, fake.groups) == (1, 1, [[RUN]])
    queue = RunQueue([RUN, OTHER], store)
    queue.train(device="cpu")
    assert (queue.elsewhere, queue.exit_status) == (0, 0)


def test_a_damaged_record_fails_its_run_alone(store, fake):
    store.put(make_record(RUN))
    store.path(RUN).write_text("{")
    (store.folder / "notes.json").write_text("[]")  # a stray file concerns nobody here
    queue = RunQueue([RUN, OTHER], store)
    queue.train(device="cpu")
    assert fake.groups == [[OTHER]]
    assert list(queue.errors) == [RUN] and "restore or delete it" in queue.errors[RUN]
    assert queue.exit_status == 2


def test_a_full_disk_ends_the_queue_and_keeps_what_there_is(store, fake, monkeypatch):
    def full(group):
        raise OSError(28, "No space left on device", "records/x.json")

    fake.during = full
    with pytest.raises(OSError, match="No space left"):
        RunQueue([RUN, OTHER], store).train(device="cpu")
    assert fake.groups == [[RUN]]  # the others would fail alike, each after its training
    assert left_behind(store) == set()


def test_the_table_asks_the_lock_and_not_its_file(store, fake):
    store.folder.mkdir()
    store.path(RUN, ".lock").touch()  # what a killed process leaves
    queue = RunQueue([RUN, OTHER], store)
    assert [row[0] for row in queue.rows()] == ["next", "next"]
    with store.claim(RUN):
        assert [row[0] for row in queue.rows()] == ["elsewhere", "next"]
    assert not store.is_held(RUN)


def test_the_time_left_is_taken_from_records_of_the_same_kind_and_device(store):
    device = device_name(torch.device("cpu"))
    longer = replace(RUN, seed=1, steps=100)
    store.put(make_record(longer, processor_seconds=50.0, device=device))
    store.put(make_record(replace(OTHER, seed=1), processor_seconds=50.0, device="another"))
    queue = RunQueue([RUN, OTHER], store)
    queue.read_rates("cpu")
    assert queue.seconds_left() == (10.0, 1)
    assert "about 10.0 s and 1 of a rate not yet measured" in queue.headline()


def test_a_run_that_was_passed_over_is_tried_again(store, fake):
    with contextlib.ExitStack() as elsewhere:
        elsewhere.enter_context(store.claim(RUN))
        fake.during = lambda group: elsewhere.close()
        RunQueue([RUN, OTHER], store).train(device="cpu")
    assert fake.groups == [[OTHER], [RUN]]
    assert left_behind(store) == set()


def test_what_a_killed_process_left_beside_a_record_is_taken_away(store, fake):
    store.put(make_record(RUN))
    for name in (f"{RUN.id}.lock", f"{RUN.id}.checkpoint", f".{RUN.id}.json.x1"):
        (store.folder / name).touch()
    RunQueue([RUN], store).train(device="cpu")
    assert fake.groups == []
    assert left_behind(store) == set()
