"""Results: the records of an experiment, grouped over seeds and labelled by what they stand for.

A chapter sees results only through this module, so that no record can be shown without its status:

- ``paper``: the paper's own sizes, steps and data;
- ``settled``: the same, stopped before the last step because the task was settled by then;
- ``reduced``: the paper's task cut short, or with smaller models, or with images that went through
  JPEG;
- ``quick`` and ``smoke``: a smaller task or model that shows the effect, not the number;
- ``missing``: not yet recorded.
"""

from dataclasses import dataclass, replace

from companion.records.files import Record, Store
from companion.runs.experiments import Experiment
from companion.runs.run import Run, build_model
from wrnn.model import count_parameters

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
    def complete(self) -> bool:
        """Whether nothing of the paper's scale is missing that could bear on a claim."""
        return self.status in ("paper", "settled")

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

    @property
    def budget(self) -> str:
        """The steps taken of those planned, and whether the task was settled by then."""
        settled = [record for record in self.records if record.stopped == "settled"]
        steps = sorted({record.steps for record in settled or self.records})
        taken = " to ".join(f"{step:,}" for step in dict.fromkeys((steps[0], steps[-1])))
        words = f"{self.run.task.settled.words} " if settled else ""
        if 0 < len(settled) < len(self.records):
            words = f"{len(settled)} of {len(self.records)} seeds {words}"
        return f"{words}{taken} of {self.run.steps:,} steps"

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
        return next(filter(None, (record.trace() for record in self.records)), None)


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
        found = {p.seed: recorded[p.id] for p in planned if p.id in recorded}
        if profile == "paper":
            # A settled run stands in for a seed whose whole budget is not recorded; where no seed
            # has either, the longest records do, and of these first those on the same images.
            stand_ins: dict[tuple[int, bool], list[Record]] = {}
            for record in _stand_ins(run, recorded.values()):
                steps = run.steps if record.stopped == "settled" else record.run.steps
                closeness = steps, record.run.task == run.task
                stand_ins.setdefault(closeness, []).append(record)
            closest = max(stand_ins, default=(0, False))
            if closest == (run.steps, True) or not found:
                for record in stand_ins.get(closest, ()):
                    found.setdefault(record.run.seed, record)
        records = tuple(found[seed] for seed in sorted(found))
        smaller = experiment.smaller if profile == "paper" else ""
        settled = any(r.stopped == "settled" for r in records)
        cut = any(r.run.steps < run.steps and r.stopped != "settled" for r in records)
        lossy = any(r.run.task != run.task for r in records)
        status = "reduced" if smaller or cut or lossy else "settled" if settled else profile
        results.append(Result(run, records, status if records else "missing", smaller))
    return results


def _stand_ins(run: Run, records) -> list[Record]:
    """Return the records that differ from the run by less budget, stop rule or image files only.

    A schedule that was scaled with the budget counts as the same.
    """

    def comparable(other: Run) -> Run:
        same = ["steps", "stop", "seed", "trace", "log_every", "evaluate_every"]
        if other.drop_steps == (other.steps * 5 // 6,) and run.drop_steps:
            same.append("drop_steps")
        task = other.task
        if type(task) is type(run.task) and hasattr(task, "source"):
            task = replace(task, source=run.task.source)
        return replace(other, task=task, **{name: getattr(run, name) for name in same})

    return [r for r in records if r.run.steps <= run.steps and comparable(r.run) == run]
