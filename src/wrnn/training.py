"""Training: one run in, one record out, stoppable at any moment and resumed bit for bit.

Nothing here knows a model or a task by name. Every random number comes from generators seeded by
the run, and all that later steps depend on is in the checkpoint, so that a resumed run gives the
record of an uninterrupted one (exactly so on the CPU).
"""

import io
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import wrnn
from wrnn.errors import WrnnError
from wrnn.models import SequenceModel, count_parameters
from wrnn.records import Record, Store, finite, write_atomically
from wrnn.runs import Run, build_model

EVALUATION_BATCH = 256
CURVE_POINTS = 500
TRACE_CHANNELS = 2


class TimeLimitReached(Exception):
    """The time limit ended a run; its checkpoint is saved and the next call goes on from there."""


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
        return {name: _thin(points) for name, points in self.points.items()}


def _thin(points: list[list[float]]) -> list[list[float]]:
    if len(points) <= CURVE_POINTS:
        return points
    stride = math.ceil((len(points) - 1) / (CURVE_POINTS - 1))
    return points[:-1:stride] + points[-1:]


class Trainer:
    """The state of one run in training: model, optimiser, generators, step, curves."""

    def __init__(self, run: Run, device: torch.device):
        self.run = run
        self.device = device
        # Two generators, so that the data of a run do not depend on the size of its model.
        init_seed, data_seed = np.random.SeedSequence(run.seed).generate_state(2, np.uint64) >> 1
        init_generator = torch.Generator().manual_seed(int(init_seed))
        self.generator = torch.Generator(device).manual_seed(int(data_seed))
        self.model = build_model(run.model, run.task, init_generator).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=run.learning_rate)
        self.step = 0
        self.seconds = 0.0
        self.diverged = False
        self.solved_step: int | None = None
        self.settled_since: int | None = None  # first of the validations in a row at the floor
        self.settled = False
        self.best: tuple[float, dict[str, Tensor]] | None = None
        self.curves = Curves()

    def state(self) -> dict:
        """Return all that later steps depend on."""
        return {
            "run": self.run.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "diverged": self.diverged,
            "solved_step": self.solved_step,
            "settled_since": self.settled_since,
            "settled": self.settled,
            "best": self.best,
            "curves": self.curves.points,
        }

    def load(self, state: dict) -> None:
        """Go on from :meth:`state`'s output."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.diverged = state["diverged"]
        self.solved_step = state["solved_step"]
        self.settled_since = state.get("settled_since")  # not in checkpoints of old
        self.settled = state.get("settled", False)
        self.best = state["best"]
        self.curves = Curves(state["curves"])

    def train_step(self) -> Tensor:
        """Draw a batch and take one Adam step; returns the unscaled loss, on the device."""
        run = self.run
        if self.step in run.drop_steps:
            for group in self.optimizer.param_groups:
                group["lr"] *= run.drop_factor
        x, y = run.task.batch(run.batch_size, generator=self.generator, device=self.device)
        loss = run.task.loss(self.model(x), y)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * run.loss_scale).backward()
        if run.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), run.clip)
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    def log(self, loss: Tensor) -> None:
        """Note the training loss, and the validation metrics where it is time for them."""
        run = self.run
        value = loss.item()
        self.curves.add(self.step, {"loss": value})
        if not math.isfinite(value):
            self.diverged = True
            return
        if not self.at_evaluation:
            return
        metrics = evaluate(self.model, run, "validation", self.device)
        self.curves.add(self.step, metrics)
        # (metric, threshold) of tasks that can be solved
        solved = getattr(run.task, "solved", None)
        if solved and self.solved_step is None and metrics[solved[0]] <= solved[1]:
            self.solved_step = self.step
        if run.stop == "settled":
            self.note_floor(metrics)
        name, direction = run.task.selection
        score = metrics[name] if direction == "max" else -metrics[name]
        if run.keep == "best" and (self.best is None or score > self.best[0]):
            weights = {key: tensor.clone() for key, tensor in self.model.state_dict().items()}
            self.best = (score, weights)

    def note_floor(self, metrics: dict[str, float]) -> None:
        """Note from validation metrics whether the task is settled."""
        rule = self.run.task.settled
        if not metrics[rule.metric] <= rule.floor:
            self.settled_since = None
            return
        if self.settled_since is None:
            self.settled_since = self.step
        held = self.step - self.settled_since
        self.settled = held >= rule.hold and self.step >= rule.least

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
        if getattr(run.task, "solved", None):
            metrics["solved_step"] = math.inf if self.solved_step is None else self.solved_step
        record = Record(
            run=run,
            metrics={name: finite(value) for name, value in metrics.items()},
            curves=self.curves.thinned(),
            parameters=count_parameters(self.model),
            seconds=round(self.seconds, 3),
            device=device_name(self.device),
            threads=torch.get_num_threads(),
            versions=versions(),
            commit=git_commit(),
            data=run.task.fingerprint(),
            diverged=self.diverged,
            steps=self.step,
            stopped=self.stopped,
        )
        return record, (trace(self.model, run, self.device) if run.trace else None)


@torch.no_grad()
def evaluate(model: SequenceModel, run: Run, split: str, device: torch.device) -> dict[str, float]:
    """Return the task's metrics over a whole split, averaged with each batch's size as weight."""
    totals: dict[str, float] = {}
    samples = 0
    for x, y in run.task.evaluation_batches(split, EVALUATION_BATCH, device=device):
        size = x.shape[1]
        samples += size
        for name, value in run.task.metrics(model(x), y).items():
            totals[name] = totals.get(name, 0.0) + value * size
    return {name: total / samples for name, total in totals.items()}


@torch.no_grad()
def trace(model: SequenceModel, run: Run, device: torch.device) -> bytes:
    """Return, as an .npz file, what the model does with the first test sample.

    Arrays: input (T, input_size), hidden (T, channels, sites) in float16 (of a wRNN the two
    channels whose activity varies most, or of every starting speed that one channel; of other
    models all units as one channel), channels (their numbers), output (T, output_size) or
    (output_size,), target.
    """
    x, y = next(iter(run.task.evaluation_batches("test", 1, device=device)))
    x = x[:, :1]  # (T, 1, input)
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
    arrays = {
        "input": x[:, 0].cpu().numpy().astype(np.float16),
        "hidden": hidden[:, busiest].cpu().numpy().astype(np.float16),
        "channels": np.array(busiest),
        "output": output.squeeze(-2).cpu().numpy(),
        "target": (y[:, 0] if y.dim() == 2 else y[0]).cpu().numpy(),
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def train(
    run: Run,
    store: Store,
    *,
    device: str = "cpu",
    deadline: float = math.inf,
    checkpoint_seconds: float = 30.0,
    progress: Callable[[int], None] = lambda steps: None,
) -> Record:
    """Train a run, or go on with it, and put its record into the store.

    On a CPU this takes one thread of PyTorch unless ``OMP_NUM_THREADS`` is set: models of this size
    hardly gain from more, and the record does not depend on how many cores there are.

    Args:
        run: what to train; where the store has its record already, that is returned.
        store: folder of records and checkpoints.
        device: "cpu", "cuda" or "auto".
        deadline: value of time.monotonic() at which to stop.
        checkpoint_seconds: seconds between checkpoints.
        progress: called with the number of steps just taken.

    Raises:
        TimeLimitReached: the deadline came first; the checkpoint is saved.
        WrnnError: the device is not there, or a checkpoint or data file is damaged.
    """
    done = store.get(run)
    if done is not None:
        progress(run.steps)
        return done
    chosen = resolve_device(device)
    if chosen.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    trainer = Trainer(run, chosen)
    checkpoint = store.path(run, ".checkpoint")
    if checkpoint.exists():
        trainer.load(_read_checkpoint(checkpoint, run))
        progress(trainer.step)
    started = last_saved = time.monotonic()
    earlier_seconds, last_logged = trainer.seconds, trainer.step
    while trainer.stopped is None:
        loss = trainer.train_step()
        if trainer.at_log:
            trainer.log(loss)
            progress(trainer.step - last_logged)
            last_logged = trainer.step
        now = time.monotonic()
        trainer.seconds = earlier_seconds + now - started
        if now - last_saved >= checkpoint_seconds or now >= deadline:
            file = io.BytesIO()
            torch.save(trainer.state(), file)
            write_atomically(checkpoint, file.getvalue())
            last_saved = now
            if now >= deadline and trainer.stopped is None:
                raise TimeLimitReached(f"{run.description} stopped at step {trainer.step}")
    progress(run.steps - last_logged)  # what is left of a budget that was not needed
    record, arrays = trainer.record()
    store.put(record, arrays)
    return record


def _read_checkpoint(path: Path, run: Run) -> dict:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["run"] != run.to_dict():
            raise ValueError("it belongs to another run")
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WrnnError(
            f"{path} is not a usable checkpoint ({reason}); delete it to start this run again"
        ) from error
    return state


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


def device_name(device: torch.device) -> str:
    """Return the model name of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU: {line.split(':', 1)[1].strip()}"
    return f"CPU: {platform.processor() or platform.machine()}"


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "wrnn": wrnn.__version__,
    }


def git_commit() -> str:
    """Return the commit of the source that runs, with "+" after it where files were changed."""
    command = ["git", "-C", os.path.dirname(__file__)]
    try:
        head = subprocess.run(
            [*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*command, "status", "--porcelain", "--", "."],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + "+" * bool(changed)
