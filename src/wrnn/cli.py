"""The command line: ``wrnn run | status | book | bench | records merge``.

Errors are one line on stderr. Exit status 2 is bad input, 1 a failed run or chapter.
"""

import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import click
import typer
from tqdm import tqdm

from wrnn.errors import WrnnError
from wrnn.experiments import EXPERIMENTS, find_experiments, plan
from wrnn.records import Store, committed_store, local_store
from wrnn.runs import PROFILES, Run
from wrnn.training import TimeLimitReached, resolve_device, train

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, help=__doc__.split("\n")[0]
)
records_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Work on records.")
app.add_typer(records_app, name="records")

Profile = Annotated[str, typer.Option(help="smoke, quick or paper")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Seeds = Annotated[int, typer.Option(help="how many seeds of every run")]
Records = Annotated[
    Path | None,
    typer.Option(help="folder of records; default records/ for paper, _build/records otherwise"),
]


def store_for(profile: str, records: Path | None = None) -> Store:
    """Return the store that a profile's records go to."""
    if records is not None:
        return Store(records)
    return committed_store() if profile == "paper" else local_store()


@app.command()
def run(
    experiments: Annotated[list[str], typer.Argument(help="names such as fig3 table1, or all")],
    profile: Profile = "quick",
    device: Device = "auto",
    seeds: Seeds = 1,
    time_limit: Annotated[float, typer.Option(help="seconds after which to stop; 0: none")] = 0,
    records: Records = None,
    match: Annotated[str, typer.Option(help="only runs whose description holds this text")] = "",
    steps: Annotated[int, typer.Option(help="train fewer steps than planned: another run")] = 0,
    evaluate_every: Annotated[int, typer.Option(help="steps between validations")] = 0,
) -> None:
    """Train what has no record yet; stop and repeat the command at any time."""
    resolve_device(device)
    if time_limit < 0 or steps < 0 or evaluate_every < 0:
        raise WrnnError("--time-limit, --steps and --evaluate-every must not be negative")
    runs = [
        r for r in plan(find_experiments(experiments), profile, seeds) if match in r.description
    ]
    if not runs:
        raise WrnnError(f"no run of {', '.join(experiments)} matches {match!r}")
    if steps:
        runs = [replace(r, steps=min(steps, r.steps)) for r in runs]
    if evaluate_every:
        runs = [replace(r, evaluate_every=evaluate_every) for r in runs]
    deadline = time.monotonic() + time_limit if time_limit else math.inf
    if not train_all(runs, store_for(profile, records), device=device, deadline=deadline):
        raise typer.Exit(1)


def train_all(runs: list[Run], store: Store, *, device: str, deadline: float = math.inf) -> bool:
    """Train the runs that have no record yet, with one progress bar; False where one failed."""
    missing = [run for run in runs if store.get(run) is None]
    errors: list[str] = []
    # None shows the bar on a terminal only, so that logs of unattended runs stay short.
    total = sum(run.steps for run in missing)
    with tqdm(total=total, unit="step", disable=None, leave=False) as bar:
        for run in missing:
            bar.set_description(run.description)
            if bar.disable:
                print(run.description, flush=True)
            try:
                with store.claim(run) as claimed:
                    if claimed:
                        train(run, store, device=device, deadline=deadline, progress=bar.update)
            except TimeLimitReached:
                break
            except (WrnnError, RuntimeError, MemoryError) as error:
                errors.append(f"{run.description}: {error}".splitlines()[0])
    left = sum(store.get(run) is None for run in runs)
    print(f"{len(runs) - left} of {len(runs)} records in {store.folder}", end="")
    print(f"; {left} left: the same command goes on" if left else "")
    for error in errors:
        print(f"wrnn: {error}", file=sys.stderr)
    return not errors


@app.command()
def status() -> None:
    """Show how many records of how many each experiment has, and where they were made."""
    stores = {"smoke": local_store(), "quick": local_store(), "paper": committed_store()}
    reference = committed_store()
    print(f"{'experiment':<12}{'profile':<9}{'records':>9}  where")
    for experiment in EXPERIMENTS.values():
        for profile in PROFILES:
            runs = experiment.runs(profile)
            found = [stores[profile].get(run) or reference.get(run) for run in runs]
            devices = sorted({record.device for record in found if record})
            count = f"{sum(record is not None for record in found)}/{len(runs)}"
            print(f"{experiment.name:<12}{profile:<9}{count:>9}  {', '.join(devices)}")


@records_app.command()
def merge(
    folder: Annotated[Path, typer.Argument(help="folder of records made elsewhere")],
    records: Annotated[Path | None, typer.Option(help="folder to merge into")] = None,
) -> None:
    """Copy the records that are new from another folder; a record already here stays."""
    store = Store(records) if records else committed_store()
    copied, kept = store.merge(folder)
    print(f"{copied} records copied to {store.folder}, {kept} were there already")


def main() -> None:
    """Run the command line; every error that the input can cause is one line."""
    try:
        status = app(standalone_mode=False)
    except WrnnError as error:
        print(f"wrnn: {error}", file=sys.stderr)
        status = 2
    except click.ClickException as error:
        print(f"wrnn: {error.format_message()}", file=sys.stderr)
        status = 2
    except (KeyboardInterrupt, click.Abort):
        print("wrnn: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        status = 130
    sys.exit(status or 0)
