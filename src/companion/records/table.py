"""Records as one table: a row per record, grouped over seeds, paired by seed, with intervals.

Whatever shows or judges records starts here, so that none can be shown without its status:

- ``paper``: the paper's own sizes, steps and data;
- ``settled``: the same, stopped before the last step because the task was settled by then;
- ``reduced``: the paper's task cut short, or with smaller models, or with images that went through
  JPEG;
- ``quick`` and ``smoke``: a smaller task or model that shows the effect, not the number;
- ``missing``: not yet recorded.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property

import numpy as np
import pandas as pd

from companion.records.files import Record, Store
from companion.records.selection import MOST_SEEDS, Source, select, whatever_source
from companion.runs.experiments import EXPERIMENTS, Experiment
from companion.runs.run import Run, build_model
from wrnn.model import count_parameters

SMALLEST = 2.0**-149  # the smallest float32 above zero, where a loss of zero is put
WHOLE = ("paper", "settled")  # status of records that nothing of the paper's scale is missing from
RATES = ("accuracy", "token_accuracy")
BySeed = pd.Series | Mapping[int, float]


# -------------------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class Interval:
    """The mean over seeds and its 95 % confidence interval (Student's t), on a scale that fits.

    ``low`` and ``high`` are None for one seed. ``bound`` is ">=" where the true value may be
    larger, "<=" where it may be smaller. ``values`` are the seeds'; none where two groups of
    seeds without a seed in common were compared.
    """

    mean: float
    low: float | None
    high: float | None
    count: int
    values: tuple[float, ...] = ()
    bound: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and highest value that the seeds leave possible, bounds included."""
        low, high = (self.mean if end is None else end for end in (self.low, self.high))
        return -math.inf if self.bound == "<=" else low, math.inf if self.bound == ">=" else high


# name -> there and back: losses and steps on the log scale, rates (per cent) on the logit scale
SCALES = {
    "linear": (lambda values: values, lambda values: values),
    "per cent": (lambda values: values, lambda values: np.clip(values, 0, 100)),
    "log": (lambda values: np.log10(np.maximum(values, SMALLEST)), lambda values: 10.0**values),
    "logit": (lambda v: np.log(v / (100 - v)), lambda v: 100 / (1 + np.exp(-v))),
}


def scale_of(metric: str) -> str:
    """Return the scale on which a metric is averaged."""
    return "logit" if metric in RATES else "log"


def interval(values: Iterable[float], scale: str = "linear", bound: str = "") -> Interval | None:
    """Return the interval of some seeds' values; None where there are none.

    Rates with 0 or 100 among them, which have no logit, are averaged as they are, and the interval
    ends at 0 and 100.
    """
    values = tuple(float(value) for value in values)
    if not values:
        return None
    if scale == "logit" and not 0 < min(values) <= max(values) < 100:
        scale = "per cent"
    there, back = SCALES[scale]
    return _around(there(np.array(values)), back, values, bound)


def _around(x: np.ndarray, back, values: tuple[float, ...], bound: str) -> Interval:
    if len(x) == 1:
        return Interval(values[0], None, None, 1, values, bound)
    if len(set(values)) == 1:  # exactly, not but for rounding
        return Interval(values[0], values[0], values[0], len(x), values, bound)
    from scipy.stats import t

    half = t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5
    low, mean, high = (float(back(x.mean() + shift)) for shift in (-half, 0.0, half))
    return Interval(mean, low, high, len(x), values, bound)


def difference(
    first: BySeed, second: BySeed, scale: str = "linear", bound: str = ""
) -> Interval | None:
    """Return the interval of first minus second, both by seed.

    Paired where seeds are in both, by Welch's formula where none is. On the scale "log" it is in
    powers of ten. None where either is empty.
    """
    return _compare(first, second, SCALES[scale][0], SCALES["linear"][1], bound)


def ratio(first: BySeed, second: BySeed, bound: str = "") -> Interval | None:
    """Return the interval of first over second, both by seed, as for `difference`."""
    return _compare(first, second, *SCALES["log"], bound)


def _compare(first: BySeed, second: BySeed, there, back, bound: str) -> Interval | None:
    first, second = (there(pd.Series(each, dtype=float)) for each in (first, second))
    change = (first - second).dropna().to_numpy()
    if len(change):
        return _around(change, back, tuple(map(float, back(change))), bound)
    if first.empty or second.empty:
        return None
    mean, count = first.mean() - second.mean(), min(len(first), len(second))
    ends = (None, None) if count == 1 else (back(mean), back(mean))
    if count > 1 and first.var() + second.var() > 0:
        from scipy.stats import ttest_ind

        ends = map(back, ttest_ind(first, second, equal_var=False).confidence_interval())
    return Interval(back(mean), *ends, count, (), bound)


# ------------------------------------------------------------------------------------------ rows


def records_table(store: Store) -> pd.DataFrame:
    """Return a row per record of a store: its run, status, metrics, cost and provenance.

    The column ``record`` is the :class:`~companion.records.files.Record` itself; the fields of the
    run, its task and its model are columns of the same names.
    """
    at_size = [e for e in EXPERIMENTS.values() if not e.smaller]
    planned = {run for e in at_size for run in e.runs("paper", MOST_SEEDS)}
    budgets: dict[str, int] = {}
    for run in planned:
        budgets[run.task.name] = max(budgets.get(run.task.name, 0), run.steps)

    def status(record: Record) -> str:
        """What one record stands for, whichever of the paper's settings it was trained with."""
        run = record.run
        if run.profile != "paper":
            return run.profile
        lossless = run.task == whatever_source(run.task)
        if lossless and record.stopped == "settled":
            return "settled"
        whole = run in planned or run.steps >= budgets.get(run.task.name, math.inf)
        return "paper" if lossless and whole else "reduced"

    return pd.DataFrame([_row(record, status(record), record.run) for record in store.all()])


def _row(record: Record | None, status: str, planned: Run) -> dict:
    """Flatten a record; ``planned`` is the run that it stands for."""
    run = record.run if record else planned
    row = {
        "label": planned.model.label,
        "title": run.task.title,
        "planned": planned,
        "record": record,
        "status": status,
    }
    row |= {"task_name": run.task.name} | asdict(run.task) | asdict(run.model)
    row |= {f.name: getattr(run, f.name) for f in fields(Run) if f.name not in ("task", "model")}
    row["planned_steps"] = row.pop("steps")
    if record is None:
        return row
    row |= {"id": record.id, "taken_steps": record.steps, **_metrics(record)}
    names = ("seconds", "processor_seconds", "device", "commit", "stopped", "diverged")
    return row | record.parameters | {name: getattr(record, name) for name in names}


def _metrics(record: Record) -> dict[str, float]:
    """Metrics of the test set, with the paper's criterion of solving where it was not noted.

    Of a run that diverged all are NaN, whatever its best weights before that could do.
    """
    metrics = dict(record.metrics)
    solved = record.run.task.solved
    if solved and "solved_step_training" not in metrics:
        loss = record.curves.get("loss", ())
        metrics["solved_step_training"] = next((s for s, v in loss if v <= solved[1]), None)
    return {
        name: math.nan if value is None or record.diverged else value
        for name, value in metrics.items()
    }


def experiment_table(experiment: Experiment, profile: str, source: Source) -> pd.DataFrame:
    """Return the rows that belong to each planned configuration, one row where there are none.

    The column ``configuration`` is the id of the planned run of seed 0. Which records stand for it
    :func:`~companion.records.selection.select` says.
    """
    rows = []
    for found in select(experiment, profile, source):
        group = {"configuration": found.run.id, "smaller": found.smaller}
        records = found.records or (None,)
        rows += [group | _row(record, found.status, found.run) for record in records]
    return pd.DataFrame(rows)


def curves_table(results: Iterable["Result"], name: str) -> pd.DataFrame:
    """Return a recorded curve in long form: configuration, title, label, seed, step, value."""
    rows = [
        (result.run.id, result.run.task.title, result.label, record.run.seed, step, value)
        for result in results
        for record in result.records
        for step, value in record.curves.get(name, ())
    ]
    columns = ["configuration", "title", "label", "seed", "step", "value"]
    return pd.DataFrame(rows, columns=columns)


# ---------------------------------------------------------------------------- one configuration


@dataclass(frozen=True, eq=False)
class Result:
    """One configuration: a view on its rows; ``run`` is the planned run of seed 0."""

    run: Run
    rows: pd.DataFrame

    @property
    def label(self) -> str:
        """The model's label."""
        return self.run.model.label

    @property
    def status(self) -> str:
        """What the records stand for, see the module."""
        return self.rows["status"].iloc[0]

    @property
    def smaller(self) -> str:
        """What is smaller than in the paper, other than the budget; empty where nothing is."""
        return self.rows["smaller"].iloc[0]

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The records, by seed."""
        return tuple(record for record in self.rows["record"] if record is not None)

    @property
    def complete(self) -> bool:
        """Whether nothing of the paper's scale is missing that could bear on a claim."""
        return self.status in WHOLE

    def seeds(self, metric: str) -> pd.Series:
        """Return a metric by seed, of the seeds that have it; losses no lower than their floor."""
        if metric not in self.rows or not self.records:
            return pd.Series(dtype=float)
        values = self.rows.set_index("seed")[metric].dropna().astype(float)
        floor = self.floor(metric)
        return values.clip(lower=floor) if floor else values

    def floor(self, metric: str) -> float | None:
        """Return the value below which the task no longer tells two losses apart, if it has one."""
        has = metric in ("cross_entropy", "printed_mse") and hasattr(self.run.task, "float32_floor")
        return self.run.task.float32_floor(metric) if has else None

    def metric(self, name: str) -> Interval | None:
        """Return a metric over the seeds that have it; None where none does."""
        values = self.seeds(name)
        floored = self.floor(name) is not None and (values <= self.floor(name)).any()
        return interval(values, scale_of(name), "<=" if floored else "")

    def with_metrics(self, metrics: Mapping[str, Mapping[int, float]]) -> "Result":
        """Return the same configuration with these metrics by seed in place of its own."""
        own = {name for record in self.records for name in _metrics(record)}
        rows = self.rows.drop(columns=[name for name in own if name in self.rows])
        new = {name: rows["seed"].map(dict(by_seed)) for name, by_seed in metrics.items()}
        return replace(self, rows=rows.assign(**new))

    def of(self, records: Collection[Record]) -> "Result":
        """Return the same configuration with these of its records only."""
        kept = {record.id for record in records}
        return replace(
            self, rows=self.rows[[r is not None and r.id in kept for r in self.rows["record"]]]
        )

    @property
    def parameters(self) -> int:
        """Trainable weights of the model, biases left out as the paper mostly counts."""
        return count_parameters(build_model(self.run.model, self.run.task))["without_biases"]

    @property
    def trace(self) -> dict | None:
        """The arrays kept beside the first record that has them."""
        return next(filter(None, (record.trace() for record in self.records)), None)

    @property
    def budget(self) -> str:
        """The steps taken of those planned, and whether the task was settled by then."""
        settled = [record for record in self.records if record.stopped == "settled"]
        shown = settled or self.records
        taken = _ends((r.steps for r in shown), " to ")
        cut = self.status == "reduced" and all(r.run.steps < self.run.steps for r in shown)
        planned = f"{self.run.steps:,}" if cut else _ends((r.run.steps for r in shown), " or ")
        steps = f"{taken} steps" if taken == planned else f"{taken} of {planned} steps"
        ended = "diverged after" if all(r.diverged for r in shown) else "reduced to" * cut
        words = f"{self.run.task.settled.words if settled else ended} ".lstrip()
        if 0 < len(settled) < len(self.records):
            words = f"{len(settled)} of {len(self.records)} seeds {words}"
        return words + steps

    @property
    def description(self) -> str:
        """Where the numbers come from, in a few words, such as "quick profile, CPU, 1 seed"."""
        if self.status == "missing":
            return "not yet recorded"
        scale = {
            "paper": "paper scale",
            "settled": f"paper sizes, {self.budget}",
            "reduced": self.smaller or f"paper sizes, {self.budget}",
        }.get(self.status, f"{self.status} profile")
        for title in sorted({r.run.task.title for r in self.records} - {self.run.task.title}):
            scale += f", {title}"
        devices = " and ".join(sorted({record.device for record in self.records}))
        count = len(self.records)
        return f"{scale}, {devices}, {count} seed{'s' * (count > 1)}"

    def description_of(self, record: Record) -> str:
        """Where the numbers of one seed come from, in a few words."""
        return f"{self.description.rpartition(', ')[0]}, seed {record.run.seed}"


def _ends(steps: Iterable[int], joined: str) -> str:
    steps = sorted(steps)
    return joined.join(f"{step:,}" for step in dict.fromkeys((steps[0], steps[-1])))


def results(table: pd.DataFrame) -> list[Result]:
    """Return a result per configuration of an experiment's table, in the planned order."""
    groups = table.groupby("configuration", sort=False)
    return [Result(rows["planned"].iloc[0], rows) for _, rows in groups]


def gather(experiment: Experiment, profile: str, source: Source) -> list[Result]:
    """Return the results of an experiment in a profile: one per configuration, recorded or not."""
    return results(experiment_table(experiment, profile, source))
