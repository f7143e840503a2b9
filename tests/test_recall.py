"""Capacity, laps and carried-over weights on cases with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import make_record, result_of

from companion.evidence import recall
from companion.records.files import Store
from companion.runs.run import Run, wrnn_config
from companion.training.train import evaluate, train
from wrnn import SequenceModel, WaveRNN, WrnnError
from wrnn.tasks import AddingTask, CopyTask, SequentialDigits

INPUTS = np.random.default_rng(0).random((4000, 24))  # (sequences, T)


def capacity(states, noise=0.0):
    generator = np.random.default_rng(1)
    return recall.memory_capacity(states, INPUTS, noise=noise, generator=generator)


def test_a_shift_register_of_length_n_has_capacity_n():
    found = capacity(INPUTS[:, -8:])
    assert found[:8] == pytest.approx(1, abs=1e-6)
    assert found[8:].max() < 0.01


def test_noise_takes_the_share_of_the_variance_that_it_has():
    found = capacity(INPUTS[:, -8:], noise=0.5)
    assert found[:8] == pytest.approx(1 / (1 + 0.5**2), abs=0.03)


def test_a_ring_of_n_sites_has_capacity_n_spread_over_its_laps():
    """Three laps pile up on every site, so that each delay has a third of the variance."""
    model = SequenceModel(WaveRNN(1, 8, 2, bias=False), 1)
    states = recall.driven_states(model, INPUTS)
    assert states.shape == (4000, 16)
    piled = INPUTS.reshape(-1, 3, 8).sum(axis=1)  # (sequences, sites), in another order
    assert np.sort(states[:, :8]) == pytest.approx(np.sort(piled), abs=1e-5)
    found = capacity(states)  # the second channel is a copy of the first and adds nothing
    assert found == pytest.approx(1 / 3, abs=0.05)
    assert found.sum() == pytest.approx(8, abs=0.3)


def test_a_state_that_does_not_move_or_overflows_holds_nothing():
    assert capacity(np.ones((4000, 3))).sum() == 0
    assert capacity(np.full((4000, 3), np.inf)).sum() == 0
    with pytest.raises(WrnnError, match="one each"):
        capacity(np.ones((50, 3)))


@pytest.mark.parametrize(("gain", "velocity"), [(1.0, 1.0), (0.9, 1.0), (1.0, 0.0)])
def test_a_lap_of_a_known_kernel(gain, velocity):
    layer = WaveRNN(2, 12, 3, bias=False)
    layer.reset_parameters(velocity=velocity)
    with torch.no_grad():
        layer.weight_hh *= gain
    found = recall.one_lap(layer, torch.tensor([1.0, 0.0]), torch.zeros(2))
    assert found.gain == pytest.approx(gain**12, rel=1e-5)
    assert found.speeds == pytest.approx(velocity, abs=1e-5)
    assert len(found.sizes) == 3


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    model = wrnn_config(12, 2)
    run = Run(CopyTask(12), model, "smoke", steps=5, batch_size=8, evaluate_every=5, seed=1)
    store = Store(tmp_path_factory.mktemp("records"))
    train(run, store)
    return store.get(run)


def test_stored_weights_give_the_recorded_metrics_again(record):
    model = recall.trained_model(record)
    found = recall.ask(model, record.run.task)
    for name, value in evaluate(model, record.run, "test", torch.device("cpu")).items():
        assert found[name] == pytest.approx(value, rel=1e-5)
        assert found[name] == pytest.approx(record.metrics[name], rel=1e-5)
    start = record.run.start().state_dict()
    assert any(not torch.equal(start[k], v) for k, v in model.state_dict().items())


def test_other_tasks_are_asked_by_seed_where_weights_are_kept(record):
    without = replace(record, run=replace(record.run, seed=2), trace_path=None)
    result = result_of(record.run, record, without)
    found = recall.asked(result, [CopyTask(12), CopyTask(15)], "token_accuracy")
    assert list(found) == [1]
    assert found[1][0] == pytest.approx(record.metrics["token_accuracy"])
    assert recall.trained_model(without) is None


def test_capacity_and_laps_of_a_result_are_those_of_its_kept_weights(record):
    lap = recall.lap_of_symbols(result_of(record.run, record))
    assert lap["gain"] >= 0 and lap["spread"] >= 0 and abs(lap["speed"]) <= 6
    unkept = result_of(record.run, replace(record, trace_path=None))
    assert recall.lap_of_symbols(unkept) is None


def test_capacity_before_training_needs_no_weights():
    run = Run(SequentialDigits(), wrnn_config(8, 1, recurrent_bias="zero"), "smoke", steps=2)
    result = result_of(run, make_record(run, metrics={"accuracy": 10.0}))
    found = recall.capacities(result, INPUTS, (0.0, 3.0))
    assert set(found) == {("before", 0.0), ("before", 3.0)}
    assert found["before", 0.0][0] == pytest.approx(8, abs=0.3)
    assert found["before", 3.0][0] < 0.3 * found["before", 0.0][0]


COPYING, ADDING = CopyTask(20), AddingTask(30)
COPIED, ADDED = [99.0, 98.0, 97.0], [0.01, 0.02, 0.01]  # of three seeds, where they were trained


@pytest.mark.parametrize(
    ("task", "own", "other", "expected"),
    [
        # Copying carries over where over half of the gain is left.
        (COPYING, COPIED, [95.0, 94.0, 93.0], "carries over"),
        (COPYING, COPIED, [14.0, 13.0, 15.0], "does not carry over"),
        (COPYING, COPIED, [95.0, 14.0, 50.0], "open"),
        (COPYING, COPIED[:1], [95.0], "open"),  # one seed settles nothing
        (COPYING, [13.0, 12.0], [13.0, 12.0], "nothing to carry over"),
        (COPYING, [], [], "not asked, as its weights were not kept"),
        # Adding does where it beats a constant answer.
        (ADDING, ADDED, [0.03, 0.04, 0.03], "carries over"),
        (ADDING, ADDED, [0.03, 0.5, 0.03], "open"),
        (ADDING, ADDED, [1.0, 30.0, 7e7], "does not carry over"),  # far beyond is no spread
        (ADDING, ADDED, [7e7, float("inf"), float("nan")], "does not carry over"),
        (ADDING, [0.01, 0.17, 0.01], [0.03, 7e7, 0.03], "carries over"),  # of those that learned
        (ADDING, ADDED, [1.0, 1.2, 0.9], "does not carry over"),
        (ADDING, [0.17, 0.16, 0.17], ADDED, "nothing to carry over"),
    ],
)
def test_what_carries_over(task, own, other, expected):
    run = Run(task, wrnn_config(12, 2), "smoke", steps=2)
    at, far = (task.lag, task.lag + 1) if task is COPYING else (task.length, 4 * task.length)
    scores = {s: {at: a, far: b} for s, (a, b) in enumerate(zip(own, other, strict=True))}
    assert recall.carries_over(result_of(run), scores)[0] == expected


def test_networks_are_asked_around_their_own_lag_and_a_lap_beyond(record):
    result = result_of(record.run, record)
    (row,) = recall.elsewhere(result, sites=12).values()
    assert {11, 12, 13, 23, 24, 25} <= row.keys()
    own = recall.asked(result, [CopyTask(12, test_batches=2)], "token_accuracy")
    assert row[12] == pytest.approx(own[1][0])
