"""Past one machine: the runs of a queue, trained by the workers of a Dask cluster.

Dask hands out the runs, gives those of a lost worker to another one and shows them on its
dashboard. Workers that see the folder of records work in it as several processes of one machine do:
its locks say who trains what, and a run goes on from its checkpoint wherever it was left. Others
work in a folder of their own. All send their records to the submitting process.
"""

import contextlib
import hashlib
import itertools
import logging
import math
import os
import queue
import signal
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path

import dask.config
import torch
from distributed import (
    Client,
    Future,
    Nanny,
    Reschedule,
    Scheduler,
    SpecCluster,
    Status,
    Worker,
    get_worker,
)
from filelock import FileLock, Timeout

import companion
import wrnn
from companion.records import checks
from companion.records.files import Record, Store
from companion.records.provenance import device_name, git_commit, versions
from companion.runs.run import Run
from companion.training.queue import (
    REPLICAS,
    Group,
    RunQueue,
    duration,
    in_groups,
    kind_of,
    signals_noted,
)
from companion.training.train import TrainingStopped, resolve_device
from wrnn.errors import WrnnError

ANSWER_SECONDS = 10.0  # until which a scheduler has to answer
GRACE = 30.0  # seconds that workers get to save what they train
REPORT_SECONDS = 1.0  # between two reports of a worker
RETRIES = 1  # of a run that broke, if possible by another worker
MOST_TRIES = 6  # of a run that is held by another process: 1, 2, 4, ... seconds apart
SILENT = logging.CRITICAL + 1
MOST_PER_CORE = 4  # local workers
LOCAL = {
    "distributed.worker.profile.enabled": False,  # it would look at every training thread
    "distributed.comm.timeouts.connect": "30s",
}


def source_digest() -> str:
    """Return a hash of the source of both packages, as they lie on this machine."""
    digest = hashlib.sha256()
    for package in (wrnn, companion):
        folder = Path(package.__file__).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


_SOURCE = source_digest(), git_commit()  # of what this process runs, whatever is edited later


def facts() -> dict:
    """Return what has to be the same here and on the workers, and what their devices are."""
    device = resolve_device("auto")
    return {
        "versions": versions(),
        "source": _SOURCE[0],
        "commit": _SOURCE[1],
        "device": device.type,
        "device_name": device_name(device),
    }


def worker_facts(dask_worker: Worker) -> dict:
    """Return :func:`facts` of a worker, and how many tasks it runs at once."""
    return facts() | {"threads": dask_worker.state.nthreads}


def check_worker(address: str, there: dict, here: dict, device: str) -> None:
    """Raise WrnnError where a worker's records would not be those of the submitting process."""
    for name, version in here["versions"].items():
        if there["versions"].get(name) != version:
            raise WrnnError(
                f"worker {address} has {name} {there['versions'].get(name)}, and this process "
                f"{version}: install the same there"
            )
    if there["source"] != here["source"]:
        raise WrnnError(
            f"worker {address} has another source of wrnn (commit {there['commit']}) than this "
            f"process ({here['commit']}): install the same there"
        )
    if there["threads"] != 1:
        raise WrnnError(
            f"worker {address} runs {there['threads']} tasks at once: start it with --nthreads 1, "
            "and one for each core or GPU"
        )
    if device == "cuda" != there["device"]:
        raise WrnnError(f"worker {address} sees no CUDA device: start it elsewhere, or use cpu")


class _WorkersQueue(RunQueue):
    """The runs of one task, trained in a worker, which reports to the submitting process."""

    def __init__(self, runs: list[Run], store: Store, report: Callable):
        super().__init__(runs, store)
        self._report = report
        self._reported = 0.0

    def _begin(self, runs: list[Run]) -> None:
        super()._begin(runs)
        self._report(began=[run.id for run in runs])

    def _note(self, steps: int) -> None:
        super()._note(steps)
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            self._report(steps=self._group.steps, rate=self.rate(self._group.runs[0]))

    def _print(self, line: str) -> None:
        """The submitting process says it."""


def train_task(key: tuple, job: dict) -> dict:
    """Train the runs of a task in a Dask worker, and return what became of them.

    Everything is plain values: a worker of another version says so, and does not fail to read it.
    The task is stopped as by a signal when Dask takes it away or closes the worker.

    Returns:
        problem: why this worker cannot train for the submitting process; or else, by run id,
        records: content of the record and of its arrays or None; errors: lines; spent: steps and
        seconds; and status: the exit status, rate: steps per second or None.
    """
    worker = get_worker()
    try:
        check_worker(worker.address, worker_facts(worker), job["facts"], job["device"])
    except WrnnError as error:
        return {"problem": str(error)}
    runs = [Run.from_dict(values) for values in job["runs"]]
    mark = Path(job["mark"])
    own = Path(worker.local_directory) / "records"
    store = Store(mark.parent if mark.exists() else own)

    def report(**values: object) -> None:
        message = {"key": job["number"], "worker": worker.address, **values}
        worker.log_event(job["topic"], message)

    def stop() -> bool:
        task = worker.state.tasks.get(key)
        going = worker.status in (Status.running, Status.paused)
        return not going or task is None or task.state != "executing"

    work = _WorkersQueue(runs, store, report)
    options = dict(device=job["device"], checkpoint_seconds=job["checkpoint_seconds"], stop=stop)
    try:
        work.train_group(runs, options)
    except TrainingStopped:
        report(stopped=True)
        raise Reschedule from None  # which nobody hears where the task was taken away
    return {
        "records": {run.id: _read(store, run) for run in runs if store.path(run).exists()},
        "errors": {run.id: text for run, text in work.errors.items()},
        "status": work.exit_status,
        "spent": {run.id: spent for run, spent in work.spent.items()},
        "rate": next(iter(work.rates.values()), None),
    }


def _read(store: Store, run: Run) -> tuple[bytes, bytes | None]:
    """Return the content of a record's file and of the arrays beside it."""
    arrays = store.path(run, ".npz")
    return store.path(run).read_bytes(), arrays.read_bytes() if arrays.exists() else None


def keep(store: Store, run: Run, content: bytes, arrays: bytes | None) -> None:
    """Check a record that a worker sent and store it, unless the folder has it.

    Raises:
        ValueError: it is damaged, or another run's.
    """
    path = store.path(run)
    if path.exists():
        return
    record = Record.from_values(checks.parse_record(content.decode()), path, has_arrays=False)
    if arrays is not None:
        checks.parse_arrays(arrays, record.arrays)
    store.put(record, arrays)


@dataclass
class _Task(Group):
    """Runs that were given to Dask together; ``runs`` are those that a worker trains."""

    given: list[Run] = field(default_factory=list)
    future: Future | None = None
    worker: str = ""  # that trains them


class ClusterQueue(RunQueue):
    """Runs that the workers of a Dask cluster train, several at once.

    Args:
        runs: see RunQueue, as for store and replan.
        store: folder that the records come to.
        scheduler: address of a Dask scheduler; without one a cluster is started on this machine.
        workers: how many to start, by default one for each GPU or core; with a scheduler, how many
            to wait for.
        replicas: runs trained together by a worker; 0 stands for `REPLICAS` of its device.
        replan: gives the runs anew after each task.
    """

    def __init__(
        self,
        runs: list[Run],
        store: Store,
        *,
        scheduler: str = "",
        workers: int = 0,
        replicas: int = 0,
        replan: Callable[[], list[Run]] | None = None,
    ):
        super().__init__(runs, store, replicas=replicas or 1, replan=replan)
        self._choose_replicas = not replicas
        self._scheduler = scheduler
        self._workers = workers
        self._session = uuid.uuid4().hex[:8]
        self._numbers = itertools.count()
        self._tasks: dict[int, _Task] = {}
        self._held: dict[Run, tuple[int, float]] = {}  # tries, and when to try again
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()

    def train(
        self, *, device: str, deadline: float = math.inf, checkpoint_seconds: float = 30.0
    ) -> None:
        """Train what is left on the workers; see :meth:`RunQueue.train`.

        Raises:
            Interrupted: SIGINT or SIGTERM came; what the workers trained is saved where they see
                the folder of records.
            WrnnError: the scheduler does not answer, or a worker has other versions or devices.
            RuntimeError: the scheduler is gone.
        """
        self.note_damaged()
        if not self.left():
            return
        with signals_noted() as received, contextlib.ExitStack() as stack:

            def ending() -> bool:
                return bool(received) or time.monotonic() >= deadline

            mark = stack.enter_context(marked(self.store.folder, self._session))
            client = stack.enter_context(self._connected(device))
            here = facts()
            found = self._wait_for_workers(client, ending)
            job = {
                "facts": here,
                "device": self._choose_device(found, here, device),
                "mark": str(mark),
                "topic": f"wrnn-{self._session}",
                "checkpoint_seconds": checkpoint_seconds,
            }
            client.subscribe_topic(job["topic"], lambda event: self._inbox.put(event[1]))
            try:
                with self._live_table():
                    self._serve(client, job, ending)
            finally:
                self._stop(client)
        self._conclude(received, deadline)

    @contextlib.contextmanager
    def _connected(self, device: str) -> Iterator[Client]:
        """Yield a client of the scheduler; its own cluster, if any, ends with it."""
        logging.getLogger("distributed").setLevel(SILENT)  # errors are lines of ours
        with contextlib.ExitStack() as stack:
            address = self._scheduler
            if not address:
                kind = resolve_device(device).type
                address = stack.enter_context(local_cluster(kind, self._workers)).scheduler_address
            try:
                client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
            except (OSError, ValueError, TypeError, ImportError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise WrnnError(f"no Dask scheduler answers at {address}: {reason}") from error
            yield stack.enter_context(client)

    def _wait_for_workers(self, client: Client, ending: Callable[[], bool]) -> dict[str, dict]:
        """Return the facts of the workers, when as many as were asked for, or one, are there."""
        wanted = self._workers or 1
        said = False
        while not ending():
            if client.status != "running":
                raise RuntimeError(f"the Dask scheduler at {self._scheduler} is gone")
            if len(client.nthreads()) >= wanted:
                break
            if not said:
                print(f"waiting for {wanted} workers of {client.scheduler.address}", flush=True)
            said = True
            time.sleep(0.2)
        try:
            return client.run(worker_facts)
        except (ImportError, AttributeError) as error:
            raise WrnnError(
                f"a worker has no wrnn that does this ({error}): install the same there"
            ) from error

    def _choose_device(self, found: dict[str, dict], here: dict, device: str) -> str:
        """Return the type of device that all workers train on, after checking them all."""
        kinds = {there["device"] for there in found.values()}
        if device == "auto" and len(kinds) > 1:
            raise WrnnError("some workers have CUDA and others not: choose with --device")
        chosen = kinds.pop() if device == "auto" and kinds else device
        for address, there in found.items():
            check_worker(address, there, here, chosen)
        self.read_rates(chosen, {there["device_name"] for there in found.values()})
        self._workers = len(found)
        if self._choose_replicas:
            self.replicas = REPLICAS.get(chosen, 1)  # "auto" where no worker came
        # A group takes no more than leaves work for every worker.
        self.replicas = max(1, min(self.replicas, len(self.left()) // max(1, self._workers)))
        return chosen

    def _submit(self, client: Client, job: dict) -> None:
        """Give Dask what is left and not yet given, in order."""
        given = {run for task in self._tasks.values() for run in task.given}
        now = time.monotonic()
        free = [r for r in self.left() if r not in given and self._next_try(r) <= now]
        order = {run: number for number, run in enumerate(self.runs)}
        for group in in_groups(free, self.replicas):
            number = next(self._numbers)
            others = f" and {len(group) - 1} more" * (len(group) > 1)
            # The dashboard counts by the first part and names the whole.
            key = ("train", group[0].description + others, f"{self._session}-{number}")
            values = {**job, "number": number, "runs": [run.to_dict() for run in group]}
            task = self._tasks[number] = _Task([], given=group)
            task.future = client.submit(
                train_task,
                key,
                values,
                key=key,
                pure=False,
                retries=RETRIES,
                priority=-order[group[0]],
            )
            task.future.add_done_callback(
                lambda future, number=number: self._inbox.put({"key": number, "future": future})
            )

    def _next_try(self, run: Run) -> float:
        tries, when = self._held.get(run, (0, 0.0))
        return when if tries <= MOST_TRIES else math.inf

    def _serve(self, client: Client, job: dict, ending: Callable[[], bool]) -> None:
        """Give out runs and take in what workers send, until nothing is left or it has to end."""
        if not ending():
            self._submit(client, job)
        while not ending():
            due = min((self._next_try(r) for r in self._held if r in self.left()), default=math.inf)
            if not self._tasks and due == math.inf:
                return
            if due <= time.monotonic():
                self._submit(client, job)
            with contextlib.suppress(queue.Empty):
                message = self._inbox.get(timeout=0.2)
                if self._take(message) and self.replan:
                    self.runs = self.replan()
                    self._submit(client, job)

    def _take(self, message: dict) -> bool:
        """Take a report or an ended task; returns whether it was the latter."""
        number = message["key"]
        task = self._tasks.get(number)
        if task is None:
            return False
        if "future" in message:
            del self._tasks[number]
            self._end_task(task)
            return True
        if "began" in message:
            elsewhere = task.worker not in ("", message["worker"])
            task.runs = [run for run in task.given if run.id in message["began"]]
            task.worker, task.steps = message["worker"], 0
            for run in task.runs:
                verb = "training" if not elsewhere else "its worker was lost, so again training"
                self._print(f"{verb} {run.description}, {run.steps:,} steps, on {task.worker}")
        elif "stopped" in message:
            task.runs = []
        else:
            task.steps = message["steps"]
            if message["rate"] and task.runs:
                self.rates[kind_of(task.runs[0])] = message["rate"]
        return False

    def _end_task(self, task: _Task) -> None:
        """Store what a task gave, and say what became of its runs."""
        future = task.future
        if future.status == "cancelled":
            raise RuntimeError(
                f"the Dask scheduler at {self._scheduler or 'this machine'} is gone; the same "
                "command goes on"
            )
        try:
            result = future.result()
        except Exception as error:  # KilledWorker, or whatever broke in a worker
            self._fail(task.given, str(error) or type(error).__name__, 1)
            return
        if "problem" in result:
            raise WrnnError(result["problem"])
        for run in task.given:
            if run.id in result["errors"]:
                self._fail([run], result["errors"][run.id], result["status"])
            elif run.id not in result["records"]:
                tries = self._held.get(run, (0, 0.0))[0] + 1
                self._held[run] = tries, time.monotonic() + 2.0 ** (tries - 1)
            else:
                try:
                    keep(self.store, run, *result["records"][run.id])
                except (ValueError, KeyError, TypeError) as error:
                    self._fail([run], f"its worker's record is damaged: {error}", 1)
            if run.id in result["spent"]:
                _, seconds = self.spent[run] = result["spent"][run.id]
                if self.store.path(run).exists():
                    self._print(f"trained {run.description} in {duration(seconds)}")
        if result["rate"]:
            self.rates[kind_of(task.given[0])] = result["rate"]
        if len(self.runs) > 1:
            self._print(self.headline())

    def _stop(self, client: Client) -> None:
        """Take back what is not done, and give the workers time to save it."""
        if not self._tasks:
            return
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.cancel([task.future for task in self._tasks.values()])
        now = time.monotonic()
        heard, end = now + 0.5, now + GRACE  # who has just begun may not have said so
        while time.monotonic() < heard or (time.monotonic() < end and self.in_training()):
            with contextlib.suppress(queue.Empty):
                message = self._inbox.get(timeout=0.1)
                if "future" not in message:
                    self._take(message)
        for task in self._tasks.values():
            for run in task.runs or task.given * bool(task.worker):
                self._print(f"stopped {run.description}")
        self._tasks = {}

    def in_training(self) -> list[tuple[list[Run], int]]:
        """Return the groups in training, with the steps that they have taken together."""
        return [(runs, task.steps) for task in list(self._tasks.values()) if (runs := task.runs)]

    def seconds_left(self) -> tuple[float, int]:
        """Estimate the seconds left with this many workers; see :meth:`RunQueue.seconds_left`."""
        seconds, unknown = super().seconds_left()
        return seconds / max(1, self._workers), unknown


@contextlib.contextmanager
def marked(folder: Path, session: str) -> Iterator[Path]:
    """Yield the path of a file in a folder, by which a worker knows that it sees the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".session-*.lock"):  # by a process that was killed
        with contextlib.suppress(Timeout), FileLock(left, blocking=False):
            left.unlink(missing_ok=True)
    mark = _mark(folder, session)
    with FileLock(mark, blocking=False):
        try:
            yield mark
        finally:
            mark.unlink(missing_ok=True)


def _mark(folder: Path, session: str) -> Path:
    return folder.absolute() / f".session-{session}.lock"


@contextlib.contextmanager
def local_cluster(kind: str, workers: int) -> Iterator[SpecCluster]:
    """Start a scheduler, and a worker process for each core or GPU of this machine.

    The workers end with this process, however it ends. Signals are not for them: this process takes
    a signal and has them save what they train.

    Args:
        kind: "cpu" or "cuda".
        workers: how many; 0 stands for one for each core or GPU.

    Raises:
        WrnnError: there are more workers than the machine can keep busy.
    """
    places = _places(kind)
    most = len(places) if kind == "cuda" else MOST_PER_CORE * len(places)
    if workers > most:
        raise WrnnError(f"--workers {workers} is more than {most}, the most for this machine")
    of_all = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    options = dict(
        host="127.0.0.1",
        nthreads=1,
        memory_limit=0,  # a run that was ended for its memory would only be started again
        silence_logs=SILENT,
        preload=[__name__],  # torch is there when the first run comes
    )
    nannies = {}
    for number in range(workers or len(places)):
        gpu = {"CUDA_VISIBLE_DEVICES": places[number]} if kind == "cuda" else {}
        nannies[number] = {"cls": Nanny, "options": {**options, "env": of_all | gpu}}
    dashboard = dict(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:8787")
    signals = (signal.SIGINT, signal.SIGTERM)
    with dask.config.set(LOCAL), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the dashboard's port, where it is taken
        resource_tracker.ensure_running()  # which unblocks them
        # What is blocked here stays so in the threads and processes that are started meanwhile.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            cluster = SpecCluster(
                workers=nannies,
                scheduler={"cls": Scheduler, "options": dashboard},
                silence_logs=SILENT,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with cluster:
            yield cluster


def _places(kind: str) -> list[str]:
    """Return a name for each GPU that this process may use, or for each of its cores."""
    if kind == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [str(core) for core in range(cores or 1)]
