"""What decides a claim: each measure turns results into one number, or raises NotRecorded."""

import math
from collections.abc import Callable, Sequence
from math import log10

import numpy as np

from companion.evidence import published as paper
from companion.evidence import waves as analysis
from companion.evidence.verdicts import NotRecorded, Shelf
from companion.records.results import Estimate, Result, estimate
from companion.runs.experiments import MNIST_EPOCH
from companion.runs.run import build_model, irnn_config, wrnn_config
from wrnn.model import count_parameters
from wrnn.tasks import CopyTask

COPIED = 99.0  # per cent of right symbols from which a lag counts as copied
SOLVED = paper.value("claim/table1/threshold")
SPEED_LENGTHS = (100, 200, 400)  # lengths of the adding task that the paper's iRNN solves


def _by_seed(result: Result, metric: str) -> dict[int, float]:
    values = {record.run.seed: record.metrics.get(metric) for record in result.records}
    return {seed: value for seed, value in values.items() if value is not None}


def orders(better: Result, worse: Sequence[Result], metric: str = "cross_entropy") -> Estimate:
    """Powers of ten between a result and the best of others, paired by seed.

    Losses below the float32 floor of the task count as that floor.
    """
    floor = better.run.task.float32_floor()
    low, high = _by_seed(better, metric), [_by_seed(result, metric) for result in worse]
    seeds = [seed for seed in low if all(seed in values for values in high)]
    if not seeds:
        raise NotRecorded(metric)
    return estimate(
        [
            log10(max(min(values[seed] for values in high), floor)) - log10(max(low[seed], floor))
            for seed in seeds
        ]
    )


def copy_gap(length: int) -> Callable[[Shelf], Estimate]:
    """How many powers of ten the wRNN's loss lies below that of the best iRNN (Figure 3)."""
    lag = length + 10
    return lambda shelf: orders(
        shelf.one("fig3", kind="wrnn", lag=lag), shelf.find("fig3", kind="irnn", lag=lag)
    )


def longest_copied(kind: str) -> Callable[[Shelf], Estimate]:
    """The longest T copied, with every shorter one copied too (Figure 4); 0 if none."""

    def measure(shelf: Shelf) -> Estimate:
        longest, count = 0, []
        for result in sorted(shelf.find("fig4", kind=kind), key=lambda r: r.run.task.lag):
            accuracy = shelf.metric(result, "token_accuracy")
            count.append(accuracy.count)
            if accuracy.mean < COPIED:
                break
            longest = result.run.task.lag - 10
        return Estimate(float(longest), None, min(count))

    return measure


def parameter_ratio(shelf: Shelf) -> Estimate:
    """Parameters of the iRNN with 625 units over those of the wRNN, biases left out as in print."""
    task = CopyTask(10)
    counts = [
        count_parameters(build_model(config, task))["without_biases"]
        for config in (irnn_config(625), wrnn_config(100, 6))
    ]
    return Estimate(counts[0] / counts[1], None, 0)


def lengths_solved(kind: str, lengths: Sequence[int] = (), *, solved: bool = True):
    """How many lengths of the adding task a model solves, or fails to solve (Table 1)."""

    def measure(shelf: Shelf) -> Estimate:
        found = [
            shelf.metric(result, "mse")
            for result in shelf.find("table1", kind=kind)
            if not lengths or result.run.task.length in lengths
        ]
        if not found:
            raise NotRecorded("table1")
        count = sum((mse.mean <= SOLVED) == solved for mse in found)
        return Estimate(float(count), None, min(mse.count for mse in found))

    return measure


def solving_speed(shelf: Shelf) -> Estimate:
    """The smallest ratio, over the lengths that both solve, of the iterations needed (Table 1)."""
    ratios, counts = [], []
    for length in SPEED_LENGTHS:
        steps = [
            shelf.one("table1", kind=kind, length=length).metric("solved_step")
            for kind in ("irnn", "wrnn")
        ]
        if None not in steps:
            ratios.append(steps[0].mean / steps[1].mean)
            counts += [step.count for step in steps]
    if not ratios:
        raise NotRecorded("solved_step")
    return Estimate(min(ratios), None, min(counts))


def accuracy(experiment: str, **wanted: object) -> Callable[[Shelf], Estimate]:
    """Test accuracy of one model on one task."""
    return lambda shelf: shelf.metric(shelf.one(experiment, **wanted), "accuracy")


def accuracy_gap(first: dict, second: dict) -> Callable[[Shelf], Estimate]:
    """Points of test accuracy by which the first result of Table 2 exceeds the second."""

    def measure(shelf: Shelf) -> Estimate:
        high, low = (_by_seed(shelf.one("table2", **w), "accuracy") for w in (first, second))
        if not high.keys() & low.keys():
            raise NotRecorded("accuracy")
        return estimate([high[seed] - low[seed] for seed in sorted(high.keys() & low.keys())])

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


def parameter_efficiency(shelf: Shelf) -> Estimate:
    """Parameters of the iRNN over those of the wRNN at the best accuracy that both reach (Fig. 7).

    Biases are left out, as the paper mostly counts.
    """
    points, counts = {}, []
    for kind in ("wrnn", "irnn"):
        points[kind] = []
        for result in shelf.find("fig7", kind=kind):
            accuracy = shelf.metric(result, "accuracy")
            counts.append(accuracy.count)
            points[kind].append((result.parameters, accuracy.mean))
    level = min(max(accuracy for _, accuracy in found) for found in points.values())
    ratio = parameters_needed(points["irnn"], level) / parameters_needed(points["wrnn"], level)
    return Estimate(ratio, None, min(counts))


def epochs_ahead(shelf: Shelf) -> Estimate:
    """Epochs until the iRNN stays above the wRNN on sMNIST (validation) for five checks.

    Where it never does, all epochs that both have been trained for.
    """
    curves, counts = {}, []
    for kind in ("wrnn", "irnn"):
        result = shelf.one("table2", kind=kind, readout="linear", permuted=False)
        steps, mean, _, _ = result.curve("accuracy")
        curves[kind] = dict(zip(steps, mean, strict=True))
        counts.append(len(result.records))
    steps = sorted(curves["wrnn"].keys() & curves["irnn"].keys())
    ahead = [curves["irnn"][step] >= curves["wrnn"][step] for step in steps]
    for index, step in enumerate(steps):
        if len(ahead[index : index + 5]) == 5 and all(ahead[index : index + 5]):
            return Estimate(step / MNIST_EPOCH, None, min(counts))
    return Estimate(steps[-1] / MNIST_EPOCH if steps else 0.0, None, min(counts))


def _tests(result: Result, order: str = "ring") -> list[analysis.WaveTest]:
    """Test each seed's hidden states, in the order of units where it can be had."""
    found = [list(analysis.orders(record).items()) for record in result.records]
    hidden = [dict(views).get(order, views[0][1]) for views in found if views]
    if not hidden:
        raise NotRecorded("hidden states")
    return [analysis.wave_test(h, generator=np.random.default_rng(0)) for h in hidden]


def wave_velocity(shelf: Shelf) -> Estimate:
    """Wave speed in the trained wRNN's hidden state, in sites per step; 0 without (Figure 2)."""
    tests = _tests(shelf.one("fig2", kind="wrnn"))
    return estimate([test.speed if test.is_wave else 0.0 for test in tests])


def wave_in_irnn(shelf: Shelf) -> Estimate:
    """1 where the trained iRNN's hidden state holds a wave, else 0 (Figure 2).

    Its units are sorted by onset on other sequences; where only one is kept, they are as they come.
    """
    tests = _tests(shelf.one("fig2", kind="irnn"), "sorted by onset")
    return estimate([float(test.is_wave) for test in tests])


def wave_from_random(shelf: Shelf) -> Estimate:
    """1 where training from a random kernel ends in a wave, else 0 (Figure 18)."""
    results = shelf.find("fig18", recurrent="default")
    last = max(results, key=lambda result: result.records[0].steps)
    if last.records[0].steps < MNIST_EPOCH:
        raise NotRecorded("fig18")  # an untrained network says nothing of training
    return estimate([float(test.is_wave) for test in _tests(last)])


def speeds_apart(shelf: Shelf) -> Estimate:
    """Sites per step between the slowest and the fastest channel with a wave (Figure 10)."""
    several = [r for r in shelf.find("fig10") if isinstance(r.run.model.velocity, tuple)]
    apart = []
    for record in several[0].records if several else ():
        for hidden in analysis.orders(record).values():
            tests = analysis.channel_tests(hidden, generator=np.random.default_rng(0))
            waves = [test.speed for test in tests if test.is_wave]
            apart.append(max(waves, default=0.0) - min(waves, default=0.0))
    if not apart:
        raise NotRecorded("fig10")
    return estimate(apart)


NO_SHIFT = {"kind": "wrnn", "input": "ones", "recurrent": "default"}
NO_INPUT = {"kind": "wrnn", "input": "default", "recurrent": "shift"}


def shift_against_input(shelf: Shelf) -> Estimate:
    """Powers of ten by which the loss at T = 30 is higher without u-shift than without V-init."""
    without_shift = shelf.one("table4", lag=40, **NO_SHIFT)
    return orders(shelf.one("table4", lag=40, **NO_INPUT), [without_shift])


def learned_loss(task: CopyTask) -> float:
    """The loss, a tenth of the memoryless one, from which a copy task counts as learned."""
    return task.memoryless_baseline() / 10


def steps_to_learn(result: Result) -> dict[int, float]:
    """Steps by seed until the validation loss of a copy run says that it is learned.

    All steps of the run where it never is.
    """
    level = learned_loss(result.run.task)
    steps = {}
    for record in result.records:
        curve = record.curves.get("cross_entropy", ())  # none where it diverged before
        learned = (step for step, loss in curve if loss <= level)
        steps[record.run.seed] = next(learned, record.steps)
    return steps


def input_init_speed(shelf: Shelf) -> Estimate:
    """Iterations to learn T = 30 without V-init over those with it, paired by seed."""
    with_it, without_it = (
        steps_to_learn(shelf.one("v_init", lag=40, input=start)) for start in ("ones", "default")
    )
    seeds = sorted(with_it.keys() & without_it.keys())
    if not seeds:
        raise NotRecorded("v_init")
    return estimate([without_it[seed] / with_it[seed] for seed in seeds])


def shift_in_irnn(shelf: Shelf) -> Estimate:
    """Powers of ten that the shift matrix as a start takes off the iRNN's loss at T = 30."""
    plain = shelf.one("table4", lag=40, kind="irnn", recurrent="identity")
    return orders(
        shelf.one("table4", lag=40, kind="irnn", recurrent="shift", input="normal"), [plain]
    )
