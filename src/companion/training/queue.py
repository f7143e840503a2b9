"""A queue of runs, trained one after another: what is done, and what the rest takes.

Several processes may work on one folder of records: the one that claims a run trains it.
"""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from companion.records.files import Store
from companion.records.provenance import device_name
from companion.runs.experiments import Experiment
from companion.runs.run import Run
from companion.training.signals import Interrupted, signals_noted
from companion.training.train import TrainingStopped, resolve_device, train_replicas
from wrnn.errors import WrnnError

ROWS = 4  # of finished and of coming runs in the live table
# Runs trained together where nothing else is asked for, by type of device. On a GPU most runs keep
# it busy for a small part of their time: a chain of dependent steps waits for itself.
REPLICAS = {"cpu": 1, "cuda": 8}


@dataclass
class Group:
    """Runs that train together."""

    runs: list[Run]
    steps: int = 0  # of all of them, those of their checkpoints included
    earlier: int | None = 0  # of their checkpoints; None until these are reported
    began: float = field(default_factory=lambda: time.monotonic())

    @property
    def taken(self) -> int:
        """Steps since it began."""
        return self.steps - (self.earlier or 0)


class RunQueue:
    """Runs to train in order: what this process has spent on them, what it trains, what is left.

    ``replicas`` runs are trained together whose sequences and batches are of one size, so that none
    waits long for another one's step; those of seed 0 come first.
    ``replan`` gives the runs anew after each one, where what is recorded decides what comes next.
    """

    def __init__(
        self,
        runs: list[Run],
        store: Store,
        *,
        replicas: int = 1,
        replan: Callable[[], list[Run]] | None = None,
    ):
        if replicas < 1:
            raise WrnnError(f"--replicas is {replicas}: expected at least 1")
        self.runs = runs
        self.store = store
        self.replicas = replicas
        self.replan = replan
        self.spent: dict[Run, tuple[float, float]] = {}  # steps and seconds, in this process
        self.errors: dict[Run, str] = {}
        self.exit_status = 0
        self.elsewhere = 0  # runs that another process held when nothing else was left
        self.rates: dict[tuple, float] = {}  # steps per second by kind of run, measured here
        self._recorded: dict[tuple, float] = {}  # the same of the budget, by kind and stop rule
        self._group: Group | None = None  # in training

    def left(self) -> list[Run]:
        """Return the runs without a record, in order, but for those that failed here."""
        return [r for r in self.runs if not self.store.path(r).exists() and r not in self.errors]

    def train(
        self, *, device: str, deadline: float = math.inf, checkpoint_seconds: float = 30.0
    ) -> None:
        """Train what is left, until nothing is or the deadline (of time.monotonic()) has come.

        A run that fails, or whose record is damaged, does not keep the others from training;
        ``exit_status`` is then 2 where data or files were bad and 1 where a run broke, or where
        another process still holds runs. A run that is held is passed over, and tried again after
        the others in case that process was killed.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the checkpoints are saved.
            OSError: the folder cannot be written; the last checkpoints stay.
        """
        self.read_rates(device)
        self.note_damaged()
        options = dict(device=device, deadline=deadline, checkpoint_seconds=checkpoint_seconds)
        with signals_noted() as received:
            options["stop"] = lambda: bool(received)
            with self._live_table(), contextlib.suppress(TrainingStopped):
                # After each group from the first run again: others may have given up theirs.
                while (
                    time.monotonic() < deadline
                    and not received
                    and any(
                        self.train_group(group, options)
                        for group in in_groups(self.left(), self.replicas)
                    )
                ):
                    if self.replan:
                        self.runs = self.replan()
            for run in self.runs:
                if self.store.path(run, ".lock").exists():
                    with self.store.claim(run):
                        pass  # takes away what a killed process left
        self._conclude(received, deadline)

    def _conclude(self, received: list[int], deadline: float) -> None:
        """Raise Interrupted where a signal came; note what another process holds."""
        if received:
            raise Interrupted(received[0])
        if time.monotonic() < deadline and self.left():
            self.elsewhere = len(self.left())
            self.exit_status = self.exit_status or 1

    def note_damaged(self) -> None:
        """Count the runs whose record is damaged as failed."""
        for error in self.store.scan()[1]:
            for run in self.runs:
                if self.store.path(run) == error.path:
                    self.errors[run], self.exit_status = f"{run.description}: {error}", 2

    def read_rates(self, device: str, names: Collection[str] = ()) -> None:
        """Estimate from the processor seconds of this device's records what runs take.

        ``names`` stand for other devices, that are to be read instead.
        """
        names = names or [device_name(resolve_device(device))]
        totals: dict[tuple, list[float]] = {}
        for record in self.store.scan()[0]:
            if record.processor_seconds and record.device in names:
                of = totals.setdefault((*kind_of(record.run), record.run.stop), [0, 0])
                of[:] = of[0] + record.run.steps, of[1] + record.processor_seconds
        self._recorded = {kind: steps / seconds for kind, (steps, seconds) in totals.items()}

    def rate(self, run: Run) -> float | None:
        """Return steps per second, as measured here or as recorded, None where neither is there."""
        return self.rates.get(kind_of(run)) or self._recorded.get((*kind_of(run), run.stop))

    def train_group(self, runs: list[Run], options: dict) -> bool:
        """Train those of some runs together that no other process holds or has finished.

        Returns whether there were any. ``options`` are those of `train_replicas`.
        """
        with contextlib.ExitStack() as claims:
            claimed = [run for run in runs if claims.enter_context(self.store.claim(run))]
            runs = [run for run in claimed if not self.store.path(run).exists()]
            if not runs:
                return False
            self._begin(runs)
            error = None
            try:
                train_replicas(runs, self.store, progress=self._note, **options)
            except (OSError, TrainingStopped):
                raise
            except Exception as caught:  # a compiler of kernels raises what it likes
                error = caught.with_traceback(None)  # which would keep the device's memory
            finally:
                self._end("failed" if error else "stopped")
        if error and len(runs) > 1:  # together they may not fit on the device
            half = len(runs) // 2
            for part in (runs[:half], runs[half:]):
                self.train_group(part, options)
        elif error:
            known = isinstance(error, WrnnError | RuntimeError | MemoryError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            self._fail(runs, reason, 2 if isinstance(error, WrnnError) else 1)
        return True

    def _begin(self, runs: list[Run]) -> None:
        resumed = any(self.store.path(run, ".checkpoint").exists() for run in runs)
        self._group = Group(runs, earlier=None if resumed else 0)
        for run in runs:
            self._print(f"training {run.description}, {run.steps:,} steps")

    def _note(self, steps: int) -> None:
        """Take the report of a number of steps; those of checkpoints are reported first."""
        self._group.steps += steps
        if self._group.earlier is None and steps:
            self._group.earlier = steps
        self._measure()

    def _measure(self) -> float:
        """Update the rate of the group; returns the seconds that it has taken so far."""
        seconds = time.monotonic() - self._group.began
        if self._group.taken:
            self.rates |= dict.fromkeys(map(kind_of, self._group.runs), self._group.taken / seconds)
        return seconds

    def _end(self, unfinished: str) -> None:
        """Note what the group took, and say what became of its runs."""
        group = self._group
        records = {run: self.store.find(run) for run in group.runs}
        group.steps -= sum(run.steps - r.steps for run, r in records.items() if r)  # not needed
        seconds = self._measure()
        for run, record in records.items():
            before = self.spent.get(run, (0, 0))
            share = run.steps / sum(run.steps for run in records)
            self.spent[run] = before[0] + group.taken * share, before[1] + seconds * share
            state = "trained" if record else unfinished
            self._print(f"{state} {run.description} in {duration(seconds * share)}")
        self._group = None
        if len(self.runs) > 1:
            self._print(self.headline())

    def _fail(self, runs: list[Run], reason: str, status: int) -> None:
        """Note why runs failed; the others go on."""
        self.exit_status = status
        for run in runs:
            why = reason.removeprefix(f"{run.description}: ")
            self.errors[run] = f"{run.description}: {why}".splitlines()[0]
            self._print(self.errors[run])

    def in_training(self) -> list[tuple[list[Run], int]]:
        """Return the groups in training, with the steps that they have taken together."""
        group = self._group  # the live table's thread asks while another one ends it
        return [(group.runs, group.steps)] if group else []

    def seconds_left(self) -> tuple[float, int]:
        """Estimate the seconds left, and count the runs for which no rate is measured yet."""
        left = self.left()
        rates = [self.rate(run) for run in left]
        seconds = sum(r.steps / rate for r, rate in zip(left, rates, strict=True) if rate)
        for group, steps in self.in_training():
            seconds -= steps / (self.rate(group[0]) or math.inf)
        return max(0.0, seconds), rates.count(None)

    def headline(self) -> str:
        """Say how many records there are and how long the rest takes."""
        left = len([run for run in self.runs if not self.store.path(run).exists()])
        text = f"{len(self.runs) - left} of {len(self.runs)} records in {self.store.folder}"
        if not left:
            return text
        seconds, unknown = self.seconds_left()
        parts = [f"about {duration(seconds)}"] * bool(seconds)
        parts += [f"{unknown} of a rate not yet measured"] * bool(unknown)
        return f"{text}; {left} left" + f" ({' and '.join(parts)})" * bool(parts)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return the rows of the live table: state, run, steps and time."""
        rows, now = [], []
        for run, (_, seconds) in list(self.spent.items())[-ROWS:]:
            state = "done" if self.store.path(run).exists() else "left"
            rows.append((state, run.description, f"{run.steps:,}", duration(seconds)))
        for group, together in self.in_training():
            now += group
            for run in group:
                rate = self.rate(run)
                steps = min(run.steps, together // len(group))
                time_left = duration((run.steps - steps) * len(group) / rate) if rate else "?"
                speed = f", {rate:,.0f} per second" if rate else ""
                done = f"{steps:,} of {run.steps:,}{speed}"
                rows.append(("now", run.description, done, f"{time_left} left"))
        for run in [run for run in self.left() if run not in now][:ROWS]:
            rate = self.rate(run)
            time_left = f"about {duration(run.steps / rate)}" if rate else "not yet measured"
            state = "elsewhere" if self.store.is_held(run) else "next"
            rows.append((state, run.description, f"{run.steps:,}", time_left))
        return rows

    def summary(self, experiments: Iterable[Experiment]) -> list[str]:
        """Return lines that say what the time of this process went into, by experiment.

        A run that several experiments share counts for the first of them.
        """
        owners: dict[tuple, str] = {}
        for experiment in experiments:
            for run in experiment.runs(self.runs[0].profile):
                owners.setdefault((run.task, run.model), experiment.name)
        totals: dict[str, list[float]] = {}  # runs, steps, seconds
        for run, (steps, seconds) in self.spent.items():
            of = totals.setdefault(owners.get((run.task, run.model), "other"), [0, 0, 0])
            of[:] = of[0] + 1, of[1] + steps, of[2] + seconds
        if not totals:
            return []
        everything = sum(seconds for _, _, seconds in totals.values())
        head = ("experiment", "runs", "steps", "time", "share", "steps/s")
        lines = ["{:<12}{:>5}{:>12}{:>10}{:>7}{:>9}".format(*head)]
        lines += [
            f"{name:<12}{count:>5}{steps:>12,.0f}{duration(seconds):>10}"
            f"{seconds / everything:>7.0%}{steps / seconds:>9,.1f}"
            for name, (count, steps, seconds) in totals.items()
        ]
        longest = sorted(self.spent, key=lambda run: -self.spent[run][1])[:3]
        named = [f"{run.description} ({duration(self.spent[run][1])})" for run in longest]
        return [*lines, f"together {duration(everything)}; the longest: {'; '.join(named)}"]

    def _print(self, line: str) -> None:
        """Print a line where there is no live table, as in the log of an unattended run."""
        if not sys.stderr.isatty():
            print(line, flush=True)

    def _live_table(self) -> contextlib.AbstractContextManager:
        if not sys.stderr.isatty():
            return contextlib.nullcontext()
        from rich.console import Console  # it comes with typer
        from rich.live import Live
        from rich.table import Table

        def render() -> Table:
            table = Table("", "run", "steps", "time", box=None, caption=self.headline())
            for row in self.rows():
                table.add_row(*row)
            return table

        console = Console(stderr=True, markup=False)
        return Live(get_renderable=render, console=console, refresh_per_second=2, transient=True)


def duration(seconds: float) -> str:
    """Write a time in hours, minutes or seconds, whichever reads best."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def in_groups(runs: Iterable[Run], replicas: int) -> list[list[Run]]:
    """Cut runs into groups that are trained together; their budgets are within a factor of two."""
    groups: list[list[Run]] = []
    filling: dict[tuple, list[Run]] = {}
    for run in runs:
        pace = run.task.length, run.batch_size, run.steps.bit_length(), run.seed == 0
        if len(filling.get(pace, ())) in (0, replicas):
            filling[pace] = []
            groups.append(filling[pace])
        filling[pace].append(run)
    return groups


def kind_of(run: Run) -> tuple:
    """Return what the rate of a run depends on."""
    return run.task, run.model, run.batch_size
