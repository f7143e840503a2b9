"""Claims: computed from records, and different when a record is different."""

import dataclasses
import datetime
import functools
import io
import math

import numpy as np
import pytest
from samples import make_record

from companion.evidence import changes, claims
from companion.evidence import published as paper
from companion.evidence.verdicts import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    OPEN,
    REPRODUCED,
    Evidence,
    judge,
)
from companion.records.files import Store
from companion.records.selection import Grouped
from companion.records.table import gather
from companion.runs.campaign import scaled
from companion.runs.experiments import EXPERIMENTS, MNIST_EPOCH

NEEDED = claims.experiments_needed()
CLAIMS = {claim.id: claim for claim in claims.CLAIMS}
JUDGED_ON_TRACES = {"wave-speed", "no-wave-in-irnn", "waves-from-random", "several-speeds"}


@functools.cache
def wave_trace(kind, speeds=(1,), steps=96, sites=48):
    """Hidden states (steps, speeds, sites): a pattern moving at these whole speeds, or noise."""
    generator = np.random.default_rng(1)
    pattern = generator.normal(size=sites)
    rows = [[np.roll(pattern, -t * speed) for speed in speeds] for t in range(steps)]
    hidden = np.array(rows) if kind == "wrnn" else generator.normal(size=(steps, 1, sites))
    file = io.BytesIO()
    np.savez(file, hidden=hidden.astype(np.float16))
    return file.getvalue()


def metrics_as_published(run):
    """Test metrics that agree with what the paper prints for this run."""
    wave = run.model.kind == "wrnn"
    if run.task.name == "copy":
        fails = run.model.kind == "irnn" and run.model.recurrent != "shift" and run.task.lag > 20
        no_shift = wave and run.model.recurrent != "shift" and run.task.lag > 20
        loss = 0.1 if fails or no_shift else 1e-9 if wave else 2e-2 if run.task.lag < 30 else 1e-4
        symbols = 50.0 if fails or no_shift else 100.0
        return {"cross_entropy": loss, "printed_mse": loss / 50, "token_accuracy": symbols}
    if run.task.name == "adding":
        model = "wrnn" if wave else "irnn"
        step = paper.value(f"table1/{model}/T={run.task.length}/solved_iter")
        return {"mse": 0.01, "solved_step": step, "solved_step_training": step}
    if not hasattr(run.task, "permuted"):
        return {"accuracy": paper.value(f"table3/{'wrnn-16c' if wave else 'irnn'}/accuracy")}
    model = "wrnn-mlp" if run.model.readout == "mlp" else "wrnn-16c" if wave else "irnn"
    accuracy = paper.value(f"table2/{model}/{'p' * run.task.permuted}smnist")
    if run.model.kind == "irnn" and run.model.size < 256:  # Figure 7: small iRNNs do worse
        accuracy -= (256 - run.model.size) / 10
    return {"accuracy": accuracy}


def record_of(run, metrics):
    curves = {}
    if run.task.name not in ("copy", "adding"):
        late = run.model.kind == "irnn"
        step = run.evaluate_every
        curves["accuracy"] = [[e * step, 97.0 + late * (e - 50) / 50] for e in range(1, 121)]
    if run.task.name == "copy":
        learnt = 2000 if run.model.input == "ones" else 3000
        last = metrics["cross_entropy"]
        curves["cross_entropy"] = [[s, last + (s < learnt)] for s in range(0, 5000, 500)]
    return make_record(run, metrics=metrics, curves=curves, device="test device")


def fill(store, names, seeds=(0, 1), metrics=metrics_as_published, **fields):
    """Put records as published for the runs of some experiments; `fields` alter the runs."""
    for experiment in (e for e in NEEDED if e.name in names):
        for run in experiment.runs("paper"):
            speeds = (1, 2) if isinstance(run.model.velocity, tuple) else (1,)
            for seed in seeds:
                seeded = dataclasses.replace(run, seed=seed, trace=run.trace and not seed, **fields)
                trace = wave_trace(run.model.kind, speeds) if seeded.trace else None
                store.put(record_of(seeded, metrics(run)), trace)


def gathered(store):
    records = Grouped(store.all())
    return {experiment.name: gather(experiment, "paper", records) for experiment in NEEDED}


def verdict(store, claim):
    return judge(CLAIMS[claim], gathered(store))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def altered(changes):
    """Metrics as published, but for the runs of which `changes` returns others."""
    return lambda run: metrics_as_published(run) | changes(run)


def test_every_claim_asks_for_what_exists_and_stays_open_without_records(store):
    assert len(CLAIMS) == len(claims.CLAIMS)
    assert {claim.question for claim in claims.CLAIMS} == set(claims.QUESTIONS)
    for run in EXPERIMENTS["fig3"].runs("quick"):  # which say nothing of the paper
        store.put(make_record(run, metrics=metrics_as_published(run)))
    results = gathered(store)
    findings = [judge(claim, results) for claim in claims.CLAIMS]
    assert {(f.verdict, f.shown) for f in findings} == {(OPEN, "not yet recorded")}


def test_records_as_published_reproduce_every_claim(store):
    fill(store, {experiment.name for experiment in NEEDED}, seeds=(0, 1))
    results = gathered(store)
    found = {claim.id: judge(claim, results) for claim in claims.CLAIMS}
    others = {n: f.verdict for n, f in found.items() if n not in JUDGED_ON_TRACES}
    assert {name: v for name, v in others.items() if v != REPRODUCED} == {}
    assert found["copy-gap-0"].remark == "Our iRNN (n=100) ends at 4 times the printed loss"
    assert "T = 100: 46.7 (n = 2)" in found["adding-speed"].shown
    assert found["adding-speed"].remark.startswith("Solved by validation: T = 100: 46.7")
    assert found["faster-training"].short == "50"  # evaluations later, read from the curves
    assert [found[f"v-init-speed-{length}"].short for length in (0, 10, 30)] == ["1.5"] * 3


@pytest.mark.parametrize(
    ("claim", "names", "changes"),
    [
        ("copy-480", {"fig4"}, {("wrnn", 490): {"token_accuracy": 70.0}}),
        ("irnn-625-copy", {"fig4"}, {("irnn", 90): {"token_accuracy": 99.5}}),
        ("no-u-shift", {"table4"}, {("wrnn", 40): {"token_accuracy": 99.5}}),
        ("adding-wrnn", {"table1"}, {("wrnn", 700): {"solved_step_training": None}}),
        ("adding-irnn", {"table1"}, {("irnn", 700): {"solved_step_training": 900}}),
        ("adding-speed", {"table1"}, {("irnn", 400): {"solved_step_training": 9e3}}),
        ("wrnn-16c-psmnist", {"table2"}, {("wrnn", None): {"accuracy": 90.0}}),
        ("gated-smnist", {"table2"}, {("wrnn", None): {"accuracy": 99.5}}),
        ("mlp", {"table2"}, {("wrnn", None): {"accuracy": 97.0}}),
    ],
)
def test_a_verdict_flips_with_its_record(store, claim, names, changes):
    fill(store, names)
    assert verdict(store, claim).verdict == REPRODUCED

    def changed(run):
        places = {"copy": "lag", "adding": "length"}
        place = getattr(run.task, places.get(run.task.name, ""), None)
        return changes.get((run.model.kind, place), {})

    fill(store, names, metrics=altered(changed))
    assert verdict(store, claim).verdict == CONTRADICTED


def test_parameters_are_bounded_by_the_smallest_size_and_not_compared_for_one_size(store):
    claim = "parameter-efficiency"
    fill(store, {"table2"})  # whose networks are one size of each model in Figure 7
    assert verdict(store, claim).verdict == OPEN and not verdict(store, claim).recorded
    fill(store, {"fig7"})  # all wRNNs are better than the best iRNN
    assert verdict(store, claim).verdict == REPRODUCED
    assert verdict(store, claim).parts[0].interval.bound == ">="

    def growing(run):
        wave = run.model.kind == "wrnn"
        return {"accuracy": 60 + 5 * math.log2(run.model.num_channels)} if wave else {}

    fill(store, {"fig7"}, metrics=altered(growing))
    assert verdict(store, claim).verdict == CONTRADICTED
    assert not verdict(store, claim).parts[0].interval.bound


def test_who_catches_up_is_followed_until_a_rate_drops(store):
    fill(store, {"table2"})
    finding = verdict(store, "faster-training")
    assert (finding.verdict, finding.short) == (REPRODUCED, "50")
    fill(store, {"table2"}, drop_steps=(40 * MNIST_EPOCH,))
    pair = [r for r in store.all() if r.run.drop_steps == (40 * MNIST_EPOCH,)]
    results = gather(EXPERIMENTS["table2"], "paper", pair)
    assert not any(result.records for result in results)  # another schedule is another run
    for record in store.all():
        store.path(record.run).unlink()
    for run in EXPERIMENTS["table2"].runs("paper"):
        short = scaled(run, 36) if run.model.readout == "linear" and not run.task.permuted else run
        store.put(record_of(short, metrics_as_published(short)))
    finding = verdict(store, "faster-training")
    assert (finding.verdict, finding.short) == (HOLDS, "≥ 30")  # the rate drops after 30 of 36


def test_a_gap_that_ends_at_the_floor_is_a_lower_bound(store):
    fill(store, {"fig3", "irnn_variants"})
    finding = verdict(store, "copy-gap-30")
    floor = EXPERIMENTS["fig3"].runs("paper")[0].task.float32_floor()
    assert finding.verdict == REPRODUCED
    assert finding.parts[0].interval.mean == pytest.approx(math.log10(0.1 / floor))
    assert finding.short == "≥ 5.92"
    worse = altered(lambda run: {"cross_entropy": 1e-5} if run.model.kind == "irnn" else {})
    fill(store, {"fig3", "irnn_variants"}, metrics=worse)
    finding = verdict(store, "copy-gap-30")  # 2 orders to the floor: more cannot be seen
    assert (finding.verdict, finding.short) == (INCONCLUSIVE, "≥ 1.92")
    losses = {"wrnn": 1e-6, "irnn": 1e-5}
    poor = altered(lambda run: {"cross_entropy": losses[run.model.kind]})
    fill(store, {"fig3", "irnn_variants"}, metrics=poor)
    assert verdict(store, "copy-gap-30").verdict == CONTRADICTED


def test_the_best_of_several_settings_is_chosen_on_validation(store):
    fill(store, {"fig3", "irnn_variants"})
    tanh = next(r for r in claims.IRNN_VARIANTS if r.nonlinearity == "tanh")
    for run in claims.VARIANTS.runs("paper"):
        if run.model == tanh:  # better in validation, worse in the test
            for seed in (0, 1):
                seeded = dataclasses.replace(run, seed=seed, trace=run.trace and not seed)
                record = record_of(seeded, metrics_as_published(run) | {"cross_entropy": 0.3})
                store.put(dataclasses.replace(record, curves={"cross_entropy": [[500, 1e-6]]}))
    assert claims.irnn_100(Evidence(gathered(store)), 40).run.model == tanh
    gap = verdict(store, "copy-gap-30").parts[0].interval
    floor = EXPERIMENTS["fig3"].runs("paper")[0].task.float32_floor()
    assert gap.mean == pytest.approx(math.log10(0.3 / floor))


def test_one_seed_and_a_smaller_budget_give_no_final_verdict(store):
    fill(store, {"fig3", "irnn_variants"}, seeds=(0,))
    assert verdict(store, "copy-gap-30").verdict == HOLDS
    for path in store.folder.glob("*.json"):
        path.unlink()
    fill(store, {"fig3", "irnn_variants", "fig4", "table1"}, steps=20_000)
    gap = verdict(store, "copy-gap-30")
    assert gap.verdict == HOLDS and "paper sizes, reduced to 20,000 of 60,000 steps" in gap.basis
    assert verdict(store, "irnn-625-copy").verdict == OPEN  # trained too little to say that
    assert verdict(store, "adding-irnn").verdict == OPEN
    assert verdict(store, "copy-480").verdict == REPRODUCED  # reached is reached
    assert verdict(store, "adding-wrnn").verdict == REPRODUCED


def test_a_seed_that_diverged_did_not_copy(store):
    fill(store, {"fig4"})
    run = next(r for r in EXPERIMENTS["fig4"].runs("paper") if r.model.kind == "wrnn")
    lost = {"cross_entropy": None, "printed_mse": None, "token_accuracy": None}
    store.put(make_record(dataclasses.replace(run, seed=1, trace=False), metrics=lost))
    finding = verdict(store, "copy-480")
    assert finding.verdict == INCONCLUSIVE and "1 of 2 seeds copied at T = 0" in finding.short


def test_the_speed_of_adding_uses_the_lengths_that_are_recorded(store):
    fill(store, {"table1"})
    for result in gathered(store)["table1"]:
        if result.run.task.length != 100:
            for record in result.records:
                store.path(record.run).unlink()
    finding = verdict(store, "adding-speed")
    assert finding.verdict == HOLDS
    assert finding.shown.startswith("T = 100: 46.7 (n = 2); T = 200, T = 400: not yet")
    assert verdict(store, "adding-wrnn").verdict == HOLDS


@pytest.mark.parametrize(
    ("curve", "short"),
    [([[500, 9.0], [4000, 0.0]], "0.75"), ([[500, 9.0], [1000, 9.0]], "≤ 0.5")],
    ids=["late", "never"],
)
def test_v_init_is_judged_against_the_released_start(curve, short, store):
    fill(store, {"v_init"})
    for record in store.all():
        if record.run.model.input == "ones":
            curves = {**record.curves, "cross_entropy": curve}
            store.put(dataclasses.replace(record, curves=curves, steps=6000))
    finding = verdict(store, "v-init-speed-0")
    assert (finding.verdict, finding.short) == (CONTRADICTED, short)


@pytest.mark.parametrize(
    ("claim", "experiment", "kind"),
    [("waves-from-random", "fig18", "irnn"), ("several-speeds", "fig10", "wrnn")],
)
def test_a_verdict_on_waves_flips_with_the_hidden_state(store, claim, experiment, kind):
    fill(store, {experiment}, seeds=(0,))
    assert verdict(store, claim).verdict == HOLDS
    for result in gathered(store)[experiment]:
        store.put(result.records[0], wave_trace(kind))  # noise, or one speed for all
    assert verdict(store, claim).verdict == FAILS


def test_rules_that_changed_are_listed_with_their_dates():
    dates = [datetime.date.fromisoformat(change["date"]) for change in changes.CHANGES]
    assert len(dates) > 1 and all(change["before"] != change["since"] for change in changes.CHANGES)
