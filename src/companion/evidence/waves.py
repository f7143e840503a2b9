"""Whether waves travel through a hidden state, and how fast (Figures 2, 10 and 18 of the paper).

One measure for every model and control: the power that travels along f_t = nu f_x, against
surrogates in which every site is rotated in time by itself (`wave_test`). It is applied to fields
made up for the purpose and to the hidden states of recorded networks. NumPy and SciPy, with every
random draw from an explicit generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from companion.evidence.recall import trained_model
from companion.records.files import Record
from companion.training.onset import ONSET_SEQUENCES, sort_by_onset
from wrnn.errors import WrnnError
from wrnn.tasks.images import DigitsTask, ImageTask

SEQUENCES = 16  # test sequences that a network is judged on
MOST_CHANNELS = 4  # channels of a network that are looked at: those whose activity varies most
BY_ONSET = "sorted by onset"  # an order of units that is found on other sequences
MOST_ROWS = 64  # temporal frequencies that `wave_test` looks at
MOST_SPEED, SPEED_STEP = 2.0, 0.01  # sites per step: the fastest speed tried, and their distance


@dataclass(frozen=True)
class Spectrum:
    """Space-time Fourier power, zero frequency in the middle of both axes.

    power (T, sites); temporal (T,) in cycles per step; spatial (sites,) in cycles per site.
    """

    power: np.ndarray
    temporal: np.ndarray
    spatial: np.ndarray


def _sequences(hidden: np.ndarray) -> np.ndarray:
    """Return `hidden` as (sequences, T, channels, sites) in float64."""
    hidden = np.asarray(hidden, dtype=np.float64)
    shapes = {2: np.s_[None, :, None, :], 3: np.s_[None], 4: np.s_[:]}
    if hidden.ndim not in shapes:
        raise WrnnError(
            "hidden must be (T, sites), (T, channels, sites) or (sequences, T, channels, sites), "
            f"got shape {hidden.shape}"
        )
    return hidden[shapes[hidden.ndim]]


def moving_part(hidden: np.ndarray) -> np.ndarray:
    """Return `hidden` (see `wave_test`) as (sequences, T, channels, sites), standardised by site.

    Every site's mean over time is taken off in each sequence, and with it all that stands still;
    what is left is divided by its standard deviation, so that a few loud sites do not decide alone.
    Sites that do nothing stay at zero.
    """
    hidden = _sequences(hidden)
    hidden = hidden - hidden.mean(axis=1, keepdims=True)
    size = hidden.std(axis=(0, 1))  # (channels, sites)
    return hidden / np.where(size > 1e-9 * size.max(), size, np.inf)


def space_time_power(
    hidden: np.ndarray,
    *,
    normaliser: str = "sites",
    generator: np.random.Generator | None = None,
) -> Spectrum:
    """Return the 2-D Fourier power of `hidden` (see `wave_test`), mean of sequences and channels.

    `normaliser` says what it is relative to:

    * "sites": its mean over f_x at each f_t, which is what it is on average where every site has
      its own series but the sites nothing to do with one another.
    * "time": that of a copy with whole time steps in random order, one draw, as in the released
      code. It leaves the mean over time of every site as it was, so power at f_t = 0 is 1 whatever
      the data. Needs a `generator`.
    """
    hidden = _sequences(hidden)
    _, steps, _, sites = hidden.shape

    def power(hidden: np.ndarray) -> np.ndarray:
        return (np.abs(np.fft.fft2(hidden, axes=(1, 3))) ** 2).mean(axis=(0, 2))

    shown = power(hidden)
    if normaliser == "time":
        if generator is None:
            raise WrnnError("a shuffled normaliser needs a generator (numpy.random.default_rng)")
        reference = power(hidden[:, generator.permutation(steps)])
    elif normaliser == "sites":
        reference = shown.mean(axis=1, keepdims=True)
    else:
        raise WrnnError(f'normaliser must be "sites" or "time", got {normaliser!r}')
    # A field has nothing to compare where it has no power; leave it at 0 there.
    shown = shown / np.maximum(reference, 1e-12 * reference.max() or 1.0)
    frequencies = (np.fft.fftshift(np.fft.fftfreq(count)) for count in (steps, sites))
    return Spectrum(np.fft.fftshift(shown), *frequencies)


@dataclass(frozen=True)
class WaveTest:
    """The speed at which most power travels, and how far that is from chance; see `wave_test`.

    Attributes:
        contrast: net power along f_t = speed f_x, over the mean power of the surrogates; 0 where
            nothing travels, and at most the number of sites.
        p_value: (1 + surrogates that stand out as much) / (1 + surrogates), each with every site
            rotated in time by itself.
        mixed_p_value: the same where the sites are in random order instead, and their series kept.
        speed: in sites per step; positive moves activity to lower site numbers, as `shift_` does.
        sequences: how many the test pooled.
    """

    contrast: float
    p_value: float
    mixed_p_value: float
    speed: float
    sequences: int

    @property
    def larger_p(self) -> float:
        """The larger of both p-values, which decides.

        Rotations alone are too quick with a network of any order: its delays are short against the
        sequence, and those of rotated sites are not.
        """
        return max(self.p_value, self.mixed_p_value)

    @property
    def is_wave(self) -> bool:
        """Whether chance explains the contrast in at most 5 % of cases, by either surrogate."""
        return self.larger_p <= 0.05


def _lines(temporal: np.ndarray, sites: int, speeds: np.ndarray):
    """Sparse matrix (speeds, rows * columns) that averages a plane along f_t = nu f_x.

    The plane has a row for each of the `temporal` frequencies and a column for 0 to sites // 2
    waves on the ring, between which it is interpolated. Sampling at whole steps aliases: where the
    line has left the band at f_t = 1/2, it goes on at f_t - 1, the mirror image of 1 - f_t.
    """
    from scipy.sparse import coo_array

    columns, entries = sites // 2 + 1, []
    speed, row = np.indices((len(speeds), len(temporal)))
    for sign, frequency in ((1, temporal), (-1, 1 - temporal)):
        waves = sites * frequency[row] / speeds[speed]
        below = np.floor(waves).astype(int)
        for column, share in ((below, below + 1 - waves), (below + 1, waves - below)):
            inside = (waves <= sites / 2) & (column < columns)
            weight = sign * share[inside] / len(temporal)
            entries.append((weight, speed[inside], (row * columns + column)[inside]))
    weight, speed, cell = map(np.concatenate, zip(*entries, strict=True))
    return coo_array((weight, (speed, cell)), (len(speeds), len(temporal) * columns)).tocsr()


def wave_test(
    hidden: np.ndarray,
    *,
    generator: np.random.Generator,
    draws: int = 999,
) -> WaveTest:
    """Ask whether activity travels, how fast and which way, against rotated surrogates.

    A pattern that moves at nu sites per step has its power at f_t = nu f_x, one that moves the
    other way at f_t = -nu f_x, and one that stands has as much of it at both. So the statistic is
    the power along the line less that along its mirror image. At each f_t it is taken over the
    power of all f_x, which is its exact mean over the surrogates, and averaged over the f_t that
    together carry 99 % of the power (the strongest 64 at most, which every line crosses often
    enough). The speed is the one, up to `MOST_SPEED` either way, at which this net power over the
    root of the sum of both lines is largest: chance varies as that root, also where a standing
    pattern is strong. The data and every surrogate are searched alike, and compared by that ratio.

    In a surrogate the series of every site is rotated in time by steps of its own, the same in all
    sequences and channels. This keeps each site's spectrum and what sequences and channels have in
    common, so that they do not count as independent evidence, and undoes any order between sites.
    In as many others the sites change places instead, which keeps the delays between them too.
    What is tested is the `moving_part`, always.

    Args:
        hidden: (T, sites), (T, channels, sites) or (sequences, T, channels, sites).
        draws: number of surrogates of each kind; with 0 both p-values are 1.
    """
    from scipy import fft

    hidden = _sequences(hidden)
    count, steps, _, sites = hidden.shape
    if steps < 3 or sites < 3:
        raise WrnnError(f"a wave needs at least 3 steps and 3 sites, got {steps} and {sites}")
    if not np.isfinite(hidden).all():  # a network that diverged
        return WaveTest(0.0, 1.0, 1.0, 0.0, count)
    hidden = moving_part(hidden)
    spectra = np.fft.rfft(hidden, axis=1)[:, 1 : (steps + 1) // 2]  # without 0 and 1/2
    power = (np.abs(spectra) ** 2).sum(axis=(0, 2, 3))  # (f_t,)
    if not power.any():
        return WaveTest(0.0, 1.0, 1.0, 0.0, count)
    order = np.argsort(-power, kind="stable")
    enough = int((np.cumsum(power[order]) < 0.99 * power.sum()).sum()) + 1
    rows = np.sort(order[: min(enough, MOST_ROWS)])
    spectra = (spectra[:, rows] / np.sqrt(power[rows])[:, None, None]).transpose(2, 1, 0, 3)
    spectra = spectra.astype(np.complex64)  # (channels, rows, sequences, sites)
    rows = rows + 1  # cycles in all steps
    speeds = SPEED_STEP * np.arange(1, round(MOST_SPEED / SPEED_STEP) + 1)
    lines = _lines(rows / steps, sites, speeds)
    unsigned = abs(lines)
    forth, scratch = np.arange(sites // 2 + 1), np.empty_like(spectra)

    def along_lines(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # overwrites it
        waves = fft.fft(field, axis=-1, overwrite_x=True)
        power = (waves.real**2 + waves.imag**2).sum(axis=(0, 2))  # (rows, sites)
        net = lines @ (power[:, forth] - power[:, -forth]).ravel()  # (speeds,)
        both = unsigned @ (power[:, forth] + power[:, -forth]).ravel()
        return net, np.abs(net) / np.sqrt(np.maximum(both, 1e-9))

    net, score = along_lines(spectra.copy())
    best = int(score.argmax())
    roots = np.exp(-2j * np.pi * np.arange(steps) / steps).astype(np.complex64)
    rotated = mixed = 0
    for _ in range(draws):
        phases = roots[rows[:, None] * generator.integers(steps, size=sites) % steps]
        np.multiply(spectra, phases[:, None], out=scratch)  # phases (rows, sites)
        rotated += int(along_lines(scratch)[1].max() >= score[best])
        np.take(spectra, generator.permutation(sites), axis=-1, out=scratch, mode="clip")
        mixed += int(along_lines(scratch)[1].max() >= score[best])
    p_values = ((1 + count) / (1 + draws) for count in (rotated, mixed))
    speed = speeds[best] * np.sign(net[best])
    return WaveTest(float(abs(net[best])), *p_values, float(speed), count)


def channel_tests(hidden: np.ndarray, *, generator: np.random.Generator) -> list[WaveTest]:
    """Test every channel of `hidden` (..., channels, sites) by itself."""
    channels = np.shape(hidden)[-2]
    return [wave_test(hidden[..., [c], :], generator=generator) for c in range(channels)]


FIELDS = ("wave", "standing pattern", "bump", "noise")


def constructed_field(
    kind: str,
    *,
    generator: np.random.Generator,
    signal: float = 1.0,
    speed: float = 1.0,
    shape: tuple[int, int, int] = (4, 64, 32),
) -> np.ndarray:
    """Make a field (sequences, T, 1, sites) of which it is known whether it is a wave.

    "wave": eight random modes of the ring that all travel at `speed`. "standing pattern": the same
    modes, each as much one way as the other. "bump": one bump that stays and grows and shrinks as
    a whole, as a random walk drawn to zero. "noise": a wave of which every site is rotated in time
    by itself, so that the spectra are the wave's. White noise of standard deviation 1 is added to
    all; `signal` is that of the rest.
    """
    count, steps, sites = shape
    if kind not in FIELDS:
        raise WrnnError(f"kind must be one of {', '.join(FIELDS)}, got {kind!r}")
    time, place = np.arange(steps)[:, None, None], np.arange(sites)[:, None]
    if kind == "bump":
        course = generator.standard_normal((count, steps))
        for step in range(1, steps):
            course[:, step] += 0.9 * course[:, step - 1]
        field = course[..., None] * np.exp(np.cos(2 * np.pi * np.arange(sites) / sites) / 0.1 - 10)
    else:
        turns = np.arange(1, 9) / sites
        phase = generator.uniform(0, 2 * np.pi, (2, count, 1, 1, len(turns)))
        field = np.cos(2 * np.pi * (place + speed * time) * turns + phase[0])
        if kind == "standing pattern":
            field = field + np.cos(2 * np.pi * (place - speed * time) * turns + phase[1])
        field = field.sum(axis=-1)  # (sequences, T, sites)
    if kind == "noise":
        turned = (np.arange(steps)[:, None] + generator.integers(steps, size=sites)) % steps
        field = np.take_along_axis(field, turned[None], axis=1)
    field = signal * field / field.std() + generator.standard_normal(field.shape)
    return field[:, :, None]


def hidden_states(record: Record, count: int = SEQUENCES) -> np.ndarray | None:
    """Return what a recorded network does with test sequences: (sequences, T, channels, sites).

    From stored weights, the first `count` of its task's test sequences and, of a wRNN, the channels
    whose activity varies most: four, or one for every speed that channels start at. From the
    stored trace, its one sequence and channels, where no weights are stored, and of a task on MNIST
    or CIFAR10: a record says the same where these are at hand and where not. None without either.
    """
    model, config, task = trained_model(record), record.run.model, record.run.task
    if model is None or (isinstance(task, ImageTask) and not isinstance(task, DigitsTask)):
        trace = record.trace() or {}
        return _sequences(trace["hidden"]) if "hidden" in trace else None
    with torch.no_grad():
        x, _ = next(task.evaluation_batches("test", count))
        states = model.rnn(x)[0].numpy()  # (T, sequences, hidden)
    states = states.reshape(*states.shape[:2], config.num_channels, -1).swapaxes(0, 1)
    busiest = np.argsort(-states.var(axis=1).sum(axis=(0, 2)), kind="stable")
    if isinstance(config.velocity, tuple):
        kept = {config.velocity[channel]: channel for channel in busiest[::-1]}.values()
    else:
        kept = busiest[:MOST_CHANNELS]
    return _sequences(states[:, :, sorted(kept)])


def orders(record: Record) -> dict[str, np.ndarray]:
    """Return the hidden states to test, (sequences, T, channels, sites), by the order of sites.

    A ring has its order. The units of an iRNN are tested "as they come" and "sorted by onset" as
    in the paper. Sorting draws a front by itself where the same data are then tested, so the order
    is found on 16 further test sequences, or was when the trace was stored; a trace from before
    orders were stored lacks that entry. Gated models have no order to speak of, and give nothing.
    """
    kind = record.run.model.kind
    ring = kind in ("wrnn", "local")
    if not ring and kind != "irnn":
        return {}
    hidden = hidden_states(record, SEQUENCES if ring else SEQUENCES + ONSET_SEQUENCES)
    if hidden is None:
        return {}
    if ring:
        return {"ring": hidden}
    found = {"as they come": hidden[:SEQUENCES]}
    if len(hidden) > SEQUENCES:
        order = sort_by_onset(np.abs(hidden[SEQUENCES:, :, 0]).mean(axis=0))
    else:
        order = (record.trace() or {}).get("order")
    if order is not None:
        found[BY_ONSET] = hidden[:SEQUENCES, :, :, order]
    return found


def raster_speed(hidden: np.ndarray) -> float:
    """Measure the wave speed in the raster itself: the shift between states some steps apart.

    States of the `moving_part` that are `lag` steps apart are correlated over all shifts along the
    ring, and the shift that matches best is divided by the lag: sites per step, positive towards
    lower sites. The lag is 8 steps, or fewer on a small ring, so that speeds of up to 2 sites per
    step are told apart. A second way to the speed that shares nothing with `wave_test` but its
    input.
    """
    hidden = moving_part(hidden)
    _, steps, _, sites = hidden.shape
    lag = max(1, min(8, sites // 4))
    if steps <= lag:
        raise WrnnError(f"{steps} steps are too few to see a shift over {lag} steps")
    waves = np.fft.fft(hidden, axis=3)
    shared = (waves[:, :-lag] * np.conj(waves[:, lag:])).sum(axis=(0, 1, 2))
    match = np.fft.ifft(shared).real  # (sites,)
    shift = int(match.argmax())
    return float((shift + sites // 2) % sites - sites // 2) / lag
