"""What a CPU trains of the paper, in order, and what a choice on the way adds."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from samples import make_record

from companion.records.files import Store
from companion.runs import images, synthetic
from companion.runs.campaign import (
    CHOICE_LAGS,
    EPOCHS,
    IRNN_VARIANTS,
    campaign,
    choose_irnn,
    scaled,
)
from companion.runs.images import CIFAR_EPOCH, MNIST_EPOCH
from companion.runs.run import Run
from wrnn import WrnnError

ROOT = Path(__file__).parents[1]


def recorded(loss_of, lags=CHOICE_LAGS):
    """A look-up in which every variant of the iRNN is recorded at some lags."""
    runs = {
        synthetic.copy(lag, model, "paper"): loss_of(model, lag)
        for model in IRNN_VARIANTS
        for lag in lags
    }

    def record_of(run: Run):
        if run not in runs:
            return None
        return make_record(run, curves={"cross_entropy": [[1000, 9.0], [2000, runs[run]]]})

    return record_of


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_a_scaled_run_has_fewer_epochs_and_its_drop_after_five_sixths(name):
    for run in getattr(images, name)("paper"):
        short = scaled(run, 12)
        epoch = MNIST_EPOCH if name == "table2" else CIFAR_EPOCH
        assert short.steps == 12 * epoch == 12 * EPOCHS[run.task.name]
        assert short.drop_steps == ((10 * epoch,) if run.drop_steps else ())
        assert replace(short, steps=run.steps, drop_steps=run.drop_steps) == run


def test_only_images_have_epochs_and_never_more_than_planned():
    with pytest.raises(WrnnError, match="has no epochs"):
        scaled(synthetic.table1("paper")[0], 2)
    run = images.table2("paper")[0]
    with pytest.raises(WrnnError, match="more than the"):
        scaled(run, run.steps // MNIST_EPOCH + 1)


def test_the_choice_waits_for_every_variant_at_every_lag():
    assert choose_irnn(lambda run: None) is None
    assert choose_irnn(recorded(lambda model, lag: 1.0, lags=CHOICE_LAGS[:1])) is None


@pytest.mark.parametrize("best", IRNN_VARIANTS, ids=lambda model: model.label)
def test_the_variant_with_the_least_validation_loss_over_both_lags_is_chosen(best):
    def loss_of(model, lag):
        if model == best:
            return 1e-3 if lag == CHOICE_LAGS[0] else 0.0  # a loss of zero has no logarithm
        return 1e-4 if lag == CHOICE_LAGS[0] else 1e-1

    assert choose_irnn(recorded(loss_of)) == best


def test_what_follows_the_choice_appears_once_it_is_made():
    before = campaign(lambda run: None)
    chosen = IRNN_VARIANTS[3]
    after = campaign(recorded(lambda model, lag: 0.1 if model == chosen else 1.0))
    added = [run for run in after if run not in before]
    assert added and {run.model for run in added} == {chosen}
    assert {(run.task.lag, run.seed) for run in added} == {
        (lag, seed)
        for lag in synthetic.COPY_LAGS
        for seed in range(3)
        if seed or lag not in CHOICE_LAGS
    }
    assert [run for run in after if run in before] == before  # and nothing else moves


def test_every_run_comes_once_at_the_size_of_the_paper():
    runs = campaign(lambda run: None)
    assert len({run.id for run in runs}) == len(runs) > 100
    assert {run.profile for run in runs} == {"paper"}
    for run in runs:
        assert getattr(run.task, "source", "folder") == "folder"
        assert not (run.trace and run.seed)
        if run.task.name in EPOCHS and run.drop_steps:
            assert run.drop_steps[0] < run.steps
    assert math.isfinite(sum(run.steps for run in runs))


def test_make_campaign_trains_with_several_workers_and_ends_at_a_signal(tmp_path):
    """Two workers on one folder claim different runs; SIGINT to make ends both, with checkpoints.

    The signal goes to the whole group of processes, as from a terminal.
    """
    folder = tmp_path / "records"
    command = ["make", "campaign", "WORKERS=2", "TIME_LIMIT=120", f"RECORDS={folder}"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "WRNN_RECORDS": str(folder), "PYTHON": sys.executable},
    )
    try:
        end = time.monotonic() + 100
        while len(list(folder.glob("*.lock"))) < 2:
            assert time.monotonic() < end and process.poll() is None, process.communicate()
            time.sleep(0.1)
        time.sleep(2)
    finally:
        os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=100)
    assert "0 of" in out and "left" in out
    assert len({line for line in out.splitlines() if line.startswith("training ")}) == 2
    assert not list(folder.glob("*.lock"))
    assert len(list(folder.glob("*.checkpoint"))) == 2
    store = Store(folder)
    runs = {run.id: run for run in campaign(store.find)}
    for path in folder.glob("*.checkpoint"):
        assert store.checkpoint(runs[path.stem])["step"] > 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no worker is left
