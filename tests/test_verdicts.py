"""The rules by which records decide a claim, each in both directions, on constructed records."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_record

from companion.evidence.verdicts import (
    AGREE,
    CONTRADICTED,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    OPEN,
    REPRODUCED,
    Claim,
    Evidence,
    Part,
    at_least,
    at_most,
    judge,
    together,
    within,
)
from companion.records.files import Store
from companion.records.table import difference, gather, interval
from companion.runs.experiments import EXPERIMENTS
from wrnn.errors import WrnnError

TABLE1 = EXPERIMENTS["table1"]
RUN = TABLE1.runs("paper")[0]
SPREAD = (4.0, 5.0, 6.0)  # mean 5, interval 2.5 to 7.5


CLAIM = Claim("x", "memory", "s", "1", "u", at_least(1), "copy", lambda e: Part(None, ()))


@pytest.fixture
def result_of(tmp_path):
    """Make the result of one configuration from the values of its seeds."""

    def make(values, steps=60_000, run=RUN):
        store = Store(tmp_path / f"{steps}-{run.id}")
        for seed, value in enumerate(values):
            seeded = replace(run, seed=seed, trace=run.trace and not seed, steps=steps)
            store.put(make_record(seeded, metrics={"mse": value}))
        return next(r for r in gather(TABLE1, "paper", store) if r.run == run)

    return make


MANY, ONE = SPREAD, [5.0]
WHOLE, CUT = 60_000, 20_000


def verdict(result, rule, asks="compares", bound=""):
    return Part(interval(result.seeds("mse"), bound=bound), (result,)).verdict(rule, asks)


@pytest.mark.parametrize(
    ("rule", "bound", "expected"),
    [
        (at_least(2.4), "", REPRODUCED),
        (at_least(2.6), "", INCONCLUSIVE),  # though the mean, and every seed, is beyond the limit
        (at_least(7.6), "", CONTRADICTED),
        (at_most(7.6), "", REPRODUCED),
        (at_most(7.4), "", INCONCLUSIVE),
        (at_most(2.4), "", CONTRADICTED),
        (within(5.0, 2.6), "", REPRODUCED),
        (within(5.0, 2.4), "", INCONCLUSIVE),
        (within(9.0, 1.0), "", CONTRADICTED),
        # A bound can reach a limit and never misses it.
        (at_least(2.4), ">=", REPRODUCED),
        (at_least(7.6), ">=", INCONCLUSIVE),
        (at_most(7.6), ">=", INCONCLUSIVE),
        (at_most(2.4), ">=", CONTRADICTED),
        (at_most(7.6), "<=", REPRODUCED),
        (at_least(7.6), "<=", CONTRADICTED),
    ],
)
def test_the_interval_decides_not_the_mean(result_of, rule, bound, expected):
    assert verdict(result_of(SPREAD), rule, bound=bound) == expected


@pytest.mark.parametrize(
    ("values", "steps", "rule", "asks", "expected"),
    [
        *((ONE, WHOLE, at_least(2.0), a, HOLDS) for a in ("compares", "reached", "fails")),
        *((ONE, WHOLE, at_least(9.0), a, FAILS) for a in ("compares", "reached", "fails")),
        *((ONE, CUT, at_least(2.0), a, HOLDS) for a in ("compares", "reached")),
        *((ONE, CUT, at_least(9.0), a, FAILS) for a in ("compares", "fails")),
        (ONE, CUT, at_least(9.0), "reached", OPEN),
        (ONE, CUT, at_least(2.0), "fails", OPEN),
        # A smaller budget speaks in both directions.
        (MANY, CUT, at_least(2.4), "compares", HOLDS),
        (MANY, CUT, at_least(7.6), "compares", FAILS),
        (MANY, CUT, at_least(5.0), "compares", INCONCLUSIVE),
        # What is reached is settled when it is reached, and else it may still come.
        (MANY, CUT, at_least(2.4), "reached", REPRODUCED),
        (MANY, CUT, at_least(7.6), "reached", OPEN),
        (MANY, CUT, at_least(5.0), "reached", OPEN),
        # That something fails is never supported by having trained too little.
        (MANY, CUT, at_most(7.6), "fails", OPEN),
        (MANY, CUT, at_most(5.0), "fails", OPEN),
        (MANY, CUT, at_most(2.4), "fails", CONTRADICTED),
        (MANY, WHOLE, at_most(7.6), "fails", REPRODUCED),
        # A yes or no is by agreement of all seeds.
        ([1.0] * 3, WHOLE, AGREE, "reached", REPRODUCED),
        ([1.0, 0.0, 1.0], WHOLE, AGREE, "reached", INCONCLUSIVE),
        ([0.0] * 3, WHOLE, AGREE, "reached", CONTRADICTED),
        ([1.0], WHOLE, AGREE, "reached", HOLDS),
        ([0.0], WHOLE, AGREE, "reached", FAILS),
    ],
)
def test_seeds_and_budget_bound_what_a_verdict_can_say(
    values, steps, rule, asks, expected, result_of
):
    assert verdict(result_of(values, steps), rule, asks) == expected


def test_models_trained_for_different_budgets_are_not_compared(result_of):
    other = next(r for r in TABLE1.runs("paper") if r.task == RUN.task and r.model != RUN.model)
    low = (1.0, 1.1, 1.2)
    whole, cut = result_of(SPREAD), result_of(low, CUT, other)
    gap = difference(whole.seeds("mse"), cut.seeds("mse"))
    for pair, expected in (
        ((whole, cut), OPEN),
        ((whole, result_of(low, WHOLE, other)), REPRODUCED),
        ((result_of(SPREAD, CUT), cut), HOLDS),
    ):
        assert Part(gap, pair).verdict(at_least(1.0), "compares") == expected


def test_a_bound_decides_nothing_where_the_training_stopped_short_of_the_limit(result_of):
    whole, cut = result_of(SPREAD), result_of([1.0], CUT)
    bound = interval([12.0], bound=">=")
    assert Part(bound, (cut,)).verdict(at_least(25.0), "compares") == OPEN
    assert Part(bound, (cut,)).verdict(at_least(10.0), "compares") == HOLDS
    assert Part(bound, (whole,)).verdict(at_least(25.0), "compares") == INCONCLUSIVE
    # Steps that did not suffice are a bound, whatever the budget of the model that needed few.
    for limit, asks, expected in (
        (10.0, "compares", OPEN),
        (10.0, "reached", HOLDS),
        (25.0, "reached", OPEN),
    ):
        assert Part(bound, (whole, cut)).verdict(at_least(limit), asks) == expected


ORDER = (CONTRADICTED, FAILS, INCONCLUSIVE, OPEN, HOLDS, REPRODUCED)


@given(st.lists(st.sampled_from(ORDER), min_size=1))
def test_a_claim_of_several_parts_holds_where_every_part_does(verdicts):
    worst = min(verdicts, key=ORDER.index)
    if worst == OPEN and {HOLDS, REPRODUCED} & {*verdicts}:
        worst = HOLDS  # so far: a part is not recorded
    assert together(verdicts) == worst
    assert together([]) == OPEN


@pytest.mark.parametrize(
    ("experiment", "wanted", "message"),
    [
        ("table1", {"knid": "wrnn"}, "'knid', which no model or task has"),
        ("table1", {"kind": "wrn"}, "no configuration of table1 has kind='wrn'"),
        ("table1", {"length": 101}, "no configuration of table1 has length=101"),
        ("table9", {}, "asks for experiment 'table9': there are table1"),
    ],
)
def test_a_question_that_nothing_can_answer_is_an_error(experiment, wanted, message, result_of):
    evidence = Evidence({"table1": [result_of(SPREAD)]})
    assert len(evidence.find("table1", kind="wrnn", length=100)) == 1
    claim = replace(CLAIM, measure=lambda e: Part(None, e.find(experiment, **wanted)))
    with pytest.raises(WrnnError, match=message):
        judge(claim, evidence.results)


def test_a_finding_says_its_seeds_its_bound_and_what_is_missing(result_of):
    result = result_of([5.0, 7.0])
    parts = [
        Part(interval([5.0, 7.0], bound=">="), (result,), "T = 1"),
        Part(interval([6.0]), (result,), "T = 2"),
        Part(None, (result,), "T = 3"),
    ]
    claim = replace(CLAIM, measure=lambda e: parts, remark=lambda e: "A remark")
    finding = judge(claim, {})
    assert finding.shown == (
        "T = 1: ≥ 6 [−6.71, 18.7] (seeds 5, 7); T = 2: 6 (n = 1); T = 3: not yet recorded. A remark"
    )
    assert finding.short == "T = 1: ≥ 6 [−6.71, 18.7]; T = 2: 6; T = 3: not yet recorded"
    assert finding.basis == result.description
    assert judge(CLAIM, {}).shown == "not yet recorded"


def test_a_finding_says_what_the_seeds_did_and_which_part_is_open(result_of):
    whole, cut = result_of([1.0, 1.0]), result_of([1.0], CUT)
    parts = [
        Part(interval([1.0, 1.0]), (whole,), "T = 1"),
        Part(interval([1.0]), (cut,), "T = 2"),
    ]
    claim = replace(CLAIM, rule=AGREE, asks="fails", done="failed", measure=lambda e: parts)
    finding = judge(claim, {})
    assert finding.verdict == HOLDS
    assert finding.short == (
        "2 of 2 seeds failed at T = 1; 1 of 1 seed failed at T = 2 (open: too little training)"
    )
    alone = judge(replace(claim, measure=lambda e: parts[1]), {})
    assert (alone.verdict, alone.short) == (
        OPEN,
        "1 of 1 seed failed at T = 2 (too little training to decide)",
    )
