"""A small run and records of runs never trained, for the tests of several modules."""

from companion.records.files import Record
from companion.runs.run import Run, wrnn_config
from wrnn.tasks import CopyTask

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
