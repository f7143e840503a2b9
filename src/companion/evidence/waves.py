"""What a travelling wave remembers, and how fast it travels (Figures 1 and 2 of the paper).

Two analyses, in NumPy and float64, with every random draw taken from an explicit generator:

* Figure 1: three binary inputs drive a linear field, either a one-way wave (shift matrix) or a
  static bump (identity matrix). A linear decoder, fitted on some sequences and tested on others,
  reads the onset time and channel of each spike from the final state.
* Figure 2: the hidden state of a trained network over time and sites, its space-time Fourier
  power, and the wave speed nu read off as f_t = nu f_x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wrnn.errors import WrnnError

# ---------------------------------------------------------------------------- Figure 1: memory


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

    name: str
    recurrence: np.ndarray
    encoder: np.ndarray
    lap: int


def wave_field(sites: int, inputs: int = 3) -> Field:
    """One ring of `sites` sites per input; each input writes to the middle of its own ring."""
    encoder = np.zeros((inputs * sites, inputs))
    encoder[np.arange(inputs) * sites + sites // 2, np.arange(inputs)] = 1.0
    recurrence = np.kron(np.eye(inputs), shift_matrix(sites))
    return Field("wave", recurrence, encoder, sites)


def shared_wave_field(sites: int, inputs: int = 3) -> Field:
    """One ring of `sites` sites for all inputs, which write at equal distances along it."""
    encoder = np.zeros((sites, inputs))
    encoder[np.arange(inputs) * sites // inputs, np.arange(inputs)] = 1.0
    return Field("shared wave", shift_matrix(sites), encoder, sites)


def bump_field(sites: int, inputs: int = 3) -> Field:
    """The wave-free control: the same sites and encoder as `wave_field`, activity stays put."""
    wave = wave_field(sites, inputs)
    return Field("static bump", np.eye(inputs * sites), wave.encoder, 0)


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
    silent: float = 0.25,
    generator: np.random.Generator,
) -> np.ndarray:
    """Draw `count` sequences: per input one onset, uniform on 0..length-1, or -1 for none.

    Shape (count, inputs). An input stays silent with probability `silent`, so that which inputs
    spiked is a question as well as when they did.
    """
    onsets = generator.integers(0, length, size=(count, inputs))
    return np.where(generator.random((count, inputs)) < silent, -1, onsets)


def spike_trains(onsets: np.ndarray, length: int) -> np.ndarray:
    """Turn one row of onsets (inputs,) into binary spike trains (length, inputs)."""
    return (np.arange(length)[:, None] == np.asarray(onsets)[None, :]).astype(np.float64)


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


def fit_decoder(
    states: np.ndarray, onsets: np.ndarray, length: int, ridge: float = 1e-5
) -> np.ndarray:
    """Fit a linear decoder by ridge regression; return its weights.

    For each input the targets are whether it spiked (0 or 1) and its onset, one-hot over the
    `length` steps; all are regressed on the state (count, sites) and a constant. Weights have
    shape (sites + 1, inputs, 1 + length).
    """
    features = np.hstack([states, np.ones((len(states), 1))])
    targets = np.eye(length + 1)[onsets + 1]  # (count, inputs, 1 + length); entry 0: silent
    targets[..., 0] = onsets >= 0
    penalty = ridge * len(states) * np.eye(features.shape[1])
    penalty[-1, -1] = 0.0  # the constant is not shrunk
    gram = features.T @ features + penalty
    weights = np.linalg.solve(gram, features.T @ targets.reshape(len(onsets), -1))
    return weights.reshape(features.shape[1], onsets.shape[1], length + 1)


def decode(weights: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Return the decoded onsets (count, inputs) from states (count, sites).

    An input is silent (-1) where its spike score is below one half; otherwise its onset is the
    step with the highest score.
    """
    features = np.hstack([states, np.ones((len(states), 1))])
    scores = np.tensordot(features, weights, axes=1)  # (count, inputs, 1 + length)
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
    weights = fit_decoder(states[seen], onsets[:train], length)
    decoded, true = decode(weights, states[train:]), onsets[train:]
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


# ------------------------------------------------------------------------ Figure 2: waves seen


@dataclass(frozen=True)
class Spectrum:
    """Space-time Fourier power, zero frequency in the middle of both axes.

    power (T, sites); temporal (T,) in cycles per step; spatial (sites,) in cycles per site.
    """

    power: np.ndarray
    temporal: np.ndarray
    spatial: np.ndarray


def _channels(hidden: np.ndarray) -> np.ndarray:
    """Return `hidden` as (T, channels, sites) in float64."""
    hidden = np.asarray(hidden, dtype=np.float64)
    if hidden.ndim not in (2, 3):
        raise WrnnError(
            f"hidden must be (T, sites) or (T, channels, sites), got shape {hidden.shape}"
        )
    return hidden[:, None, :] if hidden.ndim == 2 else hidden


def _power(hidden: np.ndarray) -> np.ndarray:
    """Return |FFT|^2 over time and sites, averaged over channels: (T, sites), unshifted."""
    return (np.abs(np.fft.fft2(hidden, axes=(0, 2))) ** 2).mean(axis=1)


def space_time_power(
    hidden: np.ndarray,
    *,
    normaliser: str | None = "full",
    shuffles: int = 8,
    generator: np.random.Generator | None = None,
) -> Spectrum:
    """Return the 2-D Fourier power of a hidden state (T, sites) or (T, channels, sites).

    Figure 2 shows power relative to that of a shuffled copy. `normaliser` says which copy:

    * "full": every value of a channel moved to a random time and site; mean of `shuffles` draws.
    * "time": whole time steps in random order, one draw, as in the released code. It leaves the
      mean over time of every site as it was, so power at f_t = 0 is 1 whatever the data.
    * None: no division; power in squared units of the hidden state.
    """
    hidden = _channels(hidden)
    steps, channels, sites = hidden.shape
    power = _power(hidden)
    if normaliser is not None:
        if normaliser not in ("full", "time"):
            raise WrnnError(f'normaliser must be "full", "time" or None, got {normaliser!r}')
        if generator is None:
            raise WrnnError("a shuffled normaliser needs a generator (numpy.random.default_rng)")
        if normaliser == "time":
            reference = _power(hidden[generator.permutation(steps)])
        else:
            flat = hidden.transpose(1, 0, 2).reshape(channels, steps * sites)
            reference = np.zeros_like(power)
            for _ in range(shuffles):
                draw = generator.permuted(flat, axis=1).reshape(channels, steps, sites)
                reference += _power(draw.transpose(1, 0, 2)) / shuffles
        # A constant field has no power to compare outside f = 0; leave it at 0 there.
        floor = 1e-12 * reference.max() if reference.max() > 0 else 1.0
        power = power / np.maximum(reference, floor)
    return Spectrum(
        np.fft.fftshift(power),
        np.fft.fftshift(np.fft.fftfreq(steps)),
        np.fft.fftshift(np.fft.fftfreq(sites)),
    )


@dataclass(frozen=True)
class WaveSpeed:
    """The slope f_t = nu f_x that collects most power, and how much it stands out.

    velocity: nu in sites per step; positive moves activity to lower site numbers, as `shift_` does.
    contrast: mean power on that line over mean power of the plane (1 where there is no wave).
    candidates, line_power: every slope tried, and the mean power on its line over the plane's.
    """

    velocity: float
    contrast: float
    candidates: np.ndarray
    line_power: np.ndarray

    @property
    def is_wave(self) -> bool:
        """Whether activity moves, by a line that stands out 3-fold and is not a still image's."""
        return self.contrast >= 3.0 and abs(self.velocity) >= 0.1


def wave_speed(
    spectrum: Spectrum, *, max_velocity: float = 2.5, step: float = 0.01, max_spatial: float = 0.5
) -> WaveSpeed:
    """Measure the wave speed: the slope nu whose line f_t = nu f_x carries most power.

    Lines are tried from -max_velocity to max_velocity and followed over spatial frequencies
    0 < f_x <= max_spatial (in cycles per site), wrapping in f_t, where sampling at whole steps
    aliases. Power between bins of f_t is interpolated. Each spatial frequency is first divided by
    its own mean over f_t, so that long waves, which carry more power, do not decide alone; the
    line f_x = 0 (activity common to all sites) says nothing of motion and is left out.
    """
    steps = len(spectrum.temporal)
    columns = (spectrum.spatial > 0) & (spectrum.spatial <= max_spatial)
    spatial = spectrum.spatial[columns]
    if not spatial.size:
        raise WrnnError(f"no spatial frequency between 0 and {max_spatial} cycles per site")
    plane = np.fft.ifftshift(spectrum.power[:, columns], axes=0)  # (T, f_x), f_t = 0 first
    mean = plane.mean(axis=0)
    plane = plane / np.where(mean > 0, mean, 1.0)
    count = round(max_velocity / step)
    candidates = np.arange(-count, count + 1) * step
    row = (candidates[:, None] * spatial[None, :]) % 1.0 * steps  # (slopes, f_x)
    below = np.floor(row).astype(int)
    share = row - below
    column = np.arange(len(spatial))[None, :]
    line = (1 - share) * plane[below % steps, column] + share * plane[(below + 1) % steps, column]
    line_power = line.mean(axis=1)
    best = int(line_power.argmax())
    return WaveSpeed(float(candidates[best]), float(line_power[best]), candidates, line_power)


def moving_part(hidden: np.ndarray) -> np.ndarray:
    """Take every site's mean over time off `hidden` (T, ...), and with it all that stands still.

    A still pattern has a line of its own in the spectrum, at slope 0, and where a wave is slow and
    its crests are worn down, that line is the stronger one.
    """
    hidden = np.asarray(hidden, dtype=np.float64)
    return hidden - hidden.mean(axis=0)


def channel_speeds(hidden: np.ndarray) -> list[WaveSpeed]:
    """Measure the speed of the moving part of every channel of `hidden` (T, channels, sites)."""
    moving = moving_part(_channels(hidden))
    return [
        wave_speed(space_time_power(moving[:, [channel]], normaliser=None))
        for channel in range(moving.shape[1])
    ]


def raster_speed(hidden: np.ndarray) -> float:
    """Measure the wave speed in the raster itself: the shift between states some steps apart.

    `hidden` is (T, sites) or (T, channels, sites). States of its moving part that are `lag` steps
    apart are correlated over all shifts along the ring, and the shift that matches best is divided
    by the lag: sites per step, positive towards lower sites, as for `wave_speed`. The lag is 8
    steps, or fewer on a small ring, so that speeds of up to 2 sites per step are told apart. A
    second way to the speed that shares nothing with `wave_speed` but its input.
    """
    hidden = _channels(hidden)
    steps, _, sites = hidden.shape
    lag = max(1, min(8, sites // 4))
    if steps <= lag:
        raise WrnnError(f"{steps} steps are too few to see a shift over {lag} steps")
    waves = np.fft.fft(moving_part(hidden), axis=2)
    match = np.fft.ifft((waves[:-lag] * np.conj(waves[lag:])).sum(axis=(0, 1))).real  # (sites,)
    shift = int(match.argmax())
    return float((shift + sites // 2) % sites - sites // 2) / lag


def sort_by_onset(hidden: np.ndarray, fraction: float = 0.5) -> np.ndarray:
    """Order the sites of `hidden` (T, sites) by when they first become active.

    The onset of a site is the first step at which ``|h|`` reaches `fraction` of that site's own
    maximum; silent sites come last and ties keep their order. Returns indices (sites,). A ring
    has its order built in; the units of an iRNN have none, so Figure 2 sorts them this way.
    """
    size = np.abs(np.asarray(hidden, dtype=np.float64))
    peak = size.max(axis=0)
    onset = np.where(peak > 0, (size >= fraction * peak).argmax(axis=0), len(size))
    return np.argsort(onset, kind="stable")
