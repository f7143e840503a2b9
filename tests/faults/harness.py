"""Break it, and count: what was lost, what was silently wrong, what was not one line.

Every trial injects faults of one kind, lets the work go on, and compares what is there in the end
with what undisturbed runs gave, bit for bit. The short form is a test (`test_faults.py`); the long
one is ``make faults``, whose counts are kept beside the records and shown in chapter B:

    python tests/faults/harness.py --long --json records/faults/faults.json
"""

import argparse
import dataclasses
import datetime
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from damage import Files, damaged_files
from inputs import bad_calls, bad_commands, bad_executions, bad_parameters
from processes import concurrency, failing_disks, full_disks, kills, signals
from trials import Trials

from companion.records.provenance import git_commit

ROUNDS = 100  # of the long form: over 1,000 faults and 10,000 bad inputs


def one_round(trials: Trials, files: Files) -> None:
    """Run trials of every kind but that of executed chapters, which take long."""
    kills(trials, 1)
    signals(trials, 2)
    full_disks(trials, 2)
    failing_disks(trials, 3)
    concurrency(trials, 1)
    damaged_files(trials, files, 8)
    bad_calls(trials, "models", 400)
    bad_calls(trials, "tasks", 200)
    bad_commands(trials, 150)
    bad_parameters(trials, 150)


def all_kinds(
    folder: Path,
    *,
    seed: int,
    rounds: int = 1,
    deadline: float = math.inf,
    report: Callable[[Trials, int], None] = lambda trials, rounds: None,
) -> Trials:
    """Run rounds of trials until the deadline (of time.monotonic()); `report` comes after each."""
    os.environ.pop("WRNN_STRICT", None)
    trials = Trials(folder, seed)
    files = Files(trials)
    for number in range(rounds):
        if time.monotonic() >= deadline:
            break
        one_round(trials, files)
        bad_executions(trials, int(number % 4 == 0))
        report(trials, number + 1)
    return trials


def summary(trials: Trials, rounds: int, seed: int, began: float) -> dict:
    """Return the counts by kind with their date and commit, as chapter B shows them."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": git_commit(),
        "seed": seed,
        "rounds": rounds,
        "seconds": round(time.monotonic() - began),
        "processor_seconds": round(sum(os.times()[:4])),
        "kinds": {kind: dataclasses.asdict(counts) for kind, counts in trials.counts.items()},
        "notes": trials.notes[:100],
    }


def main() -> int:
    """Run the trials, write their counts after every round; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help=f"{ROUNDS} rounds; else one")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no round after")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts here")
    arguments = parser.parse_args()
    began, rounds = time.monotonic(), ROUNDS if arguments.long else 1

    def report(trials: Trials, done: int) -> None:
        result = summary(trials, done, arguments.seed, began)
        said = [key for key, counts in result["kinds"].items() if not trials.counts[key].clean]
        print(f"round {done} of {rounds}, {result['seconds']} s; not clean: {said}", flush=True)
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as scratch:
        found = all_kinds(
            Path(scratch),
            seed=arguments.seed,
            rounds=rounds,
            deadline=began + 60 * arguments.minutes,
            report=report,
        )
    for kind, counts in found.counts.items():
        print(f"{kind:28}", *(f"{k} {v:<7}" for k, v in dataclasses.asdict(counts).items()))
    print(*found.notes, sep="\n", end="\n" * bool(found.notes))
    return int(not all(counts.clean for counts in found.counts.values()))


if __name__ == "__main__":
    sys.exit(main())
