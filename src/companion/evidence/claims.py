"""The paper's claims, each with the measure that decides it and the tolerance it is held to.

Limits and targets come from the published numbers wherever the paper prints one; where it says
"orders of magnitude" or "virtually unaffected", the limit chosen here is visible in the table.
A measure turns the evidence into one part with an interval over seeds, or several.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from companion.evidence import published as paper
from companion.evidence import tables, waves
from companion.evidence.measures import (
    SPEED_LENGTHS,
    best_on_validation,
    efficiency,
    every_seed,
    gap,
    steps_to_learn,
    steps_to_solve,
    times,
)
from companion.evidence.tables import number
from companion.evidence.verdicts import AGREE, Claim, Evidence, Part, at_least, at_most, within
from companion.records.table import Result, curves_table, difference, interval
from companion.runs.campaign import IRNN_VARIANTS, choose_irnn
from companion.runs.experiments import COPY_LAGS, EXPERIMENTS, MNIST_EPOCH, Experiment, grid
from companion.runs.synthetic import ADDING_LENGTHS, NO_V_INIT, copy
from wrnn.tasks import CopyTask

QUESTIONS = {
    "memory": "Do travelling waves hold the recent past better?",
    "harder": "Does it carry over to longer sequences and harder tasks?",
    "gated": "How does it stand against LSTM and GRU?",
    "ingredients": "Which ingredients matter?",
}
COPIED = 99.0  # per cent of right symbols from which a lag counts as copied
PRINTED_FLOOR = CopyTask(lag=10).float32_floor("printed_mse")
WAVE = {"kind": "wrnn"}
IRNN = {"kind": "irnn", "input_bias": "uniform"}  # as in the released code, without V-init
NO_SHIFT = WAVE | {"input": "ones"}  # with the recurrent kernels of `without_shift`
NO_INPUT = WAVE | {"recurrent": "shift", **NO_V_INIT}
LINEAR = WAVE | {"readout": "linear"}
PLAIN, PERMUTED = LINEAR | {"permuted": False}, LINEAR | {"permuted": True}
# Of these the paper's iRNN with 100 units is the best on validation; no figure of its own.
VARIANTS = Experiment(
    "irnn_variants",
    "Copy task: starts of the iRNN",
    "03_copy",
    lambda profile: [copy(lag, model, profile) for lag in COPY_LAGS for model in IRNN_VARIANTS],
)
# The adding task with every setting that the paper searched; its numbers are of the best.
ADDING_SETTINGS = Experiment(
    "adding_settings",
    "Adding task: settings",
    "04_adding",
    lambda profile: grid(EXPERIMENTS["table1"]),
)


def experiments_needed() -> list[Experiment]:
    """The experiments that the claims draw on, in the order in which they are defined."""
    tables_needed = [f"table{n}" for n in (1, 2, 3, 4)]
    needed = {"fig2", "fig3", "fig4", "fig7", "fig10", "fig18", "v_init", *tables_needed}
    return [*(e for e in EXPERIMENTS.values() if e.name in needed), VARIANTS, ADDING_SETTINGS]


# ------------------------------------------------------------------------------ measures: copying


def agreement(
    results: Sequence[Result],
    reached: Callable[[Result], pd.Series],
    name: Callable[[Result], str],
    *,
    fails: bool = False,
) -> list[Part]:
    """For every result and seed 1 where it is `reached`, else 0; the other way if it `fails`."""
    return [Part(interval(reached(result) != fails), (result,), name(result)) for result in results]


def copied(results: Sequence[Result], *, fails: bool = False) -> list[Part]:
    """Whether at least 99 % of the symbols come back, or whether not."""
    several = len({r.run.task.lag for r in results}) < len(results)
    return agreement(
        results,
        lambda r: every_seed(r, "token_accuracy") >= COPIED,
        lambda r: f"T = {r.run.task.lag - 10}" + f" ({r.run.model.recurrent} kernel)" * several,
        fails=fails,
    )


def orders(better: Result, *others: Result) -> Part:
    """Powers of ten by which a loss lies below that of the other that is best on validation."""
    return Part(gap(better, best_on_validation(others)), (better, *others))


def irnn_100(evidence: Evidence, lag: int) -> Result:
    """The paper's iRNN with 100 units on copy: the best start on validation.

    The released start while not all of them are recorded.
    """
    by_id = {r.id: r for result in evidence.find(VARIANTS.name) for r in result.records}
    chosen = choose_irnn(lambda run: by_id.get(run.id)) or IRNN_VARIANTS[0]
    found = evidence.find(VARIANTS.name, lag=lag)
    return next(result for result in found if result.run.model == chosen)


def irnns_of_gap(evidence: Evidence, length: int) -> str:
    """How far our iRNN with 100 units is from the paper's Table 4, and what else is missing."""
    ours = irnn_100(evidence, length + 10).metric("printed_mse")
    if ours is None:
        return ""
    share = ours.mean / paper.value(f"table4/irnn-n-100/T={length}/mse")
    said = f"Our iRNN (n=100) ends at {number(share, 2)} times the printed loss"
    larger = evidence.one("fig3", lag=length + 10, size=625, **IRNN)
    return said + "; n=625: not yet recorded" * (not larger.records)


def without_shift(evidence: Evidence, longer_than: int = 0) -> list[Result]:
    """The wRNNs without u-shift at lags beyond one, by kernel."""
    kernels = ("default", "identity")
    found = [r for k in kernels for r in evidence.find("table4", recurrent=k, **NO_SHIFT)]
    return [result for result in found if result.run.task.lag > longer_than]


def symbols_without_shift(evidence: Evidence, longer_than: int) -> str:
    """The share of right symbols of the wRNNs without u-shift, and what the paper's copies."""
    shares = [
        f"{number(share.mean)} % at T = {result.run.task.lag - 10}, "
        f"{result.run.model.recurrent} kernel"
        for result in without_shift(evidence, longer_than)
        if (share := result.metric("token_accuracy"))
    ]
    copies = f"; the paper's still copies T = {number(_no_shift_after)}"
    return f"Right symbols: {'; '.join(shares)}{copies}" if shares else ""


def input_init_speed(evidence: Evidence, length: int) -> Part:
    """Iterations to learn a length without V-init, as released, over those with it."""
    starts = (NO_INPUT, WAVE | {"input": "ones"})
    pair = [evidence.one("v_init", lag=length + 10, **start) for start in starts]
    return Part(times(*map(steps_to_learn, pair), *pair), pair)


# ------------------------------------------------------------------------------- measures: adding


def adding(evidence: Evidence, length: int, model: dict) -> Result:
    """The recorded setting of a model that validates best on the adding task of a length."""
    return best_on_validation(evidence.find(ADDING_SETTINGS.name, length=length, **model), "mse")


def solved(
    evidence: Evidence, model: dict, lengths: Sequence[int], *, fails: bool = False
) -> list[Part]:
    """Whether the adding task of a length is solved, or whether not."""
    return agreement(
        [adding(evidence, length, model) for length in lengths],
        lambda r: np.isfinite(steps_to_solve(r)),
        lambda r: f"T = {r.run.task.length}",
        fails=fails,
    )


def solving_speed(evidence: Evidence, criterion: str = "solved_step_training") -> list[Part]:
    """Iterations of the iRNN over those of the wRNN until adding is solved, by length."""
    parts = []
    for length in SPEED_LENGTHS:
        pair = [adding(evidence, length, model) for model in (IRNN, WAVE)]
        steps = (steps_to_solve(result, criterion) for result in pair)
        parts.append(Part(times(*steps, *pair), pair, f"T = {length}"))
    return parts


def speed_by_validation(evidence: Evidence) -> str:
    """The same ratios where a validation decides what is solved, as a sentence."""
    parts = [part for part in solving_speed(evidence, "solved_step") if part.interval]
    ratios = [f"{part.name}: {tables.interval(part.interval)}" for part in parts]
    return f"Solved by validation: {'; '.join(ratios)}" if ratios else ""


# ------------------------------------------------------------------------------- measures: images


def accuracy(evidence: Evidence, experiment: str, **wanted: object) -> Part:
    """Test accuracy of one model on one task."""
    result = evidence.one(experiment, **wanted)
    return Part(result.metric("accuracy"), (result,))


def accuracy_gap(evidence: Evidence, first: dict, second: dict) -> Part:
    """Points of test accuracy by which the first result of Table 2 exceeds the second."""
    pair = [evidence.one("table2", **wanted) for wanted in (first, second)]
    return Part(difference(*(result.seeds("accuracy") for result in pair)), pair)


def parameter_efficiency(evidence: Evidence) -> Part:
    """Parameters of the iRNN over those of the wRNN at the best accuracy that both reach."""
    results = evidence.find("fig7")
    return Part(efficiency(results), results)


def epochs_ahead(evidence: Evidence) -> Part:
    """Epochs until the iRNN stays above the wRNN on sMNIST (validation) for five checks.

    Where it never does before a rate drops, the epochs until then, as a lower bound: a shorter
    schedule lowers the rates sooner than the paper's, and holds back who is behind.
    """
    pair = [evidence.one("table2", **wanted) for wanted in (PLAIN, IRNN | {"permuted": False})]
    wave, other = (
        curves_table([result], "accuracy").pivot_table("value", "step", "seed", "last")
        for result in pair
    )
    epochs, bound = [], ""
    drops = (step for r in pair for record in r.records for step in record.run.drop_steps)
    lead_until = min(drops, default=math.inf)
    for _, lead in (other - wave).items():  # NaN where one of them lacks the step or the seed
        above = (lead[lead.index <= lead_until].dropna() >= 0).astype(float)
        if above.empty:  # one of them diverged before
            continue
        stays = above[::-1].rolling(5).min()[::-1] == 1
        bound = bound if stays.any() else ">="
        epochs.append((stays.idxmax() if stays.any() else above.index[-1]) / MNIST_EPOCH)
    return Part(interval(epochs, "log", bound), pair)


# -------------------------------------------------------------------------------- measures: waves


def wave_test(hidden: np.ndarray) -> waves.WaveTest:
    """Ask whether a wave runs through hidden states, with the same surrogates for all."""
    return waves.wave_test(hidden, generator=np.random.default_rng(0))


def in_hidden_states(
    result: Result, value: Callable[[np.ndarray], float], order: str = "ring"
) -> Part:
    """A value of each seed's hidden states, in the order of units where it can be had."""
    found = [list(waves.orders(record).items()) for record in result.records]
    hidden = [dict(views).get(order, views[0][1]) for views in found if views]
    return Part(interval(map(value, hidden)), (result,))


def units_as_they_come(evidence: Evidence) -> str:
    """Say of the iRNN's hidden states where they could not be sorted as the paper's are."""
    views = [waves.orders(record) for record in evidence.one("fig2", kind="irnn").records]
    if all(waves.BY_ONSET in orders for orders in views):
        return ""
    return "Units as they come: one sequence is stored and no order, and sorting would draw a front"


def wave_at_the_start(evidence: Evidence) -> str:
    """Say what speed the waves of the same network have after its first step, if recorded."""
    first = min(evidence.find("fig18", recurrent="shift"), key=lambda result: result.run.steps)
    found = in_hidden_states(first, wave_speed).interval if first.run.steps == 1 else None
    return f"After one step of training: {tables.interval(found)} (0: no wave)" if found else ""


def wave_speed(hidden: np.ndarray) -> float:
    """Wave speed in sites per step; 0 without a wave."""
    test = wave_test(hidden)
    return test.speed if test.is_wave else 0.0


def wave_from_random(evidence: Evidence) -> Part:
    """1 where training from a random kernel ends in a wave, else 0 (Figure 18)."""
    planned = sorted(evidence.find("fig18", recurrent="default"), key=lambda r: r.run.steps)
    trained = [r for r in planned if r.records and r.records[0].steps >= MNIST_EPOCH]
    if not trained:  # an untrained network says nothing of training
        return Part(None, planned[-1:])
    found = in_hidden_states(trained[-1], lambda hidden: wave_test(hidden).is_wave)
    return Part(found.interval, (trained[-1], planned[-1]))


def speeds_apart(evidence: Evidence) -> Part:
    """Sites per step between the slowest and the fastest channel with a wave (Figure 10)."""

    def apart(hidden: np.ndarray) -> float:
        tests = waves.channel_tests(hidden, generator=np.random.default_rng(0))
        return float(np.ptp([test.speed for test in tests if test.is_wave] or [0.0]))

    (several,) = (r for r in evidence.find("fig10") if isinstance(r.run.model.velocity, tuple))
    return in_hidden_states(several, apart)


# ----------------------------------------------------------------------------------------- claims
TASKS = {"smnist": "sMNIST", "psmnist": "psMNIST", "accuracy": "nsCIFAR10"}  # by column of a table
ORDERS, LONGEST, PERCENT = "orders of magnitude", "steps, longest T copied", "% test accuracy"


def _text(number_id: str) -> str:
    return f"{paper.value(number_id):.1f}"  # accuracies are printed with one decimal


def _published_orders(better: str, worse: str) -> str:
    loss, higher = (paper.value(f"table4/{model}/T=30/mse") for model in (better, worse))
    at_least = "≥ " * (loss < PRINTED_FLOOR)
    return at_least + number(math.log10(higher / max(loss, PRINTED_FLOOR)), 2)


def _accuracy(published: str, tolerance: float, **wanted: object) -> Claim:
    table, model, column = published.split("/")
    task, name = TASKS[column], {"wrnn-16c": "wRNN", "irnn": "iRNN"}[model]
    return Claim(
        f"{model}-{task.lower()}",
        "harder",
        f"The {name} reaches the printed accuracy on {task}",
        _text(published),
        PERCENT,
        at_least(paper.value(published) - tolerance),
        "noisy" if table == "table3" else "images",
        partial(accuracy, experiment=table, **wanted),
        asks="reached",
    )


def _against_gated(published: str, *, above: bool = True, **wanted: object) -> Claim:
    table, _, column = published.split("/")
    task = TASKS[column]
    gated = [f"{table}/{model}/{column}" for model in ("lstm", "gru")]
    printed = [paper.value(each) for each in gated]
    return Claim(
        f"gated-{task.lower()}",
        "gated",
        f"On {task} the wRNN is above the cited LSTM and GRU"
        if above
        else f"On {task} the wRNN stays below the cited LSTM and GRU",
        f"{_text(published)} against {' and '.join(map(_text, gated))}",
        PERCENT,
        at_least(max(printed)) if above else at_most(min(printed)),
        "noisy" if table == "table3" else "images",
        partial(accuracy, experiment=table, **wanted),
        asks="reached" if above else "fails",
    )


def _copy_gap(length: int) -> Claim:
    limit = paper.value(f"claim/fig3/orders-of-magnitude/T={length}")
    lag = length + 10
    return Claim(
        f"copy-gap-{length}",
        "memory",
        f"Copy, T = {length}: the wRNN's loss ends far below the iRNNs'",
        f"> {number(limit)}",
        ORDERS,
        at_least(float(limit)),
        "copy",
        lambda e: orders(
            e.one("fig3", lag=lag, **WAVE),
            irnn_100(e, lag),
            e.one("fig3", lag=lag, size=625, **IRNN),
        ),
        remark=partial(irnns_of_gap, length=length),
    )


def _input_speed(length: int) -> Claim:
    return Claim(
        f"v-init-speed-{length}",
        "ingredients",
        f"Copy, T = {length}: the one-site input makes the wRNN learn sooner",
        "faster, without a number",
        "(iterations without over iterations with it)",
        at_least(1.0),
        "ablations",
        partial(input_init_speed, length=length),
    )


_fails_after = paper.value("claim/fig4/irnn-625/fails-after")
_copies_up_to = paper.value("claim/fig4/wrnn/perfect-up-to")
_no_shift_after = paper.value("claim/ablation/wrnn-u-shift-init/solved-up-to")
_velocity = paper.value("claim/fig2/wrnn/velocity")
_catch_up = paper.value("claim/fig6/irnn/epochs-to-catch-up")
_speed = min(
    paper.value(f"table1/irnn/T={n}/solved_iter") / paper.value(f"table1/wrnn/T={n}/solved_iter")
    for n in SPEED_LENGTHS
)
_permutation = paper.value("table2/wrnn-16c/smnist") - paper.value("table2/wrnn-16c/psmnist")
_ahead = paper.value("table2/irnn/smnist") - paper.value("table2/wrnn-16c/smnist")
_mlp = paper.value("table2/wrnn-mlp/psmnist") - paper.value("table2/wrnn-16c/psmnist")

CLAIMS: tuple[Claim, ...] = (
    *(_copy_gap(length) for length in (80, 30, 0)),
    Claim(
        "irnn-625-copy",
        "memory",
        f"Copy: an iRNN with 625 units fails at every length beyond T = {number(_fails_after, 4)}",
        number(_fails_after, 4),
        LONGEST,
        AGREE,
        "copy",
        lambda e: copied(
            [r for r in e.find("fig4", size=625) if r.run.task.lag > _fails_after + 10], fails=True
        ),
        asks="fails",
        done="failed",
    ),
    Claim(
        "wave-speed",
        "memory",
        "Waves run through the trained wRNN's hidden state",
        f"≈ {number(_velocity)}",
        "site per step",
        within(_velocity, 0.1),
        "wave-rnn",
        lambda e: in_hidden_states(e.one("fig2", **WAVE), wave_speed),
        remark=wave_at_the_start,
    ),
    Claim(
        "no-wave-in-irnn",
        "memory",
        "No wave runs through the trained iRNN's hidden state",
        "no",
        "wave",
        AGREE,
        "wave-rnn",
        lambda e: in_hidden_states(
            e.one("fig2", kind="irnn"), lambda h: not wave_test(h).is_wave, waves.BY_ONSET
        ),
        asks="fails",
        done="without a wave",
        remark=units_as_they_come,
    ),
    Claim(
        "copy-480",
        "harder",
        f"Copy: the wRNN copies every length up to T = {number(_copies_up_to, 4)}",
        number(_copies_up_to, 4),
        LONGEST,
        AGREE,
        "copy",
        lambda e: copied(e.find("fig4", **WAVE)),
        asks="reached",
        done="copied",
    ),
    Claim(
        "adding-wrnn",
        "harder",
        "Adding: the wRNN solves every length",
        "5",
        "of 5 lengths",
        AGREE,
        "adding",
        partial(solved, model=WAVE, lengths=ADDING_LENGTHS),
        asks="reached",
        done="solved",
    ),
    Claim(
        "adding-irnn",
        "harder",
        "Adding: the iRNN fails at T = 700 and 1000",
        "2",
        "of 2 lengths unsolved",
        AGREE,
        "adding",
        partial(solved, model=IRNN, lengths=(700, 1000), fails=True),
        asks="fails",
        done="failed",
    ),
    Claim(
        "adding-speed",
        "harder",
        "Adding: the wRNN needs far fewer iterations than the iRNN at T = 100, 200 and 400",
        number(_speed),
        "times fewer or more",
        at_least(10.0),
        "adding",
        solving_speed,
        asks="reached",
        remark=speed_by_validation,
    ),
    _accuracy("table2/wrnn-16c/smnist", 0.5, **PLAIN),
    _accuracy("table2/wrnn-16c/psmnist", 0.5, **PERMUTED),
    _accuracy("table2/irnn/smnist", 0.5, permuted=False, **IRNN),
    _accuracy("table2/irnn/psmnist", 1.5, permuted=True, **IRNN),
    Claim(
        "permutation",
        "harder",
        "A permutation of the pixels costs the wRNN almost nothing",
        number(_permutation, 2),
        "points lost",
        at_most(2.0),
        "images",
        partial(accuracy_gap, first=PLAIN, second=PERMUTED),
    ),
    Claim(
        "irnn-ahead",
        "harder",
        "On sMNIST the iRNN ends a little above the wRNN",
        number(_ahead, 2),
        "points more",
        at_least(0.0),
        "images",
        partial(accuracy_gap, first={"permuted": False} | IRNN, second=PLAIN),
        asks="reached",
    ),
    Claim(
        "faster-training",
        "harder",
        "On sMNIST the iRNN catches up with the wRNN only late",
        f"≈ {number(_catch_up)}",
        "epochs",
        at_least(_catch_up / 2),
        "images",
        epochs_ahead,
    ),
    _accuracy("table3/wrnn-16c/accuracy", 1.6, **WAVE),
    _accuracy("table3/irnn/accuracy", 1.6, kind="irnn"),
    Claim(
        "parameter-efficiency",
        "harder",
        "On psMNIST the iRNN needs more parameters than the wRNN for the same accuracy (the best "
        "that both reach)",
        "> 1",
        "times (Figure 7)",
        at_least(1.0),
        "images",
        parameter_efficiency,
    ),
    _against_gated("table2/wrnn-16c/psmnist", **PERMUTED),
    _against_gated("table2/wrnn-16c/smnist", above=False, **PLAIN),
    _against_gated("table3/wrnn-16c/accuracy", **WAVE),
    Claim(
        "u-shift",
        "ingredients",
        "Copy, T = 30: losing the shift start costs more than losing the one-site input",
        _published_orders("wrnn-v-init", "wrnn-u-shift-init"),
        ORDERS,
        at_least(3.0),
        "ablations",
        lambda e: orders(
            e.one("table4", lag=40, **NO_INPUT),
            *(r for r in without_shift(e) if r.run.task.lag == 40),
        ),
    ),
    Claim(
        "no-u-shift",
        "ingredients",
        f"Copy: without the shift start the wRNN copies no length beyond T = "
        f"{number(_no_shift_after)}",
        number(_no_shift_after),
        LONGEST,
        AGREE,
        "ablations",
        lambda e: copied(without_shift(e, _no_shift_after + 10), fails=True),
        asks="fails",
        done="failed",
        remark=partial(symbols_without_shift, longer_than=_no_shift_after + 9),
    ),
    *(_input_speed(length) for length in (0, 10, 30)),
    Claim(
        "irnn-shift",
        "ingredients",
        "Copy, T = 30: starting the iRNN at the shift matrix brings its loss down",
        _published_orders("irnn-sigma-init", "irnn-n-100"),
        ORDERS,
        at_least(2.0),
        "ablations",
        lambda e: orders(
            e.one("table4", lag=40, recurrent="shift", input="normal", **IRNN),
            e.one("table4", lag=40, recurrent="identity", **IRNN),
        ),
    ),
    Claim(
        "mlp",
        "ingredients",
        "An MLP as readout helps on psMNIST",
        number(_mlp, 2),
        "points gained",
        at_least(0.4),
        "images",
        partial(accuracy_gap, first={"readout": "mlp", "permuted": True}, second=PERMUTED),
    ),
    Claim(
        "waves-from-random",
        "ingredients",
        "Training from a random kernel ends in waves as well",
        "shown in",
        "App. C",
        AGREE,
        "appendix",
        wave_from_random,
        done="with a wave",
    ),
    Claim(
        "several-speeds",
        "memory",
        "One network carries waves of several speeds",
        "shown in",
        "App. C",
        at_least(0.25),
        "appendix",
        speeds_apart,
    ),
)
