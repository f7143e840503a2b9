"""How a recurrence could be computed in parallel over time, and what stands in the way.

Newton's method on all steps at once (DEER) solves a linear recurrence in one iteration, and every
iteration can be a parallel scan. Where the recurrence is chaotic it needs about as many iterations
as there are steps (Gonzalez et al. 2025, arXiv 2508.16817). A step is any function of a state
(B, units) and an input (B, input_size) to the next state.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import jvp

from companion.evidence.recall import trained_model
from companion.records.table import Result
from wrnn.model import SequenceModel, WaveRNN
from wrnn.recurrence.loop import one_step
from wrnn.tasks import CopyTask

Step = Callable[[Tensor, Tensor], Tensor]


def wave_step(rnn: WaveRNN) -> Step:
    """Return one step of a wRNN by the definition, in float64, on flat states (B, hidden)."""
    names = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
    parameters = [getattr(rnn, name) for name in names]
    parameters = [None if p is None else p.detach().double() for p in parameters]
    rings = (rnn.num_channels, rnn.channel_size)

    def step(h: Tensor, x: Tensor) -> Tensor:
        return one_step(x, h.unflatten(-1, rings), *parameters, rnn.nonlinearity).flatten(-2)

    return step


def lyapunov_exponent(
    step: Step, state: Tensor, inputs: Tensor, *, skip: int, generator: torch.Generator
) -> float:
    """Return the largest Lyapunov exponent per step along driven trajectories, in nats.

    A random tangent is carried along by the derivative of every step and rescaled to one; the
    exponent is the mean logarithm of what it grew by (Benettin et al. 1980), over batch and steps.

    Args:
        state: (B, units) at the start.
        inputs: (T, B, input_size).
        skip: steps until the tangent points in the direction of the fastest growth.

    Returns:
        The exponent; minus infinity where every tangent dies, as behind a dead rectifier.
    """
    tangent = torch.randn(state.shape, generator=generator, dtype=state.dtype)
    tangent = tangent / tangent.norm(dim=-1, keepdim=True)
    growth = []
    for x in inputs:
        state, tangent = jvp(lambda h, x=x: step(h, x), (state,), (tangent,))
        size = tangent.norm(dim=-1, keepdim=True)  # (B, 1)
        growth.append(size.log())
        tangent = torch.where(size > 0, tangent / size, tangent)
    rates = torch.stack(growth[skip:])[..., 0].mean(dim=0)  # (B,)
    alive = rates[rates.isfinite()]
    return float(alive.mean()) if len(alive) else -math.inf


def newton_iterations(step: Step, state: Tensor, inputs: Tensor, *, tolerance: float = 1e-6) -> int:
    """Return how many Newton iterations it takes until every state is that of the step loop.

    DEER (Lim et al. 2024, arXiv 2309.12252, section 3): from a guess of all states, each iteration
    solves the recurrence linearised around the guess, h_t = f(g_{t-1}) + f'(g_{t-1}) (h_{t-1} -
    g_{t-1}). The first guess is one everywhere: at zero a rectifier passes on no derivative, so
    that every iteration would reach one step further only. T iterations always do, since every one
    makes at least one more step exact. Here the linear recurrence is solved step by step: only the
    count is wanted.

    Args:
        state: (B, units) at the start.
        inputs: (T, B, input_size).
        tolerance: largest error of a state, relative to the largest state.
    """
    states, before = [], state
    for x in inputs:
        before = step(before, x)
        states.append(before)
    exact = torch.stack(states)  # (T, B, units)
    allowed = tolerance * exact.abs().max()
    guess = torch.ones_like(exact)
    for iteration in range(1, len(inputs)):
        around = torch.cat([state[None], guess[:-1]])  # g_{t-1}, (T, B, units)
        solved, before = [], state
        for x, point in zip(inputs, around, strict=True):
            value, change = jvp(lambda h, x=x: step(h, x), (point,), (before - point,))
            before = value + change
            solved.append(before)
        guess = torch.stack(solved)
        if (guess - exact).abs().max() <= allowed:
            return iteration
    return len(inputs)


def cost_in_parallel(model: SequenceModel, task: CopyTask) -> tuple[int, float]:
    """Return the Newton iterations and the Lyapunov exponent of a wRNN on test sequences of a task.

    The exponent is that along ten sequences in a row, of which the first does not count.
    """
    step, state = wave_step(model.rnn), torch.zeros(8, model.rnn.hidden_size).double()
    x = next(iter(task.evaluation_batches("test", 8)))[0].double()  # (T, 8, input)
    long = next(iter(task.evaluation_batches("validation", 40)))[0].double()  # (T, 40, input)
    long = long.view(len(x), 10, 4, -1).transpose(0, 1).flatten(0, 1)  # (10 T, 4, input)
    generator = torch.Generator().manual_seed(0)
    exponent = lyapunov_exponent(step, state[:4], long, skip=len(x), generator=generator)
    return newton_iterations(step, state, x), exponent


def through_training(results: Sequence[Result]) -> dict[int, dict[int, tuple[int, float]]]:
    """Return `cost_in_parallel` by step and seed, of runs that are cuts of one training.

    Step 0 is the start; a record whose weights were not kept has only that.
    """
    found: dict[int, dict[int, tuple[int, float]]] = {}
    for record in (record for result in results for record in result.records):
        for step, model in ((0, record.run.start()), (record.steps, trained_model(record))):
            by_seed = found.setdefault(step, {})
            if model is not None and record.run.seed not in by_seed:
                by_seed[record.run.seed] = cost_in_parallel(model, record.run.task)
    return dict(sorted(found.items()))
