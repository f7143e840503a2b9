"""The wave simulation and its decoder."""

import numpy as np
import pytest

from companion.evidence import memory as analysis
from wrnn import WrnnError

SITES = 24


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
        trains = np.arange(length)[:, None] == row  # (T, inputs)
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
