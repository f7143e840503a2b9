"""What the paper takes on a GPU that nobody has: an estimate from compiled code, not a measurement.

A Wave-RNN's kernels have a bound from their code (`companion.gpu_code`): the cycles in which a
multiprocessor issues the instructions of one sample's step. Alone on its multiprocessor a sample
waits for memory and for itself about as long again; samples of runs that train side by side fill
each other's waits, as far as registers and shared memory have room for them. Everything else is
assumed, and each assumption is a constant below.
"""

import math
from collections.abc import Callable, Iterable
from functools import cache

from companion.gpu_code import REGISTERS, SHARED_BYTES, kernels_of
from companion.runs.experiments import Experiment, plan
from companion.runs.run import Run
from companion.training.queue import REPLICAS, in_groups
from companion.training.train import EVALUATION_BATCH

CAPABILITY = 90
MULTIPROCESSORS = 132  # of an H100
CLOCK = 1.98e9  # cycles a second
WAITING = 2.0  # time of a sample alone, as a multiple of its bound
OVERHEAD = 0.3e-3  # seconds of a step outside the recurrence (batch, loss, Adam): small kernels
BANDWIDTH = 2.5e12  # bytes a second; all states pass once more after the kernels
PRODUCTS = 30e12  # multiply-adds count two; matrix products in float32
LIBRARY_STEP = 20e-6  # seconds of a step of cuDNN's layers, forward and backward, at least
LOOP_STEP = 120e-6  # the same of the step loop in a CUDA graph
DIRECTIONS = {"forward": 1 / 3, "backward": 2 / 3}  # of a step's products
GATES = {"irnn": 1, "gru": 3, "lstm": 4}


def estimate(
    experiments: Iterable[Experiment],
    profile: str,
    seeds: int,
    say: Callable[[str], None] = print,
) -> float:
    """Say how many hours each experiment takes on one H100, and return their sum.

    A run that several experiments share counts for the first of them. For the LRU and for blocks
    there is no estimate, and it says for how many runs.
    """
    experiments = list(experiments)
    runs = plan(experiments, profile, seeds)
    owners: dict[str, str] = {}
    for experiment in experiments:
        for run in experiment.runs(profile, seeds):
            owners.setdefault(run.id, experiment.name)
    known = [run for run in runs if run.model.kind != "lru" and not run.model.depth]
    hours: dict[str, float] = dict.fromkeys(owners.values(), 0.0)
    for group in in_groups(known, REPLICAS["cuda"]):
        for run, seconds in zip(group, group_seconds(group), strict=True):
            hours[owners[run.id]] += seconds / 3600
    say("An estimate for one H100 from compiled code and assumptions; nothing of it is measured.")
    for name, value in hours.items():
        count = sum(owner == name for owner in owners.values())
        say(f"{name:<14}{count:>4} runs {value:>7.2f} h")
    paper = sum(value for name, value in hours.items() if name.startswith(("fig", "table")))
    total = sum(hours.values())
    missing = f", without {len(runs) - len(known)} runs of other layers" * (len(known) < len(runs))
    say(f"the paper's figures and tables {paper:.1f} h, all together {total:.1f} h, with")
    say(f"{REPLICAS['cuda']} runs at a time{missing}")
    return total


def group_seconds(group: list[Run]) -> list[float]:
    """Estimate the seconds of each of the runs that train together: their shares of the steps.

    While k runs train together, a step of all takes as long as the slowest of them alone, or as
    what they keep the GPU busy for, whichever is more. They are validated one after the other.
    """
    shares = [0.0] * len(group)
    done, left = 0, sorted(range(len(group)), key=lambda i: group[i].steps)
    while left:
        steps = group[left[0]].steps - done
        costs = [_step(group[i]) for i in left]
        together = max(max(alone for alone, _ in costs), sum(busy for _, busy in costs))
        together += sum(_validation(group[i]) for i in left)
        for i in left:
            shares[i] += steps * together / len(left)
        done += steps
        left = [i for i in left if group[i].steps > done]
    return shares


def _step(run: Run) -> tuple[float, float]:
    """Estimate a training step: its seconds alone, and those for which it keeps the GPU busy."""
    forward, backward = (_pass(run, run.batch_size, direction) for direction in DIRECTIONS)
    alone, busy = (sum(both) for both in zip(forward, backward, strict=True))
    passed = _passed(run, run.batch_size)
    return alone + passed + OVERHEAD, busy + passed


def _validation(run: Run) -> float:
    """Estimate the seconds of a validation, spread over the steps between two of them."""
    task = run.task
    size = getattr(task, "validation_size", None) or task.test_batches * task.test_batch_size
    alone, _ = _pass(run, min(size, EVALUATION_BATCH), "forward")
    batch = alone + _passed(run, min(size, EVALUATION_BATCH)) + OVERHEAD
    return math.ceil(size / EVALUATION_BATCH) * batch / run.evaluate_every


def _passed(run: Run, batch: int) -> float:
    """Estimate the seconds in which all states pass once more."""
    hidden = run.model.size * run.model.num_channels
    return 4 * run.task.length * batch * hidden / BANDWIDTH


def _pass(run: Run, batch: int, direction: str) -> tuple[float, float]:
    """Estimate a forward or backward pass: its seconds alone, and those that keep the GPU busy."""
    task, model, of_both = run.task, run.model, DIRECTIONS[direction]
    if model.kind == "wrnn":
        sizes = model.size, model.num_channels, model.kernel_size
        cycles, room = _wave(*sizes, task.input_size, task.every_step)
        second = task.length * cycles[direction] / CLOCK  # of one sample on a multiprocessor
        rounds = math.ceil(batch / (MULTIPROCESSORS * room))
        busy = second * batch / MULTIPROCESSORS
        return max(second * WAITING * rounds, busy), busy
    if model.kind == "local":
        return (task.length * LOOP_STEP / 2,) * 2
    hidden = model.size * model.num_channels
    numbers = GATES[model.kind] * hidden * (hidden + task.input_size)
    busy = task.length * 6 * of_both * batch * numbers / PRODUCTS
    return max(busy, task.length * LIBRARY_STEP / 2), busy


@cache
def _wave(
    n: int, channels: int, size: int, inputs: int, every_step: bool
) -> tuple[dict[str, int], int]:
    """Return the cycles of a step by direction, and the samples on a multiprocessor."""
    inputs, outputs = (-inputs, inputs) if every_step else (inputs, 0)  # copy
    taken = kernels_of(n, channels, size, inputs, outputs, "ieee", CAPABILITY)
    room = min(
        min(REGISTERS // kernel["registers"], SHARED_BYTES[CAPABILITY] // max(1, kernel["shared"]))
        for kernel in taken.values()
    )
    return {direction: kernel["cycles"] for direction, kernel in taken.items()}, room
