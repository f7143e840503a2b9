"""Records: one small JSON file per finished run, and the folder that holds them.

A record's file is named by its run's id, so records made on several machines merge by copying
(:mod:`companion.records.archive`), and a chapter finds what exists. Next to ``ID.json`` there may
be ``ID.npz`` (the trained weights where they are small, and the arrays kept by ``Run.trace``) and,
while a run is unfinished, ``ID.checkpoint`` and ``ID.lock``.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from companion.records import checks
from companion.runs.run import Run
from wrnn.errors import WrnnError

WEIGHTS = "weights/"  # prefix of the names of weights among the arrays beside a record


class DamagedFile(WrnnError):
    """A file of a run that cannot be used; everything else goes on without it."""

    def __init__(self, path: Path, reason: str, *, whole: bool = False):
        """Say what is wrong with a file, and that it may go unless it is `whole`."""
        said = "cannot be used" if whole else "is damaged"
        super().__init__(f"{path} {said} ({reason})" + ": restore or delete it" * (not whole))
        self.path, self.whole = path, whole


class DamageWarning(UserWarning):
    """Says which file was passed over."""


def report_damage(error: DamagedFile) -> None:
    """Report a damaged file, once; with ``$WRNN_STRICT`` set, as by `make publish`, raise it."""
    if os.environ.get("WRNN_STRICT"):
        raise error
    warnings.warn(f"{error}; all else goes on without it", DamageWarning, stacklevel=3)


@dataclass(frozen=True)
class Record:
    """What one run gave, and where and how it was made."""

    run: Run
    metrics: dict[str, float | None]  # of the test split; None where not finite or never reached
    curves: Mapping[str, list[list[float]]]  # name -> [[step, value], ...], at most 500 points
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
    arrays: str | None = None  # SHA-256 of the npz file beside it; None also in older records
    trace_path: Path | None = dataclasses.field(default=None, compare=False)
    path: Path | None = dataclasses.field(default=None, compare=False)  # where it was read

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
            "curves": dict(self.curves),
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
        """Return some of the arrays; where they are gone or damaged, report it and return None."""
        try:
            arrays = self.checked_arrays()
        except DamagedFile as error:
            report_damage(error)
            return None
        return {new: array for name, array in arrays.items() if (new := rename(name))} or None

    def checked_arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays kept beside the record; DamagedFile names a file damaged or gone."""
        if self.trace_path is None:
            if self.path is not None and (self.arrays or self.run.trace):
                raise DamagedFile(self.path.with_suffix(".npz"), "it is gone")
            return {}
        try:
            content = checks.read_bounded(self.trace_path, ".npz")
            return checks.parse_arrays(content, self.arrays)
        except Exception as error:  # zipfile, zlib and NumPy raise what they like
            raise DamagedFile(self.trace_path, checks.reason(error)) from error

    def values(self) -> dict:
        """Return what the record's file holds, as JSON types."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}
        return values | {"id": self.id, "run": self.run.to_dict(), "curves": dict(self.curves)}

    def to_json(self) -> str:
        """Return the text of the record's file."""
        return checks.seal_record(json.dumps(self.values(), allow_nan=False, sort_keys=True))

    @classmethod
    def from_file(cls, path: Path) -> "Record":
        """Read a record; a file that is damaged or does not match its name is a DamagedFile."""
        return cls._read(path, has_arrays=path.with_suffix(".npz").exists(), curves=True)

    @classmethod
    def _read(cls, path: Path, *, has_arrays: bool, curves: bool) -> "Record":
        text = ""
        try:
            text = checks.read_bounded(path, ".json").decode()
            values = checks.parse_record(text, curves=curves)
            if not curves:
                values["curves"] = StoredCurves(path)
            return cls.from_values(values, path, has_arrays=has_arrays)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DamagedFile(path, checks.reason(error), whole=True) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why, whole = checks.reason(error), checks.is_vouched_for(text)
            what = "of another version" if whole else "not a valid record"
            raise DamagedFile(path, f"{what}: {why}", whole=whole) from error

    @classmethod
    def from_values(cls, values: dict, path: Path, *, has_arrays: bool) -> "Record":
        """Build a record from the values of its file."""
        values = dict(values)
        stored_id = values.pop("id")
        values["run"] = Run.from_dict(values["run"])
        trace_path = path.with_suffix(".npz") if has_arrays else None
        record = cls(**values, trace_path=trace_path, path=path)
        if not stored_id == record.id == path.stem:
            raise ValueError(
                f"its run has the id {record.id}, so it was edited or made by another version"
            )
        return record


class StoredCurves(Mapping):
    """The curves of a record, read from its file when they are first looked at."""

    def __init__(self, path: Path):
        self._path = path

    @cached_property
    def _curves(self) -> Mapping[str, list[list[float]]]:
        return Record.from_file(self._path).curves

    def __getitem__(self, name: str) -> list[list[float]]:
        return self._curves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._curves)

    def __len__(self) -> int:
        return len(self._curves)


def finite(value: float) -> float | None:
    """Return the value, or None where JSON could not hold it (NaN, infinity)."""
    return value if math.isfinite(value) else None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    An OSError names the file.
    """
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException as error:
        if scratch is not None:
            with contextlib.suppress(OSError):
                os.unlink(scratch)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


class Store:
    """A folder of records; it is made when the first record is written."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def path(self, run: Run, suffix: str = ".json") -> Path:
        """Return where this store keeps a file of the run."""
        return self.folder / f"{run.id}{suffix}"

    def get(self, run: Run) -> Record | None:
        """Return the run's record, or None where there is none yet; DamagedFile where it is bad."""
        path = self.path(run)
        return Record.from_file(path) if path.exists() else None

    def find(self, run: Run) -> Record | None:
        """Return the run's record, or None where there is none; a damaged one is reported."""
        try:
            return self.get(run)
        except DamagedFile as error:
            report_damage(error)
            return None

    def all(self) -> list[Record]:
        """Return every record of the folder, sorted by id; damaged files are reported."""
        records, damaged = self.scan()
        for error in damaged:
            report_damage(error)
        return records

    def scan(self, *, curves: bool = False) -> tuple[list[Record], list[DamagedFile]]:
        """Return every record of the folder, sorted by id, and what is wrong with other files.

        Curves, which are most of a record, are read when they are looked at, or with the rest.
        """
        try:
            names = set(os.listdir(self.folder))
        except FileNotFoundError:
            return [], []
        records, damaged = [], []
        for name in sorted(name for name in names if name.endswith(".json") and name[0] != "."):
            path, has_arrays = self.folder / name, f"{name[:-5]}.npz" in names
            try:
                records.append(Record._read(path, has_arrays=has_arrays, curves=curves))
            except FileNotFoundError:
                continue  # taken away meanwhile
            except DamagedFile as error:
                damaged.append(error)
        return records, damaged

    def put(self, record: Record, trace: bytes | None = None) -> Record:
        """Write a record (and its arrays before it) so that it is there whole or not at all.

        Returns the record as it will be read.
        """
        path, trace_path = self.path(record.run), None
        if trace is not None:
            record = dataclasses.replace(record, arrays=hashlib.sha256(trace).hexdigest())
            trace_path = self.path(record.run, ".npz")
            write_atomically(trace_path, trace)
        write_atomically(path, record.to_json().encode())
        self.path(record.run, ".checkpoint").unlink(missing_ok=True)
        return dataclasses.replace(record, path=path, trace_path=trace_path)

    def save_checkpoint(self, run: Run, state: dict) -> None:
        """Write the state of an unfinished run."""
        write_atomically(self.path(run, ".checkpoint"), checks.seal_checkpoint(state))

    def checkpoint(self, run: Run) -> dict | None:
        """Return the state that an unfinished run was left in, or None; DamagedFile if it's bad."""
        path = self.path(run, ".checkpoint")
        return read_checkpoint(path, run)[0] if path.exists() else None

    def set_aside(self, damaged: DamagedFile) -> None:
        """Give a damaged file, and what belongs to it, names that nothing looks for; say so."""
        suffixes = (".checkpoint",) if damaged.path.suffix == ".checkpoint" else (".json", ".npz")
        for path in map(damaged.path.with_suffix, suffixes):
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_name(f"{path.name}.damaged"))
        aside = f"set aside as {damaged.path.stem}.*.damaged"
        warnings.warn(f"{damaged}; {aside}", DamageWarning, stacklevel=2)

    def lock(self, run: Run) -> FileLock:
        """Return the lock of a run, which one process holds while it trains the run."""
        return FileLock(self.path(run, ".lock"), blocking=False)

    def is_held(self, run: Run) -> bool:
        """Whether another process holds the run."""
        if not self.path(run, ".lock").exists():
            return False
        try:
            with self.lock(run):
                return False  # a killed process left the file
        except (Timeout, PermissionError):
            return True

    @contextlib.contextmanager
    def claim(self, run: Run) -> Iterator[bool]:
        """Hold the run for this process; yields False where another process holds it already.

        So does a lock of another account, which cannot be opened.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self.lock(run)
        try:
            lock.acquire()
        except (Timeout, PermissionError):
            if not self.path(run, ".lock").exists():
                raise  # the folder cannot be written
            yield False
            return
        try:
            # What a killed process left: half-written files, the checkpoint of a finished run.
            for scratch in self.folder.glob(f".{run.id}.*"):
                scratch.unlink(missing_ok=True)
            if self.path(run).exists():
                self.path(run, ".checkpoint").unlink(missing_ok=True)
            yield True
        finally:
            # Taken away while it is held; who opened it meanwhile finds it without a name.
            self.path(run, ".lock").unlink(missing_ok=True)
            lock.release()


def read_checkpoint(path: Path, run: Run | None = None) -> tuple[dict, Run, bytes]:
    """Return the state that a checkpoint holds, its run and the file's content, all checked."""
    try:
        content = checks.read_bounded(path, ".checkpoint")
        state = checks.parse_checkpoint(content)
        found = Run.from_dict(state["run"])
        if found.id != path.stem or (run is not None and found != run):
            raise ValueError("it belongs to another run")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch.load raises what it likes
        raise DamagedFile(path, f"not a usable checkpoint: {checks.reason(error)}") from error
    return state, found, content


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
