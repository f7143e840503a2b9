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
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from damage import Files, damage_each
from inputs import bad_calls, bad_commands, bad_execution, bad_parameters
from processes import company, failing_disk, full_disk, kill, stop
from trials import Trials

from companion.records.provenance import git_commit

ROUNDS = 25  # of the long form: some 2,000 faults and 20,000 bad inputs


def in_rounds(folder: Path, *, seed: int, rounds: int = 1) -> Iterator[Trials]:
    """Run trials of every kind in rounds, and return what was counted so far after each."""
    os.environ.pop("WRNN_STRICT", None)
    trials = Trials(folder, seed)
    files = Files(trials)
    for number in range(rounds):
        for trial in (kill, stop, stop, full_disk, full_disk, *[failing_disk] * 3, company):
            trial(trials)
        for _ in range(8):
            damage_each(trials, files)
        bad_calls(trials, "models", 400)
        bad_calls(trials, "tasks", 200)
        bad_commands(trials, 150)
        bad_parameters(trials, 150)
        if number % 4 == 0:  # which takes long
            bad_execution(trials)
        yield trials


def main() -> int:
    """Run the trials, write their counts after every round; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help=f"{ROUNDS} rounds; else one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts here, as chapter B shows them")
    arguments = parser.parse_args()
    began, rounds = time.monotonic(), ROUNDS if arguments.long else 1
    with tempfile.TemporaryDirectory() as scratch:
        each = in_rounds(Path(scratch), seed=arguments.seed, rounds=rounds)
        for done, trials in enumerate(each, 1):
            result = {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "commit": git_commit(),
                "seed": arguments.seed,
                "rounds": done,
                "seconds": round(time.monotonic() - began),
                "processor_seconds": round(sum(os.times()[:4])),
                "kinds": {k: dataclasses.asdict(counts) for k, counts in trials.counts.items()},
                "notes": trials.notes[:100],
            }
            unclean = [kind for kind, counts in trials.counts.items() if not counts.clean]
            print(
                f"round {done} of {rounds}, {result['seconds']} s; not clean: {unclean}", flush=True
            )
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    for kind, counts in result["kinds"].items():
        print(f"{kind:28}", *(f"{name} {count:<7}" for name, count in counts.items()))
    print(*trials.notes, sep="\n", end="\n" * bool(trials.notes))
    return int(bool(unclean))


if __name__ == "__main__":
    sys.exit(main())
