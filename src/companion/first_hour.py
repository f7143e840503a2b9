"""The first hour on a GPU: its tests, the benchmark and the paper's runs, one after the other.

Each stage is a process with a bound on its time, a log, and results that are on disk when it ends,
however it ends: the benchmark writes after each case, and a run that is cut off leaves a checkpoint
and goes on with the next call. At the end everything is packed into one tar.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from companion.records.files import project_root, write_atomically
from companion.records.provenance import device_name, git_commit, versions
from wrnn.errors import WrnnError

GRACE = 30.0  # seconds from the request to stop until a stage is ended
TAR = 30.0  # seconds kept for the tar


@dataclass(frozen=True)
class Stage:
    """A command, and the most that it takes of the time: a share of the whole, and seconds.

    Where the command has a limit of its own, it is given what it has as ``limit_option``.
    """

    name: str
    command: Sequence[str]
    share: float
    most: float = math.inf
    limit_option: str = ""

    def bound(self, whole: float, left: float) -> float:
        """Return the seconds that the stage may take, of those left."""
        return max(0.0, min(self.share * whole, self.most, left - GRACE - TAR))


def stages(device: str, *, profile: str, seeds: int, cifar10: str, folder: Path) -> list[Stage]:
    """Return the tests, the benchmark and the runs; correctness comes first."""
    python, root = sys.executable, project_root()
    tests = ["-q", "-rs", "-m", "gpu or slow", *["--gpu"] * (device == "cuda"), str(root / "tests")]
    options = ["--device", device, "--profile", profile]
    bench = ["--device", device, "--profile", "paper" if profile == "paper" else "quick"]
    runs = ["all", *options, "--seeds", str(seeds), "--cifar10", cifar10]
    return [
        Stage("tests", [python, "-m", "pytest", *tests], 0.25, 900),
        Stage(
            "bench",
            [python, "-m", "companion", "bench", *bench, "--json", str(folder / "bench.json")],
            0.25,
            1800,
        ),
        Stage(
            "runs",
            [python, "-m", "companion", "run", *runs, "--records", str(folder / "records")],
            1.0,
            limit_option="--time-limit",
        ),
    ]


def work_through(
    todo: Sequence[Stage],
    folder: Path,
    *,
    device: str,
    time_limit: float = math.inf,
    say: Callable[[str], None] = print,
) -> int:
    """Run stages one after the other and pack the folder of their results into FOLDER.tar.

    A stage that fails or reaches its bound does not keep the next one from running. The folder
    gets a log per stage and, after each, summary.json.

    Args:
        todo: the stages, whose results go to `folder`.
        folder: made where it is not there; a second call goes on with the runs in it.
        device: "cuda" or "cpu", named in the summary.
        time_limit: seconds for everything.
        say: is called with a line at the start and at the end of each stage.

    Returns:
        0 where every stage ended well or was stopped by its bound, else 1.

    Raises:
        WrnnError: the time is not even enough to end a stage and to pack.
    """
    if time_limit <= GRACE + TAR:
        raise WrnnError(f"--time-limit is {time_limit:g}: expected more than {GRACE + TAR:g} s")
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + time_limit
    summary = {
        "device": device_name(torch.device(device)),
        "commit": git_commit(),
        "versions": versions(),
        "stages": {},
    }
    for number, stage in enumerate(todo, 1):
        bound = stage.bound(time_limit, deadline - time.monotonic())
        log = folder / f"{stage.name}.log"
        limit = "no bound" if math.isinf(bound) else f"at most {bound:.0f} s"
        say(f"{number}/{len(todo)} {stage.name}: {limit}; its log is {log}")
        ended = _run(stage, bound, log)
        summary["stages"][stage.name] = {**ended, "command": list(stage.command)}
        write_atomically(folder / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
        say(f"    {ended['state']} after {ended['seconds']:.0f} s: {ended['last_line']}")
    folder = folder.absolute()  # "." has no name
    packed = folder.with_name(f"{folder.name}.tar")
    with tarfile.open(packed, "w") as archive:
        archive.add(folder, arcname=folder.name)
    say(f"everything is in {packed} ({packed.stat().st_size / 1e6:.1f} MB)")
    return int(any(stage["state"] == "failed" for stage in summary["stages"].values()))


def _run(stage: Stage, bound: float, log: Path) -> dict:
    """Run a stage for `bound` seconds at most; returns how it ended and the last line of its log.

    At the bound it is interrupted, as by a key, and where it goes on for `GRACE` seconds ended.
    """
    command = list(stage.command)
    if stage.limit_option and math.isfinite(bound):
        command += [stage.limit_option, f"{max(1.0, bound - GRACE):.0f}"]
    start, stopped = time.monotonic(), False
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(None if math.isinf(bound) else bound)
        except subprocess.TimeoutExpired:
            stopped = True
            _end(process)
        except BaseException:  # interrupted: the stage has a session of its own
            _end(process)
            raise
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    state = "stopped at its bound" if stopped else "failed" if process.returncode else "done"
    return {
        "state": state,
        "exit_status": process.returncode,
        "seconds": round(time.monotonic() - start, 1),
        "bound": None if math.isinf(bound) else bound,
        "last_line": next((line.strip() for line in reversed(lines) if line.strip()), ""),
    }


def _end(process: subprocess.Popen) -> None:
    """Interrupt a process and its children, and kill what is left of them after a while."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
        break
    process.wait()
