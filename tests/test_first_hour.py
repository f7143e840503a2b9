"""The stages of a GPU's first hour, tried with stand-ins on a CPU."""

import json
import math
import signal
import subprocess
import sys
import tarfile

import pytest
import typer

from companion import cli, first_hour
from companion.first_hour import Stage, stages, work_through
from companion.records import provenance
from companion.training.signals import Interrupted


def python(name, code, share=1.0, **options):
    """Return a stage that runs some lines of Python."""
    return Stage(name, [sys.executable, "-c", code], share, **options)


def test_no_stage_keeps_the_next_from_running_and_each_leaves_its_results(tmp_path, monkeypatch):
    monkeypatch.setattr(first_hour, "GRACE", 1.0)
    monkeypatch.setattr(first_hour, "TAR", 0.0)
    folder, said = tmp_path / "results", []
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    forever = "import time; print('case 1', flush=True); time.sleep(60)"
    todo = [
        python("good", f"open({str(folder / 'result')!r}, 'w').write('7'); print('1 passed')"),
        python("bad", "raise SystemExit('a test failed')"),
        python("slow", forever, most=1.0),
        python("deaf", deaf + forever, most=1.0),
        python("told", "import sys; print(*sys.argv[1:])", limit_option="--time-limit"),
    ]
    status = work_through(todo, folder, device="cpu", time_limit=1000, say=said.append)
    assert status == 1 and len(said) == 2 * len(todo) + 1
    summary = json.loads((folder / "summary.json").read_text())
    states = {name: s["state"] for name, s in summary["stages"].items()}
    stopped = "stopped at its bound"
    assert states == dict(good="done", bad="failed", slow=stopped, deaf=stopped, told="done")
    lines = {name: s["last_line"] for name, s in summary["stages"].items()}
    assert (lines["good"], lines["bad"], lines["deaf"]) == ("1 passed", "a test failed", "case 1")
    assert "case 1" in (folder / "slow.log").read_text()
    option, limit = lines["told"].split()
    assert option == "--time-limit" and 900 < int(limit) < 1000
    assert summary["device"].startswith("CPU: ") and summary["commit"]
    with tarfile.open(tmp_path / "results.tar") as archive:
        names = {name.removeprefix("results/") for name in archive.getnames()}
    assert names >= {"result", "summary.json", *(f"{stage.name}.log" for stage in todo)}
    assert work_through(todo[:1], folder, device="cpu", say=said.append) == 0


def test_the_stages_leave_time_for_each_other_and_their_commands_take_their_options(tmp_path):
    tests, bench, runs = stages("cuda", profile="paper", seeds=1, cifar10="folder", folder=tmp_path)
    assert tests.bound(3600, 3600) == 900 and bench.bound(3600, 2700) == 900
    assert runs.bound(3600, 1800) == 1800 - first_hour.GRACE - first_hour.TAR
    assert tests.bound(math.inf, math.inf) == 900 and runs.bound(math.inf, math.inf) == math.inf
    assert runs.bound(600, 10) == 0
    assert "gpu or slow" in tests.command
    assert tests.command[1:3] == ["-m", "pytest"] and "--gpu" in tests.command
    known = typer.main.get_command(cli.app).commands
    for stage in (bench, runs):
        name, *arguments = stage.command[3:]
        given = known[name].make_context(name, list(arguments))
        assert given.params["device"] == "cuda" and given.params["profile"] == "paper"
    assert given.params["experiments"] == ["all"]
    assert runs.limit_option in {option for p in known["run"].params for option in p.opts}


def test_the_commit_of_a_copy_without_git_comes_from_the_environment(monkeypatch):
    now = provenance.git_commit.__wrapped__
    monkeypatch.setenv("WRNN_COMMIT", "0123abcd")
    assert now() == provenance.git_commit()  # git knows better
    monkeypatch.setattr(provenance, "__file__", __file__ + "/untracked/in/another/repository.py")
    assert now() == "0123abcd"
    monkeypatch.undo()
    monkeypatch.setenv("WRNN_COMMIT", "0123abcd")

    def no_git(*arguments, **options):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(provenance.subprocess, "run", no_git)
    assert now() == "0123abcd"
    monkeypatch.delenv("WRNN_COMMIT")
    assert now() == "unknown"


def test_a_stage_ends_with_the_command_that_started_it(tmp_path, monkeypatch):
    ended = []

    def interrupted(self, timeout=None):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(first_hour, "_end", ended.append)
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(Interrupted):
        work_through([python("one", "pass")], tmp_path / "results", device="cpu")
    assert len(ended) == 1
