"""What a travelling wave remembers (Figure 1 of the paper), in NumPy and float64.

Three binary inputs drive a linear field, either a one-way wave (shift matrix) or a static bump
(identity matrix). A ridge regression, fitted on some sequences and tested on others, reads onset
time and channel of each spike from the final state. Every random draw is from an explicit
generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wrnn.errors import WrnnError

if TYPE_CHECKING:
    from sklearn.linear_model import Ridge


def shift_matrix(sites: int, velocity: float = 1.0) -> np.ndarray:
    """Return the circulant matrix of the one-way wave equation, shape (sites, sites).

    One forward Euler step of dh/dt = nu dh/dx on a ring: new[x] = (1 - nu) h[x] + nu h[x + 1].
    `velocity` is nu in sites per step, 0 <= nu <= 1 (section 2).
    """
    if not 0.0 <= velocity <= 1.0:
        raise WrnnError(f"velocity must lie between 0 and 1 site per step, got {velocity}")
    eye = np.eye(sites)
    return (1.0 - velocity) * eye + velocity * np.roll(eye, 1, axis=1)


@dataclass(frozen=True)
class Field:
    """A linear field h_t = recurrence h_{t-1} + encoder s_t, driven by binary inputs s_t.

    recurrence (sites, sites); encoder (sites, inputs); `lap` is the number of steps after which
    activity is back where it started (0 when it never moves).
    """

    recurrence: np.ndarray
    encoder: np.ndarray
    lap: int


def wave_field(sites: int, inputs: int = 3) -> Field:
    """One ring of `sites` sites per input; each input writes to the middle of its own ring."""
    encoder = np.zeros((inputs * sites, inputs))
    encoder[np.arange(inputs) * sites + sites // 2, np.arange(inputs)] = 1.0
    recurrence = np.kron(np.eye(inputs), shift_matrix(sites))
    return Field(recurrence, encoder, sites)


def shared_wave_field(sites: int, inputs: int = 3) -> Field:
    """One ring of `sites` sites for all inputs, which write at equal distances along it."""
    encoder = np.zeros((sites, inputs))
    encoder[np.arange(inputs) * sites // inputs, np.arange(inputs)] = 1.0
    return Field(shift_matrix(sites), encoder, sites)


def bump_field(sites: int, inputs: int = 3) -> Field:
    """The wave-free control: the same sites and encoder as `wave_field`, activity stays put."""
    wave = wave_field(sites, inputs)
    return Field(np.eye(inputs * sites), wave.encoder, 0)


def simulate(field: Field, spikes: np.ndarray) -> np.ndarray:
    """Drive a field with `spikes` (T, inputs) from a zero state; return states (T, sites).

    A rectifier would change nothing here: spikes, encoder and recurrence are all non-negative.
    """
    state = np.zeros(len(field.recurrence))
    states = []
    for step in np.asarray(spikes, dtype=np.float64):
        state = field.recurrence @ state + field.encoder @ step
        states.append(state)
    return np.stack(states)


def draw_onsets(
    count: int,
    length: int,
    inputs: int = 3,
    *,
    generator: np.random.Generator,
) -> np.ndarray:
    """Draw `count` sequences: per input one onset, uniform on 0..length-1, or -1 for none.

    Shape (count, inputs). An input stays silent with probability 1/4, so that which inputs
    spiked is a question as well as when they did.
    """
    onsets = generator.integers(0, length, size=(count, inputs))
    return np.where(generator.random((count, inputs)) < 0.25, -1, onsets)


def final_states(field: Field, onsets: np.ndarray, length: int) -> np.ndarray:
    """Return the states (count, sites) after `length` steps, one spike at most per input.

    The field is linear, so the final state is the sum of the responses to each spike alone.
    """
    states = np.zeros((len(onsets), len(field.recurrence)))
    for index in range(onsets.shape[1]):
        response = field.encoder[:, index]
        by_age = np.empty((length, len(response)))
        for age in range(length):
            by_age[age] = response
            response = field.recurrence @ response
        present = onsets[:, index] >= 0
        states[present] += by_age[length - 1 - onsets[present, index]]
    return states


def fit_decoder(states: np.ndarray, onsets: np.ndarray, length: int, ridge: float = 1e-5) -> Ridge:
    """Fit a linear decoder by ridge regression on states (count, sites) and a constant.

    For each input the targets are whether it spiked (0 or 1) and its onset, one-hot over the
    `length` steps.
    """
    from sklearn.linear_model import Ridge

    targets = np.eye(length + 1)[onsets + 1]  # (count, inputs, 1 + length); entry 0: silent
    targets[..., 0] = onsets >= 0
    return Ridge(alpha=ridge * len(states)).fit(states, targets.reshape(len(onsets), -1))


def decode(decoder: Ridge, states: np.ndarray, length: int) -> np.ndarray:
    """Return the decoded onsets (count, inputs) from states (count, sites).

    An input is silent (-1) where its spike score is below one half; otherwise its onset is the
    step with the highest score.
    """
    scores = decoder.predict(states).reshape(len(states), -1, 1 + length)
    return np.where(scores[..., 0] >= 0.5, scores[..., 1:].argmax(axis=-1), -1)


@dataclass(frozen=True)
class DecodingError:
    """Errors on held-out sequences.

    channel: fraction of inputs for which "spiked or silent" is wrong.
    onset: fraction of spikes whose onset is not decoded exactly.
    onset_in_lap: the same, but forgiving an error of whole laps of the ring.
    steps: mean absolute error of the onset in steps, over spikes that were noticed.
    """

    channel: float
    onset: float
    onset_in_lap: float
    steps: float


def decoding_error(
    field: Field,
    length: int,
    *,
    generator: np.random.Generator,
    noise: float = 0.01,
    shuffled: bool = False,
    train: int = 3000,
    test: int = 2000,
) -> DecodingError:
    """Fit the decoder on `train` sequences of `length` steps, test it on `test` others.

    Gaussian noise of standard deviation `noise` is added to every state before it is read (a
    spike has height 1), so that nothing hangs on exact ties. `shuffled=True` breaks the pairing
    of states and onsets in the training set: the chance level of the whole procedure.
    """
    inputs = field.encoder.shape[1]
    onsets = draw_onsets(train + test, length, inputs, generator=generator)
    states = final_states(field, onsets, length)
    states = states + noise * generator.standard_normal(states.shape)
    seen = generator.permutation(train) if shuffled else np.arange(train)
    decoder = fit_decoder(states[seen], onsets[:train], length)
    decoded, true = decode(decoder, states[train:], length), onsets[train:]
    spiked, noticed = true >= 0, decoded >= 0
    miss = (decoded - true)[spiked & noticed]
    unnoticed = int((spiked & ~noticed).sum())
    in_lap = miss % field.lap if field.lap else miss
    return DecodingError(
        channel=float((spiked != noticed).mean()),
        onset=float((np.count_nonzero(miss) + unnoticed) / spiked.sum()),
        onset_in_lap=float((np.count_nonzero(in_lap) + unnoticed) / spiked.sum()),
        steps=float(np.abs(miss).mean()) if miss.size else float("nan"),
    )
