"""What a CPU trains of the paper, in order, and what a choice on the way adds."""

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
from companion.runs.campaign import CHOICE_LAGS, IRNN_VARIANTS, campaign, choose_irnn, scaled
from wrnn import WrnnError

ROOT = Path(__file__).parents[1]


def nothing(run):
    return None


def recorded(loss_of, lags=CHOICE_LAGS):
    """A look-up in which every variant of the iRNN is recorded at some lags."""
    runs = {
        synthetic.copy(lag, model, "paper"): loss_of(model, lag)
        for model in IRNN_VARIANTS
        for lag in lags
    }

    def record_of(run):
        if run not in runs:
            return None
        return make_record(run, curves={"cross_entropy": [[1000, 9.0], [2000, runs[run]]]})

    return record_of


@pytest.mark.parametrize(("name", "epoch"), [("table2", 446), ("table3", 184)])
def test_a_scaled_run_has_fewer_epochs_and_its_drop_after_five_sixths(name, epoch):
    for run in getattr(images, name)("paper"):
        short = scaled(run, 12)
        assert short.steps == 12 * epoch
        assert short.drop_steps == ((10 * epoch,) if run.drop_steps else ())
        assert replace(short, steps=run.steps, drop_steps=run.drop_steps) == run
    with pytest.raises(WrnnError, match="more than the"):
        scaled(run, run.steps // epoch + 1)
    with pytest.raises(WrnnError, match="has no epochs"):
        scaled(synthetic.table1("paper")[0], 2)


@pytest.mark.parametrize("best", IRNN_VARIANTS, ids=lambda model: model.label)
def test_the_variant_with_the_least_validation_loss_over_both_lags_is_chosen(best):
    def loss_of(model, lag):
        if model == best:
            return 1e-3 if lag == CHOICE_LAGS[0] else 0.0  # a loss of zero has no logarithm
        return 1e-4 if lag == CHOICE_LAGS[0] else 1e-1

    assert choose_irnn(recorded(loss_of)) == best
    assert choose_irnn(recorded(loss_of, lags=CHOICE_LAGS[:1])) is None  # it waits for all

    def diverged(run):
        record = recorded(loss_of)(run)
        return replace(record, diverged=run.model == best)

    assert choose_irnn(diverged) not in (best, None)  # the best until it diverged


def test_what_follows_the_choice_appears_once_it_is_made():
    before = campaign(nothing)
    chosen = IRNN_VARIANTS[3]
    after = campaign(recorded(lambda model, lag: 0.1 if model == chosen else 1.0))
    added = [run for run in after if run not in before]
    assert added and {run.model for run in added} == {chosen}
    assert [run for run in after if run in before] == before  # and nothing else moves


def test_every_run_comes_once_at_the_size_of_the_paper():
    runs = campaign(nothing)
    assert len({run.id for run in runs}) == len(runs) > 100
    assert {run.profile for run in runs} == {"paper"}
    for run in runs:
        assert getattr(run.task, "source", "folder") == "folder"
        assert not (run.trace and run.seed)
        assert all(step < run.steps for step in run.drop_steps)


def test_make_campaign_trains_with_several_workers_and_ends_at_a_signal(tmp_path):
    """Two workers on one folder claim different runs; SIGINT to make ends both, with checkpoints.

    The signal goes to the whole group of processes, as from a terminal.
    """
    folder = tmp_path / "records"
    process = subprocess.Popen(
        ["make", "campaign", "WORKERS=2", "TIME_LIMIT=120", f"RECORDS={folder}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "WRNN_RECORDS": str(folder), "PYTHON": sys.executable},
    )
    try:
        end = time.monotonic() + 100
        while len(list(folder.glob("[!.]*.lock"))) < 2:
            assert time.monotonic() < end and process.poll() is None, process.communicate()
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=100)
    assert "0 of" in out and "left" in out
    assert len({line for line in out.splitlines() if line.startswith("training ")}) == 2
    assert not list(folder.glob("*.lock"))
    store = Store(folder)
    stopped = [run for run in campaign(store.find) if store.path(run, ".checkpoint").exists()]
    assert [store.checkpoint(run)["step"] > 0 for run in stopped] == [True, True]
    listing = subprocess.run(["ps", "-s", str(process.pid), "-o", "stat="], capture_output=True)
    assert all(state.startswith(b"Z") for state in listing.stdout.split()), "a worker is left"
