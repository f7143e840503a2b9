"""Records: one small JSON file per finished run, and the folder that holds them.

A record's file is named by its run's id, so records made on several machines merge by copying
(:mod:`companion.records.archive`), and a chapter finds what exists. Next to ``ID.json`` there may
be ``ID.npz`` (the trained weights where they are small, and the arrays kept by ``Run.trace``) and,
while a run is unfinished, ``ID.checkpoint`` and ``ID.lock``.
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from companion.runs.run import Run
from wrnn.errors import WrnnError

WEIGHTS = "weights/"  # prefix of the names of weights among the arrays beside a record


@dataclass(frozen=True)
class Record:
    """What one run gave, and where and how it was made."""

    run: Run
    metrics: dict[str, float | None]  # of the test split; None where not finite or never reached
    curves: dict[str, list[list[float]]]  # name -> [[step, value], ...], at most 500 points
    parameters: dict[str, int]  # with_biases, without_biases
    seconds: float  # wall time spent training, evaluation included
    device: str
    threads: int
    versions: dict[str, str]
    commit: str
    data: dict  # the task's fingerprint
    diverged: bool
    steps: int | None = None  # really taken; None stands for the whole budget
    stopped: str | None = None  # why: "budget", "settled" (Run.stop) or "diverged"
    replicas: int = 1  # most runs that were trained together with this one, itself included
    processor_seconds: float | None = None  # of all threads; None in records older than the field
    trace_path: Path | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Derive what files from before ``steps`` and ``stopped`` lack."""
        if self.stopped is None:
            object.__setattr__(self, "stopped", "diverged" if self.diverged else "budget")
        if self.steps is None:
            object.__setattr__(self, "steps", self.run.steps)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    def outcome(self) -> dict:
        """Return what the run fully determines: all but time, machine and versions."""
        return {
            "run": self.run.to_dict(),
            "metrics": self.metrics,
            "curves": self.curves,
            "parameters": self.parameters,
            "data": self.data,
            "diverged": self.diverged,
            "steps": self.steps,
            "stopped": self.stopped,
        }

    def trace(self) -> dict[str, np.ndarray] | None:
        """Return the trace kept beside the record (`training.trace`), or None where it has none."""
        return self._arrays(lambda name: None if name.startswith(WEIGHTS) else name)

    def weights(self) -> dict[str, np.ndarray] | None:
        """Return the tested weights by parameter name, or None where they were not kept."""
        return self._arrays(
            lambda name: name.removeprefix(WEIGHTS) if name.startswith(WEIGHTS) else None
        )

    def _arrays(self, rename: Callable[[str], str | None]) -> dict[str, np.ndarray] | None:
        if self.trace_path is None:
            return None
        with np.load(self.trace_path) as arrays:
            names = {name: renamed for name in arrays.files if (renamed := rename(name))}
            return {renamed: arrays[name] for name, renamed in names.items()} or None

    def to_json(self) -> str:
        """Return the text of the record's file."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["trace_path"]
        values["run"] = self.run.to_dict()
        return json.dumps({"id": self.id, **values}, allow_nan=False, sort_keys=True) + "\n"

    @classmethod
    def from_file(cls, path: Path) -> "Record":
        """Read a record; a file that is damaged or does not match its name is one WrnnError."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            stored_id = values.pop("id")
            values["run"] = Run.from_dict(values["run"])
            trace_path = path.with_suffix(".npz")
            record = cls(**values, trace_path=trace_path if trace_path.exists() else None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WrnnError(f"{path} is not a valid record: {reason}") from error
        if not stored_id == record.id == path.stem:
            raise WrnnError(
                f"{path} is not a valid record: its run has the id {record.id}, so it was "
                "edited or made by another version"
            )
        return record


def finite(value: float) -> float | None:
    """Return the value, or None where JSON could not hold it (NaN, infinity)."""
    return value if math.isfinite(value) else None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise


class Store:
    """A folder of records; it is made when the first record is written."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def path(self, run: Run, suffix: str = ".json") -> Path:
        """Return where this store keeps a file of the run."""
        return self.folder / f"{run.id}{suffix}"

    def get(self, run: Run) -> Record | None:
        """Return the run's record, or None where there is none yet."""
        path = self.path(run)
        return Record.from_file(path) if path.exists() else None

    def all(self) -> list[Record]:
        """Return every record of the folder, sorted by id."""
        return [Record.from_file(path) for path in sorted(self.folder.glob("*.json"))]

    def put(self, record: Record, trace: bytes | None = None) -> None:
        """Write a record (and its arrays before it) so that it is there whole or not at all."""
        if trace is not None:
            write_atomically(self.path(record.run, ".npz"), trace)
        write_atomically(self.path(record.run), record.to_json().encode())
        self.path(record.run, ".checkpoint").unlink(missing_ok=True)

    @contextlib.contextmanager
    def claim(self, run: Run) -> Iterator[bool]:
        """Hold the run for this process; yields False where another process holds it already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(run, ".lock")
        with open(path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                ours = os.path.samestat(os.stat(path), os.fstat(lock.fileno()))
            except FileNotFoundError:
                ours = False
            if not ours:
                yield False  # the holder finished and removed the file while this one opened it
                return
            try:
                # What a killed process left: half-written files, the checkpoint of a finished run.
                for scratch in self.folder.glob(f".{run.id}.*"):
                    scratch.unlink(missing_ok=True)
                if self.path(run).exists():
                    self.path(run, ".checkpoint").unlink(missing_ok=True)
                yield True
            finally:
                path.unlink(missing_ok=True)


def project_root() -> Path:
    """Return the folder with ``_toc.yml`` above the working directory, or the latter itself."""
    here = Path.cwd()
    return next(
        (folder for folder in (here, *here.parents) if (folder / "_toc.yml").exists()), here
    )


def committed_store() -> Store:
    """Return the records that are published: ``$WRNN_RECORDS``, or ``records/`` of the project."""
    return Store(os.environ.get("WRNN_RECORDS") or project_root() / "records")


def local_store() -> Store:
    """Return this machine's quick and smoke records: ``_build/records`` of the project."""
    return Store(project_root() / "_build" / "records")
