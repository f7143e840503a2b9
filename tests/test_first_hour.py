"""The stages of a GPU's first hour, tried with stand-ins on a CPU."""

import json
import math
import subprocess
import sys
import tarfile

import pytest

from companion import cli, first_hour
from companion.first_hour import Stage, stages, work_through
from companion.records import provenance
from companion.records.files import Store


def python(name, code, share=1.0, **options):
    """Return a stage that runs some lines of Python."""
    return Stage(name, [sys.executable, "-c", code], share, **options)


def test_every_stage_leaves_its_results_and_none_keeps_the_next_from_running(tmp_path):
    folder, said = tmp_path / "results", []
    todo = [
        python("good", f"open({str(folder / 'result')!r}, 'w').write('7'); print('1 passed')"),
        python("bad", "raise SystemExit('a test failed')"),
        python("last", "print('trained')"),
    ]
    assert work_through(todo, folder, device="cpu", say=said.append) == 1
    summary = json.loads((folder / "summary.json").read_text())
    states = {name: (s["state"], s["last_line"]) for name, s in summary["stages"].items()}
    assert states == {
        "good": ("done", "1 passed"),
        "bad": ("failed", "a test failed"),
        "last": ("done", "trained"),
    }
    assert summary["device"].startswith("CPU: ") and summary["commit"]
    with tarfile.open(tmp_path / "results.tar") as archive:
        names = {name.removeprefix("results/") for name in archive.getnames()}
    assert names >= {"result", "good.log", "bad.log", "last.log", "summary.json"}
    assert len(said) == 2 * len(todo) + 1


def test_a_stage_is_stopped_at_its_bound_and_keeps_what_it_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(first_hour, "GRACE", 1.0)
    monkeypatch.setattr(first_hour, "TAR", 0.0)
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    forever = "import time; print('case 1', flush=True); time.sleep(60)"
    todo = [python("slow", forever, most=1.0), python("deaf", deaf + forever, most=1.0)]
    assert work_through(todo, tmp_path / "results", device="cpu", say=lambda line: None) == 0
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    for ended in summary["stages"].values():
        assert ended["state"] == "stopped at its bound" and ended["seconds"] < 20
    assert summary["stages"]["deaf"]["last_line"] == "case 1"
    assert "case 1" in (tmp_path / "results" / "slow.log").read_text()


def test_bounds_leave_time_for_what_comes_after():
    tests, bench, runs = stages(
        "cuda", profile="paper", seeds=1, cifar10="folder", folder=first_hour.Path("r")
    )
    assert tests.bound(3600, 3600) == 900 and bench.bound(3600, 2700) == 900
    assert runs.bound(3600, 1800) == 1800 - first_hour.GRACE - first_hour.TAR
    assert tests.bound(math.inf, math.inf) == 900 and runs.bound(math.inf, math.inf) == math.inf
    assert runs.bound(600, 10) == 0
    assert "--gpu" in tests.command and "gpu or slow" in tests.command
    assert "paper" in bench.command and "all" in runs.command


def test_a_stage_with_a_limit_of_its_own_is_told_it(tmp_path):
    tell = python("tell", "import sys; print(sys.argv[1:])", limit_option="--time-limit")
    work_through([tell], tmp_path / "r", device="cpu", time_limit=200, say=lambda line: None)
    assert (tmp_path / "r" / "tell.log").read_text().strip() == "['--time-limit', '110']"


@pytest.mark.skipif(sys.platform != "linux", reason="the fused kernels are for Linux")
def test_the_real_stages_on_a_cpu_with_the_smallest_runs(tmp_path):
    """The commands exist and take these options: tests collected, one case timed, a run trained."""
    folder = tmp_path / "results"
    tests, bench, runs = stages(
        "cpu", profile="smoke", seeds=1, cifar10="torchvision", folder=folder
    )
    fewer = ["fig3" if word == "all" else word for word in runs.command]
    todo = [
        Stage("tests", [*tests.command[:-1], f"{tests.command[-1]}/test_step.py"], 1.0),
        Stage("bench", [*bench.command, "--repeats", "1", "--case", "copy, 100"], 1.0),
        Stage("runs", [*fewer, "--steps", "2"], 1.0, limit_option=runs.limit_option),
    ]
    assert work_through(todo, folder, device="cpu", time_limit=900, say=print) == 0
    assert len(json.loads((folder / "bench.json").read_text())["cases"]) == 1
    assert Store(folder / "records").all()


def test_the_commit_of_a_copy_without_git_comes_from_the_environment(monkeypatch):
    here = provenance.git_commit()
    monkeypatch.setenv("WRNN_COMMIT", "0123abcd")
    assert provenance.git_commit() == here  # git knows better

    def no_git(*arguments, **options):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(provenance.subprocess, "run", no_git)
    assert provenance.git_commit() == "0123abcd"
    monkeypatch.delenv("WRNN_COMMIT")
    assert provenance.git_commit() == "unknown"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cpu", "--time-limit", "-1"], "--time-limit must not be negative"),
        (["--device", "cpu", "--profile", "large"], "--profile must be one of"),
        (["--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_bad_input_is_one_clear_line(options, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["wrnn", "gpu", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and message in capsys.readouterr().err
