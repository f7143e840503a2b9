"""What decides a claim: each measure turns the evidence into parts with an interval over seeds."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from companion.evidence import published as paper
from companion.evidence import tables, waves
from companion.evidence.verdicts import Evidence, Part
from companion.records.table import Interval, Result, difference, interval, ratio
from companion.runs.campaign import IRNN_VARIANTS, choose_irnn
from companion.runs.experiments import COPY_LAGS, EXPERIMENTS, MNIST_EPOCH, Experiment, grid
from companion.runs.run import ModelConfig
from companion.runs.synthetic import NO_V_INIT, copy
from wrnn.tasks import CopyTask

COPIED = 99.0  # per cent of right symbols from which a lag counts as copied
SPEED_LENGTHS = (100, 200, 400)  # lengths of the adding task that the paper's iRNN solves
IRNN = {"kind": "irnn", "input_bias": "uniform"}  # as in the released code, without V-init
NO_SHIFT = {"kind": "wrnn", "input": "ones", "recurrent": ("default", "identity")}
NO_INPUT = {"kind": "wrnn", "recurrent": "shift", **NO_V_INIT}
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

Measure = Callable[[Evidence], Part | list[Part]]


def every_seed(result: Result, metric: str) -> pd.Series:
    """Return a metric of every recorded seed, NaN where a run diverged or never got there."""
    if not result.records:
        return pd.Series(dtype=float)
    return result.rows.set_index("seed").get(metric, pd.Series(dtype=float)).astype(float)


def yes_or_no(values: pd.Series, yes: Callable[[float], bool]) -> Interval | None:
    """Return a 1 for every seed whose value is a yes, a 0 for the others."""
    return interval(float(yes(value)) for value in values)


# ---------------------------------------------------------------------------------------- copying


def gap(better: Result, worse: Result, metric: str = "cross_entropy") -> Interval | None:
    """Powers of ten between two losses; a bound where one of them ends at the task's floor."""
    low, high = better.seeds(metric), worse.seeds(metric)
    floor = better.floor(metric) or 0.0
    floored = [bool((values <= floor * (1 + 1e-9)).any()) for values in (low, high)]
    bound = {(True, False): ">=", (False, True): "<="}.get(tuple(floored), "")
    return difference(high, low, "log", bound)


def best_on_validation(results: Sequence[Result], metric: str = "cross_entropy") -> Result:
    """Return the result with the lowest validation loss, over seeds on the log scale.

    The first one where none is recorded.
    """

    def score(result: Result) -> float:
        lowest = [
            max(min((v for _, v in record.curves.get(metric, ())), default=math.inf), 1e-45)
            for record in result.records
        ]
        return float(np.mean(np.log(lowest))) if lowest else math.inf

    return min(results, key=score)


def irnn_100(evidence: Evidence, lag: int) -> Result:
    """The paper's iRNN with 100 units on copy: the best start on validation.

    The released start while not all of them are recorded.
    """
    by_id = {r.id: r for result in evidence.find(VARIANTS.name) for r in result.records}
    chosen = choose_irnn(lambda run: by_id.get(run.id)) or IRNN_VARIANTS[0]
    return _of_model(evidence.find(VARIANTS.name, lag=lag), chosen)


def _of_model(results: Sequence[Result], model: ModelConfig) -> Result:
    return next(result for result in results if result.run.model == model)


def copy_gap(length: int) -> Measure:
    """How many powers of ten the wRNN's loss lies below that of the best iRNN (Figure 3)."""
    lag = length + 10

    def measure(evidence: Evidence) -> Part:
        wave = evidence.one("fig3", kind="wrnn", lag=lag)
        others = [irnn_100(evidence, lag), evidence.one("fig3", size=625, lag=lag, **IRNN)]
        return Part(gap(wave, best_on_validation(others)), (wave, *others))

    return measure


def irnn_against_printed(length: int) -> Callable[[Evidence], str]:
    """How far our iRNN with 100 units is from the paper's Table 4, as a sentence."""

    def remark(evidence: Evidence) -> str:
        ours = irnn_100(evidence, length + 10).metric("printed_mse")
        if ours is None:
            return ""
        times = ours.mean / paper.value(f"table4/irnn-n-100/T={length}/mse")
        return f"Our iRNN (n=100) ends at {tables.number(times, 2)} times the printed loss"

    return remark


def copied(results: Callable[[Evidence], list[Result]], *, fails: bool = False) -> Measure:
    """For every seed and lag, whether at least 99 % of the symbols come back, or whether not."""

    def measure(evidence: Evidence) -> list[Part]:
        found = results(evidence)
        several = len({r.run.task.lag for r in found}) < len(found)
        return [
            Part(
                yes_or_no(every_seed(result, "token_accuracy"), lambda v: (v >= COPIED) != fails),
                (result,),
                f"T = {result.run.task.lag - 10}"
                + f" ({result.run.model.recurrent} kernel)" * several,
            )
            for result in found
        ]

    return measure


def beyond(lag: int, results: Sequence[Result]) -> list[Result]:
    """Return the results at longer lags."""
    return [result for result in results if result.run.task.lag > lag]


def without_shift(evidence: Evidence, longer_than: int) -> list[Result]:
    """The wRNNs without u-shift at lags beyond one."""
    kernels = [
        result
        for kernel in NO_SHIFT["recurrent"]
        for result in evidence.find("table4", **NO_SHIFT | {"recurrent": kernel})
    ]
    return beyond(longer_than, kernels)


def symbols_without_shift(longer_than: int) -> Callable[[Evidence], str]:
    """The share of right symbols of the wRNNs without u-shift, as a sentence."""

    def remark(evidence: Evidence) -> str:
        shares = [
            f"{tables.number(share.mean)} % at T = {result.run.task.lag - 10}, "
            f"{result.run.model.recurrent} kernel"
            for result in without_shift(evidence, longer_than)
            if (share := result.metric("token_accuracy"))
        ]
        return f"Right symbols: {'; '.join(shares)}" if shares else ""

    return remark


def shift_against_input(evidence: Evidence) -> Part:
    """Powers of ten by which the loss at T = 30 is higher without u-shift than without V-init.

    Without u-shift it is the kernel that is better on validation.
    """
    kernels = [r for r in without_shift(evidence, 20) if r.run.task.lag == 40]
    without_input = evidence.one("table4", lag=40, **NO_INPUT)
    return Part(gap(without_input, best_on_validation(kernels)), (without_input, *kernels))


def shift_in_irnn(evidence: Evidence) -> Part:
    """Powers of ten that the shift matrix as a start takes off the iRNN's loss at T = 30."""
    plain = evidence.one("table4", lag=40, recurrent="identity", **IRNN)
    shifted = evidence.one("table4", lag=40, recurrent="shift", input="normal", **IRNN)
    return Part(gap(shifted, plain), (shifted, plain))


def learned_loss(task: CopyTask) -> float:
    """The loss, a tenth of the memoryless one, from which a copy task counts as learned."""
    return task.memoryless_baseline() / 10


def steps_to_learn(result: Result) -> pd.Series:
    """Steps by seed until the validation loss of a copy run says that it is learned.

    Infinite where it never is.
    """
    level = learned_loss(result.run.task)
    steps = {}
    for record in result.records:
        curve = record.curves.get("cross_entropy", ())  # none where it diverged before
        steps[record.run.seed] = next((step for step, v in curve if v <= level), math.inf)
    return pd.Series(steps, dtype=float)


def input_init_speed(length: int) -> Measure:
    """Iterations to learn a length without V-init, as released, over those with it."""

    def measure(evidence: Evidence) -> Part:
        without = evidence.one("v_init", lag=length + 10, **NO_INPUT)
        with_it = evidence.one("v_init", lag=length + 10, kind="wrnn", input="ones")
        steps = (steps_to_learn(without), steps_to_learn(with_it))
        return Part(times(*steps, without, with_it), (without, with_it))

    return measure


def times(first: pd.Series, second: pd.Series, *results: Result) -> Interval | None:
    """How many times as many steps the first takes as the second, by seed.

    Where a run never got there (infinite), the steps that it took count, and the ratio is a bound;
    None where neither did.
    """
    never = [bool(np.isinf(steps).any()) for steps in (first, second)]
    if all(never):
        return None
    taken = (
        steps.where(np.isfinite(steps), result.seeds("taken_steps"))
        for steps, result in zip((first, second), results, strict=True)
    )
    return ratio(*taken, bound=">=" if never[0] else "<=" if never[1] else "")


# ----------------------------------------------------------------------------------------- adding


def steps_to_solve(result: Result, criterion: str = "solved_step_training") -> pd.Series:
    """Steps by seed until adding is solved; infinite where it never is.

    By the paper's criterion, the loss of a training batch at a logging step, or by that of a
    validation ("solved_step").
    """
    return every_seed(result, criterion).fillna(math.inf)


def adding(evidence: Evidence, length: int, kind: dict) -> Result:
    """The recorded setting of a model that validates best on the adding task of a length."""
    return best_on_validation(evidence.find(ADDING_SETTINGS.name, length=length, **kind), "mse")


def solved(kind: dict, lengths: Sequence[int], *, fails: bool = False) -> Measure:
    """For every seed and length of the adding task, whether it is solved, or whether not."""

    def measure(evidence: Evidence) -> list[Part]:
        found = [adding(evidence, length, kind) for length in lengths]
        return [
            Part(
                yes_or_no(steps_to_solve(result), lambda step: math.isfinite(step) != fails),
                (result,),
                f"T = {result.run.task.length}",
            )
            for result in found
        ]

    return measure


def solving_speed(criterion: str) -> Callable[[Evidence], list[Part]]:
    """Iterations of the iRNN over those of the wRNN until adding is solved, by length."""

    def measure(evidence: Evidence) -> list[Part]:
        parts = []
        for length in SPEED_LENGTHS:
            slow, fast = (adding(evidence, length, kind) for kind in (IRNN, {"kind": "wrnn"}))
            steps = (steps_to_solve(result, criterion) for result in (slow, fast))
            parts.append(Part(times(*steps, slow, fast), (slow, fast), f"T = {length}"))
        return parts

    return measure


def speed_by_validation(evidence: Evidence) -> str:
    """The same ratios where a validation decides what is solved, as a sentence."""
    ratios = [
        f"{part.name}: {tables.interval(part.interval)}"
        for part in solving_speed("solved_step")(evidence)
        if part.interval
    ]
    return f"Solved by validation: {'; '.join(ratios)}" if ratios else ""


# ----------------------------------------------------------------------------------------- images


def accuracy(experiment: str, **wanted: object) -> Measure:
    """Test accuracy of one model on one task."""

    def measure(evidence: Evidence) -> Part:
        result = evidence.one(experiment, **wanted)
        return Part(result.metric("accuracy"), (result,))

    return measure


def accuracy_gap(first: dict, second: dict) -> Measure:
    """Points of test accuracy by which the first result of Table 2 exceeds the second."""

    def measure(evidence: Evidence) -> Part:
        pair = [evidence.one("table2", **wanted) for wanted in (first, second)]
        return Part(difference(*(result.seeds("accuracy") for result in pair)), pair)

    return measure


def parameters_needed(points: Sequence[tuple[int, float]], level: float) -> float:
    """Parameters from which a model of growing size reaches an accuracy.

    `points` are (parameters, accuracy); between two sizes the logarithm of the parameters is
    interpolated. The smallest size where that reaches the level already; infinite where none does.
    """
    points = sorted(points)
    for (size, low), (larger, high) in zip(points[:1] + points, points, strict=False):
        if high >= level:
            share = (level - low) / (high - low) if low < level else 1.0
            return size ** (1 - share) * larger**share
    return math.inf


def efficiency(results: Sequence[Result]) -> tuple[pd.Series, pd.Series]:
    """Parameters that iRNN and wRNN need for the best accuracy that both reach (Figure 7), by seed.

    Of the seeds that every recorded size has. Biases are left out, as the paper mostly counts.
    """
    recorded = [result for result in results if not result.seeds("accuracy").empty]
    needed: dict[str, dict[int, float]] = {"irnn": {}, "wrnn": {}}
    if {result.run.model.kind for result in recorded} >= needed.keys():
        table = pd.DataFrame({i: r.seeds("accuracy") for i, r in enumerate(recorded)}).dropna()
        for seed, accuracies in table.iterrows():
            points = {
                kind: [
                    (result.parameters, accuracies[i])
                    for i, result in enumerate(recorded)
                    if result.run.model.kind == kind
                ]
                for kind in needed
            }
            level = min(max(reached for _, reached in found) for found in points.values())
            for kind, found in points.items():
                needed[kind][seed] = parameters_needed(found, level)
    return tuple(pd.Series(needed[kind], dtype=float) for kind in ("irnn", "wrnn"))


def parameter_efficiency(evidence: Evidence) -> Part:
    """Parameters of the iRNN over those of the wRNN at the best accuracy that both reach."""
    results = evidence.find("fig7")
    return Part(ratio(*efficiency(results)), results)


def epochs_ahead(evidence: Evidence) -> Part:
    """Epochs until the iRNN stays above the wRNN on sMNIST (validation) for five checks.

    Where it never does, all epochs that both have been trained for, as a lower bound.
    """
    wave = evidence.one("table2", kind="wrnn", readout="linear", permuted=False)
    other = evidence.one("table2", permuted=False, **IRNN)
    curves = [
        {r.run.seed: dict(r.curves.get("accuracy", ())) for r in x.records} for x in (wave, other)
    ]
    epochs, never = [], False
    for seed in curves[0].keys() & curves[1].keys():
        steps = sorted(curves[0][seed].keys() & curves[1][seed].keys())
        if not steps:  # one of them diverged before
            continue
        ahead = [curves[1][seed][step] >= curves[0][seed][step] for step in steps]
        runs = (s for i, s in enumerate(steps) if ahead[i : i + 5] == [True] * 5)
        caught_up = next(runs, None)
        never |= caught_up is None
        epochs.append((caught_up or steps[-1]) / MNIST_EPOCH)
    return Part(interval(epochs, "log", ">=" if never else ""), (wave, other))


# ------------------------------------------------------------------------------------------ waves


def _tests(result: Result, order: str = "ring") -> list[waves.WaveTest]:
    """Test each seed's hidden states, in the order of units where it can be had."""
    found = [list(waves.orders(record).items()) for record in result.records]
    hidden = [dict(views).get(order, views[0][1]) for views in found if views]
    return [waves.wave_test(h, generator=np.random.default_rng(0)) for h in hidden]


def _over_seeds(values: list[float], result: Result) -> Part:
    return Part(interval(values) if values else None, (result,))


def wave_velocity(evidence: Evidence) -> Part:
    """Wave speed in the trained wRNN's hidden state, in sites per step; 0 without (Figure 2)."""
    result = evidence.one("fig2", kind="wrnn")
    return _over_seeds([t.speed if t.is_wave else 0.0 for t in _tests(result)], result)


def wave_in_irnn(evidence: Evidence) -> Part:
    """1 where the trained iRNN's hidden state holds no wave (Figure 2).

    Its units are sorted by onset on other sequences; where only one is kept, they are as they come.
    """
    result = evidence.one("fig2", kind="irnn")
    return _over_seeds([float(not t.is_wave) for t in _tests(result, "sorted by onset")], result)


def wave_from_random(evidence: Evidence) -> Part:
    """1 where training from a random kernel ends in a wave, else 0 (Figure 18)."""
    last = max(evidence.find("fig18", recurrent="default"), key=lambda result: result.run.steps)
    if not last.records or last.records[0].steps < MNIST_EPOCH:
        return Part(None, (last,))  # an untrained network says nothing of training
    return _over_seeds([float(test.is_wave) for test in _tests(last)], last)


def speeds_apart(evidence: Evidence) -> Part:
    """Sites per step between the slowest and the fastest channel with a wave (Figure 10)."""
    (several,) = (r for r in evidence.find("fig10") if isinstance(r.run.model.velocity, tuple))
    apart = []
    for record in several.records:
        for hidden in waves.orders(record).values():
            tests = waves.channel_tests(hidden, generator=np.random.default_rng(0))
            speeds = [test.speed for test in tests if test.is_wave]
            apart.append(max(speeds, default=0.0) - min(speeds, default=0.0))
    return _over_seeds(apart, several)
