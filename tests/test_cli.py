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
        (["run", "fig3", "--profile", "huge"], "smoke, quick, paper"),
        (["run", "fig3", "--device", "tpu"], "auto, cpu or cuda"),
        (["run", "fig3", "--seeds", "0"], "greater than or equal to 1"),
        (["run", "fig3", "--seeds", "many"], "valid integer"),
        (["run", "fig3", "--time-limit", "-1"], "negative"),
        (["run", "fig3", "--time-limit", "nan"], "finite"),
        (["run", "fig3", "--time-limit", "inf"], "finite"),
        (["run", "fig3", "--seeds", "200000"], "less than or equal to 100"),
        (["run", "fig3", "--records", ""], "leave the option out"),
        (["run", "fig3", "--records", "/dev/null"], "not a folder"),
        (["run", "fig3", "--records", "n" * 300], "too long"),
        (["run", "fig3", "--steps", "5", "--epochs", "5"], "exclude each other"),
        (["run", "fig3", "--epochs", "5"], "has no epochs"),
        (["book", "--seeds", "200000"], "less than or equal to 100"),
        (["campaign", "--time-limit", "nan"], "finite"),
        (["campaign", "--time-limit", "1\n2\x85"], "1\\n2\\x85 must be"),
        (["records", "merge", "no\nwhere"], "there is no no\\nwhere"),
        (["campaign", "--device", "nowhere", "--left"], "nowhere"),
        (["records", "merge", "/dev/null"], "not a regular file"),
        (["run", "fig3", "--replicas", "-1"], "negative"),
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
def test_bad_input_is_one_line_and_status_2(arguments, message, call, tmp_path):
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


def test_cuda_is_refused_where_there_is_none(call, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = call("run", "fig3", "--device", "cuda")
    assert result.returncode == 2
    assert "no CUDA device" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_data_is_one_line_and_leaves_nothing(call, tmp_path, monkeypatch):
    monkeypatch.setenv("WRNN_DATA", str(tmp_path / "data"))
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # no network
    result = call("run", "fig2", "--profile", "paper", "--records", "records", "--device", "cpu")
    assert result.returncode == 2
    assert "MNIST" in result.stderr
    assert not list(tmp_path.glob("records/*.json"))


def test_cifar10_may_be_an_image_folder(call, tmp_path, monkeypatch):
    monkeypatch.setenv("WRNN_DATA", str(tmp_path / "data"))
    command = "run cifar10_cpu --profile paper --device cpu --records records --match iRNN"
    result = call(*command.split(), "--cifar10", "folder")
    assert result.returncode == 2
    assert f"no folder {tmp_path / 'data' / 'cifar10' / 'train'}" in result.stderr
    assert "noisy sequential CIFAR10 (JPEG, T = 200)" in result.stderr


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


def test_a_corrupt_record_is_one_line(call, tmp_path):
    run = EXPERIMENTS["fig3"].runs("smoke")[0]
    path = Store(tmp_path / "records").path(run)
    path.parent.mkdir()
    path.write_text("{")
    result = call("run", "fig3", "--profile", "smoke", "--records", "records")
    assert result.returncode == 2
    assert path.name in result.stderr
    assert result.stderr.count("\n") == 1
    assert path.read_text() == "{"


def test_a_bad_file_does_not_end_status_export_or_book(call, tmp_path):
    (tmp_path / "_toc.yml").touch()
    made = call("run", "fig3", "--profile", "smoke", "--device", "cpu", "--records", "records")
    assert made.returncode == 0, made.stderr
    (tmp_path / "records" / "notes.json").write_text("{}")
    for command in (["status"], ["records", "export", "out.tar"]):
        result = call(*command)
        assert result.returncode == 0, result.stderr
        assert "notes.json is damaged" in result.stderr
        assert result.stderr.count("\n") == 1
    refused = call("book", "--profile", "paper", "--publish")
    assert (refused.returncode, "notes.json" in refused.stderr) == (2, True)
