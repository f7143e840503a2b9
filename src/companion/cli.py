"""The command line: ``wrnn run | status | book | bench | gpu | records export | merge``.

Errors are one line on stderr. Exit status 2 is bad input, 1 a failed run or chapter.
"""

import json
import math
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

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
from companion.runs.campaign import campaign, scaled
from companion.runs.experiments import EXPERIMENTS, find_experiments, plan
from companion.runs.run import PROFILES, Run
from companion.training.queue import REPLICAS, Interrupted, RunQueue
from companion.training.train import resolve_device
from wrnn.errors import WrnnError
from wrnn.tasks.base import check_choice
from wrnn.tasks.data import CIFAR10_SOURCES

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


Profile = Annotated[str, typer.Option(help="smoke, quick or paper")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Seeds = Annotated[int, typer.Option(min=1, max=100, help="how many seeds of every run")]
TimeLimit = Annotated[
    float, typer.Option(parser=_seconds, metavar="SECONDS", help="after which to stop; 0: none")
]
Records = Annotated[
    Path | None,
    typer.Option(
        parser=_folder,
        metavar="FOLDER",
        help="folder of records; default records/ for paper, _build/records otherwise",
    ),
]
RecordsFolder = Annotated[
    Path | None,
    typer.Option("--records", parser=_folder, metavar="FOLDER", help="folder of records here"),
]

Executor = Annotated[str, typer.Option(help="serial: in this process; dask: by Dask's workers")]
Scheduler = Annotated[
    str, typer.Option(metavar="ADDRESS", help="of Dask, as tcp://host:8786; without it, here")
]
Workers = Annotated[
    int,
    typer.Option(
        help="of Dask: how many to start, 0: one per GPU or core; with --scheduler, to wait for"
    ),
]


def store_for(profile: str, records: Path | None = None) -> Store:
    """Return the store that a profile's records go to."""
    if records is not None:
        return Store(records)
    return committed_store() if profile == "paper" else local_store()


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
    steps: Annotated[int, typer.Option(help="train fewer steps than planned: another run")] = 0,
    epochs: Annotated[
        int, typer.Option(help="MNIST and CIFAR10: fewer epochs, with the schedule scaled")
    ] = 0,
    stop: Annotated[
        str, typer.Option(help="budget, or settled: not past a task's floor")
    ] = "budget",
    evaluate_every: Annotated[int, typer.Option(help="steps between validations")] = 0,
    grid: Annotated[str, typer.Option(help="paper: all settings that the paper tried")] = "",
    cifar10: Annotated[
        str,
        typer.Option(help="torchvision, or folder: an image folder such as of JPEGs: other runs"),
    ] = "torchvision",
    replicas: Annotated[
        int, typer.Option(help="runs trained together; 0: 8 on CUDA, 1 on a CPU")
    ] = 0,
    executor: Executor = "serial",
    scheduler: Scheduler = "",
    workers: Workers = 0,
) -> None:
    """Train what has no record yet; stop and repeat the command at any time."""
    if min(steps, epochs, evaluate_every, replicas) < 0:
        raise WrnnError("--steps, --epochs, --evaluate-every and --replicas must not be negative")
    if steps and epochs:
        raise WrnnError("--steps and --epochs exclude each other: give one of them")
    try:
        pattern = re.compile(match)
    except re.error as error:
        raise WrnnError(f"--match {match!r} is not a regular expression: {error}") from error
    found = find_experiments(experiments)
    runs = plan(found, profile, seeds, grid)
    runs = [planned for planned in runs if pattern.search(planned.description)]
    if not runs:
        raise WrnnError(f"no run of {', '.join(experiments)} matches {match!r}")
    check_choice("--cifar10", cifar10, CIFAR10_SOURCES)
    if epochs:
        runs = [scaled(planned, epochs) for planned in runs]
    runs = [_changed(r, steps, stop, evaluate_every, cifar10) for r in runs]
    sweep = _queue(
        runs, store_for(profile, records), device, executor, scheduler, workers, replicas=replicas
    )
    deadline = time.monotonic() + time_limit if time_limit else math.inf
    sweep.train(device=device, deadline=deadline)
    print(*sweep.summary(found), sep="\n", end="\n" * bool(sweep.spent))
    raise typer.Exit(report(sweep))


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
) -> RunQueue:
    """Return the queue that trains runs with an executor; 0 replicas choose by the device."""
    check_choice("--executor", executor, ("serial", "dask"))
    if workers < 0:
        raise WrnnError("--workers must not be negative")
    if executor == "serial":
        if scheduler or workers:
            raise WrnnError("--scheduler and --workers are for --executor dask")
        kind = resolve_device(device).type  # checked also where there is nothing left to train
        return RunQueue(runs, store, replicas=replicas or REPLICAS[kind], replan=replan)
    if scheduler:
        check_choice("--device", device, ("auto", "cpu", "cuda"))  # of the workers
    else:
        resolve_device(device)
    try:
        from companion.training.cluster import ClusterQueue
    except ImportError as error:
        raise WrnnError(f"{error.name} is missing: pip install 'wrnn[dask]'") from error
    return ClusterQueue(
        runs, store, scheduler=scheduler, workers=workers, replicas=replicas, replan=replan
    )


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


def report(sweep: RunQueue) -> int:
    """Say what a sweep has left and what failed; returns the exit status."""
    print(f"{sweep.headline()}{': the same command goes on' * bool(sweep.left())}")
    failed: dict[str, list[str]] = {}
    for run, error in sweep.errors.items():
        failed.setdefault(error.removeprefix(f"{run.description}: "), []).append(run.description)
    for reason, names in failed.items():  # one file may keep many runs from training
        more = f" and {len(names) - 1} more" * (len(names) > 1)
        print(f"wrnn: {names[0]}{more}: {reason}", file=sys.stderr)
    if sweep.elsewhere:
        print(
            f"wrnn: {sweep.elsewhere} runs are held by another process: repeat the command when it "
            "has ended",
            file=sys.stderr,
        )
    return sweep.exit_status


@app.command("campaign")
def run_campaign(
    time_limit: TimeLimit = 0,
    device: Device = "auto",
    records: Records = None,
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

    def plan_again() -> list[Run]:
        return campaign(store.find)

    sweep = _queue(
        plan_again(), store, device, executor, scheduler, workers, replicas=1, replan=plan_again
    )
    if left:
        sweep.read_rates(device)
        print(sweep.headline())
        return
    deadline = time.monotonic() + time_limit if time_limit else math.inf
    sweep.train(device=device, deadline=deadline)
    print(*sweep.summary(find_experiments(["all"])), sep="\n", end="\n" * bool(sweep.spent))
    raise typer.Exit(report(sweep))


@app.command()
def status() -> None:
    """Show how many runs of each experiment are recorded, at which budget, and where."""
    try:
        from companion.records.table import Grouped, gather
    except ImportError as error:
        raise WrnnError(f"{error.name} is missing: pip install 'wrnn[book]'") from error
    published, own = Grouped(committed_store().all()), Grouped(local_store().all())
    print(
        f"{'experiment':<12}{'profile':<9}{'recorded':>9}{'smaller':>9}{'seeds':>7}  where"
        f", read from {committed_store().folder} (quick and smoke: {local_store().folder} first)"
    )
    for experiment in EXPERIMENTS.values():
        for profile in PROFILES:
            # A run of this machine goes before the published one.
            sources = [published] if profile == "paper" else [own, published]
            choices = zip(*(gather(experiment, profile, found) for found in sources), strict=True)
            results = [next((r for r in choice if r.records), choice[0]) for choice in choices]
            whole = [r for r in results if r.status in (profile, "settled")]
            smaller = [r for r in results if r.records and r not in whole]
            records = [record for result in whole + smaller for record in result.records]
            print(
                f"{experiment.name:<12}{profile:<9}{f'{len(whole)}/{len(results)}':>9}"
                f"{len(smaller):>9}{len(records):>7}  "
                + ", ".join(sorted({record.device for record in records}))
            )


@app.command()
def book(
    profile: Profile = "quick",
    device: Device = "auto",
    seeds: Seeds = 1,
    publish: Annotated[
        bool, typer.Option("--publish", help="execute book/ again from records/, training nothing")
    ] = False,
    build_only: Annotated[
        bool, typer.Option("--build-only", help="build the site from book/ as it is")
    ] = False,
    only: Annotated[
        str, typer.Option(help="execute this chapter, such as 03, and build no site")
    ] = "",
) -> None:
    """Train a profile, execute every chapter, check them and build the site."""
    try:
        from companion import book as pipeline
    except ImportError as error:
        raise WrnnError(f"{error.name} is missing: pip install 'wrnn[book]'") from error
    if publish and build_only:
        raise WrnnError("--publish and --build-only exclude each other: give one of them")
    if only and build_only:
        raise WrnnError("--only and --build-only exclude each other: give one of them")
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
        resolve_device(device)
        pages = root / "book"
        if not publish:
            source_root = root / "_build" / profile
            pages = pipeline.stage(root, source_root, executed=False)
            print("Training what has no record yet")
            sweep = RunQueue(runs, store_for(profile))
            sweep.train(device=device)
            if exit_status := report(sweep):
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
    profile: Annotated[str, typer.Option(help="quick, or paper for the paper's sizes")] = "quick",
    device: Device = "auto",
    repeats: Annotated[int, typer.Option(help="timings of every way to compute")] = 5,
    case: Annotated[str, typer.Option(help="only what has this pattern in its name")] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="also write it here, after each case")
    ] = None,
) -> None:
    """Time every way to compute the recurrence, side by side in this process."""
    from companion.bench import format_table, run_bench

    def save(result: dict) -> None:
        if json_file is not None:
            write_atomically(json_file, (json.dumps(result, indent=1) + "\n").encode())

    kind = resolve_device(device).type
    options = dict(profile=profile, repeats=repeats, match=case)
    print(format_table(run_bench(kind, **options, report=_say_measuring, save=save)))


@app.command()
def gpu(
    time_limit: Annotated[float, typer.Option(help="seconds for everything; 0: no limit")] = 0,
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the stages out")] = "cuda",
    profile: Annotated[str, typer.Option(help="smoke, quick or paper")] = "paper",
    seeds: Seeds = 1,
    cifar10: Annotated[str, typer.Option(help="torchvision, or folder")] = "torchvision",
    folder: Annotated[Path, typer.Option(help="where results go")] = Path("gpu-results"),
    estimate: Annotated[
        bool, typer.Option("--estimate", help="train nothing: estimate the hours of a GPU")
    ] = False,
) -> None:
    """Run the GPU's tests, the benchmark and the paper's runs; pack the results into one tar."""
    from companion.first_hour import stages, work_through

    if estimate:
        check_choice("--profile", profile, PROFILES)
        from companion import hours

        try:
            hours.estimate(find_experiments(["all"]), profile, seeds)
        except ImportError as error:
            raise WrnnError(
                f"{error.name} is missing, which is published for Linux only"
            ) from error
        return
    kind = resolve_device(device).type
    if time_limit < 0:
        raise WrnnError("--time-limit must not be negative")
    check_choice("--profile", profile, PROFILES)
    check_choice("--cifar10", cifar10, CIFAR10_SOURCES)
    todo = stages(kind, profile=profile, seeds=seeds, cifar10=cifar10, folder=folder)
    raise typer.Exit(work_through(todo, folder, device=kind, time_limit=time_limit or math.inf))


def _say_measuring(what: str) -> None:
    """Say on stderr what a benchmark measures next; all of it may take a quarter of an hour."""
    print(f"measuring {what}", file=sys.stderr, flush=True)


@records_app.command()
def export(
    file: Annotated[Path, typer.Argument(help="tar file to write")],
    records: RecordsFolder = None,
    checkpoints: Annotated[bool, typer.Option(help="with those of unfinished runs")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file")] = False,
) -> None:
    """Write all records, and the checkpoints of unfinished runs, into one tar file."""
    store = Store(records) if records else committed_store()
    counts = archive.export(store, file, checkpoints=checkpoints, overwrite=overwrite)
    print(
        f"{counts['records']} records and {counts['checkpoints']} checkpoints of unfinished runs "
        f"in {file}: {counts['bytes'] / 1e6:.1f} MB"
    )


@records_app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="folder of records, or a tar that export wrote")],
    records: RecordsFolder = None,
) -> None:
    """Copy what is new from another folder or an exported tar; what is here already stays."""
    store = Store(records) if records else committed_store()
    counts = archive.merge(store, source)
    print(
        f"{counts['records']} records and {counts['checkpoints']} checkpoints of unfinished runs "
        f"copied to {store.folder}; {counts['kept']} were there already"
    )
    if counts["busy"]:
        print(f"{counts['busy']} left out, as their runs are in training here: merge again later")


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"wrnn: {message}", file=sys.stderr, flush=True)


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted(number)


def _one_line(message: object) -> str:
    """Return a message with what is not printable in it, such as a line's end, as its escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message))


def main() -> None:
    """Run the command line; every error that the input or the machine can cause is one line."""
    if sys.argv[1:] in ([], ["records"]):
        sys.argv.append("--help")
    sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    warnings.showwarning = _warn
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _interrupt) for number in signals}
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except WrnnError as error:
        print(f"wrnn: {_one_line(error)}", file=sys.stderr)
        status = 2
    except typer.TyperException as error:
        print(f"wrnn: {_one_line(error.format_message())}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # as in `wrnn status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"wrnn: {_one_line(where)}{error.strerror or error}", file=sys.stderr)
        status = 1
    except (RuntimeError, MemoryError) as error:
        print(
            f"wrnn: {error or 'out of memory'}",
            *getattr(error, "__notes__", ()),
            sep="\n",
            file=sys.stderr,
        )
        status = 1
    except Interrupted as error:
        print("wrnn: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        status = 128 + error.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(status or 0)
