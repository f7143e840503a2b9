"""Which records stand for the runs of an experiment, and what they stand for.

The status of each is what :mod:`companion.records.table` says; here is nothing that needs pandas,
so that ``wrnn status`` is quick.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from companion.records.files import Record, Store
from companion.runs.experiments import Experiment
from companion.runs.run import Run
from wrnn.tasks import Task

MOST_SEEDS = 5


class Grouped:
    """Records by their run, and those of the paper's profile by what their stand-ins share."""

    def __init__(self, records: Iterable[Record]):
        self.by_run: dict[Run, Record] = {}
        self.alike: dict[Run, list[Record]] = {}
        for record in records:
            self.by_run[record.run] = record
            if record.run.profile == "paper":
                self.alike.setdefault(_but_budget(record.run), []).append(record)


Source = Store | Sequence[Record] | Grouped


@dataclass(frozen=True)
class Selected:
    """What is recorded of one planned configuration."""

    run: Run  # as planned, of seed 0
    status: str
    smaller: str  # what is smaller than in the paper, other than the budget
    records: tuple[Record, ...]  # by seed


def select(experiment: Experiment, profile: str, source: Source) -> list[Selected]:
    """Return for each planned configuration of an experiment what is recorded of it.

    In the paper profile a settled run stands in for a seed whose whole budget is not recorded, and
    with it come the seeds of the same plan that did not settle, so that none is passed over. Where
    no seed has either, the longest records do, and of these first those on the same images, but
    none that the experiment asks for by itself, as a figure of training does. Who asks for many
    experiments groups the records once.
    """
    if not isinstance(source, Grouped):
        source = Grouped(source.all() if isinstance(source, Store) else source)
    smaller = experiment.smaller if profile == "paper" else ""
    selected = []
    planned = experiment.runs(profile)
    own = {(run.model, run.task, run.steps) for run in planned}
    for run in planned:
        found = _records_of(run, profile, source, own)
        settled = any(r.stopped == "settled" for r in found)
        ended = ("settled", "diverged") if settled else ()  # where a longer run would end too
        cut = any(r.run.steps < run.steps and r.stopped not in ended for r in found)
        lossy = any(r.run.task != run.task for r in found)
        status = "reduced" if smaller or cut or lossy else "settled" if settled else profile
        selected.append(Selected(run, status if found else "missing", smaller, found))
    return selected


def _records_of(
    run: Run, profile: str, source: Grouped, own: Collection[tuple]
) -> tuple[Record, ...]:
    """Return the records of a planned run, or those that stand in for it, by seed.

    `own` are the model, task and steps of every run that the experiment plans.
    """
    seeds = [run] + [replace(run, seed=s, trace=False) for s in range(1, MOST_SEEDS)]
    found = {r.seed: source.by_run[r] for r in seeds if r in source.by_run}
    stand_ins: dict[tuple[int, bool], list[Record]] = {}
    for record in source.alike.get(_but_budget(run), ()) if profile == "paper" else ():
        shorter = record.run.steps < run.steps and record.stopped != "settled"
        if shorter and (record.run.model, record.run.task, record.run.steps) in own:
            continue
        if record.run.steps <= run.steps and _same_schedule(record.run, run):
            steps = run.steps if record.stopped == "settled" else record.run.steps
            stand_ins.setdefault((steps, record.run.task == run.task), []).append(record)
    closest = max(stand_ins, default=(0, False))
    if closest == (run.steps, True) or not found:
        for record in stand_ins.get(closest, ()):
            found.setdefault(record.run.seed, record)
    plans = {record.run.steps for record in found.values() if record.stopped == "settled"}
    for steps in sorted(plans, reverse=True):
        for record in stand_ins.get((steps, True), ()):
            if record.run.stop == "settled":
                found.setdefault(record.run.seed, record)
    return tuple(found[seed] for seed in sorted(found))


def whatever_source(task: Task) -> Task:
    """Return the task as if its images had been read from the original files."""
    return replace(task, source="torchvision") if hasattr(task, "source") else task


def _but_budget(run: Run) -> Run:
    """The run without what may differ in a stand-in: budget, stop rule, image files, seed."""
    task = whatever_source(run.task)
    same = dict(steps=0, drop_steps=(), stop="budget", seed=0, trace=False)
    return replace(run, task=task, log_every=1, evaluate_every=1, **same)


def _same_schedule(other: Run, run: Run) -> bool:
    """Whether the learning rate drops alike; a drop that was scaled with the budget counts."""
    scaled = other.drop_steps == (other.steps * 5 // 6,) and bool(run.drop_steps)
    return scaled or other.drop_steps == run.drop_steps
