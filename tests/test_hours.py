"""The estimate of a GPU's hours, with compiled code of round numbers."""

import re
from dataclasses import replace

import pytest
from samples import COPY

from companion import hours
from companion.runs.experiments import EXPERIMENTS, plan
from companion.runs.run import ModelConfig, irnn_config, wrnn_config
from companion.training.queue import REPLICAS, in_groups

WAVE = replace(COPY, model=wrnn_config(100, 6), batch_size=132, steps=100, evaluate_every=10**9)


@pytest.fixture
def compiled(monkeypatch):
    """Replace the compiler: a step takes 1,980 cycles, a microsecond; returns what it was asked."""
    asked = []

    def kernels_of(*arguments):
        asked.append(arguments)
        kernel = {"registers": 30_000, "shared": 1_000, "cycles": 990}
        return {"forward": kernel, "backward": kernel}

    monkeypatch.setattr(hours, "kernels_of", kernels_of)
    hours._wave.cache_clear()
    yield asked
    hours._wave.cache_clear()


def rest(run):
    """Seconds of a step outside the recurrence, without those that others can fill."""
    return 4 * run.task.length * run.batch_size * 600 / hours.BANDWIDTH


def test_one_run_waits_and_several_fill_each_others_waits(compiled):
    bound = WAVE.task.length * 1e-6
    alone = hours.WAITING * bound + rest(WAVE) + hours.OVERHEAD
    assert hours.group_seconds([WAVE]) == pytest.approx([100 * alone])
    assert compiled == [(100, 6, 3, -10, 10, "ieee", 90)]
    many = 20
    shares = hours.group_seconds([WAVE] * many)
    assert shares == pytest.approx([100 * (bound + rest(WAVE))] * many)
    assert sum(hours.group_seconds([WAVE] * 2)) < 2 * 100 * alone


def test_a_group_goes_on_without_the_run_that_ends(compiled):
    short, long = hours.group_seconds([replace(WAVE, steps=50), WAVE])
    together = sum(hours.group_seconds([replace(WAVE, steps=50)] * 2))
    (alone,) = hours.group_seconds([replace(WAVE, steps=50)])
    assert short == pytest.approx(together / 2)
    assert long == pytest.approx(together / 2 + alone)


def test_twice_as_many_samples_as_fit_take_twice_as_long(compiled):
    twice = replace(WAVE, batch_size=2 * WAVE.batch_size)  # two fit on a multiprocessor
    four = replace(WAVE, batch_size=4 * WAVE.batch_size)
    alone = [hours._step(run)[0] - rest(run) - hours.OVERHEAD for run in (WAVE, twice, four)]
    assert alone == pytest.approx([alone[0], alone[0], 2 * alone[0]])


def test_other_layers_take_at_least_what_their_kernels_do():
    for model, least in (
        (irnn_config(100), hours.LIBRARY_STEP),
        (ModelConfig("lstm", 8), hours.LIBRARY_STEP),
        (ModelConfig("local", 8, 2), hours.LOOP_STEP),
    ):
        alone, busy = hours._step(replace(WAVE, model=model))
        assert alone >= max(busy, least * WAVE.task.length)
    large, small = (hours._step(replace(WAVE, model=irnn_config(n)))[1] for n in (5000, 500))
    assert large > 50 * small


def test_every_experiment_is_listed_and_called_an_estimate(compiled):
    said = []
    total = hours.estimate(EXPERIMENTS.values(), "paper", 1, said.append)
    assert said[0].startswith("An estimate") and "nothing of it is measured" in said[0]
    rows = {
        m[1]: (int(m[2]), float(m[3]))
        for line in said
        if (m := re.fullmatch(r"(\w+) +(\d+) runs +([0-9.]+) h", line))
    }
    planned = plan(EXPERIMENTS.values(), "paper", 1)
    assert sum(count for count, _ in rows.values()) == len(planned)
    assert sum(value for _, value in rows.values()) == pytest.approx(total, abs=0.3)
    assert rows["table1"][1] > 0 and f"all together {total:.1f} h" in said[-2]
    other = sum(run.model.kind == "lru" or run.model.depth > 0 for run in planned)
    assert said[-1] == f"8 runs at a time, without {other} runs of other layers"


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_trains_together_fits_on_a_gpu_of_80_gb(seeds):
    """With room for the states of a step four times over: gradients, readout, workspaces."""
    for group in in_groups(plan(EXPERIMENTS.values(), "paper", seeds), REPLICAS["cuda"]):
        states = sum(
            4 * run.task.length * run.batch_size * run.model.size * run.model.num_channels
            for run in group
        )
        assert 4 * states < 80e9


def test_runs_that_train_side_by_side_are_validated_one_after_the_other(compiled):
    often = replace(WAVE, evaluate_every=1)
    one, three = (
        sum(hours.group_seconds([often] * k)) - sum(hours.group_seconds([WAVE] * k)) for k in (1, 3)
    )
    assert one > 0 and three == pytest.approx(3 * one)
