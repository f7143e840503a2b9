"""Faults of processes and of the file system: kills, signals, full and failing disks, company."""

import errno
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

from trials import RUNS, Trials, ended

from companion import cli
from companion.records.files import Store
from companion.training.queue import RunQueue

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "fcntl.flock", "os.listdir"}
MOST_OPERATIONS = 500  # about what the training of all runs takes
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE)


def training(store: Store) -> Callable[[], None]:
    """Return what a process does that trains everything as `wrnn run`, saving after every step."""

    def trained(**_) -> None:
        queue = RunQueue(RUNS, store)
        queue.train(device="cpu", checkpoint_seconds=0.0)
        raise SystemExit(cli.report(queue))

    def work() -> None:
        cli.app = trained
        cli.main()

    return work


def done(store: Store) -> bool:
    """Whether every run has a record."""
    return all(store.path(run).exists() for run in RUNS)


def at_operation(store: Store, number: int, act: Callable[[str], None]) -> Callable[[], None]:
    """Return what lets a process act before each file operation in a folder from the n-th on."""
    folder, operations = str(store.folder), 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal operations
        if event not in OPERATIONS:
            return
        if event != "fcntl.flock" and not str(arguments[0]).startswith(folder):
            return
        operations += 1
        if operations > number:
            act(str(arguments[0]))

    return lambda: sys.addaudithook(hook)


def kill(trials: Trials) -> None:
    """SIGKILL, three times in a row: of one or two processes at any moment, and of one between two
    file operations."""
    with trials.trial("kill") as store:
        codes = []
        for latest in (0.02, 0.4):  # the first while it surely trains
            children = [trials.child(training(store)) for _ in range(trials.draw.choice((1, 2)))]
            time.sleep(trials.draw.uniform(0.0, latest))
            for child in children:
                os.kill(child, signal.SIGKILL)
                codes.append(ended(child))
        number = trials.draw.randrange(MOST_OPERATIONS)
        killed = at_operation(store, number, lambda _: os.kill(os.getpid(), signal.SIGKILL))
        codes.append(ended(trials.child(training(store), killed)))
        trials.counts["kill"].faults += codes.count(-signal.SIGKILL)


def stop(trials: Trials) -> None:
    """SIGTERM and SIGINT: a checkpoint, one line, no lock, the right status."""
    with trials.trial("signal") as store:
        child = trials.child(training(store))
        while not list(store.folder.glob("*.checkpoint")) and not done(store):
            time.sleep(0.002)
        time.sleep(trials.draw.uniform(0.0, 0.2))
        number = trials.draw.choice((signal.SIGTERM, signal.SIGINT))
        os.kill(child, number)
        code = ended(child)
        trials.counts["signal"].faults += code == 128 + number
        # A process at its end has given up its handlers.
        trials.check_log("signal", code, 0, 128 + number, *[-number] * done(store))
        for lock in store.folder.glob("*.lock"):
            trials.count("signal", "left", f"{lock.name} was left")


def full_disk(trials: Trials) -> None:
    """No file may grow past some size: EFBIG for ENOSPC, which needs no privilege and no disk."""
    size = trials.draw.randrange(20_000)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    with trials.trial("disk full") as store:
        code = ended(trials.child(training(store), limit))
        trials.counts["disk full"].faults += code == 1
        trials.check_log("disk full", code, 0, 1)


def failing_disk(trials: Trials) -> None:
    """From some file operation on, every one fails: full, read-only, denied, stale, broken."""
    error = trials.draw.choice(ERRORS)

    def fail(path: str) -> None:
        raise OSError(error, os.strerror(error), path)

    with trials.trial("disk failing") as store:
        failing = at_operation(store, trials.draw.randrange(MOST_OPERATIONS), fail)
        code = ended(trials.child(training(store), failing))
        trials.counts["disk failing"].faults += code != 0
        trials.check_log("disk failing", code, 0, 1, 2)


def company(trials: Trials) -> None:
    """Three processes on one folder: every run is trained once."""
    with trials.trial("concurrency") as store:
        children = [trials.child(training(store)) for _ in range(3)]
        trials.counts["concurrency"].faults += len(children) - 1
        for code in [ended(child) for child in children]:  # 1: others still held runs
            trials.check_log("concurrency", code, 0, 1, most=len(children))
        said = trials.said.read_text().splitlines()
        trained = Counter(line.rpartition(" in ")[0] for line in said if line[:8] == "trained ")
        if any(trained[f"trained {run.description}"] != 1 for run in RUNS):
            trials.count("concurrency", "wrong", f"not each was trained once: {trained}")
