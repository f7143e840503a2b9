"""Verdicts: a claim of the paper, the records that bear on it, and what follows from both.

A verdict is computed, never written down, and the interval over seeds decides it, not the mean:

- *reproduced*: the whole interval is within the limit; *contradicted*: all of it is beyond;
- *inconclusive*: it crosses the limit, or, for a yes or no, the seeds disagree;
- *holds so far*, *fails so far*: the same from a smaller budget, one seed, or a part of what the
  claim is about;
- *open*: no record decides it, the models of a comparison were trained for different budgets, or a
  bound stops short of the limit where the training did.

Two kinds of claims depend on the budget in one direction only. That something is *reached* is
settled once it is, however short the training (so is a number of steps that another model had and
did not suffice), and that something *fails* is never supported by having trained too little: until
then both are open. The quick and smoke profiles give no verdict.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from companion.evidence import tables
from companion.records.table import Interval, Result
from companion.runs.run import Run
from wrnn.errors import WrnnError, check_choice

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
HOLDS, FAILS, OPEN = "holds so far", "fails so far", "open"
MARKS = {REPRODUCED: "●", HOLDS: "◕", INCONCLUSIVE: "◐", FAILS: "◔", CONTRADICTED: "○", OPEN: "·"}
ASKS = ("compares", "reached", "fails")


@dataclass(frozen=True)
class Rule:
    """The range that a claim is held to, and its words in the table of claims.

    The whole interval must lie in it; or, for a yes (1) or no (0), the value of every seed.
    """

    words: str
    low: float = -math.inf
    high: float = math.inf
    every_seed: bool = False

    def __str__(self) -> str:
        return self.words

    def holds(self, interval: Interval) -> bool | None:
        """Whether the whole interval keeps the rule, or breaks it; None where it crosses."""
        low, high = interval.ends
        if self.every_seed:
            low, high = min(interval.values), max(interval.values)
        if self.low <= low and high <= self.high:
            return True
        return False if high < self.low or low > self.high else None


def at_least(limit: float) -> Rule:
    """Reproduced from the limit upwards."""
    return Rule(f"at least {tables.number(limit, 4)}", low=limit)


def at_most(limit: float) -> Rule:
    """Reproduced up to the limit."""
    return Rule(f"at most {tables.number(limit, 4)}", high=limit)


def within(target: float, limit: float) -> Rule:
    """Reproduced within the limit of the target."""
    return Rule(f"± {tables.number(limit, 4)}", target - limit, target + limit)


AGREE = Rule("every seed", low=1.0, every_seed=True)


@dataclass(frozen=True)
class Part:
    """One thing that a claim is about: its interval (None: not recorded) and what it stands on.

    A claim of several parts, such as lengths, holds where every part does. ``results`` are all
    configurations that bear on it, recorded or not.
    """

    interval: Interval | None
    results: Sequence[Result]
    name: str = ""

    def verdict(self, rule: Rule, asks: str) -> str:
        """Return the verdict on this part alone."""
        if self.interval is None:
            return OPEN
        holds = rule.holds(self.interval)
        complete = all(result.complete for result in self.results)
        unequal = len({budget(r) for r in self.results if r.records}) > 1
        settling = {"reached": True, "fails": False}.get(asks, holds)
        if not complete and (
            holds is not settling
            or (unequal and asks != "reached")
            or (holds is None and self.interval.bound)
        ):
            return OPEN
        if holds is None:
            return INCONCLUSIVE
        whole = complete or asks != "compares"
        if whole and self.interval.count > 1:
            return REPRODUCED if holds else CONTRADICTED
        return HOLDS if holds else FAILS


def budget(result: Result) -> object:
    """What results that are compared must have in common: the whole budget or the same steps."""
    steps = frozenset(record.run.steps for record in result.records)
    return "whole" if result.complete else steps


def together(verdicts: Sequence[str]) -> str:
    """Return the verdict on a claim all of whose parts must hold."""
    for verdict in (CONTRADICTED, FAILS, INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    kinds = set(verdicts)
    return kinds.pop() if len(kinds) == 1 else HOLDS if kinds else OPEN


class Evidence:
    """The results at the paper's sizes, by experiment, that a measure may use."""

    def __init__(self, results: Mapping[str, Sequence[Result]]):
        self.results = results

    def find(self, experiment: str, **wanted: object) -> list[Result]:
        """Return the configurations whose model and task have the wanted values, recorded or not.

        Raises:
            WrnnError: an experiment or a field that does not exist, or values that no
                configuration has; a claim that asks so would otherwise stay open for ever.
        """
        if experiment not in self.results:
            known = ", ".join(self.results) or "none"
            raise WrnnError(f"a claim asks for experiment {experiment!r}: there are {known}")
        found = self.results[experiment]
        for name, value in wanted.items():
            found = [result for result in found if _field(result.run, name) == value]
        if not found:
            asked = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
            raise WrnnError(f"no configuration of {experiment} has {asked}")
        return list(found)

    def one(self, experiment: str, **wanted: object) -> Result:
        """Return the only configuration that matches; WrnnError where there are several."""
        found = self.find(experiment, **wanted)
        if len(found) > 1:
            raise WrnnError(f"{len(found)} configurations of {experiment} match {wanted}")
        return found[0]


def _field(run: Run, name: str) -> object:
    for part in (run.model, run.task):
        if hasattr(part, name):
            return getattr(part, name)
    raise WrnnError(f"a claim asks for {name!r}, which no model or task has")


@dataclass(frozen=True)
class Claim:
    """One statement of the paper that numbers can decide.

    ``measure`` turns the evidence into a part, or several that must all hold. ``asks`` is what the
    budget means to it: it "compares" models, says that something is "reached", or that it "fails".
    ``done`` says of a yes or no what the seeds did that are counted. ``remark`` gives a sentence to
    stand beside the value, or nothing.
    """

    id: str
    question: str  # key in claims.QUESTIONS
    statement: str  # in our own words
    paper: str  # the paper's number, as text
    unit: str
    rule: Rule
    section: str  # label of the chapter that shows it, without "sec-"
    measure: Callable[[Evidence], Part | Sequence[Part]]
    asks: str = "compares"
    done: str = ""
    remark: Callable[[Evidence], str] | None = None

    def __post_init__(self) -> None:
        """Raise WrnnError for a budget that means something else."""
        check_choice(f"what claim {self.id!r} asks", self.asks, ASKS)


@dataclass(frozen=True)
class Finding:
    """A claim with what the records say of it."""

    claim: Claim
    parts: tuple[Part, ...]
    remark: str = ""

    @property
    def part_verdicts(self) -> list[str]:
        """The verdicts on the parts alone."""
        return [part.verdict(self.claim.rule, self.claim.asks) for part in self.parts]

    @property
    def verdict(self) -> str:
        """The verdict on the claim, all of whose parts must hold."""
        return together(self.part_verdicts)

    @property
    def basis(self) -> str:
        """Where the values come from, in words."""
        results = [result for part in self.parts for result in part.results if result.records]
        return "; ".join(dict.fromkeys(r.description for r in results)) or "not yet recorded"

    @property
    def recorded(self) -> list[Part]:
        """The parts that have a value."""
        return [part for part in self.parts if part.interval]

    @property
    def short(self) -> str:
        """The values, in a few words, what is missing, and why they decide nothing."""
        undecided = " (too little training to decide)" * (self.verdict == OPEN)
        return self._joined(seeds=False) + undecided * bool(self.recorded)

    @property
    def seeds(self) -> int:
        """The fewest seeds that a recorded part has; 0 without any."""
        return min((part.interval.count for part in self.recorded), default=0)

    @property
    def shown(self) -> str:
        """The values with their seeds, what is missing, and the remark, for a table."""
        remarked = f". {self.remark}" if self.recorded and self.remark else ""
        return self._joined(seeds=True) + remarked

    def _joined(self, *, seeds: bool) -> str:
        if not self.recorded:
            return "not yet recorded"
        texts = self._texts(seeds=seeds)
        if missing := ", ".join(part.name for part in self.parts if not part.interval):
            texts.append(f"{missing}: not yet recorded")
        return "; ".join(texts)

    def _texts(self, *, seeds: bool) -> list[str]:
        if not self.claim.rule.every_seed:
            return [_text(part, seeds=seeds) + self._undecided(part) for part in self.recorded]
        names: dict[str, list[str]] = {}
        for part in self.recorded:
            yes, count = int(sum(part.interval.values)), part.interval.count
            share = f"{yes} of {tables.counted(count, 'seed')} {self.claim.done}"
            names.setdefault(share, []).append(part.name + self._undecided(part))
        return [f"{share} at {', '.join(of)}".removesuffix(" at ") for share, of in names.items()]

    def _undecided(self, part: Part) -> str:
        """Say of a part of a decided claim that it is not decided itself."""
        decided = self.verdict == OPEN or part.verdict(self.claim.rule, self.claim.asks) != OPEN
        return "" if decided else " (open: too little training)"


def _text(part: Part, *, seeds: bool) -> str:
    found = part.interval
    text = f"{part.name}: {tables.interval(found)}".removeprefix(": ")
    if not seeds:
        return text
    if len(set(found.values)) < 2:
        return f"{text} (n = {found.count})"
    return f"{text} (seeds {', '.join(map(tables.number, found.values))})"


def judge(claim: Claim, results: Mapping[str, Sequence[Result]]) -> Finding:
    """Decide a claim from results at the paper's sizes, by experiment."""
    evidence = Evidence(results)
    measured = claim.measure(evidence)
    parts = (measured,) if isinstance(measured, Part) else tuple(measured)
    return Finding(claim, parts, claim.remark(evidence) if claim.remark else "")
