"""Small runs, records of runs never trained, and steps of training, for several test modules."""

from dataclasses import replace

import torch

from companion.records.files import Record, Store
from companion.records.table import Result, gather
from companion.runs.experiments import Experiment
from companion.runs.run import Run, wrnn_config
from companion.training.step import Replicas
from companion.training.train import RunInTraining
from wrnn.tasks import AddingTask, CopyTask

COPY = Run(
    CopyTask(10, test_batches=1, test_batch_size=8),
    wrnn_config(12, 2),
    "smoke",
    steps=30,
    batch_size=8,
    clip=1.0,
    drop_steps=(12,),
    log_every=5,
    evaluate_every=10,
)
SETTLING = Run(  # reaches the paper's 0.05 within its steps
    AddingTask(4, test_batch_size=200),
    wrnn_config(8, 4),
    "smoke",
    steps=400,
    batch_size=64,
    learning_rate=5e-3,
    clip=1.0,
    log_every=20,
    evaluate_every=20,
)


def make_record(run: Run = COPY, **changes) -> Record:
    """Make a record of a run; `changes` are fields of it."""
    values = dict(
        run=run,
        metrics={"cross_entropy": 0.25, "mse": None},
        curves={"loss": [[1, 2.0], [3, 0.5]]},
        parameters={"with_biases": 10, "without_biases": 8},
        seconds=60.0,
        device="CPU: test",
        threads=1,
        versions={"torch": "2"},
        commit="abc",
        data={"sha256": "0"},
        diverged=False,
    )
    return Record(**{**values, **changes})


def result_of(run: Run, *records: Record) -> Result:
    """Return the one configuration of a run, whatever its seed, from some records."""
    planned = replace(run, seed=0)
    return gather(Experiment("x", "X", "08_beyond", lambda _: [planned]), run.profile, records)[0]


def advance(member: RunInTraining, until: int | None = None) -> RunInTraining:
    """Take steps as training does, to a step or to the end."""
    group = Replicas([member])
    while member.stopped is None and member.step != until:
        group.take_step()
        if member.at_log:
            member.log()
    return member


def leave_checkpoint(run: Run, store: Store, step: int, device: str = "cpu") -> None:
    """Leave a run as if it had been stopped at a step."""
    member = advance(RunInTraining(run, torch.device(device)), step)
    store.save_checkpoint(run, member.state())


def settle(monkeypatch, **rule) -> None:
    """Change the rule by which adding settles."""
    monkeypatch.setattr(AddingTask, "settled", replace(AddingTask.settled, **rule))
