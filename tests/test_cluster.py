"""Runs trained by Dask: a scheduler and worker processes on this machine, some of which go away."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from samples import COPY, make_record

from companion.records.files import Store
from companion.runs.experiments import EXPERIMENTS
from companion.runs.run import irnn_config
from companion.training.queue import RunQueue
from wrnn import WrnnError
from wrnn.tasks import SequentialMNIST

pytest.importorskip("distributed")
from companion.training import cluster
from companion.training.cluster import ClusterQueue

ONE_RUN = replace(COPY, model=irnn_config(8), steps=20)
# The worker of the first is killed and that of the second stopped, so these take a few seconds.
LONG = [replace(ONE_RUN, steps=1200, seed=seed, evaluate_every=50) for seed in range(4)]


def alive(session: int) -> list[str]:
    """The processes of a session that have not ended: ps gives the names of others in brackets."""
    listing = subprocess.run(
        ["ps", "-s", str(session), "-o", "args="], capture_output=True, text=True
    )
    return [line for line in listing.stdout.splitlines() if not line.startswith("[")]


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A scheduler that gives a silent worker up after 8 s, and three workers; its address."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "8s",
        "DASK_LOGGING__DISTRIBUTED": "critical",
    }
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    worker = ["worker", *options, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
    worker += ["--preload", "companion.training.cluster"]
    commands = [["scheduler", *options, "--host", "127.0.0.1", "--port", "0"], *[worker] * 3]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        end = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


def same_as_serial(store: Store, runs, folder) -> None:
    """Assert that a store has the records of these runs, bit for bit as one process makes them."""
    serial = Store(folder)
    RunQueue(list(runs), serial).train(device="cpu")
    ours, theirs = ({r.id: r for r in s.all()} for s in (store, serial))
    assert ours.keys() == theirs.keys()
    for name, record in theirs.items():
        of_time = {"seconds", "processor_seconds"}
        values, other = record.values(), ours[name].values()
        assert {k for k in values if values[k] != other[k]} <= of_time
        assert record.arrays == ours[name].arrays
        ours[name].checked_arrays()
    assert {p.name for p in store.folder.iterdir()} == {p.name for p in serial.folder.iterdir()}


def test_the_smoke_grid_gives_the_records_of_the_serial_run(call, dask, tmp_path):
    command = "run fig3 table1 --profile smoke --device cpu --records records --executor dask"
    status, out, err = call(*command.split(), "--scheduler", dask, "--workers", "3")
    assert (status, err) == (0, "")
    runs = [*EXPERIMENTS["fig3"].runs("smoke"), *EXPERIMENTS["table1"].runs("smoke")]
    assert f"{len(runs)} of {len(runs)} records" in out
    assert len({line.split(" on ")[1] for line in out.splitlines() if " on tcp" in line}) > 1
    same_as_serial(Store(tmp_path / "records"), runs, tmp_path / "serial")
    again = call(*command.split(), "--scheduler", "tcp://127.0.0.1:1")
    assert again[0] == 0, "nothing is left, so nobody is asked"


def test_records_arrive_without_a_shared_folder(dask, store, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_mark", lambda folder, session: tmp_path / "unseen" / session)
    runs = EXPERIMENTS["fig3"].runs("smoke")[:2]
    ClusterQueue(runs, store, scheduler=dask).train(device="auto")
    monkeypatch.undo()
    same_as_serial(store, runs, tmp_path / "serial")


def test_what_a_record_brings_up_is_trained_and_what_fails_is_named(
    dask, store, tmp_path, monkeypatch, capsys
):
    bad = replace(ONE_RUN, task=SequentialMNIST(), steps=1)
    first, then = ONE_RUN, replace(ONE_RUN, seed=1)

    def plan():
        return [bad, first, then] if store.path(first).exists() else [bad, first]

    queue = ClusterQueue(plan(), store, scheduler=dask, replan=plan)
    monkeypatch.setenv("WRNN_DATA", str(tmp_path / "none"))
    queue.train(device="cpu")
    assert {record.run for record in store.all()} == {first, then}
    assert (list(queue.errors), queue.exit_status) == ([bad], 2)
    assert queue.errors[bad].startswith(bad.description) and "\n" not in queue.errors[bad]
    assert f"trained {then.description}" in capsys.readouterr().out
    assert set(queue.spent) >= {first, then}


def test_a_run_that_another_process_holds_is_passed_over(dask, store, monkeypatch):
    monkeypatch.setattr(cluster, "MOST_TRIES", 1)
    other = replace(ONE_RUN, seed=1)
    with store.claim(ONE_RUN):
        queue = ClusterQueue([ONE_RUN, other], store, scheduler=dask)
        queue.train(device="cpu")
    assert [record.run for record in store.all()] == [other]
    assert (queue.elsewhere, queue.exit_status) == (1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "0"}, "another source of wrnn"),
        ({"versions": {"torch": "1.0"}}, "and this process 1.0: install the same there"),
    ],
)
def test_workers_of_other_versions_are_one_line(change, message, call, dask, tmp_path, monkeypatch):
    here = cluster.facts()
    monkeypatch.setattr(cluster, "facts", lambda: {**here, **change})
    command = "run fig3 --profile smoke --device cpu --records records --executor dask --scheduler"
    status, _, err = call(*command.split(), dask)
    assert (status, err.count("\n")) == (2, 1) and message in err
    assert list((tmp_path / "records").iterdir()) == []


def test_a_worker_that_joins_with_another_version_ends_it_too(dask, store, monkeypatch):
    here = cluster.facts()
    monkeypatch.setattr(cluster, "facts", lambda: {**here, "source": "0"})
    queue = ClusterQueue([ONE_RUN], store, scheduler=dask)
    monkeypatch.setattr(queue, "_choose_device", lambda *_: "cpu")
    with pytest.raises(WrnnError, match="another source"):
        queue.train(device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "are for --executor dask"),
        (["--scheduler", "tcp://127.0.0.1:1"], "are for --executor dask"),
        (["--executor", "slurm"], "'serial', 'dask'"),
        (["--executor", "dask", "--workers", "-1"], "'--workers'"),
        (["--executor", "dask", "--workers", "100000"], "the most for this machine"),
        (["--executor", "dask", "--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
        (["--executor", "dask", "--scheduler", "nonsense://x"], "no Dask scheduler answers"),
        (["--executor", "dask", "--scheduler", "x", "--device", "tpu"], "'auto', 'cpu', 'cuda'"),
    ],
)
@pytest.mark.parametrize("command", [["run", "fig3", "--profile", "smoke"], ["campaign"]])
def test_bad_input_is_one_line(command, arguments, message, call, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.3)
    device = [] if "--device" in arguments else ["--device", "cpu"]
    status, _, err = call(*command, "--records", "records", *device, *arguments)
    assert (status, err.count("\n")) == (2, 1), err
    assert message in err


def test_without_dask_one_line_says_what_to_install(call, monkeypatch):
    monkeypatch.delitem(sys.modules, "companion.training.cluster")
    monkeypatch.setitem(sys.modules, "distributed", None)
    status, _, err = call("run", "fig3", "--profile", "smoke", "--executor", "dask")
    assert (status, err) == (
        2,
        "wrnn: distributed is missing: pip install '.[dask]' in the project's folder\n",
    )


def test_the_plain_path_does_not_import_dask():
    code = "import sys, companion.cli; print({'dask', 'distributed', 'bokeh'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_record_that_was_sent_is_checked_before_it_is_stored(store):
    content = make_record(ONE_RUN).to_json().encode()
    with pytest.raises(ValueError, match="id"):
        cluster.keep(store, COPY, content, None)
    with pytest.raises(ValueError, match="sum"):
        cluster.keep(store, ONE_RUN, content.replace(b"0.25", b"0.35"), None)
    assert not store.folder.exists()
    cluster.keep(store, ONE_RUN, content, None)
    assert store.path(ONE_RUN).read_bytes() == content
    cluster.keep(store, ONE_RUN, b"late, and of no use", None)
    assert store.path(ONE_RUN).read_bytes() == content


def submitted(folder, workers: int) -> subprocess.Popen:
    """A process in a session of its own that trains on as many workers, each with a run by now."""
    command = f"-m companion run fig3 --profile paper --match 100 --device cpu --records {folder}"
    process = subprocess.Popen(
        [sys.executable, *command.split(), "--executor", "dask", "--workers", str(workers)],
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 100
    while len([path for path in folder.glob("*.lock") if path.name[0] != "."]) < workers:
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.1)
    return process


def test_a_signal_saves_what_is_trained_and_leaves_no_process(tmp_path):
    """SIGTERM to the one process that was started; test_campaign sends SIGINT to all of them."""
    folder = tmp_path / "records"
    process = submitted(folder, 2)
    time.sleep(1)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert err == "wrnn: stopped; the same command goes on from the last checkpoint\n"
    assert out.count("stopped ") == 2
    assert {path.suffix for path in folder.iterdir()} == {".checkpoint"}
    assert alive(process.pid) == []


def test_a_killed_submitting_process_takes_its_workers_along(tmp_path):
    process = submitted(tmp_path / "records", 1)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while alive(process.pid):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_runs_of_a_killed_and_of_a_cut_off_worker_go_on_elsewhere(dask, store, tmp_path, capsys):
    """One worker is killed and another stopped, each in the middle of a run that has a checkpoint.

    The stopped one holds its run's lock, so that nobody else trains it, until it may go on: it then
    finds that the scheduler has given it up, saves and ends.
    """
    queue = ClusterQueue(LONG, store, scheduler=dask, workers=3)
    seen: dict[str, object] = {}

    def worker_with_a_checkpoint(but=()) -> tuple:
        while True:
            for task in list(queue._tasks.values()):
                run = task.given[0]
                if task.worker and run not in but and store.path(run, ".checkpoint").exists():
                    return run, task.worker
            time.sleep(0.01)

    def disturb():
        with cluster.Client(dask, set_as_default=False) as client:
            killed, address = worker_with_a_checkpoint()
            os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
            stopped, address = worker_with_a_checkpoint(but=[killed])
            process = client.run(os.getpid, workers=[address])[address]
        os.kill(process, signal.SIGSTOP)
        seen.update(killed=killed, stopped=stopped)
        while stopped not in queue._held and not store.path(stopped).exists():
            time.sleep(0.05)
        seen["held"] = stopped in queue._held
        os.kill(process, signal.SIGCONT)

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    queue.train(device="cpu", checkpoint_seconds=0.3)
    thread.join(timeout=1)
    assert seen["held"], "nobody else was given the run of the stopped worker"
    out = capsys.readouterr().out.splitlines()
    for run in LONG:
        assert len([line for line in out if line.startswith(f"trained {run.description}")]) == 1
    again = [line for line in out if line.startswith("its worker was lost")]
    assert any(seen["killed"].description in line for line in again), out
    assert (queue.errors, queue.exit_status, queue.left()) == ({}, 0, [])
    same_as_serial(store, LONG, tmp_path / "serial")
