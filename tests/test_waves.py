"""The test for waves: how often it errs, what it finds, and what it judges of a record."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import wrnn
from companion.evidence import waves as analysis
from companion.records.files import WEIGHTS, Record
from companion.runs.run import Run, build_model, irnn_config, wrnn_config
from companion.training.onset import sort_by_onset
from companion.training.train import train
from wrnn import WrnnError
from wrnn.tasks import SequentialDigits, SequentialMNIST, data


def travelling(velocity, steps, sites, noise=0.1, seed=0):
    """A bump that moves to lower sites at `velocity` sites per step, and noise: (T, sites)."""
    generator = np.random.default_rng(seed)
    place = (np.arange(sites) + velocity * np.arange(steps)[:, None]) % sites
    bump = np.exp(-(((place - sites / 2) / 2) ** 2))
    return bump + noise * generator.standard_normal((steps, sites))


def judge(hidden, draws=199, seed=1):
    return analysis.wave_test(hidden, generator=np.random.default_rng(seed), draws=draws)


def judge_fields(kind, count, draws=99, **options):
    """Tests of `count` constructed fields of a kind, all drawn from one seed."""
    generator = np.random.default_rng(0)
    return [
        analysis.wave_test(
            analysis.constructed_field(kind, generator=generator, **options),
            generator=generator,
            draws=draws,
        )
        for _ in range(count)
    ]


def test_null_fields_are_rejected_as_rarely_as_stated():
    """200 fields of coloured noise, one spectrum for all sites, sites independent."""
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((32, 200, 2, 1, 16))  # (steps, fields, sequences, 1, sites)
    for step in range(1, 32):
        noise[step] += 0.9 * noise[step - 1]
    tests = [
        analysis.wave_test(field, generator=generator, draws=99)
        for field in noise.transpose(1, 2, 0, 3, 4)
    ]
    p_values = np.array([found.p_value for found in tests])
    assert np.mean(p_values <= 0.05) <= 0.09
    assert 0.4 <= np.mean(p_values <= 0.5) <= 0.6  # nor is the test too shy
    assert p_values.min() >= 1 / 100


@pytest.mark.parametrize("speed", [1.0, -1.0, 0.5, -0.25, 1.5])
def test_a_wave_is_found_with_its_speed_and_sign(speed):
    for found in judge_fields("wave", 5, signal=0.5, speed=speed):  # a fifth of the power
        assert found.is_wave and found.p_value == 0.01 and found.contrast >= 1.0
        assert abs(found.speed - speed) <= 0.03


@pytest.mark.parametrize("kind", ["standing pattern", "bump", "noise"])
@pytest.mark.parametrize("signal", [0.4, 3.0])
def test_what_does_not_travel_is_no_wave(kind, signal):
    """A standing pattern about as strong as the noise beats itself by chance: more fields of it."""
    count = 100 if (kind, signal) == ("standing pattern", 0.4) else 20
    tests = judge_fields(kind, count, draws=49, signal=signal)
    assert np.mean([found.is_wave for found in tests]) <= 0.1
    assert np.mean([found.p_value <= 0.05 for found in tests]) <= 0.2
    assert max(found.contrast for found in tests) < 1.0


def test_one_standing_mode_carries_nothing_and_one_running_mode_all():
    steps, sites = np.arange(64)[:, None], np.arange(32)
    standing = np.cos(2 * np.pi * sites / 8) * np.cos(2 * np.pi * steps / 16)
    running = np.cos(2 * np.pi * (sites / 8 + steps / 16))
    assert judge(standing, 0).contrast < 1e-5
    found = judge(running, 0)
    assert found.speed == 0.5 and found.contrast == pytest.approx(32)  # all power, all sites
    assert found.p_value == 1.0


def test_means_and_sizes_of_sites_do_not_matter():
    hidden = analysis.constructed_field("wave", generator=np.random.default_rng(0), signal=0.4)
    scale, mean = np.random.default_rng(1).uniform(0.1, 10, (2, 32))
    first, second = judge(hidden), judge(hidden * scale + 50 * mean)
    assert second.contrast == pytest.approx(first.contrast, rel=1e-4)
    assert (second.p_value, second.speed) == (first.p_value, first.speed)


def test_mixed_up_sites_are_no_wave():
    """Not more often than stated, though all sites do the same at short delays.

    Rotations alone would err in half of the cases: of a network in any order they are too sure.
    """
    generator, tests = np.random.default_rng(4), []
    for _ in range(60):
        series = np.convolve(generator.standard_normal(300), np.ones(8) / 8, "same")
        delays = generator.permutation(8)
        tests.append(judge(np.stack([series[d : d + 128] for d in delays], axis=1), 49))
    assert np.mean([found.p_value <= 0.05 for found in tests]) > 0.2
    assert np.mean([found.is_wave for found in tests]) <= 0.1
    assert 0.3 <= np.mean([found.mixed_p_value <= 0.5 for found in tests]) <= 0.7


def test_surrogates_keep_what_sequences_have_in_common():
    """Sixteen copies of one field of noise are no more evidence than one."""
    noise = np.random.default_rng(2).standard_normal((64, 1, 32))
    copies = np.stack([noise] * 16)
    assert judge(copies).p_value == pytest.approx(judge(noise).p_value, abs=1e-9)


def test_a_silent_network_is_no_wave():
    assert judge(np.ones((2, 20, 1, 8))) == analysis.WaveTest(0.0, 1.0, 1.0, 0.0, 2)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_network_that_diverged_is_no_wave(wrong):
    hidden = travelling(1.0, 64, 16)
    hidden[50:] = wrong
    found = judge(hidden, draws=19)
    assert (found.is_wave, found.larger_p, found.speed) == (False, 1.0, 0.0)


@pytest.mark.parametrize("velocity", [0.5, 1.0, -1.5])
def test_the_raster_gives_the_same_speed(velocity):
    hidden = travelling(velocity, 64, 32) + 3 * np.random.default_rng(7).random(32)  # and a still
    assert abs(analysis.raster_speed(hidden) - velocity) <= 0.125


def test_channels_of_several_speeds_are_told_apart():
    """Channels of a wRNN as initialised; the slow ones wear their crests down."""
    speeds = [1.0, 0.75, 0.5, 0.25]
    layer = wrnn.WaveRNN(1, 64, len(speeds))
    layer.reset_parameters(velocity=speeds, recurrent_bias="zero")
    spikes = torch.rand(256, 1, 1, generator=torch.Generator().manual_seed(0)) < 0.1
    hidden = layer(spikes.float())[0].detach().view(256, len(speeds), 64).numpy()
    measured = analysis.channel_tests(hidden, generator=np.random.default_rng(0))
    assert [wave.speed for wave in measured] == pytest.approx(speeds, abs=0.06)
    assert all(wave.is_wave for wave in measured)
    rasters = [analysis.raster_speed(hidden[:, channel]) for channel in range(len(speeds))]
    assert rasters == pytest.approx(speeds, abs=0.125)


def record(model, tmp_path, weights=True, **changes):
    """A record of an untrained network on the digits, with what training keeps beside it."""
    run = Run(SequentialDigits(), model, "quick", steps=1)
    built = build_model(model, run.task, torch.Generator().manual_seed(0))
    arrays = {"hidden": np.random.default_rng(0).random((64, 2, 8)).astype(np.float16)}
    if weights:
        arrays |= {WEIGHTS + name: value.numpy() for name, value in built.state_dict().items()}
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)
    made = Record(run, {}, {}, {}, 0.0, "cpu", 1, {}, "", {}, False, trace_path=path)
    return replace(made, **changes), built


def test_hidden_states_come_from_the_stored_weights(tmp_path):
    made, model = record(wrnn_config(8, 6), tmp_path)
    hidden = analysis.hidden_states(made)
    assert hidden.shape == (16, 64, 4, 8)
    x, _ = next(iter(made.run.task.evaluation_batches("test", 16)))
    with torch.no_grad():
        expected = model.rnn(x)[0].view(64, 16, 6, 8).transpose(0, 1).numpy()
    variance = expected.var(axis=1).sum(axis=(0, 2))
    kept = sorted(np.argsort(-variance)[:4])
    assert np.allclose(hidden, expected[:, :, kept])
    speeds = (0.25, 0.25, 0.5, 0.5, 1.0, 1.0)
    made, _ = record(wrnn_config(8, 6, velocity=speeds), tmp_path)
    assert analysis.hidden_states(made).shape == (16, 64, 3, 8)


def test_images_from_elsewhere_are_not_asked_for(tmp_path, monkeypatch):
    """A record says the same on every machine, with MNIST and without."""
    made, _ = record(wrnn_config(8, 6), tmp_path)
    made = replace(made, run=replace(made.run, task=SequentialMNIST()))
    monkeypatch.setattr(data, "mnist", lambda: pytest.fail("MNIST was looked for"))
    assert analysis.hidden_states(made).shape == (1, 64, 2, 8)


def test_without_weights_the_trace_is_judged_and_without_both_nothing(tmp_path):
    made, _ = record(wrnn_config(8, 6), tmp_path, weights=False)
    assert analysis.orders(made)["ring"].shape == (1, 64, 2, 8)
    assert judge(analysis.orders(made)["ring"]).sequences == 1
    assert analysis.orders(replace(made, trace_path=None)) == {}


def test_units_are_sorted_on_other_sequences_than_they_are_tested_on(tmp_path):
    made, model = record(irnn_config(12, input="uniform"), tmp_path)
    orders = analysis.orders(made)
    assert {name: hidden.shape for name, hidden in orders.items()} == {
        "as they come": (16, 64, 1, 12),
        "sorted by onset": (16, 64, 1, 12),
    }
    x, _ = next(iter(made.run.task.evaluation_batches("test", 32)))
    with torch.no_grad():
        later = model.rnn(x[:, 16:])[0].abs().mean(dim=1).numpy()
    order = sort_by_onset(later)
    assert np.allclose(orders["sorted by onset"], orders["as they come"][..., order])
    made, _ = record(irnn_config(12, input="uniform"), tmp_path, weights=False)
    assert list(analysis.orders(made)) == ["as they come"]


def test_a_stored_order_is_that_of_further_sequences(store):
    """Where the task's images are not at hand, as of MNIST, the order in the trace serves."""
    run = Run(SequentialDigits(), irnn_config(12, input="uniform"), "quick", steps=1, trace=True)
    made = train(run, store)
    model, (x, _) = analysis.trained_model(made), next(run.task.evaluation_batches("test", 17))
    with torch.no_grad():
        order = sort_by_onset(model.rnn(x[:, 1:])[0].abs().mean(dim=1).numpy())
    assert made.trace()["order"].tolist() == order.tolist() != sorted(order)
    elsewhere = analysis.orders(replace(made, run=replace(run, task=SequentialMNIST())))
    hidden = elsewhere["as they come"]  # (1, T, 1, 12)
    assert np.array_equal(elsewhere["sorted by onset"], hidden[..., order])


def test_each_normaliser_levels_its_own_axis():
    hidden = travelling(1.0, 64, 32) + np.random.default_rng(5).random(32)
    shuffle = {"normaliser": "time", "generator": np.random.default_rng(0)}
    released = analysis.space_time_power(hidden, **shuffle).power
    sites = analysis.space_time_power(hidden).power
    middle = len(hidden) // 2  # the row of f_t = 0
    assert np.allclose(released[middle], 1.0) and not np.allclose(sites[middle, 1:], 1.0, atol=0.5)
    assert np.allclose(sites.mean(axis=1), 1.0)


def test_power_is_relative_to_the_exact_mean_over_surrogates():
    hidden = travelling(1.0, 16, 8)
    generator = np.random.default_rng(0)

    def power(field):
        return np.fft.fftshift(np.abs(np.fft.fft2(field)) ** 2)

    total, draws = np.zeros((16, 8)), 2000
    for _ in range(draws):
        turned = (np.arange(16)[:, None] + generator.integers(16, size=8)) % 16
        total += power(np.take_along_axis(hidden, turned, axis=0)) / draws
    shown = analysis.space_time_power(hidden).power
    moving = np.arange(16) != 8  # rotations leave f_t = 0 as it is
    assert np.allclose((shown * total / power(hidden))[moving], 1.0, atol=0.14)


def test_axes_of_the_spectrum():
    steps, sites = np.arange(40)[:, None], np.arange(20)
    spectrum = analysis.space_time_power(np.cos(2 * np.pi * (0.1 * sites + 0.25 * steps)))
    row, column = np.unravel_index(spectrum.power.argmax(), spectrum.power.shape)
    peak = spectrum.temporal[row], spectrum.spatial[column]
    assert np.allclose(np.abs(peak), (0.25, 0.1)) and peak[0] * peak[1] > 0


def test_sort_by_onset():
    hidden = np.zeros((10, 4))
    hidden[6:, 0] = 1.0
    hidden[2:, 1] = -3.0
    hidden[6:, 3] = 2.0  # site 2 is silent
    assert sort_by_onset(hidden).tolist() == [1, 0, 3, 2]


ZEROS = np.zeros((20, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: judge(ZEROS[:, :2]), "at least 3 steps and 3 sites"),
        (lambda: judge(ZEROS[0]), "hidden must be"),
        (lambda: judge_fields("tide", 1), "kind must be one of"),
        (lambda: analysis.raster_speed(travelling(1.0, 8, 32)), "8 steps are too few"),
        (lambda: analysis.space_time_power(ZEROS, normaliser="rows"), "normaliser must be"),
        (lambda: analysis.space_time_power(ZEROS, normaliser="time"), "needs a generator"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(WrnnError, match=message):
        call()
