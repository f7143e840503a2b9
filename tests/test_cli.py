import re

import pytest
from torchvision.datasets import MNIST

from companion.records.files import Store
from companion.runs.experiments import EXPERIMENTS
from companion.runs.run import PROFILES

FIG3 = len(EXPERIMENTS["fig3"].runs("smoke"))


def test_run_trains_what_is_missing_and_status_counts_it(call, tmp_path):
    (tmp_path / "_toc.yml").touch()
    first = call("run", "fig3", "--profile", "smoke", "--device", "cpu")
    assert first.returncode == 0, first.stderr
    assert f"{FIG3} of {FIG3} records" in first.stdout
    assert ["fig3", str(FIG3), str(20 * FIG3)] in [
        line.split()[:3] for line in first.stdout.splitlines()
    ]
    store = Store(tmp_path / "_build" / "records")
    before = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    second = call("run", "fig3", "--profile", "smoke", "--device", "cpu")
    assert f"{FIG3} of {FIG3} records" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == before
    status = call("status")
    assert status.returncode == 0, status.stderr
    rows = [line.split() for line in status.stdout.splitlines()]
    assert ["fig3", "smoke", f"{FIG3}/{FIG3}"] in [row[:3] for row in rows]
    for name, experiment in EXPERIMENTS.items():
        for profile in PROFILES:
            count = len(experiment.runs(profile))
            assert re.search(rf"^{name} *{profile} +\d+/{count} ", status.stdout, re.MULTILINE)


def test_a_closed_output_is_no_error(call, monkeypatch):
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}", None)
        assert call("status").returncode == 0


def test_time_limit_steps_and_match(call, tmp_path):
    stopped = call("run", "fig3", "--profile", "quick", "--device", "cpu", "--time-limit", "0.01")
    assert stopped.returncode == 0, stopped.stderr
    assert f"{FIG3} left" in stopped.stdout
    only = call(*("run", "fig3", "--profile", "smoke", "--steps", "5", "--match", "12. · seed"))
    assert "1 of 1 records" in only.stdout
    (record,) = Store(tmp_path / "_build" / "records").all()
    assert (record.run.steps, record.run.model.kind) == (5, "irnn")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "fig99"], "unknown experiment 'fig99'"),
        (["run", "fig3", "--profile", "huge"], "'smoke', 'quick', 'paper'"),
        (["run", "fig3", "--device", "tpu"], "'auto', 'cpu', 'cuda'"),
        (["run", "fig3", "--device", "cuda"], "no CUDA device"),
        (["run", "fig3", "--seeds", "0"], "greater than or equal to 1"),
        (["run", "fig3", "--seeds", "many"], "valid integer"),
        (["run", "fig3", "--time-limit", "-1"], "negative"),
        (["run", "fig3", "--time-limit", "nan"], "finite"),
        (["run", "fig3", "--time-limit", "inf"], "finite"),
        (["run", "fig3", "--seeds", "200000"], "less than or equal to 5"),
        (["run", "fig3", "--records", ""], "leave the option out"),
        (["run", "fig3", "--records", "/dev/null"], "not a folder"),
        (["run", "fig3", "--records", "n" * 300], "too long"),
        (["run", "fig3", "--steps", "5", "--epochs", "5"], "exclude each other"),
        (["run", "fig3", "--epochs", "5"], "has no epochs"),
        (["book", "--seeds", "200000"], "less than or equal to 5"),
        (["campaign", "--time-limit", "nan"], "finite"),
        (["campaign", "--time-limit", "1\n2\x85"], "1\\n2\\x85 must be"),
        (["records", "merge", "no\nwhere"], "there is no no\\nwhere"),
        (["campaign", "--device", "nowhere", "--left"], "nowhere"),
        (["records", "merge", "/dev/null"], "not a regular file"),
        (["run", "fig3", "--replicas", "-1"], "'--replicas'"),
        (["run", "fig3", "--steps", "-1"], "'--steps'"),
        (["run", "fig3", "--steps", "999999"], "no fewer than what is planned"),
        (["run", "fig3", "--cifar10", "folder"], "none of these runs is on CIFAR10"),
        (["gpu", "--device", "cpu", "--time-limit", "60"], "expected more than 60 s"),
        (["run", "fig3", "--stop", "early"], "'budget', 'settled'"),
        (["book", "--publish", "--build-only"], "--publish and --build-only exclude each other"),
        (["book", "--publish"], "use --profile paper"),
        (["book", "--only", "../03"], "such as 03"),
        (["gpu", "--device", "cpu", "--time-limit", "-1"], "negative"),
        (["gpu", "--device", "cpu", "--profile", "large"], "'smoke', 'quick', 'paper'"),
        (["bench", "--profile", "smoke"], "'quick', 'paper'"),
        (["run", "fig3", "--match", "("], "regular expression"),
        (["run", "fig3", "--match", "transformer"], "no run"),
        (["run", "fig3", "--grid", "paper"], "--profile paper"),
        (["run", "fig3", "--profile", "paper", "--grid", "mine"], "only 'paper'"),
        (["run", "table3", "--cifar10", "zip"], "'torchvision', 'folder'"),
        (["run", "fig3", "--sedes", "2"], "--sedes"),
        (["records", "merge", "nowhere"], "there is no nowhere"),
        (["records", "export", "out.tar", "--records", "nowhere"], "holds no records"),
        (["train"], "train"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, call, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = call(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_data_file_is_one_line_for_all_runs_that_need_it(call, tmp_path, monkeypatch):
    monkeypatch.setenv("WRNN_DATA", str(tmp_path / "data"))
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in MNIST.resources:
        (raw / name).write_bytes(b"cut short")
    options = ("--profile", "paper", "--device", "cpu", "--records", str(tmp_path / "records"))
    result = call("run", "table2", *options)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    assert f"{raw / MNIST.resources[0][0]} is damaged" in result.stderr
    assert f"and {len(EXPERIMENTS['table2'].runs('paper')) - 1} more: " in result.stderr
    assert list((tmp_path / "records").iterdir()) == []


def test_seeds_are_trained_together_when_asked_for(call, tmp_path):
    command = "run fig3 --profile smoke --device cpu --seeds 3 --match wRNN --replicas 2"
    result = call(*command.split(), "--records", "together")
    assert result.returncode == 0, result.stderr
    replicas = {r.run.seed: r.replicas for r in Store(tmp_path / "together").all()}
    assert replicas == {0: 1, 1: 2, 2: 2}


@pytest.mark.parametrize(
    ("command", "messages"),
    [
        ("fig2", ["MNIST"]),
        (
            "cifar10_cpu --match iRNN --cifar10 folder",
            ["no folder {data}/cifar10/train", "noisy sequential CIFAR10 (JPEG, T = 200)"],
        ),
    ],
)
def test_missing_data_is_said_and_leaves_nothing(command, messages, call, tmp_path, monkeypatch):
    monkeypatch.setenv("WRNN_DATA", str(tmp_path / "data"))
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # no network
    options = "--profile paper --device cpu --records records"
    result = call("run", *command.split(), *options.split())
    assert result.returncode == 2
    for message in messages:
        assert message.format(data=tmp_path / "data") in result.stderr
    assert not list(tmp_path.glob("records/*.json"))


def test_records_travel_in_one_tar(call, tmp_path):
    made = call("run", "fig3", "--profile", "smoke", "--device", "cpu", "--records", "there")
    assert made.returncode == 0, made.stderr
    exported = call("records", "export", "out.tar", "--records", "there")
    assert f"{FIG3} records and 0 checkpoints" in exported.stdout and "MB" in exported.stdout
    again = call("records", "export", "out.tar", "--records", "there")
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)
    overwritten = call("records", "export", "out.tar", "--records", "there", "--overwrite")
    assert overwritten.returncode == 0, overwritten.stderr
    merge = ("records", "merge", "out.tar", "--records", "here")
    merged = call(*merge)
    assert f"{FIG3} records and 0 checkpoints" in merged.stdout
    assert f"{FIG3} were there already" in call(*merge).stdout
    files = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == files


def test_a_bad_file_ends_what_needs_it_and_nothing_else(call, tmp_path):
    (tmp_path / "_toc.yml").touch()
    store = Store(tmp_path / "records")
    first, *_ = EXPERIMENTS["fig3"].runs("smoke")
    store.folder.mkdir()
    store.path(first).write_text("{")
    train = ("run", "fig3", "--profile", "smoke", "--device", "cpu", "--records", "records")
    for command, status in (
        (train, 2),
        (("status",), 0),
        (("records", "export", "out.tar"), 0),
        (("book", "--profile", "paper", "--publish"), 2),
    ):
        result = call(*command)
        assert result.returncode == status, result.stderr
        assert f"{first.id}.json is damaged" in result.stderr
        assert result.stderr.count("\n") == 1
    assert store.path(first).read_text() == "{"
    assert len(store.scan()[0]) == FIG3 - 1
