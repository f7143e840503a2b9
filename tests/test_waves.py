"""The wave simulation, its decoder and the speed of waves in a hidden state."""

import numpy as np
import pytest
import torch

import wrnn
from companion.evidence import waves as analysis
from wrnn import WrnnError

SITES = 24


def travelling(velocity, steps, sites, noise=0.1, seed=0):
    """A bump that moves to lower sites at `velocity` sites per step, and noise: (T, sites)."""
    generator = np.random.default_rng(seed)
    place = (np.arange(sites) + velocity * np.arange(steps)[:, None]) % sites
    bump = np.exp(-(((place - sites / 2) / 2) ** 2))
    return bump + noise * generator.standard_normal((steps, sites))


def test_shift_moves_one_site_per_step_and_returns_after_a_lap():
    bump = np.arange(SITES, dtype=float)
    state = bump
    for step in range(1, SITES + 1):
        state = analysis.shift_matrix(SITES) @ state
        assert np.array_equal(state, np.roll(bump, -step))
    assert np.array_equal(state, bump)


def test_fractional_shift_spreads_by_its_kernel():
    state = np.zeros(SITES)
    state[5] = 1.0
    state = analysis.shift_matrix(SITES, 0.25) @ state
    assert state[5] == 0.75 and state[4] == 0.25 and state.sum() == 1.0
    with pytest.raises(WrnnError, match="between 0 and 1"):
        analysis.shift_matrix(SITES, 1.5)


@pytest.mark.parametrize("make", [analysis.wave_field, analysis.bump_field])
def test_final_states_are_those_of_the_simulation(make):
    field, length = make(SITES), 40
    onsets = analysis.draw_onsets(5, length, generator=np.random.default_rng(1))
    final = analysis.final_states(field, onsets, length)
    for row, state in zip(onsets, final, strict=True):
        trains = analysis.spike_trains(row, length)
        assert trains.sum() == (row >= 0).sum()
        assert np.allclose(analysis.simulate(field, trains)[-1], state, atol=1e-12)


def test_wave_moves_and_bump_stays():
    spikes = np.zeros((6, 3))
    spikes[0, 1] = 1.0
    source = SITES + SITES // 2  # the middle of the second ring
    wave = analysis.simulate(analysis.wave_field(SITES), spikes)
    bump = analysis.simulate(analysis.bump_field(SITES), spikes)
    assert wave.argmax(axis=1).tolist() == [source - step for step in range(6)]
    assert bump.argmax(axis=1).tolist() == [source] * 6
    assert np.array_equal(wave.sum(axis=1), np.ones(6))


def errors(field, length, **options):
    return analysis.decoding_error(field, length, generator=np.random.default_rng(0), **options)


@pytest.mark.parametrize("length", [12, SITES])
def test_wave_is_decoded_without_error_within_a_lap(length):
    assert errors(analysis.wave_field(SITES), length) == analysis.DecodingError(0.0, 0.0, 0.0, 0.0)


def test_bump_keeps_the_channel_and_loses_the_onset():
    error = errors(analysis.bump_field(SITES), SITES)
    chance = errors(analysis.wave_field(SITES), SITES, shuffled=True)
    assert error.channel == 0.0
    assert abs(error.onset - (1 - 1 / SITES)) < 0.02
    assert abs(error.onset - chance.onset) < 0.02
    assert abs(chance.channel - 0.25) < 0.02


@pytest.mark.parametrize("laps", [2, 3])
def test_beyond_a_lap_the_lap_is_lost_but_not_the_place_in_it(laps):
    error = errors(analysis.wave_field(SITES), laps * SITES)
    assert abs(error.onset - (1 - 1 / laps)) < 0.03
    assert error.onset_in_lap == 0.0 and error.channel == 0.0


def test_a_shared_ring_holds_a_third_of_the_time():
    assert errors(analysis.shared_wave_field(SITES), SITES // 3).onset == 0.0
    assert errors(analysis.shared_wave_field(SITES), SITES).onset > 0.4


@pytest.mark.parametrize("steps, sites", [(64, 32), (200, 50)])
@pytest.mark.parametrize("velocity", [0.5, 1.0, 2.0, -1.0])
def test_speed_of_a_synthetic_wave(velocity, steps, sites):
    hidden = travelling(velocity, steps, sites)
    spectrum = analysis.space_time_power(hidden, generator=np.random.default_rng(0))
    speed = analysis.wave_speed(spectrum)
    assert speed.is_wave and speed.contrast > 10
    assert abs(speed.velocity - velocity) <= 0.02


@pytest.mark.parametrize("velocity", [0.5, 1.0, -1.5])
def test_the_raster_gives_the_same_speed(velocity):
    hidden = travelling(velocity, 64, 32) + 3 * np.random.default_rng(7).random(32)  # and a still
    assert abs(analysis.raster_speed(hidden) - velocity) <= 0.125
    both = np.stack([hidden, hidden], axis=1)
    assert analysis.raster_speed(both) == analysis.raster_speed(hidden)
    with pytest.raises(WrnnError, match="8 steps are too few"):
        analysis.raster_speed(hidden[:8])


def test_channels_of_several_speeds_are_told_apart():
    """Channels of a wRNN as initialised; the slow ones wear their crests down."""
    speeds = [1.0, 0.75, 0.5, 0.25]
    layer = wrnn.WaveRNN(1, 64, len(speeds))
    layer.reset_parameters(velocity=speeds, recurrent_bias="zero")
    spikes = torch.rand(128, 1, 1, generator=torch.Generator().manual_seed(0)) < 0.1
    hidden = layer(spikes.float())[0].detach().view(128, len(speeds), 64).numpy()
    measured = analysis.channel_speeds(hidden)
    assert [wave.velocity for wave in measured] == pytest.approx(speeds, abs=0.06)
    assert all(wave.is_wave for wave in measured)
    for channel, speed in enumerate(speeds):
        assert abs(analysis.raster_speed(hidden[:, channel]) - speed) <= 0.125


def test_a_still_pattern_has_no_moving_part():
    still = np.ones((64, 1)) * np.random.default_rng(0).random(32)
    assert np.abs(analysis.moving_part(still)).max() < 1e-12
    wave = travelling(0.5, 64, 32)
    assert analysis.channel_speeds(wave + 50 * still)[0].velocity == pytest.approx(0.5, abs=0.02)


def test_speed_of_several_channels_is_that_of_their_mean_power():
    hidden = np.stack([travelling(1.0, 64, 32, seed=seed) for seed in range(3)], axis=1)
    generator = np.random.default_rng(0)
    together = analysis.space_time_power(hidden, normaliser=None)
    each = [analysis.space_time_power(hidden[:, c], normaliser=None).power for c in range(3)]
    assert np.allclose(together.power, np.mean(each, axis=0), rtol=1e-12)
    assert analysis.wave_speed(analysis.space_time_power(hidden, generator=generator)).is_wave


@pytest.mark.parametrize("seed", range(5))
def test_noise_sorted_noise_and_still_images_are_no_waves(seed):
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((64, 64))
    still = np.ones((64, 1)) * generator.random(64) + 0.1 * noise
    for hidden in (noise, noise[:, analysis.sort_by_onset(noise)], still):
        speed = analysis.wave_speed(analysis.space_time_power(hidden, generator=generator))
        assert not speed.is_wave
    assert abs(speed.velocity) < 0.1 and speed.contrast > 3  # still: a line, but it does not move


def test_normalisers_differ_where_they_should():
    hidden = travelling(1.0, 64, 32) + np.random.default_rng(5).random(32)
    spectra = {
        name: analysis.space_time_power(
            hidden, normaliser=name, generator=np.random.default_rng(0)
        ).power
        for name in ("full", "time")
    }
    middle = len(hidden) // 2  # the row of f_t = 0
    assert np.allclose(spectra["time"][middle], 1.0)
    assert not np.allclose(spectra["full"][middle, 1:], 1.0, atol=0.5)
    again = analysis.space_time_power(hidden, generator=np.random.default_rng(0)).power
    assert np.array_equal(again, spectra["full"])


def test_noise_has_power_one_after_full_normalisation():
    noise = np.random.default_rng(0).standard_normal((128, 64))
    power = analysis.space_time_power(noise, generator=np.random.default_rng(1), shuffles=40).power
    assert abs(power.mean() - 1.0) < 0.05


def test_axes_of_the_spectrum():
    steps, sites = np.arange(40)[:, None], np.arange(20)
    hidden = np.cos(2 * np.pi * (0.1 * sites + 0.25 * steps))
    spectrum = analysis.space_time_power(hidden, normaliser=None)
    row, column = np.unravel_index(spectrum.power.argmax(), spectrum.power.shape)
    peak = spectrum.temporal[row], spectrum.spatial[column]
    assert np.allclose(np.abs(peak), (0.25, 0.1)) and peak[0] * peak[1] > 0


def test_sort_by_onset():
    hidden = np.zeros((10, 4))
    hidden[6:, 0] = 1.0
    hidden[2:, 1] = -3.0
    hidden[6:, 3] = 2.0  # site 2 is silent
    assert analysis.sort_by_onset(hidden).tolist() == [1, 0, 3, 2]


def test_bad_input_is_one_clear_error():
    with pytest.raises(WrnnError, match="hidden must be"):
        analysis.space_time_power(np.zeros(5))
    with pytest.raises(WrnnError, match="normaliser must be"):
        analysis.space_time_power(np.zeros((5, 5)), normaliser="rows")
    with pytest.raises(WrnnError, match="needs a generator"):
        analysis.space_time_power(np.zeros((5, 5)))
    with pytest.raises(WrnnError, match="no spatial frequency"):
        analysis.wave_speed(analysis.space_time_power(np.zeros((5, 1)), normaliser=None))
