"""What every kind of trial shares: a folder to break things in, counts, a child process."""

import contextlib
import io
import os
import random
import shutil
import sys
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from samples import COPY

from companion.records.files import DamageWarning, Record, Store
from companion.training.queue import RunQueue
from companion.training.train import train

RUNS = [replace(COPY, steps=40, seed=seed, trace=seed == 0) for seed in range(3)]
KEPT = (".json", ".npz", ".damaged")  # suffixes of what may stay in a folder of records


@dataclass
class Counts:
    """What one kind of fault did.

    Lost: a record that is not there in the end. Wrong: one that differs from the undisturbed one,
    damage or a bad value taken for good, a run trained twice. Loud: a traceback, more than a line,
    a wrong exit status. Left: a lock or half a file that nothing takes away.
    """

    trials: int = 0
    faults: int = 0
    lost: int = 0
    wrong: int = 0
    loud: int = 0
    left: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was."""
        return not (self.lost or self.wrong or self.loud or self.left)


class Trials:
    """A folder to break things in, what undisturbed runs give, and what was counted so far."""

    def __init__(self, folder: Path, seed: int):
        torch.set_num_threads(1)
        self.folder = folder
        self.draw = random.Random(seed)
        self.counts: dict[str, Counts] = defaultdict(Counts)
        self.notes: list[str] = []
        self.undisturbed = Store(folder / "undisturbed")
        self.expected = {run: train(run, self.undisturbed) for run in RUNS}
        self.log = folder / "log"  # what children say on stderr
        self.said = folder / "said"  # and on stdout

    def count(self, kind: str, what: str, note: str) -> None:
        """Count what did not hold, and note it."""
        counts = self.counts[kind]
        setattr(counts, what, getattr(counts, what) + 1)
        self.notes.append(f"{kind}: {note}")

    def fresh(self) -> Store:
        """Return an empty folder of records, and forget what children said."""
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        for path in (self.log, self.said):
            path.write_text("")
        return Store(self.folder / "store")

    @contextlib.contextmanager
    def trial(self, kind: str) -> Iterator[Store]:
        """Break a folder of records inside; then all goes on to its end, and is compared."""
        store = self.fresh()
        self.counts[kind].trials += 1
        yield store
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", DamageWarning)
            RunQueue(RUNS, store).train(device="cpu")
        for run, expected in self.expected.items():
            record = store.find(run)
            if record is None:
                self.count(kind, "lost", f"{run.description} is lost")
            elif record.outcome() != expected.outcome() or not same_arrays(record, expected):
                self.count(kind, "wrong", f"{run.description} is another one")
        for path in store.folder.iterdir():
            if path.suffix not in KEPT or path.name[0] == ".":
                self.count(kind, "left", f"{path.name} was left")

    def child(self, work: Callable[[], None], before: Callable[[], None] = lambda: None) -> int:
        """Do work in a forked process; returns its id. ``before`` arms the fault."""
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        code = 0
        try:
            for path, number in ((self.said, 1), (self.log, 2)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
            before()
            work()
        except SystemExit as ending:
            code = ending.code or 0
        except BaseException:
            traceback.print_exc()
            code = 70
        finally:
            os._exit(code)

    def check_log(self, kind: str, code: int, *allowed: int, most: int = 1) -> None:
        """Count a child loud that ended with another status, or where there are too many lines."""
        lines = self.log.read_text().splitlines()
        ours = all(line.startswith("wrnn: ") for line in lines)
        if code not in allowed or len(lines) > most or not ours:
            self.count(kind, "loud", f"status {code}, {lines[-2:] or 'nothing said'}")


def same_arrays(record: Record, other: Record) -> bool:
    """Whether the arrays beside two records are the same, bit for bit."""
    found, expected = record.checked_arrays(), other.checked_arrays()
    return found.keys() == expected.keys() and all(
        found[name].tobytes() == expected[name].tobytes() for name in expected
    )


def ended(child: int) -> int:
    """Wait for a child; returns its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
