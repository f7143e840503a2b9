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

CAPABILITY = 90
MULTIPROCESSORS = 132  # of an H100
CLOCK = 1.98e9  # cycles a second
WAITING = 2.0  # time of a sample alone, as a multiple of its bound
OVERHEAD = 0.3e-3  # seconds of a step outside the recurrence (batch, loss, Adam): small kernels
BANDWIDTH = 2.5e12  # bytes a second; all states pass once more after the kernels
PRODUCTS = 30e12  # multiply-adds count two; matrix products in float32
LIBRARY_STEP = 20e-6  # seconds of a step of cuDNN's layers, forward and backward, at least
LOOP_STEP = 120e-6  # the same of the step loop in a CUDA graph
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
    what they keep the GPU busy for, whichever is more.
    """
    shares = [0.0] * len(group)
    done, left = 0, sorted(range(len(group)), key=lambda i: group[i].steps)
    while left:
        steps = group[left[0]].steps - done
        costs = [_step(group[i]) for i in left]
        together = max(max(alone for alone, _ in costs), sum(busy for _, busy in costs))
        for i in left:
            shares[i] += steps * together / len(left)
        done += steps
        left = [i for i in left if group[i].steps > done]
    return shares


def _step(run: Run) -> tuple[float, float]:
    """Estimate a training step: its seconds alone, and those for which it keeps the GPU busy.

    Its share of a validation is part of it.
    """
    task, model, batch = run.task, run.model, run.batch_size
    hidden = model.size * model.num_channels
    size = getattr(task, "validation_size", None) or task.test_batches * task.test_batch_size
    checks = size / batch / run.evaluate_every  # of validation, as batches without a way back
    if model.kind == "wrnn":
        forward, backward, room = _wave(
            model.size, model.num_channels, model.kernel_size, task.input_size, task.every_step
        )
        cycles = (1 + checks) * forward + backward
        rounds = math.ceil(batch / (MULTIPROCESSORS * room))
        busy = task.length * cycles * batch / MULTIPROCESSORS / CLOCK
        alone = task.length * cycles * max(WAITING * rounds, batch / MULTIPROCESSORS) / CLOCK
    elif model.kind == "local":
        alone = busy = task.length * LOOP_STEP * (1 + checks / 2)
    else:
        numbers = GATES[model.kind] * hidden * (hidden + task.input_size)
        alone = busy = task.length * 6 * batch * numbers / PRODUCTS * (1 + checks / 3)
        alone = max(alone, task.length * LIBRARY_STEP * (1 + checks / 2))
    passed = 4 * task.length * batch * hidden / BANDWIDTH
    return alone + passed + OVERHEAD, busy + passed


@cache
def _wave(n: int, channels: int, size: int, inputs: int, every_step: bool) -> tuple[int, int, int]:
    """Return the cycles of a step forward and backward, and the samples on a multiprocessor."""
    inputs, outputs = (-inputs, inputs) if every_step else (inputs, 0)  # copy
    taken = kernels_of(n, channels, size, inputs, outputs, "ieee", CAPABILITY)
    room = min(
        min(REGISTERS // kernel["registers"], SHARED_BYTES[CAPABILITY] // max(1, kernel["shared"]))
        for kernel in taken.values()
    )
    return taken["forward"]["cycles"], taken["backward"]["cycles"], room
