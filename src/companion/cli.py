"""The command line: ``wrnn run | campaign | status | book | bench | gpu | records export | merge``.

Errors are one line on stderr. Exit status 2 is bad input, 1 a failed run or chapter.
"""

import contextlib
import json
import math
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

import wrnn
from companion.records import archive
from companion.records.files import (
    Store,
    committed_store,
    local_store,
    project_root,
    report_damage,
    write_atomically,
)
from companion.records.selection import MOST_SEEDS, Grouped, select
from companion.runs.campaign import campaign, scaled
from companion.runs.experiments import EXPERIMENTS, Experiment, find_experiments, plan
from companion.runs.run import PROFILES, STOPS, Run
from companion.training.signals import Interrupted
from wrnn.errors import WrnnError
from wrnn.tasks.data import CIFAR10_SOURCES

if TYPE_CHECKING:
    from companion.training.queue import RunQueue

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=__doc__.split("\n")[0],
)
records_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Work on records.")
app.add_typer(records_app, name="records")


def _folder(text: str) -> Path:
    """Return a folder that is there or can be made; anything else is bad input."""
    if not text:
        raise typer.BadParameter("'' is no folder: leave the option out for the default")
    path = Path(text)
    try:
        if path.exists() and not path.is_dir():
            raise typer.BadParameter(f"{text} is not a folder")
    except (OSError, ValueError) as error:  # too long, or with a null character
        raise typer.BadParameter(f"{text[:80]!r} is no folder: {error}") from error
    return path


def _seconds(text: str) -> float:
    """Return a finite time of at least 0 s."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise typer.BadParameter(f"{text} must be a finite number of seconds and not negative")
    return seconds


Profile = Annotated[Literal[*PROFILES], typer.Option(help="sizes, steps and data of the runs")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: cuda where it is")]
Seeds = Annotated[int, typer.Option(min=1, max=MOST_SEEDS, help="how many seeds of every run")]
TimeLimit = Annotated[
    float, typer.Option(parser=_seconds, metavar="SECONDS", help="after which to stop; 0: none")
]
Cifar10 = Annotated[
    Literal[*CIFAR10_SOURCES],
    typer.Option(help="folder: from an image folder such as of JPEGs, which are other runs"),
]
Records = Annotated[
    Path | None,
    typer.Option(
        parser=_folder,
        metavar="FOLDER",
        help="of records; default: records/, and _build/records for quick and smoke",
    ),
]
Published = Annotated[
    Path | None, typer.Option(parser=_folder, metavar="FOLDER", help="default: records/")
]
Executor = Annotated[
    Literal["serial", "dask"], typer.Option(help="in this process, or by Dask's workers")
]
Scheduler = Annotated[
    str, typer.Option(metavar="ADDRESS", help="of Dask, as tcp://host:8786; without it, here")
]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        help="of Dask: how many to start, 0: one per GPU or core; with --scheduler, to wait for",
    ),
]


def store_for(profile: str, records: Path | None = None) -> Store:
    """Return the store that a profile's records go to."""
    if records is not None:
        return Store(records)
    return committed_store() if profile == "paper" else local_store()


@contextlib.contextmanager
def _needing(where: str) -> Iterator[None]:
    """Name a module which is not there, and say where it is to be had."""
    try:
        yield
    except ImportError as error:
        raise WrnnError(f"{error.name} is missing{where}") from error


def _exclusive(**options: object) -> None:
    """Raise WrnnError where more than one of some options is given."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if len(given) > 1:
        raise WrnnError(f"{' and '.join(given)} exclude each other: give one of them")


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"wrnn {wrnn.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Hold the options of no command in particular."""


@app.command()
def run(
    experiments: Annotated[list[str], typer.Argument(help="names such as fig3 table1, or all")],
    profile: Profile = "quick",
    device: Device = "auto",
    seeds: Seeds = 1,
    time_limit: TimeLimit = 0,
    records: Records = None,
    match: Annotated[str, typer.Option(help="only runs whose description has this pattern")] = "",
    steps: Annotated[
        int, typer.Option(min=0, help="train fewer steps than planned: another run")
    ] = 0,
    epochs: Annotated[
        int, typer.Option(min=0, help="MNIST and CIFAR10: fewer epochs; the rate drops at 5/6")
    ] = 0,
    stop: Annotated[
        Literal[*STOPS], typer.Option(help="settled: not past a task's floor")
    ] = "budget",
    evaluate_every: Annotated[int, typer.Option(min=0, help="steps between validations")] = 0,
    grid: Annotated[str, typer.Option(help="paper: all settings that the paper tried")] = "",
    cifar10: Cifar10 = "torchvision",
    replicas: Annotated[
        int, typer.Option(min=0, help="runs trained together; 0: 8 on CUDA, 1 on a CPU")
    ] = 0,
    executor: Executor = "serial",
    scheduler: Scheduler = "",
    workers: Workers = 0,
) -> None:
    """Train what has no record yet; stop and repeat the command at any time."""
    _exclusive(steps=steps, epochs=epochs)
    try:
        pattern = re.compile(match)
    except re.error as error:
        raise WrnnError(f"--match {match!r} is not a regular expression: {error}") from error
    found = find_experiments(experiments)
    runs = plan(found, profile, seeds, grid)
    runs = [planned for planned in runs if pattern.search(planned.description)]
    if not runs:
        raise WrnnError(f"no run of {', '.join(experiments)} matches {match!r}")
    if epochs:
        runs = [scaled(planned, epochs) for planned in runs]
    if steps and all(steps >= planned.steps for planned in runs):
        most = max(planned.steps for planned in runs)
        raise WrnnError(f"--steps {steps} is no fewer than what is planned, {most} at most")
    if cifar10 == "folder" and not any(hasattr(planned.task, "source") for planned in runs):
        raise WrnnError("--cifar10 folder: none of these runs is on CIFAR10")
    runs = [_changed(r, steps, stop, evaluate_every, cifar10) for r in runs]
    store = store_for(profile, records)
    queue = _queue(runs, store, device, executor, scheduler, workers, replicas=replicas)
    _train(queue, found, device, time_limit)


def _queue(
    runs: list[Run],
    store: Store,
    device: str,
    executor: str,
    scheduler: str,
    workers: int,
    *,
    replicas: int,
    replan: Callable[[], list[Run]] | None = None,
) -> "RunQueue":
    """Return the queue that trains runs with an executor; 0 replicas choose by the device."""
    from companion.training.queue import REPLICAS, RunQueue
    from companion.training.train import resolve_device

    if executor == "serial" and (scheduler or workers):
        raise WrnnError("--scheduler and --workers are for --executor dask")
    if not scheduler:  # whose workers have devices of their own
        kind = resolve_device(device).type  # checked also where there is nothing left to train
    if executor == "serial":
        return RunQueue(runs, store, replicas=replicas or REPLICAS[kind], replan=replan)
    with _needing(": pip install '.[dask]' in the project's folder"):
        from companion.training.cluster import ClusterQueue
    return ClusterQueue(
        runs, store, scheduler=scheduler, workers=workers, replicas=replicas, replan=replan
    )


def _train(
    queue: "RunQueue", experiments: Iterable[Experiment], device: str, time_limit: float
) -> NoReturn:
    """Train what is left until the time is over, say what it went into, and exit."""
    deadline = time.monotonic() + time_limit if time_limit else math.inf
    queue.train(device=device, deadline=deadline)
    print(*queue.summary(experiments), sep="\n", end="\n" * bool(queue.spent))
    raise typer.Exit(report(queue))


def _changed(planned: Run, steps: int, stop: str, evaluate_every: int, cifar10: str) -> Run:
    """Return the run that is trained in place of a planned one; a 0 changes nothing."""
    task = planned.task
    return replace(
        planned,
        task=replace(task, source=cifar10) if hasattr(task, "source") else task,
        steps=min(steps or planned.steps, planned.steps),
        stop=stop,
        evaluate_every=evaluate_every or planned.evaluate_every,
    )


def report(queue: "RunQueue") -> int:
    """Say what a queue has left and what failed; returns the exit status."""
    print(f"{queue.headline()}{': the same command goes on' * bool(queue.left())}")
    failed: dict[str, list[str]] = {}
    for run, error in queue.errors.items():
        failed.setdefault(error.removeprefix(f"{run.description}: "), []).append(run.description)
    for reason, names in failed.items():  # one file may keep many runs from training
        more = f" and {len(names) - 1} more" * (len(names) > 1)
        _complain(f"{names[0]}{more}: {reason}")
    if queue.elsewhere:
        held = f"{queue.elsewhere} runs are held by another process"
        _complain(f"{held}: repeat the command when it has ended")
    return queue.exit_status


@app.command("campaign")
def run_campaign(
    time_limit: TimeLimit = 0,
    device: Device = "auto",
    records: Published = None,
    left: Annotated[
        bool, typer.Option("--left", help="train nothing: say what is done and how long is left")
    ] = False,
    executor: Executor = "serial",
    scheduler: Scheduler = "",
    workers: Workers = 0,
) -> None:
    """Train what a CPU reaches of the paper's sizes, in order; several may work on one folder.

    CIFAR10 is read from an image folder. Stop and repeat the command at any time.
    """
    store = store_for("paper", records)
    replan = partial(campaign, store.find)
    queue = _queue(replan(), store, device, executor, scheduler, workers, replicas=1, replan=replan)
    if left:
        queue.read_rates(device)
        print(queue.headline())
        return
    _train(queue, find_experiments(["all"]), device, time_limit)


@app.command()
def status() -> None:
    """Show how many runs of each experiment are recorded, at which budget, and where."""
    stores = committed_store(), local_store()
    published, own = (Grouped(store.all()) for store in stores)
    print(
        f"{'experiment':<13}{'profile':<9}{'recorded':>9}{'smaller':>9}{'seeds':>7}  where"
        f", read from {stores[0].folder} (quick and smoke: {stores[1].folder} first)"
    )
    for experiment in EXPERIMENTS.values():
        for profile in PROFILES:
            # A run of this machine goes before the published one.
            sources = [published] if profile == "paper" else [own, published]
            choices = zip(*(select(experiment, profile, found) for found in sources), strict=True)
            chosen = [next((c for c in choice if c.records), choice[0]) for choice in choices]
            whole = sum(c.status in (profile, "settled") for c in chosen)
            smaller = sum(bool(c.records) for c in chosen) - whole
            records = [record for c in chosen for record in c.records]
            print(
                f"{experiment.name:<13}{profile:<9}{f'{whole}/{len(chosen)}':>9}"
                f"{smaller:>9}{len(records):>7}  "
                + ", ".join(sorted({record.device for record in records}))
            )


@app.command()
def book(
    profile: Profile = "quick",
    device: Device = "auto",
    seeds: Seeds = 1,
    publish: Annotated[
        bool, typer.Option("--publish", help="execute book/ again from records (--profile paper)")
    ] = False,
    build_only: Annotated[
        bool, typer.Option("--build-only", help="build the site from book/ as it is")
    ] = False,
    only: Annotated[
        str, typer.Option(help="execute this chapter, such as 03, and build no site")
    ] = "",
) -> None:
    """Train a profile, execute every chapter, check them and build the site."""
    with _needing(": pip install '.[book]' in the project's folder"):
        from companion import book as pipeline
    _exclusive(publish=publish, build_only=build_only)
    _exclusive(only=only, build_only=build_only)
    if re.fullmatch(r"\w*", only) is None:
        raise WrnnError(f"--only {only!r} is not how a chapter's name begins, such as 03")
    if publish and profile != "paper":
        raise WrnnError(f"--publish executes the paper profile: use --profile paper, not {profile}")
    for store in (committed_store(), local_store()):
        damaged = store.scan()[1]
        if damaged and publish:
            raise damaged[0]
        for error in damaged:
            report_damage(error)
    root = project_root()
    notebooks = root / "notebooks"
    html = root / "_build" / ("smoke/html" if profile == "smoke" else "html")
    source_root = root
    if not build_only:
        chapters = {path.stem for path in notebooks.glob(f"{only}*.py")}
        shown = [e for e in EXPERIMENTS.values() if e.chapter in chapters]
        runs = plan(shown, profile, seeds)
        queue = _queue(runs, store_for(profile), device, "serial", "", 0, replicas=1)
        pages = root / "book"
        if not publish:
            source_root = root / "_build" / profile
            pages = pipeline.stage(root, source_root, executed=False)
            print("Training what has no record yet")
            queue.train(device=device)
            if exit_status := report(queue):
                raise typer.Exit(exit_status)
        print("Executing the chapters")
        parameters = {"profile": profile, "device": device, "seeds": seeds, "train": not publish}
        written = pipeline.execute_all(
            notebooks, destination=pages, parameters=parameters, only=only
        )
        if publish:
            from companion.page.map import write_map

            write_map(root)
        if only:
            print(*written, sep="\n")
            return
    problems = pipeline.check(source_root / "book", notebooks)
    if problems:
        raise pipeline.ChapterError("; ".join(problems))
    print("Building the site")
    page = pipeline.build(source_root, html)
    print(f"The book is ready. Open {page.as_uri()} in a browser.")


@app.command()
def bench(
    profile: Annotated[
        Literal["quick", "paper"], typer.Option(help="paper: the paper's sizes")
    ] = "quick",
    device: Device = "auto",
    repeats: Annotated[int, typer.Option(help="timings of every way to compute")] = 5,
    case: Annotated[str, typer.Option(help="only what has this pattern in its name")] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="also write it here, after each case")
    ] = None,
) -> None:
    """Time every way to compute the recurrence, side by side in this process."""
    from companion.bench import format_table, run_bench
    from companion.training.train import resolve_device

    def save(result: dict) -> None:
        if json_file is not None:
            write_atomically(json_file, (json.dumps(result, indent=1) + "\n").encode())

    kind = resolve_device(device).type
    options = dict(profile=profile, repeats=repeats, match=case)
    print(format_table(run_bench(kind, **options, report=_say_measuring, save=save)))


@app.command()
def gpu(
    time_limit: TimeLimit = 0,
    device: Device = "cuda",
    profile: Profile = "paper",
    seeds: Seeds = 1,
    cifar10: Cifar10 = "torchvision",
    folder: Annotated[Path, typer.Option(help="where results go")] = Path("gpu-results"),
    estimate: Annotated[
        bool, typer.Option("--estimate", help="train nothing: estimate the hours of a GPU")
    ] = False,
) -> None:
    """Run the GPU's tests, the benchmark and the paper's runs; pack the results into one tar."""
    if estimate:
        from companion import hours

        with _needing(", which is published for Linux only"):
            hours.estimate(find_experiments(["all"]), profile, seeds)
        return
    from companion.first_hour import stages, work_through
    from companion.training.train import resolve_device

    kind = resolve_device(device).type
    todo = stages(kind, profile=profile, seeds=seeds, cifar10=cifar10, folder=folder)
    raise typer.Exit(work_through(todo, folder, device=kind, time_limit=time_limit or math.inf))


def _say_measuring(what: str) -> None:
    """Say on stderr what a benchmark measures next; all of it may take a quarter of an hour."""
    print(f"measuring {what}", file=sys.stderr, flush=True)


@records_app.command()
def export(
    file: Annotated[Path, typer.Argument(help="tar file to write")],
    records: Published = None,
    checkpoints: Annotated[bool, typer.Option(help="with those of unfinished runs")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file")] = False,
) -> None:
    """Write all records, and the checkpoints of unfinished runs, into one tar file."""
    store = store_for("paper", records)
    counts = archive.export(store, file, checkpoints=checkpoints, overwrite=overwrite)
    print(
        f"{counts['records']} records and {counts['checkpoints']} checkpoints of unfinished runs "
        f"in {file}: {counts['bytes'] / 1e6:.1f} MB"
    )


@records_app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="folder of records, or a tar that export wrote")],
    records: Published = None,
) -> None:
    """Copy what is new from another folder or an exported tar; what is here whole stays."""
    store = store_for("paper", records)
    counts = archive.merge(store, source)
    print(
        f"{counts['records']} records and {counts['checkpoints']} checkpoints of unfinished runs "
        f"copied to {store.folder}; {counts['kept']} were there already"
    )
    if counts["busy"]:
        print(f"{counts['busy']} left out, as their runs are in training here: merge again later")


def _complain(message: object) -> None:
    """Say one line on stderr; what is not printable in it, such as a line's end, as its escape."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message))
    print(f"wrnn: {line}", file=sys.stderr, flush=True)


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted(number)


def main() -> None:
    """Run the command line; every error that the input or the machine can cause is one line."""
    if sys.argv[1:] in ([], ["records"]):
        sys.argv.append("--help")
    for stream in ("stdout", "stderr"):  # None where the caller has closed it
        if getattr(sys, stream) is None:
            setattr(sys, stream, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    warnings.showwarning = lambda message, *_, **__: _complain(message)
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _interrupt) for number in signals}
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except (WrnnError, typer.TyperException) as error:
        _complain(error if isinstance(error, WrnnError) else error.format_message())
        status = 2
    except BrokenPipeError:  # as in `wrnn status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
        status = 1
    except (RuntimeError, MemoryError) as error:
        _complain(error if str(error) else "out of memory")
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        status = 1
    except Interrupted as error:
        _complain("stopped; the same command goes on from the last checkpoint")
        status = 128 + error.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(status or 0)
