"""Training: runs in, records out, stoppable at any moment and resumed bit for bit.

Nothing here knows a model or a task by name. Every random number comes from generators seeded by
the run, and all that later steps depend on is in the checkpoint, so that a resumed run gives the
record of an uninterrupted one (exactly so on the CPU).
"""

import io
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from companion.records.files import WEIGHTS, DamagedFile, Record, Store, finite
from companion.records.provenance import device_name, git_commit, versions
from companion.runs.run import Run
from companion.training.onset import ONSET_SEQUENCES, sort_by_onset
from companion.training.step import Replicas, TrainingState
from wrnn.errors import WrnnError
from wrnn.model import SequenceModel, count_parameters

EVALUATION_BATCH = 256
CURVE_POINTS = 500
TRACE_CHANNELS = 2
MOST_WEIGHT_BYTES = 1_000_000
FEW_WEIGHT_BYTES = 100_000


class TrainingStopped(Exception):
    """A time limit or a signal ended a run; its checkpoint is saved, the next call goes on."""


@dataclass
class Curves:
    """Values over training steps, thinned evenly when they are read."""

    points: dict[str, list[list[float]]] = field(default_factory=dict)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Append finite values at a step."""
        for name, value in values.items():
            if math.isfinite(value):
                self.points.setdefault(name, []).append([step, value])

    def thinned(self) -> dict[str, list[list[float]]]:
        """Return every k-th point of each curve, first and last included, 500 at most."""
        thinned = {}
        for name, points in self.points.items():
            stride = max(1, math.ceil((len(points) - 1) / (CURVE_POINTS - 1)))
            thinned[name] = points[:-1:stride] + points[-1:]
        return thinned


class RunInTraining(TrainingState):
    """One run in training: its state, and what is noted about it."""

    NOTED = (
        *("seconds", "processor_seconds", "replicas", "diverged", "solved_step"),
        *("solved_step_training", "settled_since", "settled", "best"),
    )

    def __init__(self, run: Run, device: torch.device):
        super().__init__(run, device)
        self.seconds = 0.0
        self.processor_seconds = 0.0
        self.replicas = 1  # most runs trained together with this one, itself included
        self.reported = 0  # steps that the progress callback knows of
        self.diverged = False
        self.solved_step: int | None = None  # of the first validation that says so
        self.solved_step_training: int | None = None  # of the first training batch that says so
        self.settled_since: int | None = None  # first of the validations in a row at the floor
        self.settled = False
        self.best: tuple[float, dict[str, Tensor]] | None = None
        self.commit = git_commit()  # of what this process runs; two where a run went on with it
        self.curves = Curves()

    def state(self) -> dict:
        """Return all that the record of the run depends on."""
        noted = {name: getattr(self, name) for name in self.NOTED}
        return {
            **super().state(),
            "run": self.run.to_dict(),
            "curves": self.curves.points,
            "commit": self.commit,
            **noted,
        }

    def load(self, state: dict) -> None:
        """Go on from :meth:`state`'s output."""
        super().load(state)
        for name in self.NOTED:
            setattr(self, name, state[name])
        self.curves = Curves(state["curves"])
        began = state.get("commit", self.commit).partition("..")[0]  # none in older checkpoints
        if began != self.commit:
            self.commit = f"{began}..{self.commit}"

    def log(self) -> None:
        """Note the training loss, and the validation metrics where it is time for them."""
        run = self.run
        value = self.loss.item()
        self.curves.add(self.step, {"loss": value})
        if not math.isfinite(value):
            self.diverged = True
            return
        solved = run.task.solved
        if solved and self.solved_step_training is None and value <= solved[1]:
            self.solved_step_training = self.step
        if not self.at_evaluation:
            return
        metrics = evaluate(self.model, run, "validation", self.device)
        self.curves.add(self.step, metrics)
        if solved and self.solved_step is None and metrics[solved[0]] <= solved[1]:
            self.solved_step = self.step
        if run.stop == "settled":
            self.note_floor(metrics)
        name, direction = run.task.selection
        score = metrics[name] if direction == "max" else -metrics[name]
        better = self.best is None or score > self.best[0]
        if run.keep == "best" and better and math.isfinite(score):
            weights = {key: tensor.clone() for key, tensor in self.model.state_dict().items()}
            self.best = (score, weights)

    def note_floor(self, metrics: dict[str, float]) -> None:
        """Note from validation metrics whether the task is settled."""
        rule = self.run.task.settled
        if self.run.task.solved:
            steps = self.solved_step, self.solved_step_training
            self.settled_since = None if None in steps else max(steps)
        elif not metrics[rule.metric] <= rule.floor:
            self.settled_since = None
        elif self.settled_since is None:
            self.settled_since = self.step
        since = self.settled_since
        self.settled = since is not None and self.step - since >= rule.hold

    @property
    def at_evaluation(self) -> bool:
        """Whether the validation split is read at this step."""
        return self.step % self.run.evaluate_every == 0 or self.step == self.run.steps

    @property
    def at_log(self) -> bool:
        """Whether the loss is noted at this step."""
        return self.step % self.run.log_every == 0 or self.at_evaluation

    @property
    def stopped(self) -> str | None:
        """Why no step is left to take ("diverged", "budget" or "settled"), or None."""
        if self.diverged:
            return "diverged"
        if self.step >= self.run.steps:
            return "budget"
        return "settled" if self.settled else None

    def record(self) -> tuple[Record, bytes | None]:
        """Read the test split, once, and return the record and the arrays to keep beside it."""
        run = self.run
        if self.best is not None:
            self.model.load_state_dict(self.best[1])
        metrics = evaluate(self.model, run, "test", self.device)
        if run.task.solved:
            for name in ("solved_step", "solved_step_training"):
                step = getattr(self, name)
                metrics[name] = math.inf if step is None else step
        record = Record(
            run=run,
            metrics={name: finite(value) for name, value in metrics.items()},
            curves=self.curves.thinned(),
            parameters=count_parameters(self.model),
            seconds=round(self.seconds, 3),
            device=device_name(self.device),
            threads=torch.get_num_threads(),
            versions=versions(),
            commit=self.commit,
            data=run.task.fingerprint(),
            diverged=self.diverged,
            steps=self.step,
            stopped=self.stopped,
            replicas=self.replicas,
            processor_seconds=round(self.processor_seconds, 3),
        )
        arrays = trace(self.model, run, self.device) if run.trace else {}
        arrays |= small_weights(self.model, every_size=run.seed == 0)
        if not arrays:
            return record, None
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return record, file.getvalue()


def small_weights(model: SequenceModel, *, every_size: bool) -> dict[str, np.ndarray]:
    """Return the weights to keep beside a record, named as in the model after ``WEIGHTS``.

    They are kept up to 1 MB where ``every_size`` is true, and up to 100 kB where not.
    """
    weights = {WEIGHTS + name: value.cpu().numpy() for name, value in model.state_dict().items()}
    size = sum(array.nbytes for array in weights.values())
    return weights if size <= (MOST_WEIGHT_BYTES if every_size else FEW_WEIGHT_BYTES) else {}


@torch.no_grad()
def evaluate(model: SequenceModel, run: Run, split: str, device: torch.device) -> dict[str, float]:
    """Return the task's metrics over a whole split, averaged with each batch's size as weight."""
    totals: dict[str, float] = {}
    samples = 0
    for x, y in run.task.evaluation_batches(split, EVALUATION_BATCH, device=device):
        size = x.shape[1]
        samples += size
        output = model(x, **run.task.promises)
        for name, value in run.task.metrics(output, y).items():
            totals[name] = totals.get(name, 0.0) + value * size
    return {name: total / samples for name, total in totals.items()}


@torch.no_grad()
def trace(model: SequenceModel, run: Run, device: torch.device) -> dict[str, np.ndarray]:
    """Return what the model does with the first test sample.

    Arrays: input (T, input_size), hidden (T, channels, sites) in float16 (of a wRNN the two
    channels whose activity varies most, or of every starting speed that one channel; of other
    models all units as one channel), channels (their numbers), output (T, output_size) or
    (output_size,), target, and of an iRNN the order (sites,) in which its units become active in
    further test samples.
    """
    x, y = next(iter(run.task.evaluation_batches("test", 1 + ONSET_SEQUENCES, device=device)))
    arrays = {}
    if run.model.kind == "irnn":
        further = model.rnn(x[:, 1 : 1 + ONSET_SEQUENCES])[0].abs().mean(dim=1)  # (T, sites)
        arrays["order"] = sort_by_onset(further.cpu().numpy())
    x, y = x[:, :1], y[..., :1]  # (T, 1, input), (T, 1) or (1,)
    hidden, _ = model.rnn(x)  # (T, 1, hidden)
    output = model.readout(hidden if model.every_step else hidden[-1])
    channels = getattr(model.rnn, "num_channels", 1)
    hidden = hidden[:, 0].reshape(len(x), channels, -1)  # (T, channels, sites)
    order = hidden.var(dim=0).sum(dim=-1).argsort(descending=True, stable=True).tolist()
    if isinstance(run.model.velocity, tuple):
        speeds = {run.model.velocity[channel]: channel for channel in reversed(order)}
        busiest = sorted(speeds.values())
    else:
        busiest = sorted(order[:TRACE_CHANNELS])
    return arrays | {
        "input": x[:, 0].cpu().numpy().astype(np.float16),
        "hidden": hidden[:, busiest].cpu().numpy().astype(np.float16),
        "channels": np.array(busiest),
        "output": output.squeeze(-2).cpu().numpy(),
        "target": y[..., 0].cpu().numpy(),
    }


def train(run: Run, store: Store, **options) -> Record:
    """Train a run, or go on with it, and put its record into the store.

    This is :func:`train_replicas` for one run; options and errors are described there.
    """
    return train_replicas([run], store, **options)[0]


def train_replicas(
    runs: Sequence[Run],
    store: Store,
    *,
    device: str = "cpu",
    deadline: float = math.inf,
    stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 30.0,
    progress: Callable[[int], None] = lambda steps: None,
) -> list[Record]:
    """Train several runs together, or go on with them, and store their records.

    Every run keeps what is its own (weights, optimiser, generators, clipping, checkpoint), so its
    record is the one that it gets alone: bit for bit on a CPU, to rounding on CUDA, where the group
    takes each step as one graph. The runs may be at different steps; one that ends drops out.

    The seconds of a record, by the clock and of the processor, are the run's share: while k runs
    train together, each is given a k-th of them. The record's ``replicas`` is the largest k.

    On a CPU this takes one thread of PyTorch unless ``OMP_NUM_THREADS`` is set: models of this size
    hardly gain from more, and the record does not depend on how many cores there are.

    Args:
        runs: what to train; records already stored are returned.
        store: folder of records and checkpoints.
        device: "cpu", "cuda" or "auto".
        deadline: value of time.monotonic() at which to stop.
        stop: asked after every step; where it says so, training stops as at the deadline.
        checkpoint_seconds: seconds between checkpoints.
        progress: called with the number of steps just taken.

    Returns:
        The records, in the order of the runs.

    Raises:
        TrainingStopped: the deadline came first; the checkpoints are saved.
        WrnnError: the device is not there, or a data file is damaged. A damaged checkpoint is set
            aside, and its run starts again.
    """
    records = {run.id: record for run in runs if (record := store.get(run)) is not None}
    progress(sum(run.steps for run in runs if run.id in records))
    left = [run for run in dict.fromkeys(runs) if run.id not in records]
    members = [_resume(run, store, _chosen(device)) for run in left]
    progress(sum(member.step for member in members))

    def record_ended() -> list[RunInTraining]:
        for member in members:
            if member.stopped:
                records[member.run.id] = store.put(*member.record())
                progress(member.run.steps - member.reported)  # and what was not needed
        return [member for member in members if not member.stopped]

    members = record_ended()
    group = Replicas(members)
    before = last_saved = time.monotonic()
    processor_before = time.process_time()
    while members:
        group.take_step()
        for member in members:
            if member.at_log:
                member.log()
                progress(member.step - member.reported)
                member.reported = member.step
        now, processor_now = time.monotonic(), time.process_time()
        for member in members:
            member.seconds += (now - before) / len(members)
            member.processor_seconds += (processor_now - processor_before) / len(members)
            member.replicas = max(member.replicas, len(members))
        before, processor_before = now, processor_now
        ending = now >= deadline or stop()
        if now - last_saved >= checkpoint_seconds or ending:
            for member in members:
                store.save_checkpoint(member.run, member.state())
            last_saved = now
        if any(member.stopped for member in members):
            members = record_ended()
            group.keep(members)
            before, processor_before = time.monotonic(), time.process_time()
        if ending and members:
            stopped = " and ".join(f"{t.run.description} at step {t.step}" for t in members)
            raise TrainingStopped(f"stopped {stopped}")
    return [records[run.id] for run in runs]


def _chosen(name: str) -> torch.device:
    """Return a device to train on; a CPU gets one thread where nothing else is asked for."""
    device = resolve_device(name)
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    return device


def _resume(run: Run, store: Store, device: torch.device) -> RunInTraining:
    """Return a run where its checkpoint left it; a damaged checkpoint is set aside."""
    resumed = RunInTraining(run, device)
    try:
        state = store.checkpoint(run)
        if state is None:
            return resumed
        resumed.load(state)
    except DamagedFile as error:
        store.set_aside(error)
        return resumed
    except (WrnnError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # it is of another type of device, or more than fits, and good
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"not of this version: {type(error).__name__}"
        store.set_aside(DamagedFile(store.path(run, ".checkpoint"), reason))
        return RunInTraining(run, device)  # the first may have taken a part of it
    resumed.reported = resumed.step
    return resumed


def resolve_device(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device; CUDA where there is none is a WrnnError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise WrnnError(f"unknown device {name!r}: use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise WrnnError(
            "device 'cuda' was asked for, but PyTorch sees no CUDA device: use cpu or auto"
        )
    return torch.device(name)
