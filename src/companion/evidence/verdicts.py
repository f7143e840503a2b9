"""Verdicts: a claim of the paper, the records that bear on it, and what follows from both.

A verdict is computed, never written down. Records at the paper's scale give "reproduced",
"partly" or "not reproduced" by the claim's rule, and so do runs that were stopped because their
task was settled, since the steps left out would not change what a claim asks. Records of a reduced
budget (the paper's sizes and data, cut short), or of some configurations only, can support a claim,
never decide it: where the rule holds they give "partly", and where it doesn't the claim stays "not
yet run", since the rest may still bring it about. A claim that training too little would fulfil by
itself, such as that a model fails, is not supported that way. The quick and smoke profiles give no
verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from companion.evidence import tables
from companion.records.results import Estimate, Result

REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_RUN = (
    "reproduced",
    "partly",
    "not reproduced",
    "not yet run",
)
MARKS = {REPRODUCED: "●", PARTLY: "◐", NOT_REPRODUCED: "○", NOT_RUN: "·"}


class NotRecorded(Exception):
    """A measure asked for a result that has no record of the scale in question."""


@dataclass(frozen=True)
class Rule:
    """How far a value may be from the paper's: `kind` is "at least", "at most" or "within".

    `full` is the limit for "reproduced" and `partly` the weaker one; for "within" both are
    distances from `target`.
    """

    kind: str
    full: float
    partly: float
    target: float = 0.0

    def verdict(self, value: float) -> str:
        """Return the verdict on a value measured at the paper's scale; NaN reproduces nothing."""
        for limit, verdict in ((self.full, REPRODUCED), (self.partly, PARTLY)):
            holds = {
                "at least": value >= limit,
                "at most": value <= limit,
                "within": abs(value - self.target) <= limit,
            }[self.kind]
            if holds:
                return verdict
        return NOT_REPRODUCED

    def __str__(self) -> str:
        """The rule in words, as the table of claims prints it."""
        full, partly = tables.number(self.full, 4), tables.number(self.partly, 4)
        if self.kind == "within":
            return f"± {full} (partly: ± {partly})"
        return f"{self.kind} {full} (partly: {partly})"


def at_least(full: float, partly: float) -> Rule:
    """Reproduced from `full` upwards, partly from `partly` upwards."""
    return Rule("at least", full, partly)


def at_most(full: float, partly: float) -> Rule:
    """Reproduced up to `full`, partly up to `partly`."""
    return Rule("at most", full, partly)


def within(target: float, full: float, partly: float) -> Rule:
    """Reproduced within `full` of `target`, partly within `partly` of it."""
    return Rule("within", full, partly, target)


class Shelf:
    """The results that a measure may use; it remembers which ones were taken.

    `results` maps experiments to their results at the paper's sizes. With `complete` only complete
    ones count (:attr:`companion.records.results.Result.complete`) and every configuration asked
    for must be there; without it reduced ones count too and some may be missing.
    """

    def __init__(self, results: Mapping[str, Sequence[Result]], *, complete: bool):
        self.results = results
        self.complete = complete
        self.taken: list[Result] = []

    def find(self, experiment: str, **wanted: object) -> list[Result]:
        """Return the results whose model and task have the `wanted` attributes, one or more."""

        def matches(result: Result) -> bool:
            run = result.run
            owner = {name: run.model if hasattr(run.model, name) else run.task for name in wanted}
            return all(getattr(owner[n], n, None) == value for n, value in wanted.items())

        asked = [result for result in self.results.get(experiment, ()) if matches(result)]
        found = [r for r in asked if r.complete or (r.status == "reduced" and not self.complete)]
        if not found or (self.complete and len(found) < len(asked)):
            raise NotRecorded(experiment)
        self.taken += [result for result in found if result not in self.taken]
        return found

    def one(self, experiment: str, **wanted: object) -> Result:
        """Return the only result that matches."""
        found = self.find(experiment, **wanted)
        if len(found) != 1:
            raise LookupError(f"{len(found)} results of {experiment} match {wanted}, expected one")
        return found[0]

    def metric(self, result: Result, name: str) -> Estimate:
        """Return a metric of a result; NotRecorded where its records do not have it."""
        value = result.metric(name)
        if value is None:
            raise NotRecorded(name)
        return value


@dataclass(frozen=True)
class Claim:
    """One statement of the paper that a number can decide.

    `measure` turns results into that number; it is None while no experiment for the claim exists.
    """

    id: str
    question: str  # key in claims.QUESTIONS
    statement: str  # in our own words
    paper: str  # the paper's number, as text
    unit: str
    rule: Rule
    section: str  # label of the chapter that shows it, without "sec-"
    experiments: tuple[str, ...]
    measure: Callable[[Shelf], Estimate] | None
    whole_budget: bool = False  # a smaller budget says nothing about it


@dataclass(frozen=True)
class Finding:
    """A claim with what the records say of it."""

    claim: Claim
    verdict: str
    value: Estimate | None
    basis: str  # where the value comes from, in words
    scale: str = ""  # "reduced" or "in part" where it is not all of the paper's scale

    @property
    def shown(self) -> str:
        """The value with its spread and count, for a table."""
        if self.value is None:
            return "not yet recorded"
        shown = tables.estimate(self.value.mean, self.value.half_width)
        remarks = [self.scale, f"n = {self.value.count}" if self.value.count else ""]
        remark = ", ".join(filter(None, remarks))
        return f"{shown} ({remark})" if remark else shown


def judge(claim: Claim, results: Mapping[str, Sequence[Result]]) -> Finding:
    """Decide a claim from results at the paper's sizes, by experiment."""
    for complete in (True, False) if claim.measure else ():
        shelf = Shelf(results, complete=complete)
        try:
            value = claim.measure(shelf)
        except NotRecorded:
            continue
        verdict, scale = claim.rule.verdict(value.mean), ""
        if not complete:
            reduced = any(result.status == "reduced" for result in shelf.taken)
            scale = "reduced" if reduced else "in part"
            supported = verdict == REPRODUCED and not claim.whole_budget
            verdict = PARTLY if supported else NOT_RUN
        basis = "; ".join(dict.fromkeys(result.description for result in shelf.taken))
        return Finding(claim, verdict, value, basis or "counted from the models", scale)
    return Finding(claim, NOT_RUN, None, "not yet recorded")
