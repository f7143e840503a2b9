"""Break it, and count: what was lost, what was silently wrong, what was not one line.

Every trial injects faults of one kind, lets the work go on, and compares what is there in the end
with what undisturbed runs gave, bit for bit. The short form is a test (`test_faults.py`); the long
one is ``make faults``, whose counts are kept beside the records:

    python tests/faults/harness.py --long --json records/faults/faults.json
"""

import argparse
import contextlib
import dataclasses
import datetime
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from samples import COPY

from companion.cli import main
from companion.records import archive, index
from companion.records.files import DamageWarning, Store
from companion.records.provenance import git_commit
from companion.training.queue import RunQueue
from companion.training.train import train
from wrnn.errors import WrnnError
from wrnn.tasks import data

RUNS = [replace(COPY, steps=40, seed=seed, trace=seed == 0) for seed in range(3)]


@dataclass
class Counts:
    """What one kind of fault did. Lost: a record that is not there in the end. Wrong: one that
    differs from the undisturbed one, or damage taken for good. Loud: a traceback, or more than a
    line, or a wrong exit status. Left: a lock or half a file that nothing takes away."""

    trials: int = 0
    faults: int = 0
    lost: int = 0
    wrong: int = 0
    loud: int = 0
    left: int = 0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.wrong or self.loud or self.left)


class Trials:
    """A folder to break things in, and what undisturbed runs give."""

    def __init__(self, folder: Path, seed: int):
        torch.set_num_threads(1)
        self.folder = folder
        self.draw = random.Random(seed)
        self.counts: dict[str, Counts] = {}
        self.undisturbed = Store(folder / "undisturbed")
        self.expected = {run: train(run, self.undisturbed).outcome() for run in RUNS}
        self.notes: list[str] = []

    def of(self, kind: str) -> Counts:
        return self.counts.setdefault(kind, Counts())

    def fresh(self) -> Store:
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        return Store(self.folder / "store")

    def compare(self, kind: str, store: Store) -> None:
        """Count what is missing, different or left behind once everything has been trained."""
        counts = self.of(kind)
        for run, outcome in self.expected.items():
            record = store.find(run)
            if record is None:
                counts.lost += 1
                self.notes.append(f"{kind}: {run.description} is lost")
            elif record.outcome() != outcome or not same_arrays(record, self.undisturbed.get(run)):
                counts.wrong += 1
                self.notes.append(f"{kind}: {run.description} is another one")
        allowed = (".json", ".npz", ".damaged")
        for path in store.folder.iterdir():
            if path.suffix not in allowed or path.name[0] == ".":
                counts.left += 1
                self.notes.append(f"{kind}: {path.name} was left")


def same_arrays(record, other) -> bool:
    found, expected = record.checked_arrays(), other.checked_arrays()
    return found.keys() == expected.keys() and all(
        found[name].tobytes() == expected[name].tobytes() for name in expected
    )


def in_child(work: Callable[[], None], log: Path, file_size: int | None = None) -> int:
    """Do work in a forked process that writes to a log; returns its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        if file_size is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        work()
    except SystemExit as ending:
        os._exit(ending.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)
    os._exit(0)


def command_line(*arguments: str) -> None:
    """Run `wrnn ARGUMENTS` in this process, as its console command does."""
    sys.argv = ["wrnn", *arguments]
    main()


def training(store: Store) -> Callable[[], None]:
    """What a process does that trains everything and saves after every step, as `wrnn run`."""

    def work() -> None:
        import companion.cli as cli

        def trained() -> None:
            sweep = RunQueue(RUNS, store)
            sweep.train(device="cpu", checkpoint_seconds=0.0)
            raise SystemExit(cli.report(sweep))

        cli.app = lambda **_: trained()
        main()

    return work


def finish(store: Store) -> None:
    """Let everything that was stopped go on to its end."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        RunQueue(RUNS, store).train(device="cpu")


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_log(trials: Trials, kind: str, log: Path, code: int, allowed: tuple[int, ...]) -> None:
    lines = log.read_text().splitlines()
    if code not in allowed or len(lines) > 1 or "Traceback" in "".join(lines):
        trials.of(kind).loud += 1
        trials.notes.append(f"{kind}: status {code}, {lines[-1:] or 'nothing said'}")


def kills(trials: Trials, count: int) -> None:
    """SIGKILL at any moment, several times in a row, of one or two processes."""
    for _ in range(count):
        counts, store = trials.of("kill"), trials.fresh()
        counts.trials += 1
        log = trials.folder / "log"
        for _ in range(3):
            children = [in_child(training(store), log) for _ in range(trials.draw.choice((1, 2)))]
            time.sleep(trials.draw.uniform(0.0, 0.4))
            for child in children:
                os.kill(child, signal.SIGKILL)
                counts.faults += ended(child) == -signal.SIGKILL
        finish(store)
        trials.compare("kill", store)


def signals(trials: Trials, count: int) -> None:
    """SIGTERM and SIGINT: a checkpoint, one line, no lock, the right status."""
    for _ in range(count):
        counts, store = trials.of("signal"), trials.fresh()
        counts.trials += 1
        log = trials.folder / "log"
        log.unlink(missing_ok=True)
        child = in_child(training(store), log)
        while not list(store.folder.glob("*.checkpoint")) and not done(store):
            time.sleep(0.002)
        time.sleep(trials.draw.uniform(0.0, 0.2))
        number = trials.draw.choice((signal.SIGTERM, signal.SIGINT))
        os.kill(child, number)
        code = ended(child)
        counts.faults += code == 128 + number
        check_log(trials, "signal", log, code, (0, 128 + number, -number))
        counts.loud += code == -number and not done(store)
        counts.left += len(list(store.folder.glob("*.lock")))
        finish(store)
        trials.compare("signal", store)


def done(store: Store) -> bool:
    return all(store.path(run).exists() for run in RUNS)


def full_disks(trials: Trials, count: int) -> None:
    """No file may grow past some size: EFBIG for ENOSPC, which needs no privilege and no disk."""
    for _ in range(count):
        counts, store = trials.of("disk full"), trials.fresh()
        counts.trials += 1
        log = trials.folder / "log"
        log.unlink(missing_ok=True)
        code = ended(in_child(training(store), log, trials.draw.randrange(20_000)))
        counts.faults += code == 1
        check_log(trials, "disk full", log, code, (0, 1))
        finish(store)
        trials.compare("disk full", store)


def concurrency(trials: Trials, count: int) -> None:
    """Three processes on one folder: every run is trained once."""
    for _ in range(count):
        counts, store = trials.of("concurrency"), trials.fresh()
        counts.trials += 1
        log = trials.folder / "log"
        log.unlink(missing_ok=True)
        children = [in_child(training(store), log) for _ in range(3)]
        counts.faults += 2
        for child in children:
            code = ended(child)
            counts.loud += code not in (0, 1)  # 1: others still held runs
        counts.loud += "Traceback" in log.read_text()
        finish(store)
        trials.compare("concurrency", store)


def flipped(content: bytes, draw: random.Random) -> bytes:
    """The content with one bit changed, cut short, or with a block of zeros."""
    damaged, place = bytearray(content), draw.randrange(len(content))
    how = draw.random()
    if how < 0.7:
        damaged[place] ^= 1 << draw.randrange(8)
    elif how < 0.85:
        del damaged[place:]
    else:
        block = slice(place, min(place + 512, len(content)))
        damaged[block] = bytes(block.stop - place)
    return bytes(damaged)


def damaged_files(trials: Trials, count: int) -> None:
    """Bits, ends and blocks of every kind of file."""
    draw, whole = trials.draw, trials.undisturbed
    records = {run: whole.get(run) for run in RUNS}
    checkpoint_folder = Store(trials.folder / "unfinished")
    pid = in_child(lambda: stop_half(checkpoint_folder), trials.folder / "log")
    ended(pid)
    state = checkpoint_folder.path(RUNS[1], ".checkpoint").read_bytes()
    tar = trials.folder / "whole.tar"
    archive.export(whole, tar, overwrite=True)
    images = make_images(trials.folder / "images")
    for number in range(count):
        kind = ("record", "arrays", "checkpoint", "archive", "decoded images", "index")[number % 6]
        counts = trials.of(f"damage to {kind}")
        counts.trials += 1
        store = trials.fresh()
        store.folder.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                wrong = damage(kind, trials, store, records, state, tar, images, draw)
            except WrnnError:
                wrong = False
            except Exception as error:
                counts.loud += 1
                trials.notes.append(f"damage to {kind}: {error!r}")
                continue
        counts.faults += 1
        if wrong:
            counts.wrong += 1
            trials.notes.append(f"damage to {kind} was taken for good")


def damage(kind, trials, store, records, state, tar, images, draw) -> bool:
    """Damage a file of a kind and read it; returns whether something else came out unnoticed."""
    run = draw.choice(RUNS)
    if kind in ("record", "arrays"):
        for suffix in (".json", ".npz"):
            content = trials.undisturbed.path(run, suffix).read_bytes()
            hit = suffix == {"record": ".json", "arrays": ".npz"}[kind]
            store.path(run, suffix).write_bytes(flipped(content, draw) if hit else content)
        found = store.all()
        return bool(found) and (found[0] != records[run] or not same_arrays(found[0], records[run]))
    if kind == "checkpoint":
        store.path(RUNS[1], ".checkpoint").write_bytes(flipped(state, draw))
        outcome = train(RUNS[1], store).outcome()
        return outcome != trials.expected[RUNS[1]]
    if kind == "archive":
        damaged = trials.folder / "damaged.tar"
        damaged.write_bytes(flipped(tar.read_bytes(), draw))
        archive.merge(store, damaged)
        return any(store.get(run) != records[run] for run in RUNS)
    if kind == "decoded images":
        cache = images / "decoded.pt"
        whole = read_images(images)
        cache.write_bytes(flipped(cache.read_bytes(), draw))
        return not torch.equal(read_images(images), whole)
    fewest, index.FEWEST = index.FEWEST, 0
    try:
        for run in RUNS:
            for suffix in (".json", ".npz"):
                shutil.copy(trials.undisturbed.path(run, suffix), store.path(run, suffix))
                old = time.time() - 60
                os.utime(store.path(run, suffix), (old, old))
        settled, index._SETTLED = index._SETTLED, -1.0
        store.all()
        index._SETTLED = settled
        path = store.folder / ".index"
        path.write_bytes(flipped(path.read_bytes(), draw))
        return store.all() != sorted(records.values(), key=lambda record: record.id)
    finally:
        index.FEWEST = fewest


def stop_half(store: Store) -> None:
    steps = iter(range(20))
    with contextlib.suppress(Exception):
        train(RUNS[1], store, stop=lambda: next(steps, None) is None)


def make_images(folder: Path) -> Path:
    from torchvision.io import write_png

    for split in ("train", "test"):
        for label in data.CIFAR10_CLASSES:
            where = folder / split / label
            where.mkdir(parents=True)
            image = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(0))
            write_png(image.to(torch.uint8), str(where / "0.png"))
    read_images(folder)
    return folder


def read_images(folder: Path) -> torch.Tensor:
    return data.image_folder(folder, "images", train=1, test=1).images


def bad_inputs(trials: Trials, count: int) -> None:
    """Arguments of the command line, drawn by hypothesis: status 2 and one line, or all is well."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    words = st.one_of(
        st.text(max_size=20).filter(lambda text: "\0" not in text),
        st.sampled_from(["", "nan", "inf", "-1", "1e999", "0x10", "9" * 400, "/dev/null", ".."]),
        st.sampled_from(["[", "smoke", "quick", "paper", "cpu", "cuda", "settled", "folder", "3"]),
        st.floats().map(str),
        st.integers().map(str),
    )
    names = "profile device seeds time-limit records match steps epochs stop evaluate-every grid"
    options = st.sampled_from([f"--{name}" for name in f"{names} cifar10 replicas sedes".split()])
    trains = st.sampled_from([["run"], ["run", "fig3"], ["run", "fig99"], ["campaign"]])
    others = st.sampled_from(
        [["records", "merge"], ["records", "export"], ["records"], ["bench"], ["book"], ["status"]]
    )
    commands = st.one_of(trains, trains, others)
    pairs = st.lists(st.tuples(options, words), min_size=1, max_size=3)
    counts = trials.of("bad input, command line")
    place = trials.folder / "empty"
    place.mkdir(exist_ok=True)
    here = Path.cwd()

    @seed(trials.draw.randrange(1 << 30))
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(commands, pairs, words)
    def once(command, options, word):
        arguments = [*command, *(part for pair in options for part in pair)]
        if command[0] not in ("run", "campaign"):
            arguments += ["--device", "nowhere"]  # what is good by chance must not begin to work
        elif len(command) == 1:
            arguments += [word]
        out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        counts.trials += 1
        try:
            os.chdir(place)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                command_line(*arguments)
        except SystemExit as ending:
            code = ending.code or 0
            counts.faults += code == 2
            lines = err.getvalue().rstrip("\n").split("\n")
            if code not in (0, 2) or (code == 2 and len(lines) != 1):
                counts.loud += 1
                trials.notes.append(f"command line {arguments}: status {code}, {lines[-1:]}")
        except BaseException as error:
            counts.loud += 1
            trials.notes.append(f"command line {arguments}: {error!r}")
        finally:
            os.chdir(here)

    # What is good by chance is planned and reported, and not trained.
    train_queue, RunQueue.train = RunQueue.train, lambda self, **_: None
    try:
        once()
    finally:
        RunQueue.train = train_queue
    counts.left += len(list(place.iterdir()))


def bad_calls(trials: Trials, count: int) -> None:
    """Arguments of tasks and their calls, drawn by hypothesis: a WrnnError of one line, or well."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    from wrnn import tasks

    values = st.one_of(
        st.integers(-3, 40),
        st.floats(),
        st.booleans(),
        st.none(),
        st.text(max_size=5),
        st.sampled_from(["code", "text", "fixed", "fresh", "folder", "train", "validation"]),
        st.lists(st.integers(), max_size=2),
    )
    made = st.sampled_from([tasks.CopyTask, tasks.AddingTask, tasks.SequentialDigits])
    names = st.sampled_from(["lag", "length", "layout", "test_batches", "test_batch_size"])
    counts = trials.of("bad input, tasks")

    @seed(trials.draw.randrange(1 << 30))
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(made, st.dictionaries(names, values, max_size=3), values, values)
    def once(task_type, options, batch_size, split):
        known = {field.name for field in dataclasses.fields(task_type)}
        options = {name: value for name, value in options.items() if name in known}
        first = {tasks.CopyTask: {"lag": 10}, tasks.AddingTask: {"length": 5}}.get(task_type, {})
        counts.trials += 1
        try:
            task = task_type(**{**first, **options})
            task.batch(batch_size, generator=torch.Generator().manual_seed(0), split=split)
        except WrnnError as error:
            counts.faults += 1
            counts.loud += "\n" in str(error)
        except Exception as error:
            counts.loud += 1
            trials.notes.append(f"{task_type.__name__}({options}).batch({batch_size!r}): {error!r}")

    once()


def all_kinds(folder: Path, *, seed: int, scale: int, inputs: int) -> Trials:
    """Run every kind of trial, `scale` times as many as the short form has."""
    trials = Trials(folder, seed)
    kills(trials, 2 * scale)
    signals(trials, 2 * scale)
    full_disks(trials, 3 * scale)
    concurrency(trials, scale)
    damaged_files(trials, 48 * scale)
    bad_inputs(trials, inputs // 2)
    bad_calls(trials, inputs // 2)
    return trials


def report(trials: Trials, seconds: float) -> dict:
    """Counts by kind with their date and commit, as chapter B shows them."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": git_commit(),
        "seconds": round(seconds),
        "kinds": {kind: dataclasses.asdict(counts) for kind, counts in trials.counts.items()},
        "notes": trials.notes[:100],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="a thousand faults, 10,000 bad inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts here")
    given_arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        size = dict(scale=20, inputs=10_000) if given_arguments.long else dict(scale=1, inputs=400)
        found = all_kinds(Path(scratch), seed=given_arguments.seed, **size)
    result = report(found, time.monotonic() - began)
    print(json.dumps(result, indent=1))
    if given_arguments.json:
        given_arguments.json.parent.mkdir(parents=True, exist_ok=True)
        given_arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(not all(counts.clean for counts in found.counts.values()))
