"""What a recurrent state holds of the past, and what stored weights do when asked otherwise.

NumPy and torch, with every random draw taken from an explicit generator. scikit-learn is loaded
where a readout is fitted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from companion.evidence.paired import gained, outcome, side, with_gain
from companion.records.files import Record
from companion.records.table import Interval, Result, interval
from wrnn.errors import WrnnError
from wrnn.model import SequenceModel, WaveRNN
from wrnn.tasks import CopyTask, Task

RIDGE = 1e-8  # penalty of a readout, relative to sequences and the mean square of the states
LAPS = 2  # that a trace is followed for
BEYOND = 10.0  # times a constant answer's error, from where on it says no more


def trained_model(record: Record) -> SequenceModel | None:
    """Return the model with the weights that were tested, or None where they were not kept."""
    weights = record.weights()
    if weights is None:
        return None
    model = record.run.start()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model


@torch.no_grad()
def ask(model: SequenceModel, task: Task) -> dict[str, float]:
    """Return the task's metrics over its whole test set, of a model that may know another task."""
    ((x, y),) = task.evaluation_batches("test", 10**6)
    return task.metrics(model(x), y)


def asked(result: Result, tasks: Sequence[Task], metric: str) -> dict[int, list[float]]:
    """Ask a result's networks about other tasks: seed -> the metric on every task.

    Seeds whose weights were not kept are left out.
    """
    models = {record.run.seed: trained_model(record) for record in result.records}
    return {
        seed: [ask(model, task)[metric] for task in tasks]
        for seed, model in models.items()
        if model is not None
    }


def elsewhere(result: Result, sites: int) -> dict[int, dict[int, float]]:
    """Ask a result's networks at other lags or lengths: seed -> lag or length -> outcome.

    Copying at lags around its own and about one lap of `sites` beyond it, adding at half to four
    times its length.
    """
    task = result.run.task
    if isinstance(task, CopyTask):
        steps = (-8, -4, -2, -1, 0, 1, 2, 4, 8, 20, sites - 1, sites, sites + 1)
        lags = sorted({max(11, task.lag + step) for step in steps})
        tasks: dict[int, Task] = {lag: CopyTask(lag, test_batches=2) for lag in lags}
    else:
        lengths = (max(2, int(task.length * share)) for share in (0.5, 1, 2, 4))
        tasks = {length: replace(task, length=length) for length in lengths}
    scores = asked(result, list(tasks.values()), outcome(task).metric)
    return {seed: dict(zip(tasks, row, strict=True)) for seed, row in scores.items()}


def carries_over(
    result: Result, scores: Mapping[int, Mapping[int, float]]
) -> tuple[str, Interval | None]:
    """Say whether what was learned carries over, and the interval that decides; of `elsewhere`.

    Copying does where over half of what a network gains over chance is left one step beyond its
    lag (per cent of the gain); adding where the error at the longest length is below that of a
    constant answer there (as a multiple of it, where anything from `BEYOND` on counts as that).
    """
    task, scored = result.run.task, outcome(result.run.task)
    copying = isinstance(task, CopyTask)
    at = task.lag if isinstance(task, CopyTask) else task.length
    own = with_gain({seed: row[at] for seed, row in scores.items()}, scored)
    other = {seed: scores[seed][at + 1 if copying else max(scores[seed])] for seed in own}
    if not scores:
        return "not asked, as its weights were not kept", None
    if not own:
        return "nothing to carry over", None
    if copying:
        found = gained(other, own, scored)
    else:
        constant = outcome(replace(task, length=max(next(iter(scores.values()))))).chance
        errors = np.nan_to_num([error / constant for error in other.values()], nan=np.inf)
        beyond = errors >= BEYOND
        found = interval(np.minimum(errors, BEYOND), "log", ">=" if beyond.any() else "")
    where = side(found, 50 if copying else 1)
    if where == "open":
        return "open", found
    return "carries over" if (where == "above") == copying else "does not carry over", found


# --------------------------------------------------------------------------------- capacity


def memory_capacity(
    states: np.ndarray,
    inputs: np.ndarray,
    *,
    noise: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return the linear memory of every delay 0 to T - 1, (T,) in 0..1; its sum is the capacity.

    Jaeger (2001, GMD report 152): the squared correlation between the input k steps ago and the
    best linear readout of the state, which for independent inputs sums to at most the number of
    units. Jaeger follows one long input; here every sequence starts anew and is read at its end,
    since an undamped ring never forgets and has no stationary state. The readout is fitted by ridge
    regression on the first half of the sequences and scored on the second, so that what fits noise
    doesn't count as memory.

    Args:
        states: (sequences, units), after the last input.
        inputs: (sequences, T), independent of each other.
        noise: standard deviation of what is added to every unit before it is read, as a share of
            the root mean square that all units have around their means.
    """
    from sklearn.linear_model import Ridge

    states, inputs = np.asarray(states, np.float64), np.asarray(inputs, np.float64)
    if len(states) != len(inputs):
        raise WrnnError(f"{len(states)} states for {len(inputs)} sequences: one each is needed")
    if not np.isfinite(states).all() or not states.var(axis=0).any():
        return np.zeros(inputs.shape[1])  # a state that has overflowed, or one that never moves
    read = states / np.sqrt(states.var(axis=0).mean())
    read = read + noise * generator.standard_normal(read.shape)
    targets = inputs[:, ::-1]  # (sequences, delays)
    half = len(read) // 2
    readout = Ridge(alpha=RIDGE * half, solver="svd").fit(read[:half], targets[:half])
    guesses, truth = readout.predict(read[half:]), targets[half:]  # (sequences, delays) both
    guesses, truth = guesses - guesses.mean(axis=0), truth - truth.mean(axis=0)
    power = (guesses**2).sum(axis=0) * (truth**2).sum(axis=0)
    overlap = (guesses * truth).sum(axis=0)
    return np.divide(overlap**2, power, out=np.zeros(len(power)), where=power > 0)


@torch.no_grad()
def driven_states(model: SequenceModel, inputs: np.ndarray) -> np.ndarray:
    """Return the last states (sequences, units) of a model with one input a step.

    `inputs` is (sequences, T).
    """
    x = torch.as_tensor(inputs.T[..., None], dtype=torch.float32)  # (T, sequences, 1)
    return model.rnn(x)[0][-1].double().numpy()


def capacities(
    result: Result, inputs: np.ndarray, noises: Sequence[float]
) -> dict[tuple[str, float], dict[int, float]]:
    """Return the memory capacity "before" and "after" training: (when, noise) -> by seed.

    `inputs` (sequences, T) drive the networks, see `memory_capacity`. Seeds whose weights were not
    kept have only the first.
    """
    found: dict[tuple[str, float], dict[int, float]] = {}
    for record in result.records:
        for when, model in (("before", record.run.start()), ("after", trained_model(record))):
            if model is not None:
                states = driven_states(model, inputs)
                for noise in noises:
                    generator = np.random.default_rng(1)
                    held = memory_capacity(states, inputs, noise=noise, generator=generator)
                    found.setdefault((when, noise), {})[record.run.seed] = float(held.sum())
    return found


# ------------------------------------------------------------------------------------- laps


@dataclass(frozen=True)
class Lap:
    """What a lap of the ring does to the trace of one symbol.

    `gain` is the factor on its size over one lap of one site per step; `speeds` (channels,) are
    sites per step of the channels' own traces, and `sizes` (channels,) how large these are.
    """

    gain: float
    speeds: np.ndarray
    sizes: np.ndarray


@torch.no_grad()
def one_lap(rnn: WaveRNN, trace: Tensor, silence: Tensor) -> Lap:
    """Follow the difference that one input makes around the ring.

    The layer runs from zero with `silence` (input_size,) at every step, and again with `trace`
    (input_size,) at the first; what is followed is the difference of the two states. With the
    rectifier this is the response beside the background that the layer makes for itself.
    """
    n, channels = rnn.channel_size, rnn.num_channels
    x = silence.expand(LAPS * n + 1, 2, -1).clone()  # (T, 2, input)
    x[0, 1] = trace
    states = rnn(x)[0]  # (T, 2, hidden)
    difference = (states[:, 1] - states[:, 0]).view(len(x), channels, n).double()
    sizes = difference.square().sum(dim=-1).sqrt()  # (T, channels)
    whole = sizes.square().sum(dim=-1).sqrt()  # (T,)
    gain = float((whole[-1] / whole[0]) ** (1 / LAPS)) if whole[0] > 0 else 0.0
    # The first Fourier mode of a trace turns by 2 pi v / n a step when it moves at v sites a step.
    site = torch.arange(n, dtype=torch.float64) * (2j * torch.pi / n)
    mode = (difference * torch.exp(site)).sum(dim=-1)[: n // 2]  # (steps, channels)
    turned = (mode[1:] * mode[:-1].conj()).sum(dim=0).angle()  # towards lower sites: negative
    return Lap(gain, (-turned * n / (2 * torch.pi)).numpy(), sizes.mean(dim=0).numpy())


def lap_of_symbols(result: Result) -> dict[str, float] | None:
    """What training made of a lap on the copy task, over all kept seeds and all eight symbols.

    The median gain, the speed weighted by the channels' activity, and the distance between the
    slowest and the fastest channel (sites per step), of those at least a tenth as active as the
    most active one; None where no weights were kept.
    """
    tokens = torch.eye(10)  # the first is the blank, the last the cue
    models = filter(None, map(trained_model, result.records))
    laps = [one_lap(model.rnn, token, tokens[0]) for model in models for token in tokens[1:9]]
    moving = [np.average(lap.speeds, weights=lap.sizes) for lap in laps if lap.sizes.any()]
    if not laps:
        return None
    return {
        "gain": float(np.median([lap.gain for lap in laps])),
        "speed": float(np.mean(moving)) if moving else math.nan,
        "spread": float(
            np.mean([np.ptp(lap.speeds[lap.sizes >= lap.sizes.max() / 10]) for lap in laps])
        ),
    }
