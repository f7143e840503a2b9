"""Results: the records of an experiment, grouped over seeds and labelled by what they stand for.

A chapter sees results only through this module, so that no record can be shown without its status:

- ``paper``: the paper's own sizes, steps and data;
- ``reduced``: the paper's task and data with fewer steps than the paper's, or smaller models;
- ``quick`` and ``smoke``: a smaller task or model that shows the effect, not the number;
- ``missing``: not yet recorded.
"""

from dataclasses import dataclass, replace

from wrnn.experiments import Experiment
from wrnn.models import count_parameters
from wrnn.records import Record, Store
from wrnn.runs import Run, build_model

MOST_SEEDS = 5


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with the half width of its 95 % confidence interval (Student's t)."""

    mean: float
    half_width: float | None  # None for a single seed
    count: int


@dataclass(frozen=True)
class Result:
    """The records of one configuration over its seeds; ``run`` is the planned run of seed 0."""

    run: Run
    records: tuple[Record, ...]
    status: str
    smaller: str = ""  # what is smaller than in the paper, other than the budget

    @property
    def label(self) -> str:
        """The model's label."""
        return self.run.model.label

    @property
    def description(self) -> str:
        """Where the numbers come from, in a few words, such as "quick profile, CPU, 1 seed"."""
        if self.status == "missing":
            return "not yet recorded"
        done = self.records[0].run
        scale = {
            "paper": "paper scale",
            "reduced": self.smaller or f"paper sizes, {done.steps:,} of {self.run.steps:,} steps",
        }.get(self.status, f"{self.status} profile")
        devices = " and ".join(sorted({record.device for record in self.records}))
        count = len(self.records)
        return f"{scale}, {devices}, {count} seed{'s' * (count > 1)}"

    @property
    def parameters(self) -> int:
        """Trainable weights of the model, biases left out as the paper mostly counts."""
        return count_parameters(build_model(self.run.model, self.run.task))["without_biases"]

    def metric(self, name: str) -> Estimate | None:
        """Estimate a metric over the seeds that have it; None where none does."""
        values = [r.metrics[name] for r in self.records if r.metrics.get(name) is not None]
        return estimate(values) if values else None

    def curve(self, name: str) -> tuple[list[float], list[float], list[float], list[float]]:
        """Return steps, mean, lowest and highest value over seeds, at the steps all seeds share."""
        curves = [dict(map(tuple, r.curves[name])) for r in self.records if name in r.curves]
        if not curves:
            return [], [], [], []
        steps = sorted(set(curves[0]).intersection(*curves[1:]))
        values = [[curve[step] for curve in curves] for step in steps]
        means = [sum(row) / len(row) for row in values]
        return steps, means, [min(row) for row in values], [max(row) for row in values]

    @property
    def trace(self) -> dict | None:
        """The arrays kept beside the first record that has them."""
        for record in self.records:
            if record.trace_path is not None:
                return record.trace()
        return None


def estimate(values: list[float]) -> Estimate:
    """Return the mean of the values and the half width of its 95 % confidence interval."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return Estimate(mean, None, 1)
    from scipy.stats import t

    deviation = (sum((value - mean) ** 2 for value in values) / (count - 1)) ** 0.5
    return Estimate(mean, float(t.ppf(0.975, count - 1)) * deviation / count**0.5, count)


def gather(experiment: Experiment, profile: str, store: Store) -> list[Result]:
    """Return one result per configuration of the experiment in a profile, recorded or not."""
    recorded = {record.id: record for record in store.all()}
    results = []
    for run in experiment.runs(profile):
        planned = [run] + [replace(run, seed=s, trace=False) for s in range(1, MOST_SEEDS)]
        exact = tuple(recorded[p.id] for p in planned if p.id in recorded)
        if exact:
            smaller = experiment.smaller if profile == "paper" else ""
            results.append(Result(run, exact, "reduced" if smaller else profile, smaller))
            continue
        reduced = _reduced(run, recorded.values()) if profile == "paper" else ()
        results.append(Result(run, reduced, "reduced" if reduced else "missing"))
    return results


def _reduced(run: Run, records) -> tuple[Record, ...]:
    """Return the records that differ from the run by a smaller budget only: the longest ones."""

    def comparable(other: Run) -> Run:
        cadence = {name: getattr(run, name) for name in ("log_every", "evaluate_every")}
        return replace(other, steps=run.steps, seed=run.seed, trace=run.trace, **cadence)

    shorter = [r for r in records if r.run.steps < run.steps and comparable(r.run) == run]
    longest = max((record.run.steps for record in shorter), default=0)
    chosen = [record for record in shorter if record.run.steps == longest]
    return tuple(sorted(chosen, key=lambda record: record.run.seed))
