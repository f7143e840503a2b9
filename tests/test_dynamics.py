"""Lyapunov exponents and Newton iterations of recurrences that are solved by hand."""

import math

import pytest
import torch

from companion.evidence.dynamics import (
    cost_in_parallel,
    lyapunov_exponent,
    newton_iterations,
    wave_step,
)
from wrnn import SequenceModel, WaveRNN
from wrnn.tasks import CopyTask

SHEAR = torch.tensor([[2.0, 1.0], [0.0, 0.5]], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(matrix):
    return lambda h, x: h @ matrix.T + x


def logistic(h, x):
    return 4 * h * (1 - h)


@pytest.mark.parametrize(
    ("step", "state", "steps", "skip", "expected", "tolerance"),
    [
        (linear(SHEAR), torch.zeros(3, 2), 120, 60, math.log(2), 1e-9),  # its largest eigenvalue
        (logistic, torch.rand(200, 1, generator=generator()), 400, 20, math.log(2), 0.02),
        (lambda h, x: x, torch.ones(1, 2), 5, 1, -math.inf, 0),  # it forgets at once
    ],
    ids=["linear", "logistic", "forgets"],
)
def test_the_exponent_of_known_maps(step, state, steps, skip, expected, tolerance):
    state, inputs = state.double(), torch.zeros(steps, *state.shape, dtype=torch.float64)
    found = lyapunov_exponent(step, state, inputs, skip=skip, generator=generator(1))
    assert found == pytest.approx(expected, abs=tolerance)


def test_a_linear_recurrence_takes_one_iteration():
    matrix = torch.randn(4, 4, dtype=torch.float64, generator=generator()) / 3
    inputs = torch.randn(30, 2, 4, dtype=torch.float64, generator=generator(1))
    assert newton_iterations(linear(matrix), torch.zeros(2, 4, dtype=torch.float64), inputs) == 1


def test_a_chaotic_recurrence_takes_nearly_as_many_iterations_as_steps():
    inputs = torch.zeros(40, 1, 1, dtype=torch.float64)
    state = torch.full((1, 1), 0.3, dtype=torch.float64)
    chaotic = newton_iterations(logistic, state, inputs, tolerance=1e-9)
    contracting = newton_iterations(lambda h, x: 0.5 * h.cos() + x, state, inputs, tolerance=1e-9)
    assert contracting < 10 < 20 < chaotic <= 40


def test_a_rectified_shift_takes_one_iteration_where_its_drive_is_positive():
    layer = WaveRNN(3, 6, 2)
    layer.reset_parameters(recurrent_bias="zero")
    x = torch.rand(20, 2, 3, generator=generator(), dtype=torch.float64)
    assert newton_iterations(wave_step(layer), torch.zeros(2, 12, dtype=torch.float64), x) == 1


def test_one_step_of_a_wave_rnn_is_the_layers():
    layer = WaveRNN(3, 6, 2)
    x = torch.randn(5, 2, 3, generator=generator())
    step, state = wave_step(layer), torch.zeros(2, 12, dtype=torch.float64)
    for x_t, expected in zip(x, layer(x)[0], strict=True):
        state = step(state, x_t.double())
        assert torch.allclose(state.float(), expected, atol=1e-5)


def test_a_shift_is_cheap_to_copy_with_in_parallel_and_a_random_kernel_is_not():
    task, found = CopyTask(12), []
    for random in (False, True):
        rnn = WaveRNN(10, 8, 2)
        rnn.reset_parameters(recurrent_bias="zero")
        if random:
            torch.nn.init.normal_(rnn.weight_hh, std=0.8, generator=generator())
            torch.nn.init.normal_(rnn.weight_ih, generator=generator(1))
        found.append(cost_in_parallel(SequenceModel(rnn, 10, every_step=True), task))
    (cheap, still), (costly, growing) = found
    assert cheap == 1 < costly <= task.length
    assert still == pytest.approx(0, abs=0.01)
    assert growing > 0.01
