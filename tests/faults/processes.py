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

from companion.records.files import Store
from companion.training.queue import RunQueue

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "fcntl.flock", "os.scandir"}
MOST_OPERATIONS = 500  # about what the training of all runs takes
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE)


def training(store: Store) -> Callable[[], None]:
    """Return what a process does that trains everything as `wrnn run`, saving after every step."""

    def work() -> None:
        import companion.cli as cli

        def trained() -> None:
            sweep = RunQueue(RUNS, store)
            sweep.train(device="cpu", checkpoint_seconds=0.0)
            raise SystemExit(cli.report(sweep))

        cli.app = lambda **_: trained()
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


def kills(trials: Trials, count: int) -> None:
    """SIGKILL, three times in a row: of one or two processes at any moment, and of one between two
    file operations."""
    for _ in range(count):
        with trials.trial("kill") as store:
            for latest in (0.02, 0.4):  # the first while it surely trains
                children = [
                    trials.child(training(store)) for _ in range(trials.draw.choice((1, 2)))
                ]
                time.sleep(trials.draw.uniform(0.0, latest))
                for child in children:
                    os.kill(child, signal.SIGKILL)
                    trials.of("kill").faults += ended(child) == -signal.SIGKILL
            killed = at_operation(
                store,
                trials.draw.randrange(MOST_OPERATIONS),
                lambda _: os.kill(os.getpid(), signal.SIGKILL),
            )
            code = ended(trials.child(training(store), killed))
            trials.of("kill").faults += code == -signal.SIGKILL


def signals(trials: Trials, count: int) -> None:
    """SIGTERM and SIGINT: a checkpoint, one line, no lock, the right status."""
    for _ in range(count):
        with trials.trial("signal") as store:
            child = trials.child(training(store))
            while not list(store.folder.glob("*.checkpoint")) and not done(store):
                time.sleep(0.002)
            time.sleep(trials.draw.uniform(0.0, 0.2))
            number = trials.draw.choice((signal.SIGTERM, signal.SIGINT))
            os.kill(child, number)
            code = ended(child)
            trials.of("signal").faults += code == 128 + number
            # A process at its end has given up its handlers.
            trials.check_log("signal", code, 0, 128 + number, *[-number] * done(store))
            for lock in store.folder.glob("*.lock"):
                trials.count("signal", "left", f"{lock.name} was left")


def full_disks(trials: Trials, count: int) -> None:
    """No file may grow past some size: EFBIG for ENOSPC, which needs no privilege and no disk."""
    for _ in range(count):
        with trials.trial("disk full") as store:
            size = trials.draw.randrange(20_000)

            def limit(size: int = size) -> None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

            code = ended(trials.child(training(store), limit))
            trials.of("disk full").faults += code == 1
            trials.check_log("disk full", code, 0, 1)


def failing_disks(trials: Trials, count: int) -> None:
    """From some file operation on, every one fails: full, read-only, denied, stale, broken."""
    for _ in range(count):
        with trials.trial("disk failing") as store:
            code = trials.draw.choice(ERRORS)

            def fail(path: str, code: int = code) -> None:
                raise OSError(code, os.strerror(code), path)

            failing = at_operation(store, trials.draw.randrange(MOST_OPERATIONS), fail)
            status = ended(trials.child(training(store), failing))
            trials.of("disk failing").faults += status != 0
            trials.check_log("disk failing", status, 0, 1, 2)


def concurrency(trials: Trials, count: int) -> None:
    """Three processes on one folder: every run is trained once."""
    for _ in range(count):
        with trials.trial("concurrency") as store:
            children = [trials.child(training(store)) for _ in range(3)]
            trials.of("concurrency").faults += len(children) - 1
            for code in [ended(child) for child in children]:  # 1: others still held runs
                trials.check_log("concurrency", code, 0, 1, most=len(children))
            said = trials.said.read_text().splitlines()
            trained = Counter(line.rpartition(" in ")[0] for line in said if line[:8] == "trained ")
            if any(trained[f"trained {run.description}"] != 1 for run in RUNS):
                trials.count("concurrency", "wrong", f"not each was trained once: {trained}")
